"""Chemical shift against rolls, centroids, conservation and the formula of its displacement."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_checks import CT, MR, noisy, phantom
from torch import Tensor

from medfpl.noises import Context
from medfpl.noises.kinds.chemical_shift import NOISE, fat_fraction, fat_shift

HZ = 3.5 * 42.577 * 1.5  # fat against water at 1.5 T


def shift(x: Tensor, context: Context = MR, **given: Any) -> Tensor:
    return noisy("chemical-shift", x, context=context, **given)


def disc(value: float, radius: float = 9.0, side: int = 64, centre: float = 30.0) -> Tensor:
    at = torch.arange(side, dtype=torch.float64)
    r = torch.hypot(at[:, None] - 32, at - centre)
    return (value * (radius + 0.5 - r).clamp(0, 1))[None, None]


def centroid(x: Tensor) -> float:
    return float((x * torch.arange(x.shape[-1])).sum() / x.sum())


def test_displacement_follows_field_and_bandwidth() -> None:
    def d(field: float, bandwidth: float) -> float:
        return float(fat_shift([{"field": field, "bandwidth": bandwidth}], torch.zeros(1, dtype=torch.float64)))

    assert d(1.5, 200) == pytest.approx(1.1, abs=0.02)
    assert d(1.5, 1) == pytest.approx(224, abs=0.5)
    assert d(3.0, 1) == pytest.approx(447, abs=0.1)
    assert d(3.0, 200) == pytest.approx(2 * d(1.5, 200))
    assert d(1.5, 400) == pytest.approx(d(1.5, 200) / 2)
    for s in (0.1, 0.5, 1.0):
        values = NOISE.at_strength(s, "band", MR)
        assert d(values["field"], values["bandwidth"]) == pytest.approx(2.5 * s)


@pytest.mark.parametrize("pixels", [1, 3, 12])
def test_all_fat_and_whole_pixels_is_a_roll(pixels: int) -> None:
    x = phantom(33, 41, dtype=torch.float64)
    y = shift(x, mode="constant", fraction=1, bandwidth=HZ / pixels)
    torch.testing.assert_close(y, x.roll(pixels, -1), atol=1e-9, rtol=0)


def test_no_fat_is_the_image() -> None:
    x = phantom(40, 48)
    assert torch.equal(shift(x, mode="constant", fraction=0), x)
    water = 0.4 * (x > 0)  # nothing in the band of T1 fat
    torch.testing.assert_close(shift(water), water, atol=1e-7, rtol=0)


@given(fraction=st.floats(0, 1), pixels=st.floats(0.1, 6))
@settings(max_examples=25, deadline=None)
def test_row_sums_are_kept(fraction: float, pixels: float) -> None:
    x = phantom(32, 41, dtype=torch.float64)
    y = shift(x, mode="constant", fraction=fraction, bandwidth=HZ / pixels)
    torch.testing.assert_close(y.sum(-1), x.sum(-1), atol=1e-9, rtol=0)
    banded = shift(x, CT, bandwidth=HZ / pixels)
    torch.testing.assert_close(banded.sum(-1), x.sum(-1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("pixels", [0.5, 1.25, 2.5])
def test_a_disc_of_fat_moves_by_the_displacement(pixels: float) -> None:
    x = disc(1.0)
    constant = shift(x, mode="constant", bandwidth=HZ / pixels)
    assert centroid(constant) - centroid(x) == pytest.approx(pixels, abs=0.01)
    # in the band only the fat of the disc moves, by all of the displacement
    values = {"low": 0.8, "high": 10.0, "softness": 0.15}
    fat = float((fat_fraction(x, [values]) * x).sum() / x.sum())
    assert fat > 0.8
    banded = shift(x, bandwidth=HZ / pixels)
    assert centroid(banded) - centroid(x) == pytest.approx(fat * pixels, abs=0.01)


def test_half_fat_is_the_mean_of_both_places() -> None:
    x = phantom(40, 48, dtype=torch.float64)
    y = shift(x, mode="constant", fraction=0.5, bandwidth=HZ / 4)
    torch.testing.assert_close(y, (x + x.roll(4, -1)) / 2, atol=1e-9, rtol=0)


def test_fat_of_a_ct_is_found_by_its_hu() -> None:
    values = [NOISE.at_strength(0.5, "band", CT)]
    for hu, fat in [(-1000, 0), (-400, 0), (-100, 1), (-60, 1), (40, 0), (800, 0)]:
        x = torch.full((1, 1, 20, 20), (hu + 1000) / 2000)
        assert fat_fraction(x, values).unique().tolist() == [fat]


def test_an_edge_that_crosses_the_band_is_no_fat() -> None:
    # soft tissue beside lung, with one or two columns of partial volume between: -85 HU, in the band
    x = torch.full((1, 1, 32, 32), 0.52)
    x[..., 16:] = 0.1
    for columns in (1, 2):
        x[..., 16 - columns : 16] = 0.4575
        assert float(fat_fraction(x, [NOISE.at_strength(0.5, "band", CT)]).max()) < 0.1


def test_swapping_the_axes_moves_along_rows() -> None:
    x = phantom(40, 56, items=2)
    for mode in NOISE.modes:
        swapped = shift(x.mT, CT, mode=mode, phase_axis="columns")
        torch.testing.assert_close(swapped.mT, shift(x, CT, mode=mode))
