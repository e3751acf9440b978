"""The combination that the paper compares with: mean, then median, then Gaussian filter."""

from dataclasses import dataclass

from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import box_mean, gaussian_blur, require_odd, window_median


@dataclass(frozen=True)
class CombinedFilter:
    """Mean and median of one window size, then a Gaussian; borders by half-sample reflection."""

    size: int
    sigma: float

    def __post_init__(self) -> None:
        require_odd("size", self.size)

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the filtered batch (B, 1, H, W), working units; the noise level is not used."""
        return gaussian_blur(window_median(box_mean(x, self.size), self.size), self.sigma)


METHOD = Method(
    name="combined",
    summary="mean, then median, then Gaussian filter",
    build=CombinedFilter,
    source="Dong & Basu 2023, arXiv 2310.20101",
    settings={
        "size": Setting(3, "window size of the mean and of the median in pixels, odd", 1, 9),
        # What a 3 x 3 Gaussian kernel is commonly given.
        "sigma": Setting(0.8, "width of the Gaussian in pixels", 0.0, 20.0),
    },
)
