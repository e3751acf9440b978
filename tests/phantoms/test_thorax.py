"""Chests: the same patient for the same seed, tissues at their densities, lesions exactly as listed."""

from dataclasses import replace

import numpy as np
import pytest

from medfpl.errors import MedfplError
from medfpl.phantoms.base import Lesion, Phantom
from medfpl.phantoms.shapes import Grid
from medfpl.phantoms.thorax import draw_thorax, thorax

# Over the heart, the hila and the arch of the aorta, coarse enough to be quick.
GRID = Grid.around((-10.0, 0.0, 0.0), (14, 176, 240), (6.0, 1.6, 1.6))


def chest(seed: int = 1, nodules: int | tuple[Lesion, ...] = 4, grid: Grid = GRID) -> Phantom:
    return thorax(np.random.default_rng(seed), grid, nodules=nodules)


@pytest.fixture(scope="module")
def drawn() -> Phantom:
    return chest()


@pytest.fixture(scope="module")
def bare() -> Phantom:
    return chest(nodules=0)


def test_the_same_seed_gives_the_same_bytes(drawn: Phantom) -> None:
    again = chest()
    assert again.image.tobytes() == drawn.image.tobytes()
    assert again.lesion_list() == drawn.lesion_list()


def test_another_seed_is_another_patient(drawn: Phantom) -> None:
    other = chest(seed=2)
    assert np.mean(np.abs(other.image - drawn.image) > 50) > 0.05
    assert other.lesion_list() != drawn.lesion_list()


def test_shape_type_and_place(drawn: Phantom) -> None:
    assert drawn.image.shape == GRID.shape
    assert drawn.image.dtype == np.float32
    assert np.isfinite(drawn.image).all()
    assert drawn.geometry.same_as(GRID.geometry())
    assert drawn.unit == "HU"


def test_tissues_have_their_densities(bare: Phantom) -> None:
    image, body = bare.image, bare.masks["body"]
    assert np.all(image[~body] < 20)
    assert np.all(image[:, :3] == -1000)
    lung = np.median(image[bare.masks["lungs"]])
    assert -900 < lung < -800
    assert 45 < np.median(image[bare.masks["muscle"]]) < 62
    assert 85 < np.median(image[bare.masks["heart"]]) < 235  # muscle and enhanced blood
    assert np.median(image[bare.masks["airways"]]) < -900
    assert image[bare.masks["ribs"]].mean() > 200
    assert -130 < np.median(image[body & (image < -60) & (image > -160)]) < -85  # fat
    assert image.max() < 1300


def test_dependent_lung_is_denser(bare: Phantom) -> None:
    lungs = bare.masks["lungs"]
    rows = np.arange(GRID.shape[1])[None, :, None] * np.ones(GRID.shape)
    middle = np.median(rows[lungs])
    assert np.median(bare.image[lungs & (rows > middle + 12)]) > np.median(bare.image[lungs & (rows < middle - 12)]) + 5


def test_sides_are_right(bare: Phantom) -> None:
    columns = np.arange(GRID.shape[2])[None, None, :] * np.ones(GRID.shape)
    rows = np.arange(GRID.shape[1])[None, :, None] * np.ones(GRID.shape)
    middle = (GRID.shape[2] - 1) / 2
    assert columns[bare.masks["heart"]].mean() > middle + 4  # columns grow to the patient's left
    assert rows[bare.masks["spine"]].mean() > rows[bare.masks["heart"]].mean() + 20  # rows grow to the back


def test_lesions_are_where_and_what_the_list_says(drawn: Phantom, bare: Phantom) -> None:
    difference = drawn.image - bare.image
    changed = np.zeros(GRID.shape, bool)
    assert [row["kind"] for row in drawn.lesion_list()] == ["solid", "ground-glass"] * 2
    for number, (lesion, row) in enumerate(zip(drawn.lesions, drawn.lesion_list(), strict=True), 1):
        place = np.array(row["centre_voxel"])
        at = np.indices(GRID.shape).reshape(3, -1).T.reshape(*GRID.shape, 3)
        off = np.linalg.norm((at - place) * GRID.spacing, axis=-1)
        # Slices are thick: their share of the ball is met only where all of it lies inside.
        core = (
            np.linalg.norm(np.abs((at - place) * GRID.spacing) + np.array([3.0, 0.8, 0.8]), axis=-1)
            < lesion.diameter / 2
        )
        touched = off < lesion.diameter / 2 + 4.5
        changed |= touched
        if core.any():
            tolerance = 90 if lesion.kind == "solid" else 2  # replaced tissue keeps no texture and no vessel
            assert difference[core].mean() == pytest.approx(lesion.contrast, abs=tolerance)
        weight = np.where(touched, difference, 0)
        assert (at * weight[..., None]).sum((0, 1, 2)) / weight.sum() == pytest.approx(place, abs=0.35)
        volume = weight.sum() * np.prod(GRID.spacing) / lesion.contrast
        assert volume == pytest.approx(np.pi / 6 * lesion.diameter**3, rel=0.15)
        labelled = drawn.lesion_labels == number
        assert np.all(off[labelled] < lesion.diameter / 2 + 3)
        assert drawn.masks["lungs"][labelled].all()
        assert row["contrast"] == lesion.contrast
        assert GRID.voxel(lesion.centre) == pytest.approx(tuple(place), abs=1e-2)
        assert lesion.centre[::-1] == pytest.approx(row["centre_mm"], abs=1e-2)
    assert np.all(difference[~changed] == 0)


def test_ground_glass_adds_its_contrast_exactly(bare: Phantom) -> None:
    lesion = Lesion("ground-glass", (GRID.origin[0] + 6 * 6.0, 10.0, 80.0), 24.0, -33.0)
    difference = chest(nodules=(lesion,)).image - bare.image
    z, y, x = (round(v) for v in GRID.voxel(lesion.centre))
    assert difference[z, y - 3 : y + 4, x - 3 : x + 4] == pytest.approx(-33.0, abs=1e-2)


def test_patient_does_not_depend_on_the_grid(bare: Phantom) -> None:
    whole = chest(nodules=0)
    single = replace(GRID, shape=(1, *GRID.shape[1:]), origin=(GRID.origin[0] + 5 * 6.0, *GRID.origin[1:]))
    slice_alone = chest(nodules=0, grid=single).image[0]
    # Only the texture belongs to the grid.
    assert np.mean(np.abs(slice_alone - whole.image[5]) > 150) < 0.01


def test_lungs_hold_air_and_branching_vessels(bare: Phantom) -> None:
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(bare.masks["lungs"], np.ones((1, 7, 7)))
    vessels = (bare.image > -700) & inner
    assert 0.005 < vessels.sum() / inner.sum() < 0.12
    patient = draw_thorax(np.random.default_rng(1))
    assert len(patient.arteries) == 2 * 750
    assert max(t.radii.max() for t in patient.arteries) > 2.5
    assert min(t.radii.min() for t in patient.arteries) == pytest.approx(0.42)


def test_too_many_nodules_are_refused() -> None:
    small = Grid.around((0.0, 0.0, 75.0), (2, 24, 24), (4.0, 1.6, 1.6))
    with pytest.raises(MedfplError, match="no room"):
        chest(nodules=9, grid=small)


def test_lesion_out_of_sight_is_refused() -> None:
    small = Grid.around((0.0, 0.0, 75.0), (1, 16, 16), (4.0, 1.6, 1.6))
    with pytest.raises(MedfplError, match="field of view"):
        chest(nodules=(Lesion("solid", (0.0, 0.0, -80.0), 8.0, 900.0, -855.0),), grid=small)


def test_standing_with_arms_down_closes_the_body_over_the_lungs() -> None:
    grid = Grid.around((100.0, 0.0, 0.0), (10, 90, 160), (6.0, 3.0, 3.0))
    standing = thorax(np.random.default_rng(1), grid, nodules=0, arms_down=True)
    lungs, body = standing.masks["lungs"], standing.masks["body"]
    assert lungs.any()
    assert body[lungs].all()
    lying = thorax(np.random.default_rng(1), grid, nodules=0).masks["body"]
    arms = np.abs(grid.axes()[2]) > 200
    assert body[..., arms].any()
    assert not lying[..., arms].any()
