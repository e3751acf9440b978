"""Correctors: networks for artifacts that are asked about the denoised image, and believed only if they find much.

A mild artifact and a clean image look alike, and a network for it that is asked about a clean one finds a little of it
everywhere. How much that is was measured; a finding counts where it is clearly more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medfpl.nets.drunet import DRUNetConfig

# Square of the mean over the mean square: of the first slices of a brain less, of whole anatomy in air 0.06 and more.
# So little anatomy resembles anything.
ENOUGH = 0.05
SURE = 1.4  # times what may be found by mistake: from there on a finding counts fully


@dataclass(frozen=True)
class CorrectorConfig:
    """A network's shape, the artifact that it undoes, and how much it may find by mistake.

    ``size`` is that as a share of the image's root mean square, ``edges`` as a share of its gradient's: the first
    guards images full of edges, the second those that are mostly black.
    """

    shape: DRUNetConfig
    noise: str
    size: float
    edges: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"noise": self.noise, "size": self.size, "edges": self.edges, **self.shape.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CorrectorConfig":
        """Return what ``to_json`` wrote. ValueError, KeyError or TypeError if it is none."""
        own = {"noise": str(data["noise"]), "size": float(data["size"]), "edges": float(data["edges"])}
        if not (own["size"] > 0 and own["edges"] > 0):  # type: ignore[operator]
            raise ValueError("a corrector's thresholds are above 0")
        return cls(DRUNetConfig(**{k: v for k, v in data.items() if k not in own}), **own)  # type: ignore[arg-type]


def shows_enough(image: Tensor) -> Tensor:
    """Return whether each item of ``image`` (B, 1, H, W) shows enough to tell an artifact from anatomy: (B,), bool."""
    return image.mean((1, 2, 3)).square() >= ENOUGH * image.square().mean((1, 2, 3))


def strength(found: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root mean square of ``found`` (B, 1, H, W) over the ``image``'s and over its gradient's, (B,) each."""
    # Sums, for all have one count; of the differences of an image one pixel wide there are none.
    steps = (image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1])
    gradient = 0.5 * sum(step.square().sum((1, 2, 3)) for step in steps)
    tiny = torch.finfo(image.dtype).tiny
    size, whole = (part.square().sum((1, 2, 3)) for part in (found, image))
    return (size / (whole + tiny)).sqrt(), (size / (gradient + tiny)).sqrt()


def believed(found: Tensor, image: Tensor, size: float, edges: float = 0.0) -> Tensor:
    """Return how much of what was ``found`` in ``image`` to believe, where so much may be a mistake: (B, 1, 1, 1)."""
    shares = [
        ((value - limit) / ((SURE - 1) * limit)).clamp(0, 1)
        for value, limit in zip(strength(found, image), (size, edges), strict=True)
        if limit
    ]
    share = shares[0] if len(shares) == 1 else torch.minimum(*shares)
    return (share.square() * (3 - 2 * share)).view(-1, 1, 1, 1)


def belief(found: Tensor, image: Tensor, config: CorrectorConfig) -> Tensor:
    """Return how much of what a corrector ``found`` in the denoised ``image`` to believe: (B, 1, 1, 1), 0 to 1."""
    return believed(found, image, config.size, config.edges) * shows_enough(image).view(-1, 1, 1, 1)
