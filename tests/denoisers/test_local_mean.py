"""The local mean of a CT after a network: scipy's Gaussian is the oracle."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from medfpl.denoisers.local_mean import FLOOR, WIDTH, restore_mean


def pair(level: float, drift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a flat noisy image and a result without the noise whose mean has drifted."""
    noise = level * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.2 + noise, torch.full_like(noise, 0.2 - drift)


@pytest.mark.parametrize("share", [0.05, -0.1, 0.25, 2.5])
def test_a_small_drift_is_undone(share: float) -> None:
    before, after = pair(0.02, share * 0.02)
    made = restore_mean(before, after)
    assert float(made.mean() - before.mean()) == pytest.approx(0, abs=1e-4)
    # What comes back is the mean alone: as much noise as a Gaussian mean leaves.
    assert float(made.std()) == pytest.approx(gaussian_filter((before - after)[0, 0].numpy(), WIDTH).std(), rel=1e-3)
    assert float(made.std()) < 0.1 * 0.02


def test_a_large_change_is_left() -> None:
    before, after = pair(0.02, 0.0)
    before[..., 40:56, 40:56] += 0.3
    made = restore_mean(before, after)
    assert torch.equal(made[..., 44:52, 44:52], after[..., 44:52, 44:52])


def test_strong_noise_may_have_an_offset() -> None:
    before, after = pair(0.1, 0.02)
    assert torch.equal(restore_mean(before, after), after)


def test_without_noise_a_drift_below_the_floor_is_undone() -> None:
    after = torch.full((2, 1, 40, 40), 0.4, dtype=torch.float64)
    made = restore_mean(after + torch.tensor([0.3 * FLOOR, 7 * FLOOR], dtype=torch.float64).view(2, 1, 1, 1), after)
    assert torch.allclose(made[0], after[0] + 0.3 * FLOOR)
    assert torch.equal(made[1], after[1])


def test_a_given_level_is_taken() -> None:
    before, after = pair(0.02, 0.01)
    assert torch.equal(restore_mean(before, after, 0.1), after)


def test_items_do_not_feel_each_other() -> None:
    one, two = pair(0.01, 0.001), pair(0.02, 0.004)
    both = restore_mean(torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]]))
    assert torch.allclose(both[1:], restore_mean(*two))
