"""The abdomen and the head: the same for the same seed, organs at their values, lesions inside."""

from collections.abc import Callable

import numpy as np
import pytest

from medfpl.phantoms.abdomen import LIVER, abdomen
from medfpl.phantoms.base import Phantom
from medfpl.phantoms.brain import SIGNAL, brain
from medfpl.phantoms.shapes import Grid

BELLY = Grid.around((6, 0, 0), (20, 110, 130), (4.0, 2.7, 2.7))
HEAD = Grid.around((6, 0, 0), (20, 140, 116), (3.5, 1.5, 1.5))
DRAW: dict[str, Callable[[int], Phantom]] = {
    "abdomen": lambda seed: abdomen(np.random.default_rng(seed), BELLY),
    "t1": lambda seed: brain(np.random.default_rng(seed), HEAD, "t1"),
    "t2": lambda seed: brain(np.random.default_rng(seed), HEAD, "t2"),
}


@pytest.mark.parametrize("name", DRAW)
def test_a_seed_is_a_patient(name: str) -> None:
    one, again, other = DRAW[name](3), DRAW[name](3), DRAW[name](4)
    assert one.image.tobytes() == again.image.tobytes()
    assert one.lesion_list() == again.lesion_list()
    assert one.lesion_list() != other.lesion_list()
    assert one.image.dtype == np.float32
    assert np.isfinite(one.image).all()
    assert np.mean(one.image != other.image) > 0.1


def test_liver_has_its_density_and_lies_on_the_right() -> None:
    drawn = DRAW["abdomen"](3)
    liver = drawn.masks["liver"]
    assert np.median(drawn.image[liver]) == pytest.approx(LIVER, abs=4)
    columns = np.arange(BELLY.shape[2]) * np.ones(BELLY.shape)
    assert columns[liver].mean() < BELLY.shape[2] / 2 - 8  # columns grow to the patient's left


def test_liver_lesions_are_in_the_liver_and_as_dark_as_listed() -> None:
    drawn = DRAW["abdomen"](3)
    for number, lesion in enumerate(drawn.lesions, 1):
        inside = drawn.lesion_labels == number
        assert drawn.masks["liver"][inside].mean() > 0.9
        z, y, x = (round(v) for v in drawn.places[number - 1])
        assert drawn.image[z, y, x] == pytest.approx(LIVER + lesion.contrast, abs=4)


@pytest.mark.parametrize("name", ["t1", "t2"])
def test_tissues_of_the_head_are_ordered_by_their_signal(name: str) -> None:
    drawn = DRAW[name](3)
    signal = SIGNAL[name]  # type: ignore[index]
    white = np.median(drawn.image[drawn.masks["white matter"]])
    fluid = np.median(drawn.image[drawn.masks["ventricles"]])
    # The shading is one field for all of them, and brightens or darkens the whole.
    assert white == pytest.approx(signal["white"], rel=0.35)
    assert fluid / white == pytest.approx(signal["csf"] / signal["white"], rel=0.2)
    assert drawn.image.min() == 0


def test_t1_and_t2_show_the_same_head() -> None:
    one, two = DRAW["t1"](3), DRAW["t2"](3)
    assert np.array_equal(one.masks["brain"], two.masks["brain"])
    assert [row["centre_mm"] for row in one.lesion_list()] == [row["centre_mm"] for row in two.lesion_list()]
