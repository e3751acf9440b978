"""A CT's noise has mean 0 everywhere, and so must have what a blind network takes for it."""

from torch import Tensor

from medfpl.denoisers.methods._filters import gaussian_blur
from medfpl.denoisers.sigma import noise_levels

WIDTH = 4.0  # pixels: the standard deviation of the Gaussian whose mean is kept
# In standard deviations of the noise: a mean that moved further moved for a reason (an impulse, a stripe).
SMALL = 3.0
FLOOR = 0.0025  # working units, 5 HU: less noise than this counts as this
# Above 60 HU, and surely above 80, a CT's noise is made, and may be of a kind that has an offset.
MILD, STRONG = 0.03, 0.04


def restore_mean(before: Tensor, after: Tensor, noise_level: Tensor | float | None = None) -> Tensor:
    """Return ``after`` with the local mean of ``before`` where noise cannot have moved it; both (B, 1, H, W), CT.

    A network that has seen magnitude noise takes some of a dark region's values for the offset of that, most of
    all in the lung. What was taken away in the mean of 8 pixels or so is given back, all of it where that is less than
    3 standard deviations of the noise (``noise_level``; None: estimated), nothing above 6. Working units.
    """
    level = noise_levels(before, noise_level).clamp_min(FLOOR)
    moved = gaussian_blur(before - after, WIDTH)
    small = (2 - moved.abs() / (SMALL * level)).clamp(0, 1)
    mild = ((STRONG - level) / (STRONG - MILD)).clamp(0, 1)
    return after + moved * small * mild
