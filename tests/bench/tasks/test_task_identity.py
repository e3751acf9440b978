import pytest
from task_trials import MR, body, case, identity, measured, trial


def test_identity_is_perfect():
    assert measured("identity", trial(identity)) == {
        "psnr": {"": 100},
        "largest": {"": 0},
        "shift": {"": 0},
        "shift_hu": {"": 0},
    }


def test_a_constant_change_is_measured():
    found = measured("identity", trial(lambda x: x + 0.01))
    assert found["psnr"][""] == pytest.approx(40, abs=1e-3)
    assert found["largest"][""] == pytest.approx(1, abs=1e-4)
    assert found["shift"][""] == pytest.approx(1, abs=1e-4)
    assert found["shift_hu"][""] == pytest.approx(20, abs=1e-2)


def test_only_a_ct_has_hu():
    assert "shift_hu" not in measured("identity", trial(of=case(body(), MR)))


def test_the_clean_image_is_what_is_denoised():
    """Whatever the corruption is."""
    assert measured("identity", trial(corrupt=lambda x, realisation=0: 0 * x))["psnr"] == {"": 100}
