import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from page_making import predicted, unpack

from medfpl.report.codes import LARGEST, Grid, pack_map, pack_pair, residuals

shapes = array_shapes(min_dims=2, max_dims=2, max_side=9)
pictures = shapes.flatmap(
    lambda shape: st.tuples(*(arrays(np.int32, shape, elements=st.integers(-LARGEST, LARGEST)) for _ in range(2)))
)


@given(pictures)
def test_pair_comes_back_exactly(pair: tuple[np.ndarray, np.ndarray]) -> None:
    before, after = pair
    planes = unpack(zlib.decompress(pack_pair(before, after)), *before.shape, 2)
    found = np.array(predicted(planes[0]))
    np.testing.assert_array_equal(found, after)
    np.testing.assert_array_equal(found + np.array(planes[1]), before)


@given(arrays(np.int32, shapes, elements=st.integers(-63, 63)))
def test_map_comes_back_exactly(levels: np.ndarray) -> None:
    planes = unpack(zlib.decompress(pack_map(levels)), *levels.shape, 1)
    np.testing.assert_array_equal(predicted(planes[0]), levels)


@given(
    arrays(np.float32, (3, 4), elements=st.floats(-1024, 3071, width=32)),
    st.sampled_from([1.0, 2.0, 3.0, 0.25]),
)
def test_values_are_within_half_a_step(values: np.ndarray, step: float) -> None:
    grid = Grid(0.0, step)
    # A value that the grid clips is the exception that the display states.
    assert np.abs(grid.values(grid.codes(values)) - np.clip(values, -LARGEST * step, LARGEST * step)).max() <= step / 2


def test_whole_numbers_are_exact_in_steps_of_one() -> None:
    values = np.arange(-1024, 3072, dtype=np.float32).reshape(64, 64)
    grid = Grid(0.0, 1.0)
    np.testing.assert_array_equal(grid.values(grid.codes(values)), values)


def test_flat_picture_costs_nothing() -> None:
    flat = np.full((256, 256), 777, np.int32)
    assert not residuals(flat).ravel()[1:].any()
    assert len(pack_pair(flat, flat)) < 1000


@pytest.mark.parametrize("sigma", [5, 20])
def test_noise_costs_about_its_entropy(sigma: float) -> None:
    rng = np.random.default_rng(0)
    noise = np.rint(sigma * rng.standard_normal((256, 256))).astype(np.int32)
    still = np.zeros_like(noise)
    entropy = noise.size * np.log2(sigma * np.sqrt(2 * np.pi * np.e)) / 8
    assert entropy * 0.98 < len(pack_pair(noise, still)) < entropy * 1.06
