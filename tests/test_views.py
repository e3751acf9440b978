import numpy as np
import pytest
from PIL import Image

from medfpl.scan import Geometry, Intensity, Scan, Source, Stored
from medfpl.views import CT_WINDOWS, Window, choose_windows, panel, residual_limit, save_panel, to_grey


def scan(pixels, unit="HU", **meta):
    pixels = np.asarray(pixels, np.float32)[None]
    kind = "ct" if unit == "HU" else "mr"
    source = Source("x", "npy", Stored(pixels), pixels.shape, "")
    return Scan(pixels, Intensity(kind, unit, 0.0, 1.0), Geometry(), source, meta=meta)


@pytest.mark.parametrize("name", CT_WINDOWS)
def test_windows_show_their_level_in_the_middle(name):
    window = Window.ct(name)
    level, width = CT_WINDOWS[name]
    ends = np.array([[level - width / 2 - 1, level, level + width / 2 + 1]], np.float32)
    assert to_grey(ends, window.low, window.high).tolist() == [[0, 128, 255]]
    assert to_grey(ends, window.low, window.high, inverted=True).tolist() == [[255, 128, 0]]


def test_what_is_no_number_is_black_and_infinity_white():
    assert to_grey(np.array([[np.nan, np.inf, -np.inf]], np.float32), 0, 1).tolist() == [[0, 255, 0]]


def test_a_chest_is_shown_in_two_windows_and_an_abdomen_in_one():
    chest = np.full((40, 40), 40.0)
    chest[10:30, 10:30] = -800
    assert [w.label for w in choose_windows(scan(chest), 0)] == ["lung", "mediastinum"]
    assert [w.label for w in choose_windows(scan(np.full((40, 40), 40.0)), 0)] == ["abdomen"]
    other = choose_windows(scan(np.linspace(0, 1000, 1600).reshape(40, 40), unit="1"), 0)
    assert (other[0].low, other[0].high) == pytest.approx((10, 995), abs=1)


def test_the_residuals_scale_is_three_deviations():
    noise = np.random.default_rng(0).normal(0, 20, (100, 100)).astype(np.float32)
    assert residual_limit(noise) == pytest.approx(60, rel=0.05)
    assert residual_limit(np.zeros((4, 4), np.float32)) == 1.0


def test_a_panel_shows_before_after_and_what_was_removed(tmp_path):
    before, after = scan(np.full((300, 260), 50.0)), scan(np.full((300, 260), 50.0))
    after.pixels[0, 100, 100] = -350.0
    picture = np.asarray(panel(before, after))
    assert picture.shape[1] > 3 * 260
    height = picture.shape[0]
    assert 300 < height < 400
    # One pixel alone was changed: it is white in the third picture, on mid-grey.
    values, counts = np.unique(picture[40:, -258:-10, 0], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True))[255] >= 1
    assert values[counts.argmax()] == 128
    save_panel(before, after, tmp_path / "p.png", truth=before)
    with Image.open(tmp_path / "p.png") as saved:
        assert saved.size[0] > 4 * 260


def test_small_images_are_enlarged_without_smoothing():
    small = np.zeros((64, 64))
    small[::2] = 100.0
    picture = np.asarray(panel(scan(small), scan(small)))
    assert picture.shape[1] >= 3 * 256
    assert len(np.unique(picture[60:200, 20:100, 0])) == 2


def test_a_slice_without_a_number_is_drawn():
    empty = np.full((50, 50), np.nan)
    assert panel(scan(empty, unit="1"), scan(empty, unit="1")).size[0] > 0
