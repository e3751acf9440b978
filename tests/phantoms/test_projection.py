"""The radiograph of a phantom: Beer-Lambert, counting statistics, display."""

import numpy as np
import pytest

from medfpl.phantoms.projection import WATER_PER_MM, detector, display, line_integrals


def test_water_and_air_attenuate_as_they_should() -> None:
    hu = np.full((3, 50, 4), -1000, np.float32)
    hu[1, 10:30] = 0.0
    hu[2, :, 1] = 1000.0
    p = line_integrals(hu, 2.0)
    assert p.shape == (3, 4)
    assert p[2] == pytest.approx(0)  # z grows upwards, rows downwards
    assert p[1] == pytest.approx(20 * 2.0 * WATER_PER_MM)
    assert p[0, 1] == pytest.approx(50 * 2.0 * 2 * WATER_PER_MM)


def test_nothing_is_less_dense_than_vacuum() -> None:
    assert np.all(line_integrals(np.full((1, 5, 5), -1500, np.float32), 1.0) == 0)


def test_expected_signal_and_counting_noise() -> None:
    p = np.full((300, 400), 1.2, np.float32)
    assert detector(p, None) == pytest.approx(np.exp(-1.2), rel=1e-6)
    counted = detector(p, np.random.default_rng(0), quanta=4000.0, electronic=6.0) * 4000
    expected = 4000 * np.exp(-1.2)
    assert counted.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / p.size))
    assert counted.var() == pytest.approx(expected + 36, rel=0.03)


def test_display_is_monotone_and_stays_in_its_bits() -> None:
    p = np.linspace(-1, 12, 500, dtype=np.float32)
    shown = display(np.exp(-p), low=0.5, high=7.0)
    assert shown.dtype == np.uint16
    assert np.all(np.diff(shown.astype(int)) >= 0)  # dense is bright
    assert (shown.min(), shown.max()) == (0, 4095)
    assert display(np.exp(-np.array([3.75])), low=0.5, high=7.0)[0] == pytest.approx(4095 / 2, abs=1)


def test_a_starved_pixel_counts_as_one_quantum() -> None:
    dark = display(np.array([-0.1, 0.0, 1e-9]), low=0.0, high=20.0, quanta=100.0)
    assert np.all(dark == round(np.log(100) / 20 * 4095))
