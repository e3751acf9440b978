"""Salt-and-pepper noise: binomial counts, all other pixels bit-equal."""

import pytest
import torch
from noise_checks import flat, noisy, phantom
from scipy import stats


@pytest.mark.parametrize(("amount", "pepper"), [(0.06, 0.5), (0.3, 0.5), (0.2, 0.9), (0.01, 0.0)])
def test_counts_are_binomial(amount: float, pepper: float) -> None:
    x = flat(0.5)
    y = noisy("salt-pepper", x, amount=amount, pepper=pepper)
    n, low, high = x.numel(), int((y == 0).sum()), int((y == 1).sum())
    for count, chance in [(low, amount * pepper), (high, amount * (1 - pepper)), (low + high, amount)]:
        assert stats.binomtest(count, n, chance).pvalue > 1e-3
    assert int((y == 0.5).sum()) == n - low - high


def test_other_pixels_and_values() -> None:
    x = phantom(64, 64)
    y = noisy("salt-pepper", x, amount=0.2, low=-0.2, high=1.3)
    hit = (y == -0.2) | (y == 1.3)
    assert 0.1 < float(hit.float().mean()) < 0.3
    assert torch.equal(y[~hit], x[~hit])


def test_all_or_none() -> None:
    x = flat(0.5, 64)
    assert torch.equal(noisy("salt-pepper", x, amount=0.0), x)
    y = noisy("salt-pepper", x, amount=1.0)
    assert bool(((y == 0) | (y == 1)).all())


def test_more_keeps_what_less_altered() -> None:
    """One uniform a pixel: the altered pixels of a weak run are altered in a strong one too."""
    x = flat(0.5, 64)
    weak, strong = noisy("salt-pepper", x, strength=0.3), noisy("salt-pepper", x, strength=0.8)
    hit = weak != x
    assert torch.equal(strong[hit], weak[hit])
