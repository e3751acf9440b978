"""Adaptive Wiener filter: the local linear minimum mean square error estimate."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import box_mean, reflect, require_odd
from medfpl.denoisers.sigma import noise_levels

# A window's variance scatters about that of the noise: a little more than the noise has to go for flat areas to
# become flat. docs/decisions/classical-filter-defaults.md
NOISE_FACTOR = 1.2


@dataclass(frozen=True)
class WienerFilter:
    """y = m + max(v - n, 0) / max(v, n) (x - m), with m and v the mean and variance of the window and n the noise's.

    The same as scipy.signal.wiener given n, but for its zero border; integers are cast to float first, for their
    squares overflow. Borders by half-sample reflection.
    """

    size: int
    noise: float | None

    def __post_init__(self) -> None:
        require_odd("size", self.size)

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the filtered batch (B, 1, H, W), working units; at noise level 0, ``x`` to rounding."""
        x = x if x.is_floating_point() else x.float()
        if self.noise is not None:
            noise = noise_levels(x, self.noise) ** 2
        else:
            noise = (NOISE_FACTOR * noise_levels(x, noise_level)) ** 2
        mean = box_mean(x, self.size)
        variance = window_variance(x, mean, self.size)
        gain = (variance - noise).clamp_min(0) / torch.maximum(variance, noise).clamp_min(torch.finfo(x.dtype).tiny)
        return mean + gain * (x - mean)


def window_variance(x: Tensor, mean: Tensor, size: int) -> Tensor:
    """Return the variance of the ``size`` x ``size`` window about each pixel, whose mean is ``mean``.

    From the differences to the mean: mean(x^2) - mean^2 would lose a low variance to rounding in float32.
    """
    r, (h, w) = size // 2, x.shape[-2:]
    wide, total = reflect(x, r, r), torch.zeros_like(x)
    for i in range(size):
        for j in range(size):
            difference = wide[..., i : i + h, j : j + w] - mean
            total = total.addcmul_(difference, difference)
    return total / (size * size)


METHOD = Method(
    name="wiener",
    summary="adaptive Wiener filter: local mean where there is only noise, the pixel itself where there is structure",
    build=WienerFilter,
    source="Lee 1980, IEEE Transactions on Pattern Analysis and Machine Intelligence 2",
    settings={
        "size": Setting(5, "window size in pixels, odd", 3, 15),
        "noise": Setting(None, "standard deviation to remove, working units; auto follows the noise level", 0, 10),
    },
    uses_noise_level=True,
)
