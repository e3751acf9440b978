"""Fold-over against conservation, the k-space definition, idempotence and objects that fit."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_checks import noisy, phantom
from torch import Tensor

import medfpl
from medfpl.noises import NOISES, corrupt
from medfpl.noises.kinds.wrap_around import fold, object_rows


def wrap(x: Tensor, **given: Any) -> Tensor:
    return noisy("wrap-around", x, **given)


def whole(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


@given(height=st.integers(2, 40), data=st.data())
@settings(max_examples=50, deadline=None)
def test_folding_keeps_the_sum_over_rows_and_is_idempotent(height: int, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, height))
    first = data.draw(st.integers(0, height - rows))
    x = torch.rand(2, 1, height, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
    window = whole(first, first), whole(rows, rows)
    y = fold(x, *window)
    torch.testing.assert_close(y.sum(-2), x.sum(-2))
    assert float(y[:, :, :first].abs().sum() + y[:, :, first + rows :].abs().sum()) == 0
    assert torch.equal(fold(y, *window), y)


@pytest.mark.parametrize("r", [2, 4])
def test_folding_is_the_inverse_fft_of_every_rth_phase_encode_line(r: int) -> None:
    x = phantom(64, 40, dtype=torch.float64)
    lines = torch.fft.fft(x, dim=-2, norm="ortho")[:, :, ::r]
    undersampled = torch.fft.ifft(lines, dim=-2, norm="ortho") * r**0.5  # of 64/r rows: the smaller field of view
    folded = fold(x, whole(0), whole(64 // r))[:, :, : 64 // r]
    torch.testing.assert_close(undersampled.real, folded, atol=7e-7, rtol=0)
    assert float(undersampled.imag.abs().max()) < 1e-12


def test_whole_object_found_whatever_the_margins() -> None:
    x = torch.nn.functional.pad(torch.full((1, 1, 30, 20), 0.8), (2, 2, 25, 9))
    x = torch.cat([x, x.flip(-2), torch.zeros_like(x), torch.ones_like(x)])
    first, rows = object_rows(x + 0.001)
    assert first.tolist() == [25, 9, 0, 0]
    assert rows.tolist() == [30, 30, 64, 64]


def test_overlap_is_that_of_the_object_and_the_margins_do_not_hide_it() -> None:
    body = torch.rand(1, 1, 60, 20, generator=torch.Generator().manual_seed(0)) + 0.5
    for above in (5, 30):
        x = torch.nn.functional.pad(body, (0, 0, above, 50 - above))
        y = wrap(x, overlap=0.5)
        occupied = (y[0, 0].sum(-1) > 0).nonzero().flatten()
        assert len(occupied) == 40  # 60/(1 + 0.5)
        assert int(occupied[0]) == above + 10
        torch.testing.assert_close(y.sum(-2), x.sum(-2))
        # 20 rows are left over; they fold onto 20 of the 40, ten at either end
        torch.testing.assert_close(y[:, :, occupied[10:-10]], x[:, :, occupied[10:-10]])
        torch.testing.assert_close(y[:, :, occupied[:10]], x[:, :, occupied[:10]] + x[:, :, above + 50 : above + 60])


def test_an_object_inside_the_field_of_view_is_unchanged() -> None:
    x = torch.nn.functional.pad(phantom(40, 30), (3, 3, 7, 17))
    for mode in ("overlap", "fill"):
        y = wrap(x, mode=mode, fov_rows=52)
        torch.testing.assert_close(y[:, :, 7:47], x[:, :, 7:47])
    assert torch.equal(wrap(x, overlap=0.0), x)


def test_fill_repeats_what_overlap_shows() -> None:
    x = phantom(60, 40)
    folded, filled = wrap(x, mode="overlap", fov_rows=24), wrap(x, mode="fill", fov_rows=24)
    shown = folded[0, 0].sum(-1) > 0
    first = int(shown.nonzero()[0])
    assert torch.equal(filled[:, :, first : first + 24], folded[:, :, first : first + 24])
    assert torch.equal(filled[:, :, 24:], filled[:, :, :-24])


@given(rows=st.integers(1, 50), phase=st.floats(0.1, 3.1), seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_copies_with_a_phase_are_never_brighter_than_in_phase(rows: int, phase: float, seed: int) -> None:
    x = phantom(50, 30, dtype=torch.float64)
    in_phase = wrap(x, fov_rows=rows)
    with_phase = wrap(x, seed=seed, fov_rows=rows, phase=phase)
    assert bool((with_phase <= in_phase + 1e-9).all())
    assert bool((with_phase >= 0).all())


def test_a_single_copy_shows_no_phase() -> None:
    x = phantom(50, 30)
    torch.testing.assert_close(wrap(x, fov_rows=50, phase=3.0), x)


@pytest.mark.parametrize("shift", [-7, 0, 6])
def test_shift_is_cyclic(shift: int) -> None:
    x = phantom(33, 40, dtype=torch.float64)
    torch.testing.assert_close(wrap(x, mode="shift", shift=shift), x.roll(shift, -2), atol=1e-9, rtol=0)


def test_swapping_the_axes_folds_columns() -> None:
    x = phantom(40, 56, items=2)
    for mode in ("overlap", "fill", "shift"):
        swapped = wrap(x.mT, mode=mode, phase_axis="columns")
        torch.testing.assert_close(swapped.mT, wrap(x, mode=mode))


def test_more_strength_is_a_smaller_field_of_view() -> None:
    x = torch.ones(1, 1, 120, 8)
    rows = [int((wrap(x, strength=s)[0, 0, :, 0] > 0).sum()) for s in (0.05, 0.2, 0.5, 1.0)]
    assert rows == [114, 100, 80, 60]
    assert all(a > b for a, b in pairwise(rows))


def test_the_slices_of_a_volume_share_one_field_of_view():
    """A small slice at the end of a volume folds as the scan's field of view says, not as its own size does."""
    volume = np.zeros((5, 64, 48), np.float32)
    for z, reach in enumerate((6, 18, 26, 18, 6)):
        volume[z, 32 - reach : 32 + reach, 8:40] = 100.0
    noisy = medfpl.noise(volume, "wrap-around", kind="mr", strength=0.5)
    # The middle slice is 52 rows high: 35 are the field of view. What fits into it is not folded.
    assert np.abs(noisy[0] - volume[0]).max() < 1e-3
    assert np.abs(noisy[2] - volume[2]).max() > 50
    rows = np.nonzero(noisy[2].sum(1) > 1)[0]
    assert len(rows) == 35
    x = torch.from_numpy(volume[:, None] / 100)
    _, records = corrupt(x, NOISES.get("wrap-around"), seeds=range(5), standing=x[2:3])
    assert {r.values["fov_rows"] for r in records} == {35}
    assert len({r.values["fov_start"] for r in records}) == 1
