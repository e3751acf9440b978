"""Rician noise against scipy.stats.rice."""

from math import pi, sqrt

import pytest
import torch
from noise_checks import check_distribution, check_moments, flat, noisy, samples
from scipy import stats

from medfpl.noises import NOISES, corrupt


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.1, 0.3, 1.0])
def test_distribution_and_second_moment(signal: float) -> None:
    sigma = 0.1
    y = samples(noisy("rician", flat(signal), sigma=sigma))
    check_distribution(y / sigma, stats.rice(signal / sigma).cdf if signal else stats.rayleigh.cdf)
    # y^2 / sigma^2 is noncentral chi-square: its variance is 4 (1 + (A/sigma)^2)
    check_moments(y**2, signal**2 + 2 * sigma**2, sigma**4 * 4 * (1 + (signal / sigma) ** 2))


def test_air() -> None:
    y = samples(noisy("rician", flat(0.0), sigma=0.1))
    check_moments(y, 0.1 * sqrt(pi / 2), 0.01 * (2 - pi / 2))


def test_bias_at_high_signal() -> None:
    y = samples(noisy("rician", flat(1.0, 1000), sigma=0.1))
    assert y.mean() - 1 == pytest.approx(0.01 / 2, abs=5 * 0.1 / 1000)


def test_negative_input_is_clamped_and_the_record_says_so() -> None:
    x = torch.full((2, 1, 16, 16), -0.3)
    x[1] = 0.3
    y, records = corrupt(x, NOISES.get("rician"), seeds=[1, 2])
    assert [r.clamped for r in records] == [True, False]
    assert torch.equal(y[0], noisy("rician", torch.zeros(1, 1, 16, 16), seed=1)[0])
