"""Gaussian filter: smoothing with a Gaussian whose width follows the noise level."""

from dataclasses import dataclass

from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import gaussian_blur
from medfpl.denoisers.sigma import noise_levels

# For a smooth image the squared error of a Gaussian of width s is a s^4 (blur) + sigma^2 / (4 pi s^2) (noise), least
# at s ~ sigma^(1/3). The factor for real images: docs/decisions/classical-filter-defaults.md.
WIDTH_FACTOR, WIDTH_EXPONENT, WIDEST = 2.8, 1 / 3, 3.0


@dataclass(frozen=True)
class GaussianFilter:
    """The same as scipy.ndimage.gaussian_filter with its default border (half-sample reflection), cut at 4 sigmas."""

    sigma: float | None

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the smoothed batch (B, 1, H, W), working units; where the width is 0, ``x`` itself."""
        if self.sigma is not None:
            return gaussian_blur(x, self.sigma)
        levels = noise_levels(x, noise_level)
        return gaussian_blur(x, (WIDTH_FACTOR * levels**WIDTH_EXPONENT).clamp(max=WIDEST))


METHOD = Method(
    name="gaussian",
    summary="Gaussian smoothing",
    build=GaussianFilter,
    source="Gonzalez & Woods, Digital Image Processing",
    settings={"sigma": Setting(None, "width of the Gaussian in pixels; auto follows the noise level", 0, 20)},
    uses_noise_level=True,
)
