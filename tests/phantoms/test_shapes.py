"""Distances, grids, edges and trees that the phantoms are drawn with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfpl.phantoms.shapes import FAR, Blob, Canvas, Grid, Waves, blend, texture, tube
from medfpl.phantoms.trees import grow

STILL = Waves(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros((1, 3)))
GRID = Grid.around((0, 0, 0), (40, 44, 48), (1.0, 1.0, 1.0))


def points(*rows: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = np.array(rows, np.float32).T
    return z, y, x


def test_grid_places_its_middle_and_its_voxels() -> None:
    grid = Grid.around((10.0, -4.0, 3.0), (5, 8, 9), (5.0, 2.0, 1.5))
    assert [float(a.mean()) for a in grid.axes()] == pytest.approx([10, -4, 3])
    assert grid.voxel((10.0, -4.0, 3.0)) == pytest.approx((2, 3.5, 4))
    affine = grid.geometry().affine
    assert affine is not None
    index = np.array([1, 2, 3, 1])
    lps = affine @ index
    assert lps[:3] == pytest.approx([float(a[i]) for a, i in zip(grid.axes()[::-1], index[2::-1], strict=True)])


def test_thinner_slices_average_to_the_thick_one() -> None:
    grid = Grid.around((7.0, 0, 0), (3, 2, 2), (6.0, 1.0, 1.0))
    thin = grid.thinner(4)
    assert thin.shape == (12, 2, 2)
    assert thin.axes()[0].reshape(3, 4).mean(1) == pytest.approx(grid.axes()[0])


@given(radius=st.floats(2, 40), step=st.floats(-0.3, 0.3))
@settings(max_examples=30, deadline=None)
def test_distance_to_a_ball_is_exact_to_first_order(radius: float, step: float) -> None:
    ball = Blob((1, 2, 3), (radius, radius, radius))
    off = radius * (1 + step)
    found = ball(*points((1, 2, 3 + off), (1 + off, 2, 3)))
    # (r^2 - R^2) / 2r is off by (r - R)^2 / 2r.
    bound = (off - radius) ** 2 / (2 * off) + 1e-4 * radius
    assert np.all(np.abs(found - (off - radius)) <= bound)


def test_turned_blob_is_the_blob_seen_turned() -> None:
    straight, turned = Blob((0, 0, 0), (9, 5, 20)), Blob((0, 0, 0), (9, 5, 20), turn=0.7)
    c, s = np.cos(0.7), np.sin(0.7)
    z, y, x = (np.random.default_rng(1).normal(0, 9, (3, 200))).astype(np.float32)
    rotated = turned(z, (s * x + c * y).astype(np.float32), (c * x - s * y).astype(np.float32))
    assert rotated == pytest.approx(straight(z, y, x), abs=1e-3)


def test_tube_distance_tapers() -> None:
    cone = tube((0, 0, 0), (0, 0, 10), radius=(4.0, 2.0))
    assert cone(*points((0, 6, 0), (0, 6, 5), (0, 6, 10), (0, 0, 15))) == pytest.approx([2, 3, 4, 3])
    flat = tube((0, 0, 0), (0, 0, 10), radius=2.0, tall=2.0)
    assert flat(*points((4, 0, 5), (0, 2, 5))) == pytest.approx([0, 0], abs=1e-6)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.5, 8))
@settings(max_examples=60, deadline=None)
def test_blend_is_a_union_that_only_fills(a: float, b: float, width: float) -> None:
    x, y = np.array([a], np.float32), np.array([b], np.float32)
    both = blend(x, y, width)
    assert min(a, b) - width / 4 - 1e-5 <= both[0] <= min(a, b) + 1e-5
    if abs(a - b) >= width:
        assert both[0] == pytest.approx(min(a, b), abs=1e-5)
    assert both == pytest.approx(blend(y, x, width))


@pytest.mark.parametrize("radius", [3.0, 7.5, 15.0])
def test_painted_ball_has_the_volume_of_the_ball(radius: float) -> None:
    canvas = Canvas(GRID, STILL)
    canvas.fill(Blob((0.3, -0.2, 0.4), (radius, radius, radius)), 1.0)
    assert canvas.values.sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.3 / radius)
    assert 0 <= canvas.values.min() <= canvas.values.max() <= 1


@pytest.mark.parametrize("radius", [0.2, 0.4, 3.0])
def test_tubes_thinner_than_a_pixel_keep_their_share(radius: float) -> None:
    canvas = Canvas(GRID, STILL)
    cover = canvas.cover_of([tube((0.5, 0.5, -30), (0.5, 0.5, 30), radius=radius)])
    section = cover.sum((0, 1))
    assert section[10:-10] == pytest.approx(np.pi * radius**2, rel=0.35)


def test_waves_are_the_same_on_axes_and_at_points() -> None:
    waves = Waves.draw(np.random.default_rng(3), [(60, 2.0), (15, 0.4)])
    field = np.stack(waves.on_axes(*GRID.axes()), -1)
    corner = np.stack(np.meshgrid(*GRID.axes(), indexing="ij"), -1).astype(np.float64)
    assert waves.at(corner[::9, ::9, ::9].reshape(-1, 3)) == pytest.approx(
        field[::9, ::9, ::9].reshape(-1, 3), abs=2e-4
    )
    assert np.abs(field).max() <= waves.reach()


def test_union_is_right_near_the_shapes_and_far_elsewhere() -> None:
    canvas = Canvas(GRID, STILL)
    balls = [Blob((0, 0, -12), (4, 4, 4)), Blob((0, 0, 12), (5, 5, 5))]
    found = canvas.union(balls, reach=3)
    every = np.minimum(*(b(canvas.z, canvas.y, canvas.x) for b in balls))
    assert np.array_equal(found[every < 2], every[every < 2])
    assert np.all(found[every > 12] == FAR)


def test_texture_has_unit_deviation_and_its_length() -> None:
    grid = Grid.around((0, 0, 0), (24, 64, 64), (2.0, 1.0, 1.0))
    field = texture(np.random.default_rng(0), grid, 6.0)
    assert field.std() == pytest.approx(1, abs=1e-3)
    assert field.mean() == pytest.approx(0, abs=0.1)
    near, far = (np.mean(field * np.roll(field, n, 2)) for n in (1, 20))
    assert near > 0.95
    assert abs(far) < 0.15


def test_trees_reach_every_point_and_thicken_to_the_root() -> None:
    generator = np.random.default_rng(5)
    targets = generator.uniform(-40, 40, (200, 3))
    branches = grow(generator, (0, 0, -60), targets, tip=0.5, exponent=2.7)
    assert len(branches) == len(targets)
    ends = {tuple(t.points[-1].round(6)) for t in branches}
    assert ends == {tuple(p.round(6)) for p in targets}
    starts = {tuple(t.points[0].round(6)) for t in branches} - ends
    assert starts == {(0, 0, -60)}
    assert all(np.all(np.diff(t.radii) <= 1e-9) for t in branches)
    tips = [t.radii[-1] for t in branches]
    assert min(tips) == 0.5
    # Murray: every node is itself a tip, so the first branch carries them all.
    assert max(tips) <= 0.5 * 200 ** (1 / 2.7) + 1e-9
