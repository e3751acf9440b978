"""Rayleigh noise: what a magnitude image shows where there is no signal, and fully developed speckle."""

from collections.abc import Sequence
from math import pi, sqrt

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column, fields
from medfpl.noises.kinds.rician import rician


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma": 0.2 * s, **({"threshold": 0.05} if mode == "air" else {})}


def _mask(x: Tensor, values: Sequence[Values], generators: Sequence[Generator]) -> Tensor:
    # -2 ln(1 - u) is the square of hypot(n1, n2); 1 - u is never 0.
    u = fields(generators, x.shape[1:], x, "uniform")
    return u.neg_().log1p_().mul_(-2).sqrt_().mul_(column(values, "sigma", x))


def _additive(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    return x + _mask(x, values, generators)


def _centred(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    return x + _mask(x, values, generators).sub_(column(values, "sigma", x) * sqrt(pi / 2))


def _air(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    noisy = rician(x, column(values, "sigma", x), generators)
    return torch.where(x < column(values, "threshold", x), noisy, x)


NOISE = Noise(
    name="rayleigh",
    summary="Rayleigh noise, added to the image (its mean kept or removed) or in the MR background alone",
    modalities=("mr",),
    formula="additive: y = x + sigma r;  centred: y = x + sigma (r - sqrt(pi/2));  r = hypot(n1, n2);  "
    "air: y = |x + sigma (n1 + i n2)| where x < threshold, else x",
    source="Rayleigh 1880; Gudbjartsson & Patz 1995, Magn Reson Med 34:910 (zero signal)",
    parameters={
        "sigma": Parameter("working units", "scale of the Rayleigh distribution", 0, 10),
        "threshold": Parameter("working units", "air mode: below this value a pixel is background", 0, 10),
    },
    at_strength=_at_strength,
    apply=by_mode({"additive": _additive, "centred": _centred, "air": _air}),
    modes=("additive", "centred", "air"),
    needs_nonnegative=("air",),
)
