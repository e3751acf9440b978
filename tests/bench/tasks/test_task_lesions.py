import pytest
import torch
from scipy.ndimage import gaussian_filter
from task_trials import blur, case, identity, measured, trial, white

from medfpl.bench.tasks.planting import contrast_recovery, disc, distances

DETAILS = {f"{c} HU, {d} px" for c in (10, 20, 40) for d in (4, 8, 12)}


def test_identity_keeps_every_lesion():
    found = measured("lesions", trial(identity, white(0.05)))
    for measure, ideal in [("recovery", 1), ("recovery_noisy", 1), ("kept", 1), ("width", 1), ("leakage", 0)]:
        assert set(found[measure]) == DETAILS
        assert list(found[measure].values()) == pytest.approx([ideal] * 9, abs=1e-3)


@pytest.mark.parametrize("b", [0.7, 1.5])
def test_a_blur_loses_what_it_must(b):
    found = measured("lesions", trial(blur(b)))
    for diameter in (4, 8, 12):
        profile = disc(distances(30), diameter)
        left = torch.from_numpy(gaussian_filter(profile.numpy(), b))
        wanted = float(contrast_recovery(left, profile))
        for contrast in (10, 20, 40):
            detail = f"{contrast} HU, {diameter} px"
            assert found["recovery"][detail] == pytest.approx(wanted, abs=3e-3)
            assert found["width"][detail] > 1.005
            assert found["leakage"][detail] > 0.02
    assert found["recovery"]["20 HU, 4 px"] < found["recovery"]["20 HU, 8 px"] < found["recovery"]["20 HU, 12 px"] < 1


def test_an_eraser_keeps_nothing():
    found = measured("lesions", trial(lambda x: torch.full_like(x, 0.5)))
    assert set(found["recovery"].values()) == set(found["kept"].values()) == {0}
    assert "width" not in found


def test_what_the_corruption_did_is_not_the_methods_fault():
    found = measured("lesions", trial(identity, lambda x, realisation=0: 0.7 * x))
    assert list(found["recovery"].values()) == pytest.approx([0.7] * 9, abs=1e-3)
    assert list(found["kept"].values()) == pytest.approx([1] * 9, abs=1e-3)


def test_a_method_that_mends_the_corruption_recovers_all():
    found = measured("lesions", trial(lambda x: x / 0.7, lambda x, realisation=0: 0.7 * x))
    assert list(found["recovery"].values()) == pytest.approx([1] * 9, abs=1e-3)
    assert list(found["kept"].values()) == pytest.approx([1 / 0.7] * 9, abs=2e-3)


def test_a_threshold_keeps_strong_lesions_only():
    """A method that erases whatever differs by less than 30 HU from its smooth surroundings."""

    def denoise(x):
        smooth = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 8, 8)))
        return torch.where((x - smooth).abs() > 0.0125, x, smooth)

    found = measured("lesions", trial(denoise, lambda x, realisation=0: x))
    assert found["recovery"]["10 HU, 8 px"] < 0.6
    assert found["recovery"]["40 HU, 8 px"] > 0.8


def test_no_tissue_no_value():
    assert measured("lesions", trial(of=case(torch.zeros(1, 1, 96, 96)))) == {}
