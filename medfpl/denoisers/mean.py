"""A CT's noise has mean 0 everywhere, and so must have what a blind network takes for it."""

from torch import Tensor

from medfpl.denoisers.methods._filters import gaussian_blur
from medfpl.denoisers.sigma import estimate_noise

WIDTH = 4.0  # pixels: the standard deviation of the Gaussian whose mean is kept
# In standard deviations of the noise: a mean that moved further moved for a reason (an impulse, a stripe).
SMALL = 3.0
FLOOR = 0.0025  # working units, 5 HU: less noise than this counts as this
# Scanners' noise is mostly below 50 HU. Above 80 a CT's noise is made, and may be of a kind that has an offset.
MILD, STRONG = 0.03, 0.04


def restore_mean(before: Tensor, after: Tensor) -> Tensor:
    """Return ``after`` with the local mean of ``before`` where noise cannot have moved it; both (B, 1, H, W), CT.

    A network that has seen magnitude noise takes some of a dark region's values for the offset of that: in the lung it
    is a few HU, and tens where the lung is darkest. What was taken away in the mean of 8 pixels or so is given back,
    all of it where that is less than 3 standard deviations of the noise, nothing above 6. Working units.
    """
    level = estimate_noise(before).clamp_min(FLOOR).view(-1, 1, 1, 1)
    moved = gaussian_blur(before - after, WIDTH)
    small = (2 - moved.abs() / (SMALL * level)).clamp(0, 1)
    mild = ((STRONG - level) / (STRONG - MILD)).clamp(0, 1)
    return after + moved * small * mild
