"""Rayleigh noise against scipy.stats.rayleigh."""

from math import pi, sqrt

import torch
from noise_checks import check_distribution, check_moments, flat, noisy, phantom, samples
from scipy import stats

SIGMA = 0.1


def test_additive() -> None:
    x = flat(0.5)
    error = samples(noisy("rayleigh", x, sigma=SIGMA) - x)
    check_moments(error, SIGMA * sqrt(pi / 2), (2 - pi / 2) * SIGMA**2)
    check_distribution(error, stats.rayleigh(scale=SIGMA).cdf)


def test_centred() -> None:
    x = flat(0.5)
    error = samples(noisy("rayleigh", x, mode="centred", sigma=SIGMA) - x)
    check_moments(error, 0, (2 - pi / 2) * SIGMA**2)


def test_air_alone() -> None:
    x = phantom(128, 128)
    y = noisy("rayleigh", x, mode="air", sigma=SIGMA, threshold=0.05)
    air = x < 0.05
    assert bool(air.any())
    assert torch.equal(y[~air], x[~air])
    check_distribution(samples(y[x == 0]), stats.rayleigh(scale=SIGMA).cdf)
