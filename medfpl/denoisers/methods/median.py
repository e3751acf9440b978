"""Median filter: each pixel becomes the median of its window; the remedy for impulses."""

from dataclasses import dataclass

from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import require_odd, window_median


@dataclass(frozen=True)
class MedianFilter:
    """The same as scipy.ndimage.median_filter with its default border (half-sample reflection)."""

    size: int

    def __post_init__(self) -> None:
        require_odd("size", self.size)

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the windows' medians (B, 1, H, W), working units; the noise level is not used."""
        return window_median(x, self.size)


METHOD = Method(
    name="median",
    summary="median of a square window",
    build=MedianFilter,
    source="Tukey 1977, Exploratory Data Analysis",
    settings={"size": Setting(3, "window size in pixels, odd", 1, 9)},
)
