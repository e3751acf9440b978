"""Poisson and gamma variates against scipy.stats."""

import numpy as np
import pytest
import torch
from noise_checks import check_counts, check_distribution, check_moments, samples
from scipy import stats

from medfpl.noises import draws


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(10 + i) for i in range(n)]


@pytest.mark.parametrize("rate", [0.0, 0.3, 5.0, 9.9, 10.1, 80.0, 2000.0])
def test_poisson_counts(rate: float) -> None:
    counts = samples(draws.poisson(torch.full((2, 100_000), rate), generators(2)))
    if rate == 0:
        assert not counts.any()
        return
    check_moments(counts, rate, rate)
    check_counts(counts, rate)


@pytest.mark.parametrize("rate", [9e5, 3e6, 1e12])
def test_poisson_beyond_the_change_to_normal(rate: float) -> None:
    counts = samples(draws.poisson(torch.full((1, 200_000), rate, dtype=torch.float64), generators(1)))
    check_moments(counts, rate, rate)
    assert np.array_equal(counts, np.round(counts))
    check_distribution((counts - rate) / np.sqrt(rate), stats.norm.cdf)


def test_poisson_mixes_rates_and_items() -> None:
    rate = torch.tensor([[0.0, 3.0, 1e7, 50.0]]).expand(2, -1).repeat(1, 20_000)
    both = draws.poisson(rate, generators(2))
    assert torch.equal(both[1:], draws.poisson(rate[1:], generators(2)[1:]))
    for k, expected in enumerate((0.0, 3.0, 1e7, 50.0)):
        column = both[:, k::4].double()
        assert abs(float(column.mean()) - expected) <= 5 * (expected / column.numel()) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [0.25, 1.0, 3.0, 12.0, 2.5, 31.0, 100.0])
def test_gamma(shape: float, dtype: torch.dtype) -> None:
    like = torch.zeros(1, dtype=dtype)
    drawn = draws.gamma([shape, shape], (100_000,), generators(2), like)
    assert drawn.dtype == dtype
    check_moments(samples(drawn), shape, shape)
    check_distribution(samples(drawn), stats.gamma(shape).cdf)


def test_gamma_of_shape_zero_is_zero() -> None:
    assert not draws.gamma([0.0], (50,), generators(1), torch.zeros(1)).any()
