"""Salt-and-pepper (impulse) noise: dead and saturated pixels, bit errors."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, column

RANGE = 1 << 32  # of an int32


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"amount": 0.24 * s**2, "pepper": 0.5, "low": 0.0, "high": 1.0}


def _whole_numbers(x: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Draw one int32 a pixel, uniform over its whole range: two from each 64-bit draw, faster than floats."""
    size = x[0].numel()
    drawn = torch.empty(len(x), (size + 1) // 2, dtype=torch.int64, device=generators[0].device)
    for item, g in zip(drawn, generators, strict=True):
        item.random_(-(1 << 63), None, generator=g)
    return drawn.view(torch.int32)[:, :size].reshape(x.shape).to(x.device)


def _apply(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    # u is the number's place in the int32 range; a share of 0 is met by no number.
    below = [min(round(v["amount"] * v["pepper"] * RANGE), RANGE - 1) - RANGE // 2 for v in values]
    above = [RANGE // 2 - 1 - min(round(v["amount"] * (1 - v["pepper"]) * RANGE), RANGE - 1) for v in values]
    bounds = torch.tensor([below, above], dtype=torch.int32, device=x.device).view(2, -1, 1, 1, 1)
    u = _whole_numbers(x, generators)
    y = torch.where(u < bounds[0], column(values, "low", x), x)
    return torch.where(u > bounds[1], column(values, "high", x), y)


NOISE = Noise(
    name="salt-pepper",
    summary="Salt-and-pepper noise: pixels stuck at black or at white",
    modalities=("ct", "xray", "mr"),
    formula="y = low if u < p q;  high if u >= 1 - p (1 - q);  else x;  u ~ U(0, 1), p = amount, q = pepper",
    source="Gonzalez & Woods, Digital Image Processing, ch. 5",
    parameters={
        "amount": Parameter("", "share p of the pixels that are altered", 0, 1),
        "pepper": Parameter("", "share q of the altered pixels that are black", 0, 1),
        "low": Parameter("working units", "value of a black pixel", -10, 10),
        "high": Parameter("working units", "value of a white pixel", -10, 10),
    },
    at_strength=_at_strength,
    apply=_apply,
)
