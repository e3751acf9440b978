"""Noncentral chi noise: the sum of squares over the coils of an MR array."""

from collections.abc import Sequence

from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, column, fields
from medfpl.noises.draws import gamma


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma": 0.24 * s, "coils": 4}


def _apply(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    # Only the total signal matters: one channel carries it, the other 2L - 1 are noise.
    # Of those, one is drawn as a normal and the 2L - 2 as twice a gamma variate of shape L - 1.
    sigma = column(values, "sigma", x)
    signal = fields(generators, x.shape[1:], x).mul_(sigma).add(x)
    power = fields(generators, x.shape[1:], x).square_()
    power.add_(gamma([v["coils"] - 1 for v in values], x.shape[1:], generators, x), alpha=2)
    return power.mul_(sigma.square()).addcmul(signal, signal).sqrt()


NOISE = Noise(
    name="noncentral-chi",
    summary="Noncentral chi noise of a multi-coil MR magnitude image (sum of squares)",
    modalities=("mr",),
    formula="y = sqrt(sum over the coils l of |x_l + sigma (n1_l + i n2_l)|^2),  sum |x_l|^2 = x^2",
    source="Constantinides et al. 1997, Magn Reson Med 38:852; Aja-Fernandez & Vegas-Sanchez-Ferrero 2016",
    parameters={
        "sigma": Parameter("working units", "standard deviation in each channel of each coil", 0, 10),
        "coils": Parameter("", "number of uncorrelated coils; 1 is Rician noise", 1, 64, integer=True),
    },
    at_strength=_at_strength,
    apply=_apply,
    needs_nonnegative=True,
)
