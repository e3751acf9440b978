"""Moving signal along the readout: what off-resonance does to a Cartesian spin-warp image."""

import torch
from torch import Tensor
from torch.nn.functional import pad

GAMMA_BAR = 42.577  # proton gyromagnetic ratio over 2 pi in MHz/T, so ppm * T * GAMMA_BAR is Hz
NARROW = 0.05  # px: a pixel squeezed below this width lands as a point


def splat(x: Tensor, displacement: Tensor) -> Tensor:
    """Move every pixel of ``x`` (B, 1, H, W) along dim -1 by its ``displacement`` in px, with pile-up.

    A pixel's signal is spread evenly between where its two edges land, each edge displaced by the mean of its
    neighbours: no ripple where the image is stretched, and exact linear weights where it is only moved.
    Cyclic: line sums are kept, whole pixels are a roll. Differentiable.
    """
    width = x.shape[-1]
    d = displacement.expand_as(x)
    inner = (d[..., 1:] + d[..., :-1]) / 2
    edges = torch.arange(width + 1, dtype=x.dtype, device=x.device) + torch.cat([d[..., :1], inner, d[..., -1:]], -1)
    length = edges.diff(dim=-1)  # negative where the image is folded over, and so is the density below: it cancels
    narrow = length.abs() < NARROW
    density = torch.where(narrow, 0, x) / length.masked_fill(narrow, 1)
    # The image is a step up and a step down a pixel; a running sum of the steps integrates them over the pixels.
    y = _share(pad(density, (0, 1)) - pad(density, (1, 0)), edges, width).cumsum(-1)
    if bool(narrow.any()):
        y = y + _share(x * narrow, torch.arange(width, device=x.device) + d, width)
    return y + (x.sum(-1, keepdim=True) - y.sum(-1, keepdim=True)) / width


def _share(amount: Tensor, position: Tensor, width: int) -> Tensor:
    """Add every ``amount`` to the two cells around its ``position`` with linear weights, cyclically: (..., width)."""
    whole = position.detach().floor()
    right = amount * (position - whole)
    left = whole.long().remainder_(width)
    cells = amount.new_zeros(*amount.shape[:-1], width).scatter_add(-1, left, amount - right)
    return cells.scatter_add(-1, (left + 1).remainder_(width), right)
