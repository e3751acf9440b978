"""Bilateral filter: a mean of near pixels of like value."""

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import half_plane, shifted
from medfpl.denoisers.sigma import noise_levels

# docs/decisions/classical-filter-defaults.md
RANGE_FACTOR = 3.5


@dataclass(frozen=True)
class BilateralFilter:
    """Weights exp(-d^2 / 2 s^2 - (x_p - x_q)^2 / 2 r^2) over a square window; d is the distance in pixels.

    ``sigma_spatial`` is s, ``sigma_range`` is r, ``radius`` is half the window. Pixels outside the image take no part.
    """

    sigma_spatial: float
    sigma_range: float | None
    radius: int

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the filtered batch (B, 1, H, W), working units; where the range width is 0, ``x`` itself."""
        if self.sigma_range is not None:
            width = x.new_full((len(x), 1, 1, 1), self.sigma_range)
        else:
            width = RANGE_FACTOR * noise_levels(x, noise_level)
        radius = self.radius or ceil(2 * self.sigma_spatial)
        sharpness = -0.5 / width.clamp_min(1e-6) ** 2
        # The mean is taken of the differences to the pixel: a constant stays what it is, to the bit.
        change, weights = torch.zeros_like(x), torch.ones_like(x)
        for dy, dx in half_plane(radius, x.shape[-2], x.shape[-1]):
            here, there = shifted(x, dy, dx)
            difference = there - here
            weight = (difference.square() * sharpness).sub_((dy * dy + dx * dx) / (2 * self.sigma_spatial**2)).exp_()
            difference.mul_(weight)
            for sums, part, sign in ((weights, weight, 1), (change, difference, -1)):
                near, far = shifted(sums, dy, dx)
                near.add_(part)
                far.add_(part, alpha=sign)
        return torch.where(width > 0, x + change / weights, x)


METHOD = Method(
    name="bilateral",
    summary="mean of near pixels of like value: smooths flat areas, keeps edges",
    build=BilateralFilter,
    source="Tomasi & Manduchi 1998, International Conference on Computer Vision",
    settings={
        "sigma_spatial": Setting(1.5, "width of the spatial Gaussian in pixels", 0.1, 20.0),
        "sigma_range": Setting(None, "width of the Gaussian of values, working units; auto follows the noise", 0, 100),
        "radius": Setting(0, "half the window in pixels; 0 is twice sigma_spatial", 0, 40),
    },
    uses_noise_level=True,
)
