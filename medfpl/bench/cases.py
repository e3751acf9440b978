"""The clean images that the benchmark corrupts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfpl.noises.base import Context
from medfpl.scan import Intensity

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Case:
    """One clean slice: ``image`` is (1, 1, H, W), float32 in working units, with what its numbers mean.

    ``id`` is stable: the same file and slice have the same id wherever they lie. ``patient`` is a salted hash.
    ``lesions`` are known ones within the slice, centre (row, column) and radius in pixels: phantoms have them.
    ``group`` is the subgroup of its kind that a store's table gave, "" for none.
    """

    id: str
    patient: str
    image: "torch.Tensor"
    intensity: Intensity
    pixel_mm: float = 1.0
    lesions: tuple[tuple[float, float, float], ...] = ()
    group: str = ""

    @property
    def context(self) -> Context:
        """What the noises must know of the image."""
        return Context(self.intensity.kind, self.intensity.black, self.intensity.white, self.pixel_mm)
