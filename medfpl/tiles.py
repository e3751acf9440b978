"""Images too large for one pass: tiles with a halo, each pixel taken from one tile or, at seams, faded over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """``core`` is what this tile answers for, ``outer`` what it looks at: (top, bottom, left, right) in pixels."""

    core: tuple[int, int, int, int]
    outer: tuple[int, int, int, int]


def tiles(height: int, width: int, *, size: int, halo: int, multiple: int = 1) -> Iterator[Tile]:
    """Yield tiles whose cores partition an image of ``height`` x ``width`` pixels.

    Cores have sides up to ``size``; ``outer`` reaches ``halo`` further, cut at the image. All outer corners
    lie on a grid of ``multiple`` pixels, so that pooling falls on the same pixels as in the whole image, and
    with a halo of at least the network's reach a core is computed exactly as in one pass.
    """
    size = max(multiple, size // multiple * multiple)
    halo = -(-halo // multiple) * multiple
    for top in range(0, height, size):
        for left in range(0, width, size):
            bottom, right = min(top + size, height), min(left + size, width)
            outer = (max(0, top - halo), min(height, bottom + halo), max(0, left - halo), min(width, right + halo))
            yield Tile((top, bottom, left, right), outer)


def run_tiled(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    halo: int,
    multiple: int = 1,
    max_pixels: int,
    size: int,
    fade: int = 0,
) -> Tensor:
    """Return ``function(x)`` for (B, 1, H, W), computed in tiles if one image has more than ``max_pixels`` pixels.

    ``function`` keeps the shape. Memory is that of one tile of side ``size`` + 2 ``halo`` at the whole batch. One
    whose result depends on all that it sees gives neighbouring tiles slightly different ones; up to ``fade`` pixels
    (at most ``halo`` and half of ``size``) to either side of a seam, one tile's goes over into the other's.
    """
    height, width = x.shape[-2:]
    if height * width <= max_pixels:
        return function(x)
    y = torch.zeros_like(x)
    for tile in tiles(height, width, size=size, halo=halo, multiple=multiple):
        (top, bottom, left, right), (t, b, lft, r) = tile.core, tile.outer
        part = function(x[..., t:b, lft:r].contiguous())
        if fade:
            rows, columns = (
                _weights(*ends, fade, y) for ends in ((t, b, top, bottom, height), (lft, r, left, right, width))
            )
            y[..., t:b, lft:r] += part * rows[:, None] * columns
        else:
            y[..., top:bottom, left:right] = part[..., top - t : bottom - t, left - lft : right - lft]
    return y


def _weights(first: int, last: int, start: int, end: int, side: int, fade: int, like: Tensor) -> Tensor:
    """Return how much pixels ``first`` to ``last`` of a tile count, whose core is ``start`` to ``end`` of ``side``."""
    at = torch.arange(first, last, device=like.device, dtype=like.dtype) + 0.5
    weights = torch.ones_like(at)
    if start > 0:
        weights = weights * ((at - start) / (2 * fade) + 0.5).clamp(0, 1)
    if end < side:
        weights = weights * ((end - at) / (2 * fade) + 0.5).clamp(0, 1)
    return weights
