import pytest
import torch
from task_trials import blur, body, case, identity, measured, trial, white

from medfpl.bench.tasks.kinds.invention import false_lesions, lesion_responses, persistent
from medfpl.bench.tasks.planting import plant

LESION_PLACES = [(r, c) for r in (70, 96, 122) for c in (70, 96, 122)]


def inventor(x):
    """It adds nine lesions of 40 HU to whatever it gets."""
    return x + plant(x, LESION_PLACES, [0.02] * 9, [8] * 9)


def test_the_filter_reads_a_lesions_contrast():
    image = plant(torch.zeros(1, 1, 64, 64), [(32, 32)], [0.03], [8])
    responses = lesion_responses(image + 0.7)
    assert responses.shape == image.shape
    assert float(responses[0, 0, 32, 32]) == pytest.approx(0.03, rel=1e-5)
    assert int(responses.argmax()) == 32 * 64 + 32
    assert float(responses[0, 0, 5:18, 5:18].abs().max()) < 1e-9  # a level is no lesion


def test_what_images_share_is_told_from_their_noise():
    g = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(6, 1, 160, 160, generator=g)
    pattern = plant(torch.zeros(1, 1, 160, 160), LESION_PLACES, [0.02] * 9, [8] * 9)
    alone = float(lesion_responses(pattern).square().mean().sqrt())
    assert persistent(noise + pattern) == pytest.approx(alone, rel=0.25)
    assert persistent(noise) < 0.3 * alone
    assert persistent(pattern.expand(4, -1, -1, -1)) == pytest.approx(alone, rel=1e-6)


def test_false_lesions_are_counted_once():
    image = plant(torch.zeros(2, 1, 160, 160), LESION_PLACES, [0.02] * 9, [8] * 9)
    where = torch.ones(160, 160, dtype=torch.bool)
    responses = lesion_responses(image)
    assert false_lesions(responses, where, 0.015) == pytest.approx(9000 / 160**2)
    assert false_lesions(responses, where, 0.025) == 0


def test_an_inventor_is_caught():
    honest, caught = (measured("invention", trial(m, white(0.005))) for m in (identity, inventor))
    assert caught["flat_structure"][""] > 0.2 > 0.02 > honest["flat_structure"][""]
    assert caught["false_lesions"]["20 HU"] > 0.1
    assert honest["false_lesions"] == honest["false_lesions_noisy"] == {"20 HU": 0}
    assert caught["largest"][""] == pytest.approx(2, abs=0.3)
    assert honest["largest"] == honest["largest_noisy"]
    for measure in ("flat_structure_noisy", "false_lesions_noisy", "largest_noisy"):
        assert caught[measure] == honest[measure]


def test_a_method_that_turns_noise_into_spots_is_caught():
    """It is blurred noise, put back at ten times its size: no two outputs agree, but each is full of spots."""

    def spots(x):
        smooth = blur(2.0)(x)
        return smooth + 10 * (smooth - blur(4.0)(x))

    flat = case(torch.full_like(body(), 0.52))
    found = measured("invention", trial(spots, white(0.02), of=flat))
    assert found["false_lesions"]["20 HU"] > found["false_lesions_noisy"]["20 HU"] + 0.3
    assert found["largest"][""] > 2 * found["largest_noisy"][""]


def test_an_eraser_invents_nothing_on_a_flat_image():
    found = measured("invention", trial(lambda x: torch.full_like(x, 0.5), white(0.01)))
    assert found["flat_structure"][""] == pytest.approx(0, abs=1e-9)
    assert found["false_lesions"] == {"20 HU": 0}


def test_no_tissue_no_false_lesion():
    found = measured("invention", trial(of=case(torch.zeros(1, 1, 96, 96))))
    assert set(found) == {"flat_structure", "flat_structure_noisy"}
