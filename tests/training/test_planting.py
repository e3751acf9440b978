import numpy as np
import pytest

from medfpl.training import planting
from medfpl.training.planting import FEATURES, plant


@pytest.fixture
def without_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planting, "SLAB", (1e-9, 1e-9))


def flat(side: int = 128, value: float = 0.5) -> np.ndarray:
    return np.full((side, side), value, np.float32)


@pytest.mark.usefixtures("without_slabs")
def test_labels_lie_where_the_image_changed() -> None:
    rng = np.random.default_rng(0)
    made, labels = plant(rng, flat())
    assert labels.shape == (len(FEATURES), 128, 128)
    changed = np.abs(made - 0.5) > 1e-4
    assert labels[:2].any()
    assert changed[labels.any(0)].mean() > 0.95
    assert made.dtype == np.float32


def test_every_feature_comes_at_its_rate() -> None:
    counts = np.zeros(3)
    for seed in range(40):
        counts += plant(np.random.default_rng(seed), flat())[1].any((1, 2))
    # Poisson with means 3, 2, 1: present in 95, 86 and 63 % of images.
    assert counts[0] > 32
    assert counts[1] > 26
    assert 12 < counts[2] < 36


@pytest.mark.usefixtures("without_slabs")
def test_nothing_else_is_planted_into_air() -> None:
    made, labels = plant(np.random.default_rng(1), flat(value=0.0), density=5)
    assert not labels.any()
    assert made.max() < 1e-8


def test_the_same_generator_plants_the_same() -> None:
    one, two = (plant(np.random.default_rng(7), flat()) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("shape", [(16, 16), (40, 200), (257, 31)])
def test_any_size(shape: tuple[int, int]) -> None:
    for seed in range(20):
        made, labels = plant(np.random.default_rng(seed), np.full(shape, 0.4, np.float32), density=8)
        assert made.shape == labels.shape[1:] == shape
        assert np.isfinite(made).all()


@pytest.mark.usefixtures("without_slabs")
def test_lesions_keep_to_the_stated_contrast() -> None:
    for seed in range(20):
        made, labels = plant(np.random.default_rng(seed), flat(64), density=0.3)
        alone = labels[0] & ~labels[1:].any(0)
        if alone.any() and not labels[1:].any():
            assert np.abs(made - 0.5)[alone].max() < 0.3


def test_a_slab_lies_along_an_axis_and_leaves_no_negative_air(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planting, "SLAB", (0.2, 0.2))
    edges, axial, seen = 0, 0, 0
    for seed in range(40):
        for value in (0.0, 0.5):
            made = flat(value=value)
            planting._slab(np.random.default_rng(seed), made)
            assert made.min() >= 0
            rows, columns = (np.abs(g) for g in np.gradient(made))
            strong = np.hypot(rows, columns) > 0.02
            edges += int(strong.sum())
            # Within six degrees of an axis; corners are few.
            axial += int((np.minimum(rows, columns) < 0.1 * np.maximum(rows, columns))[strong].sum())
            seen += bool(strong.any())
    assert seen > 40
    assert axial > 0.85 * edges
