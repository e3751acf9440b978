"""Rician noise: the magnitude of a complex MR image with Gaussian noise in both channels."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, column, fields


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma": 0.2 * s}


def _apply(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    return rician(x, column(values, "sigma", x), generators)


def rician(x: Tensor, sigma: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Return |x + sigma (n1 + i n2)| for ``x`` (B, 1, H, W) >= 0 and ``sigma`` (B, 1, 1, 1)."""
    real = fields(generators, x.shape[1:], x).mul_(sigma)
    imaginary = fields(generators, x.shape[1:], x).mul_(sigma)
    return torch.hypot(x + real, imaginary)


NOISE = Noise(
    name="rician",
    summary="Rician noise of a single-channel MR magnitude image",
    modalities=("mr",),
    formula="y = sqrt((x + sigma n1)^2 + (sigma n2)^2),  n1, n2 ~ N(0, 1)",
    source="Gudbjartsson & Patz 1995, Magn Reson Med 34:910",
    parameters={"sigma": Parameter("working units", "standard deviation in each channel", 0, 10)},
    at_strength=_at_strength,
    apply=_apply,
    needs_nonnegative=True,
)
