"""Non-local means: a mean of pixels whose neighbourhoods look alike."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import half_plane, reflect, require_odd, shifted, window_sum
from medfpl.denoisers.sigma import noise_levels

# docs/decisions/classical-filter-defaults.md
H_FACTOR = 0.8


@dataclass(frozen=True)
class NonLocalMeans:
    """Weights exp(-max(D - 2 sigma^2, 0) / h^2), D the mean squared difference of two square patches.

    ``patch`` and ``search`` are the sizes of a patch and of the window in which alike patches are looked for. Patches
    continue over the border by half-sample reflection; pixels outside the image take no part in the mean.
    """

    patch: int
    search: int
    h: float | None

    def __post_init__(self) -> None:
        require_odd("patch", self.patch)
        require_odd("search", self.search)

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the filtered batch (B, 1, H, W), working units; where h is 0, ``x`` itself."""
        levels = noise_levels(x, noise_level)
        width = torch.full_like(levels, self.h) if self.h is not None else H_FACTOR * levels
        sharpness = -1.0 / (self.patch**2 * width.clamp_min(1e-6) ** 2)
        chance = 2 * self.patch**2 * levels**2
        wide = reflect(x, self.patch // 2, self.patch // 2)
        # The mean is taken of the differences to the pixel: a constant stays what it is, to the bit.
        change, weights = torch.zeros_like(x), torch.ones_like(x)
        for dy, dx in half_plane(self.search // 2, x.shape[-2], x.shape[-1]):
            a, b = shifted(wide, dy, dx)
            distance = window_sum(window_sum((a - b).square_(), self.patch, -1), self.patch, -2)
            weight = distance.sub_(chance).clamp_min_(0).mul_(sharpness).exp_()
            here, there = shifted(x, dy, dx)
            difference = (there - here).mul_(weight)
            # One pair of patches serves both its pixels.
            for sums, part, sign in ((weights, weight, 1), (change, difference, -1)):
                near, far = shifted(sums, dy, dx)
                near.add_(part)
                far.add_(part, alpha=sign)
        return torch.where(width > 0, x + change / weights, x)


METHOD = Method(
    name="nlm",
    summary="non-local means: mean of pixels whose neighbourhoods look alike",
    build=NonLocalMeans,
    source="Buades, Coll & Morel 2005, CVPR; noise term: Buades, Coll & Morel 2011, IPOL 1",
    settings={
        "patch": Setting(5, "patch size in pixels, odd", 1, 15),
        "search": Setting(21, "search window in pixels, odd", 3, 41),
        "h": Setting(None, "how unlike patches may be, working units; auto follows the noise level", 0, 100),
    },
    uses_noise_level=True,
)
