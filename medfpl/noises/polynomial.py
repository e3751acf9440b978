"""Smooth random fields: cubic polynomials over the image, for coil shading, field maps and object phase."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

ORDER = 3
TERMS = (ORDER + 1) * (ORDER + 2) // 2  # of v^i u^j with i + j <= ORDER, in the order (0, 0), (0, 1), ..., (3, 0)


def draw_coefficients(generator: Generator) -> list[float]:
    """Draw the ``TERMS`` coefficients of one field."""
    return [float(c) for c in torch.randn(TERMS, generator=generator)]


def polynomial_field(coefficients: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Return each item's polynomial on [-1, 1]^2, minus its mean and scaled to max |.| = 1: (B, 1, H, W).

    ``like`` (B, 1, H, W) gives size, dtype and device. Elementwise sums only: no item depends on its batch.
    """
    height, width = like.shape[-2:]
    v = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)[:, None]
    u = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)
    left = torch.tensor(coefficients, dtype=like.dtype, device=like.device)
    field = torch.zeros(len(left), 1, height, width, dtype=like.dtype, device=like.device)
    for i in range(ORDER, -1, -1):  # Horner's rule in v; each of its coefficients is a polynomial in u
        terms, left = left[:, i - ORDER - 1 :], left[:, : i - ORDER - 1]
        row = torch.zeros_like(u)
        for j in range(ORDER - i, -1, -1):
            row = row * u + terms[:, j].view(-1, 1, 1, 1)
        field.mul_(v).add_(row)
    field.sub_(field.mean((-2, -1), keepdim=True))
    return field.div_(field.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(like.dtype).tiny))
