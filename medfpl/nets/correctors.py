"""Correctors: networks for artifacts that are asked about the denoised image, and believed only if they find much.

A mild artifact and a clean image look alike, and a network for it that is asked about a clean one finds a little of it
everywhere. How much that is was measured; a finding counts where it is clearly more.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from medfpl.nets.parts import Shape, shape_to_json

# Square of the mean over the mean square: of the first slices of a brain less, of whole anatomy in air 0.06 and more.
# So little anatomy resembles anything. Folded images say by the abrupt end of their field of view what they are, and
# 0.012 will do: of whole heads and knees that were folded 0.024 and more, of the first slices at most 0.006.
ENOUGH = 0.05
SURE = 1.4  # times what may be found by mistake: from there on a finding counts fully
# An artifact that was undone is not found again; what is, in the root mean square by this share, is the anatomy's.
AGAIN = (0.5, 0.54)


@dataclass(frozen=True)
class CorrectorConfig:
    """A network's shape, the artifact that it undoes, and how much it may find by mistake.

    ``size`` is that as a share of the image's root mean square, ``edges`` as a share of its gradient's: the first
    guards images full of edges, the second those that are mostly black. ``enough`` is how much anatomy there must be.
    What is found again without itself is believed fully up to the first share of ``again``, from the second on no more.
    """

    net: Shape
    noise: str
    size: float
    edges: float
    enough: float = ENOUGH
    again: tuple[float, float] = AGAIN

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {**asdict(self), "net": shape_to_json(self.net), "again": list(self.again)}


def smooth_step(value: Tensor, low: float, high: float) -> Tensor:
    """Return 0 where ``value`` is at most ``low``, 1 from ``high`` on, and a smooth rise between."""
    share = ((value - low) / (high - low)).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def strength(found: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root mean square of ``found`` (B, 1, H, W) over the ``image``'s and over its gradient's, (B,) each."""
    # Sums, for all have one count; of the differences of an image one pixel wide there are none.
    steps = (image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1])
    gradient = 0.5 * sum(step.square().sum((1, 2, 3)) for step in steps)
    tiny = torch.finfo(image.dtype).tiny
    size, whole = (part.square().sum((1, 2, 3)) for part in (found, image))
    return (size / (whole + tiny)).sqrt(), (size / (gradient + tiny)).sqrt()


def belief(found: Tensor, image: Tensor, config: CorrectorConfig) -> Tensor:
    """Return how much of what was ``found`` in the denoised ``image`` (B, 1, H, W) to believe: (B,), 0 to 1."""
    enough = image.mean((1, 2, 3)).square() >= config.enough * image.square().mean((1, 2, 3))
    size, edges = strength(found, image)
    limits = ((size, config.size), (edges, config.edges))
    return torch.minimum(*(smooth_step(value, limit, SURE * limit) for value, limit in limits)) * enough


def gone(found: Tensor, again: Tensor, config: CorrectorConfig) -> Tensor:
    """Return how much of what was ``found`` (B, 1, H, W) to believe where ``again`` is found without it, (B,)."""
    first, second = (part.square().sum((1, 2, 3)) for part in (found, again))
    share = (second / (first + torch.finfo(first.dtype).tiny)).sqrt()
    return 1 - smooth_step(share, *config.again)
