"""Salt-and-pepper (impulse) noise: dead and saturated pixels, bit errors."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, column, fields


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"amount": 0.24 * s**2, "pepper": 0.5, "low": 0.0, "high": 1.0}


def _apply(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    u = fields(generators, x.shape[1:], x, "uniform")
    amount, pepper = column(values, "amount", x), column(values, "pepper", x)
    y = torch.where(u < amount * pepper, column(values, "low", x), x)
    return torch.where(u >= 1 - amount * (1 - pepper), column(values, "high", x), y)


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
