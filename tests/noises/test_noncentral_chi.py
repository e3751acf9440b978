"""Noncentral chi noise against scipy.stats.ncx2, and the sum over coils it stands for."""

from math import exp, lgamma, sqrt

import pytest
import torch
from noise_checks import check_distribution, check_moments, flat, noisy, samples
from scipy import stats

SIGMA = 0.1
COILS = [1, 2, 3, 4, 8, 16, 32]


@pytest.mark.parametrize("coils", COILS)
@pytest.mark.parametrize("signal", [0.0, 0.1, 0.5])
def test_distribution_and_second_moment(coils: int, signal: float) -> None:
    y = samples(noisy("noncentral-chi", flat(signal), sigma=SIGMA, coils=coils))
    offset = (signal / SIGMA) ** 2
    law = stats.ncx2(2 * coils, offset) if offset else stats.chi2(2 * coils)
    check_distribution((y / SIGMA) ** 2, law.cdf)
    check_moments(y**2, signal**2 + 2 * coils * SIGMA**2, SIGMA**4 * (4 * coils + 4 * offset))


@pytest.mark.parametrize("coils", COILS)
def test_air(coils: int) -> None:
    mean = SIGMA * sqrt(2) * exp(lgamma(coils + 0.5) - lgamma(coils))
    y = samples(noisy("noncentral-chi", flat(0.0), sigma=SIGMA, coils=coils))
    check_moments(y, mean, 2 * coils * SIGMA**2 - mean**2)


def test_one_coil_is_rician_noise() -> None:
    x = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    one = noisy("noncentral-chi", x, sigma=SIGMA, coils=1)
    torch.testing.assert_close(one, noisy("rician", x, sigma=SIGMA), rtol=1e-5, atol=1e-6)


def test_equals_the_sum_of_squares_over_coils() -> None:
    """Any split of the signal over the coils has the same law: here 4 unequal ones, drawn one by one."""
    generator = torch.Generator().manual_seed(5)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4]).sqrt().view(4, 1)
    real, imaginary = SIGMA * torch.randn(2, 4, 20_000, generator=generator)
    direct = torch.hypot(0.3 * shares + real, imaginary).square().sum(0).sqrt()
    ours = noisy("noncentral-chi", flat(0.3, 200), sigma=SIGMA, coils=4)
    assert stats.ks_2samp(samples(direct), samples(ours)[:20_000]).pvalue > 1e-3
