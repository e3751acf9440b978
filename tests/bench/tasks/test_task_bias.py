import numpy as np
import pytest
import torch
from task_trials import CT, MR, body, case, identity, measured, trial, white

from medfpl.bench.tasks.regions import CT_CLASSES, classes, homogeneous, local_sd

LEVELS = {"air": -1000.0, "lung": -800.0, "fat": -90.0, "soft tissue": 40.0, "bone": 600.0}


def stripes():
    """Five tissues side by side, 24 pixels each."""
    hu = np.repeat(np.array(list(LEVELS.values()), np.float32), 24)
    return torch.from_numpy(CT.to_working(np.tile(hu, (64, 1)))).view(1, 1, 64, 120)


def test_every_tissue_is_found_well_inside():
    found = classes(case(stripes()))
    assert set(found) == set(LEVELS) == set(CT_CLASSES)
    image = CT.to_real(stripes().numpy())[0, 0]
    for name, mask in found.items():
        assert 64 * 12 <= mask.sum() < 64 * 24
        assert np.allclose(image[mask], LEVELS[name], atol=1e-3)


def test_a_shift_is_measured_in_hu():
    made = trial(lambda x: x + 5 / 2000, white(0.0), of=case(stripes()))
    found = measured("bias", made)
    assert found["shift_hu"] == pytest.approx(dict.fromkeys(LEVELS, 5), abs=1e-3)
    assert found["shift_noisy_hu"] == pytest.approx(dict.fromkeys(LEVELS, 0), abs=1e-3)
    assert found["error_hu"] == pytest.approx({"": 5}, abs=1e-3)


def test_shifts_of_two_signs_do_not_cancel():
    found = measured("bias", trial(lambda x: 0.9 * x, white(0.0), of=case(stripes())))
    assert found["shift_hu"]["bone"] == pytest.approx(-160, abs=0.01)
    assert found["shift_hu"]["air"] == pytest.approx(0, abs=0.01)
    assert found["error_hu"][""] == pytest.approx((0 + 20 + 91 + 104 + 160) / 5, abs=0.01)


def test_other_kinds_are_told_in_percent_by_brightness():
    image = torch.linspace(0, 1, 120).expand(1, 1, 64, 120).contiguous()
    found = measured("bias", trial(lambda x: x + 0.02 * (x > 0.5), white(0.0), of=case(image, MR)))
    assert set(found) == {"shift", "shift_noisy", "error"}
    assert found["shift"]["dark"] == pytest.approx(0, abs=1e-4)
    assert 0 < found["shift"]["middle"] < 2
    assert found["shift"]["bright"] == pytest.approx(2, abs=1e-4)


def test_identity_has_the_bias_of_its_input():
    found = measured("bias", trial(identity, white(0.02)))
    assert found["shift_hu"] == found["shift_noisy_hu"]


def test_what_is_too_small_is_left_out():
    assert classes(case(torch.zeros(1, 1, 8, 8))) == {}
    assert measured("bias", trial(of=case(torch.zeros(1, 1, 64, 64), MR))) == {}


def test_the_local_sd_is_that_of_the_window():
    x = np.random.default_rng(0).normal(3, 1, (20, 20)).astype(np.float32)
    assert local_sd(x, 5)[10, 7] == pytest.approx(x[8:13, 5:10].std(), rel=1e-5)


def test_homogeneous_places_are_the_flatter_half_of_the_tissue():
    textured = body()
    textured[..., :96] += 0.01 * torch.randn(192, 96, generator=torch.Generator().manual_seed(0))
    flat, _ = homogeneous(case(textured), 9)
    assert flat[:, 100:].sum() > 5 * flat[:, :90].sum()
