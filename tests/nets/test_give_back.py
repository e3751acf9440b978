"""Faint lesions come back that a network took for noise; noise, impulses and offsets do not."""

from math import pi

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medfpl.bench.tasks.planting import contrast_recovery, disc, distances
from medfpl.nets.give_back import (
    EXTRA,
    MOST,
    MOST_WITH_OFFSET,
    NARROWEST,
    POWER,
    SHARE,
    STRONG,
    STRONGER,
    STRONGEST,
    SURE,
    WHITE,
    WIDTHS,
    Back,
    without_local_mean,
)

SIDE = 257


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def white(level: float, seed: int = 0, items: int = 1) -> Tensor:
    return level * torch.randn(items, 1, SIDE, SIDE, generator=seeded(seed))


def lesion(diameter: float) -> Tensor:
    return disc(distances(SIDE // 2), diameter).float()[None, None]


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def bound(level: float) -> float:
    """Return how much of white noise may come back."""
    return MOST * (STRONG / level) ** POWER


@pytest.mark.parametrize("level", [0.028, 0.04, 0.052])
@pytest.mark.parametrize("diameter", [4, 8, 12])
def test_a_faint_lesion_that_was_taken_for_noise_comes_back(diameter, level):
    tissue, noise, faint = torch.full((1, 1, SIDE, SIDE), 0.5), white(level), 0.005 * lesion(diameter)
    # A network that smooths everything away: what it takes is the lesion and the noise.
    without, with_ = (without_local_mean(noise + x, tissue + noise + x, offset=False) for x in (0 * faint, faint))
    kept = (faint + without - with_)[0, 0].double()
    # White noise of sd s has in a mean over a Gaussian of w pixels the sd s / (2 sqrt(pi) w).
    quiet = [w for w in WIDTHS if w >= NARROWEST and level / (2 * pi**0.5 * w) <= bound(level)]
    shape = lesion(diameter)[0, 0].double()
    wanted = contrast_recovery(torch.from_numpy(gaussian_filter(shape.numpy(), quiet[0])), shape)
    assert float(contrast_recovery(kept, faint[0, 0].double())) == pytest.approx(float(wanted), abs=0.01)
    assert rms(noise - without) == pytest.approx(level / (2 * pi**0.5 * quiet[0]), rel=0.1)


def test_mild_noise_comes_back_by_a_share_of_it_however_smooth():
    smooth = torch.from_numpy(gaussian_filter(white(0.004).numpy(), (0, 0, 0.5, 0.5)))
    back = {w: rms(torch.from_numpy(gaussian_filter(smooth.numpy(), (0, 0, w, w)))) for w in WIDTHS if w >= NARROWEST}
    assert SHARE * rms(smooth) < back[NARROWEST] < bound(rms(smooth))  # the bound alone would give all of it back
    given = rms(smooth - without_local_mean(smooth, 0.5 + smooth, offset=False))
    assert 0 < given <= SHARE * rms(smooth)


@pytest.mark.parametrize(("offset", "most"), [(False, MOST), (True, MOST_WITH_OFFSET)])
def test_in_noise_so_strong_that_no_mean_is_quiet_enough_all_is_taken(offset, most):
    quietest = most * 2 * pi**0.5 * WIDTHS[-1]
    strongest = quietest if offset else (quietest * STRONG**POWER) ** (1 / (1 + POWER))  # where both sides meet
    noise = white(1.2 * strongest)
    assert torch.equal(without_local_mean(noise, 0.5 + noise, offset=offset), noise)


def test_who_asks_for_more_gets_the_narrowest_mean_that_is_quiet_enough_and_for_0_none():
    noise = white(0.05)
    for width in (1.0, 2.5):
        comes_back = 0.05 / (2 * pi**0.5 * width)
        left = without_local_mean(noise, 0.5 + noise, offset=False, most=1.08 * comes_back)
        assert rms(noise - left) == pytest.approx(comes_back, rel=0.1)
    assert torch.equal(without_local_mean(noise, 0.5 + noise, offset=False, most=0.0), noise)


@pytest.mark.parametrize(
    ("level", "narrowest"), [(0.9 * STRONGER[0], NARROWEST), (0.5 * (STRONGER[1] + STRONGEST[0]), 1.25)]
)
@pytest.mark.parametrize("rough", [0.4, 0.8])
def test_in_stronger_noise_a_narrower_mean_comes_back_unless_it_is_noise_for_the_most_part(level, narrowest, rough):
    noise = torch.from_numpy(gaussian_filter(white(1.0).numpy(), (0, 0, rough, rough)))
    noise = noise - torch.from_numpy(gaussian_filter(noise.numpy(), (0, 0, 2.5, 2.5)))  # coarse noise is not taken
    noise = level / rms(noise) * noise
    back = {w: rms(torch.from_numpy(gaussian_filter(noise.numpy(), (0, 0, w, w)))) for w in WIDTHS if w >= narrowest}
    more = NARROWEST / narrowest
    limit = min(SHARE * min(more, WHITE) * level, bound(level) * more**EXTRA)
    wanted = next(w for w, value in back.items() if value <= limit)
    assert (wanted == narrowest) == (rough == 0.4)
    left, unsure = (
        without_local_mean(noise, 0.5 + noise, offset=False, back=Back(narrowest=1.25), share=share)
        for share in (torch.tensor([1.0]), torch.tensor([SURE[0]]))
    )
    assert torch.equal(unsure, without_local_mean(noise, 0.5 + noise, offset=False))
    assert rms(noise - left) == pytest.approx(back[wanted], rel=0.05)


def test_beyond_the_strongest_the_mean_is_that_of_the_default():
    noise = white(1.1 * STRONGEST[1])
    results = [without_local_mean(noise, 0.5 + noise, offset=False, back=b) for b in (Back(), Back(narrowest=1.0))]
    assert torch.equal(*results)


def test_what_is_smooth_and_next_to_nothing_was_no_noise_and_comes_back_whole():
    smooth = torch.from_numpy(gaussian_filter(white(1.0).numpy(), (0, 0, 2, 2)))
    hit = 1.0 * (torch.rand(1, 1, SIDE, SIDE, generator=seeded(1)) < 1e-4)
    for found, level, taken in (
        (smooth, 0.9, 0),
        (smooth, 1.5, 0.5),
        (smooth, 2.1, 1),
        (white(1.0), 0.9, 1),
        (hit, 0.9, 1),
    ):
        noise = 0.001 * level / rms(found) * found
        without, with_ = (
            without_local_mean(noise, 0.5 + noise, offset=False, back=back) for back in (Back(), Back(least=0.001))
        )
        torch.testing.assert_close(with_, taken * without, rtol=1e-3, atol=1e-7)
    assert rms(without) > 0


def test_an_impulse_is_no_measurement():
    hit = torch.rand(1, 1, SIDE, SIDE, generator=seeded(1)) < 0.02
    noise = 0.05 * hit
    assert rms(noise) < 0.01
    assert torch.equal(without_local_mean(noise, 0.5 + noise, offset=False), noise)


def test_the_air_about_a_patient_stays_black():
    body = torch.zeros(1, 1, SIDE, SIDE)
    body[..., : SIDE // 2] = 0.5
    noise = white(0.02)
    left = without_local_mean(noise, body + noise, offset=False)
    assert torch.equal(left[..., SIDE // 2 + 8 :], noise[..., SIDE // 2 + 8 :])
    assert rms((left - noise)[..., : SIDE // 2 - 8]) > 0.5 * MOST


def test_an_offset_that_depends_on_the_intensity_stays_in_the_noise():
    shade = torch.linspace(0.2, 0.8, SIDE).expand(1, 1, SIDE, SIDE)
    lifted = 0.02**2 / shade + 0.01
    noise = lifted + white(0.02)
    left = without_local_mean(noise, shade + noise, offset=True)
    columns = (left - noise).mean(-2)
    assert float(columns.abs().max()) < 0.002 < float(lifted.min())
    assert rms(left - noise) == pytest.approx(0.02 / (2 * pi**0.5 * NARROWEST), rel=0.1)


def test_an_item_does_not_feel_its_neighbours():
    noise = torch.cat([white(0.03, seed=3), white(0.5, seed=4), white(0.01, seed=5)])
    image = noise + torch.tensor([0.4, 0.6, 0.5]).view(-1, 1, 1, 1)
    for offset in (False, True):
        together = without_local_mean(noise, image, offset=offset)
        alone = [without_local_mean(n[None], x[None], offset=offset) for n, x in zip(noise, image, strict=True)]
        torch.testing.assert_close(together, torch.cat(alone))


def test_low_precision_does_not_reach_it():
    noise = white(0.03)
    wanted = without_local_mean(noise, 0.5 + noise, offset=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(without_local_mean(noise, 0.5 + noise, offset=False), wanted)
