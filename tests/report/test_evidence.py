import numpy as np
import pytest

from medfpl.report.evidence import flags_of, maps_of
from medfpl.saliency.maps import Maps
from medfpl.saliency.trust import Assessment, SliceTrust, Tile


def test_maps_are_on_one_scale() -> None:
    before = np.zeros((2, 10, 10), np.float32)
    before[0], before[1, 0] = -4, 2
    after = before * np.float32(0.5)
    shown = maps_of(Maps(before, after, after - before, np.array([0.5, 0.5], np.float32)))
    assert list(shown) == ["change", "features before", "features after"]
    np.testing.assert_allclose(shown["features before"], np.abs(before) / 4)
    np.testing.assert_allclose(shown["features after"], np.abs(before) / 8)
    np.testing.assert_allclose(shown["change"], -np.abs(before) / 8)  # lost: below 0


@pytest.mark.filterwarnings("error")
def test_maps_of_nothing_are_nothing() -> None:
    nothing = np.zeros((1, 4, 4), np.float32)
    shown = maps_of(Maps(nothing, nothing, nothing, np.zeros(1, np.float32)))
    assert not any(values.any() for values in shown.values())


def test_flags_keep_their_slice_and_place() -> None:
    first = Tile((0, 32, 0, 32), 1.5, 0.2, ("edges blurred",))
    second = Tile((0, 32, 32, 64), 2.0, 0.4, ("structure removed",))
    good = SliceTrust(0.5, (), 0.1, 4.5, 0.0, 0.0, 0.0, ())
    bad = SliceTrust(2.0, ("structure removed", "edges blurred"), 0.3, 18.0, 0.1, 0.9, 0.4, (first, second))
    flags = flags_of(Assessment((good, bad)))
    assert [(f.text, f.slice, f.box, f.score) for f in flags] == [
        ("structure removed", 1, (0, 32, 32, 64), 2.0),
        ("edges blurred", 1, (0, 32, 0, 32), 1.5),
    ]
