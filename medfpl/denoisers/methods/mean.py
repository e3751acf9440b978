"""Mean filter: each pixel becomes the mean of its window."""

from dataclasses import dataclass

from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods._filters import box_mean, require_odd


@dataclass(frozen=True)
class MeanFilter:
    """The same as scipy.ndimage.uniform_filter with its default border (half-sample reflection)."""

    size: int

    def __post_init__(self) -> None:
        require_odd("size", self.size)

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the windows' means (B, 1, H, W), working units; the noise level is not used."""
        return box_mean(x, self.size)


METHOD = Method(
    name="mean",
    summary="mean of a square window",
    build=MeanFilter,
    source="Gonzalez & Woods, Digital Image Processing",
    settings={"size": Setting(3, "window size in pixels, odd", 1, 31)},
)
