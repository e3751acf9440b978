from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_trials import CT, MR, body, case, identity, trial, white

from medfpl.bench.tasks.planting import (
    EDGE,
    contrast_recovery,
    contrast_text,
    corrupt_with,
    disc,
    distances,
    follows,
    leakage,
    plant,
    reach_of,
    sites,
    width_ratio,
    windows,
)
from medfpl.bench.tasks.regions import spread, tissue

R = distances(40)


def gaussian(s, height=1.0):
    return height * torch.exp(-0.5 * (R / s) ** 2)


def blurred_gaussian(s, b):
    """A Gaussian lesion of width s after a blur by b, in closed form."""
    return gaussian(sqrt(s * s + b * b), s * s / (s * s + b * b))


@given(st.floats(2, 6), st.floats(0.3, 5))
def test_recovery_and_leakage_of_a_blurred_gaussian(s, b):
    lesion, left = gaussian(s), blurred_gaussian(s, b)
    recovery = 2 * s * s / (2 * s * s + b * b)
    assert float(contrast_recovery(left, lesion)) == pytest.approx(recovery, rel=1e-3)
    energy = s * s / (s * s + b * b)
    assert float(leakage(left, lesion)) == pytest.approx(sqrt(max(0, energy - recovery**2)), abs=2e-3)
    assert float(left[40, 40]) == pytest.approx(energy)  # the contrast at the centre


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_recovery_is_linear(a, b):
    lesion, other = gaussian(3), gaussian(5)
    parts = contrast_recovery(torch.stack([lesion, other]), lesion)
    both = contrast_recovery(a * lesion + b * other, lesion)
    assert float(both) == pytest.approx(float(a * parts[0] + b * parts[1]), abs=1e-12)


def test_recovery_takes_batches():
    lesion = gaussian(3)
    found = contrast_recovery(torch.stack([0 * lesion, lesion, -2 * lesion]), lesion)
    assert found.tolist() == pytest.approx([0, 1, -2])
    assert leakage(torch.stack([lesion, 3 * lesion]), lesion).tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("diameter", [4, 8, 12])
@pytest.mark.parametrize("k", [0.6, 0.9, 1.0, 1.37, 2.0])
def test_width_finds_a_dilation(diameter, k):
    assert width_ratio(0.3 * 0.01 * disc(R / k, diameter), 0.01, diameter) == pytest.approx(k, rel=0.01)


def test_width_of_noise_or_of_nothing_is_not_a_number():
    assert np.isnan(width_ratio(torch.zeros(81, 81).double(), 0.01, 8))
    assert np.isnan(width_ratio(-0.01 * disc(R, 8), 0.01, 8))


def test_a_disc_has_its_diameter_and_edge():
    r = torch.tensor([0.0, 6.0 - EDGE, 6.0, 6.0 + EDGE, 20.0], dtype=torch.float64)
    assert disc(r, 12).tolist() == pytest.approx([1, 0.8413447, 0.5, 0.1586553, 0], abs=1e-6)


def test_plant_puts_each_disc_at_its_place():
    like = torch.zeros(2, 1, 64, 80)
    made = plant(like, [(20, 30), (40, 60)], [0.01, -0.02], [8, 12])
    assert made.shape == like.shape
    assert made.dtype == like.dtype
    cut = windows(made, [(20, 30), (40, 60)], 15)
    for i, (contrast, diameter) in enumerate([(0.01, 8), (-0.02, 12)]):
        assert torch.allclose(cut[1, i], contrast * disc(distances(15), diameter), atol=1e-8)


def test_sites_lie_in_tissue_and_apart_and_follow_the_seed():
    made = trial()
    found = sites(made, (4, 8, 12), 4)
    assert [s.diameter for s in found] == [4, 8, 12] * 4
    inside = tissue(made.case)
    for i, a in enumerate(found):
        (r, c), reach = a.place, a.diameter // 2
        assert inside[r - reach : r + reach + 1, c - reach : c + reach + 1].all()
        for b in found[:i]:
            apart = max(abs(a.place[0] - b.place[0]), abs(a.place[1] - b.place[1]))
            assert apart > reach_of(a.diameter) + reach_of(b.diameter)
    assert found == sites(trial(), (4, 8, 12), 4)
    assert found != sites(trial(seed=1), (4, 8, 12), 4)


def test_where_there_is_no_tissue_there_is_no_site():
    assert sites(trial(of=case(torch.zeros(1, 1, 64, 64))), (4,), 3) == []
    assert spread(np.random.default_rng(0), case(body(64)), [40], [10]) == [None]


def test_contrasts_are_named_in_the_images_unit():
    assert contrast_text(trial(of=case(intensity=CT)), 0.02) == "40 HU"
    assert contrast_text(trial(of=case(intensity=MR)), 0.02) == "2 %"


def counts(x, realisation=0):
    """A corruption whose noise is another one for every input, as photon counts are."""
    seed = int(x.double().sum() * 1e6) + realisation
    return x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def test_lesions_go_through_the_corruption_where_its_noise_stays():
    made = trial(corrupt=lambda x, realisation=0: 0.5 * white(0.01)(x, realisation))
    lesions = plant(made.clean, [(96, 96)], [0.01], [12])
    assert follows(made, lesions)
    left = corrupt_with(made, lesions, follow=True) - made.noisy
    assert torch.allclose(left, 0.5 * lesions, atol=1e-6)


def test_lesions_are_added_where_the_noise_is_drawn_anew():
    made = trial(identity, counts)
    lesions = plant(made.clean, [(96, 96)], [0.01], [12])
    assert not follows(made, lesions)
    assert torch.allclose(corrupt_with(made, lesions, follow=False) - made.noisy, lesions, atol=1e-6)
