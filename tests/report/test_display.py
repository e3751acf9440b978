from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from page_making import scan_of

from medfpl.report.display import View, choose_view, display_size, finest_grid, shrink, usable
from medfpl.scan import Scan

# A voxel volume (x left, y back, z head) whose value tells where it lies.
PLACES = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0), np.arange(3.0), indexing="ij"))
PLANES = {frozenset((0, 1)): (0, 1, 1), frozenset((0, 2)): (0, 2, -1), frozenset((1, 2)): (1, 2, -1)}


def volume(order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path) -> tuple[Scan, np.ndarray]:
    """Return a scan whose index axes lie along the axes ``order`` of the patient, and the places of its voxels."""
    places = PLACES.transpose(0, *(1 + axis for axis in order))
    places = places[(slice(None), *(slice(None, None, sign) for sign in signs))]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for index, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        affine[axis, index] = sign
    affine[:3, 3] = places[:, 0, 0, 0]
    return scan_of(places[0].astype(np.float32), tmp_path / "x", kind="mr", affine=affine), places


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_any_volume_is_seen_the_usual_way_up(order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path) -> None:
    scan, places = volume(order, signs, tmp_path)
    view = choose_view(scan)
    across, down, direction = PLANES[frozenset(order[1:])]
    seen = [view.turned(places[axis][0].astype(np.float32)) for axis in (across, down)]
    assert (np.diff(seen[0], axis=1) == 1).all()  # to the left, or to the back in side views
    assert (np.diff(seen[1], axis=0) == direction).all()  # to the back, or to the feet
    assert view.edges == {(0, 1): "RALP", (0, 2): "RSLI", (1, 2): "ASPI"}[across, down]
    height, width = seen[0].shape
    assert view.aspect == pytest.approx(height / width)


@pytest.mark.parametrize("view", [View(*flags) for flags in product((False, True), repeat=3)])
def test_boxes_turn_with_the_image(view: View) -> None:
    image = np.zeros((6, 8), np.float32)
    image[1:3, 2:7] = 1
    turned = view.turned(image)
    top, bottom, left, right = view.turned_box((1, 3, 2, 7), (6, 8))
    height, width = turned.shape
    rows, columns = np.nonzero(turned)
    assert np.allclose([top * height, bottom * height], [rows.min(), rows.max() + 1])
    assert np.allclose([left * width, right * width], [columns.min(), columns.max() + 1])


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    affine = np.diag([5.0, 2.0, 1.0, 1.0])[[2, 1, 0, 3]]
    scan = scan_of(np.zeros((2, 10, 40), np.float32), tmp_path / "x", affine=affine)
    assert choose_view(scan).aspect == pytest.approx(10 * 2 / 40)


def test_shrinking_keeps_the_mean() -> None:
    image = np.random.default_rng(0).normal(40, 20, (512, 384)).astype(np.float32)
    small = shrink(image, display_size(512, 384, 256))
    assert small.shape == (256, 192)
    np.testing.assert_allclose(small, image.reshape(256, 2, 192, 2).mean((1, 3)), rtol=1e-5, atol=1e-3)
    assert display_size(100, 50, 256) == (100, 50)


def test_steps_are_no_finer_than_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = scan_of(rng.integers(0, 256, (1, 32, 32)).astype(np.float32), tmp_path / "a", kind="xray")
    assert finest_grid(grey).step == 1
    wide = scan_of(rng.integers(0, 30000, (1, 32, 32)).astype(np.float32), tmp_path / "b", kind="mr")
    assert finest_grid(wide).step == pytest.approx(wide.intensity.scale / 2048)
    assert finest_grid(scan_of(np.zeros((1, 4, 4), np.float32), tmp_path / "c")).step == 1


def test_what_is_not_valid_is_black(tmp_path: Path) -> None:
    pixels = np.array([[[0, np.nan, -3000, 9000]]], np.float32)
    plain = scan_of(np.nan_to_num(pixels), tmp_path / "a").with_pixels(pixels)
    np.testing.assert_array_equal(usable(plain, 0), [[0, -1024, -1024, 3071]])
    inverted = scan_of(np.nan_to_num(pixels), tmp_path / "b", inverted=True).with_pixels(pixels)
    assert usable(inverted, 0)[0, 1] == 3071
