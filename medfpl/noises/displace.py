"""Moving signal along the readout: what off-resonance does to a Cartesian spin-warp image."""

import torch
from torch import Tensor

GAMMA_BAR = 42.577  # proton gyromagnetic ratio over 2 pi in MHz/T, so ppm * T * GAMMA_BAR is Hz


def splat(x: Tensor, displacement: Tensor) -> Tensor:
    """Move every pixel of ``x`` (B, 1, H, W) along dim -1 by its ``displacement`` in px, with pile-up.

    Each pixel's signal is shared linearly by the two pixels around where it lands, cyclically: line sums are
    kept exactly, and so is the centroid but for what crosses the edge. Differentiable in both.
    """
    width = x.shape[-1]
    here = torch.arange(width, device=x.device)
    whole = displacement.detach().floor()
    part = displacement - whole
    left = (here + whole.long()).remainder_(width)
    y = torch.zeros_like(x).scatter_add(-1, left, x * (1 - part))
    return y.scatter_add(-1, left.add_(1).remainder_(width), x * part)
