"""Speckle: multiplicative laws, and a correlation length that keeps the variance."""

from math import exp

import pytest
import torch
from noise_checks import check_distribution, check_moments, flat, noisy, phantom, samples
from scipy import stats

from medfpl.noises.fourier import correlated


@pytest.mark.parametrize("mode", ["gaussian", "gamma"])
@pytest.mark.parametrize("signal", [0.2, 0.8])
def test_multiplicative_moments(mode: str, signal: float) -> None:
    y = samples(noisy("speckle", flat(signal), mode=mode, sigma=0.1))
    check_moments(y, signal, 0.01 * signal**2)


@pytest.mark.parametrize("signal", [0.2, 0.8])
def test_loupas_moments(signal: float) -> None:
    y = samples(noisy("speckle", flat(signal), mode="loupas", sigma=0.1))
    check_moments(y, signal, 0.01 * signal)
    check_distribution(y, stats.norm(signal, 0.1 * signal**0.5).cdf)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1 / 2**0.5, 1.0, 2.0])
def test_gamma_distribution(sigma: float) -> None:
    looks = 1 / sigma**2
    y = samples(noisy("speckle", flat(0.5), mode="gamma", sigma=sigma)) / 0.5
    check_distribution(y, stats.gamma(looks, scale=1 / looks).cdf)
    if sigma == 1:
        check_distribution(y, stats.expon.cdf)
    assert y.min() >= 0


@pytest.mark.parametrize("mode", ["gaussian", "gamma", "loupas"])
def test_black_stays_black(mode: str) -> None:
    x = phantom(64, 64)
    y = noisy("speckle", x, mode=mode, strength=1.0)
    assert bool((y[x == 0] == 0).all())


@pytest.mark.parametrize("length", [0.7, 2.0])
def test_correlation_length(length: float) -> None:
    side = 512
    error = noisy("speckle", flat(1.0, side), mode="gaussian", sigma=0.1, correlation=length).double()[0, 0] - 1
    assert float(error.square().mean()) == pytest.approx(0.01, rel=0.03 * (1 + length))
    for step in (1, 2, 3):
        expected = exp(-(step**2) / (4 * length**2))  # a Gaussian filtered by itself
        for axis in (0, 1):
            found = float((error * error.roll(step, axis)).mean() / error.square().mean())
            assert found == pytest.approx(expected, abs=0.03)


def test_items_of_a_batch_may_differ_in_correlation() -> None:
    white = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    both = correlated(white, [0.0, 1.5])
    assert torch.equal(both[0], white[0])
    torch.testing.assert_close(both[1:], correlated(white[1:], [1.5]))
