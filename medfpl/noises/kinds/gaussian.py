"""Additive white Gaussian noise: the reference model of electronic noise and of most denoising studies."""

from collections.abc import Sequence

from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, column, fields


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma": 0.2 * s}


def _apply(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    return x + column(values, "sigma", x) * fields(generators, x.shape[1:], x)


NOISE = Noise(
    name="gaussian",
    summary="Additive white Gaussian noise",
    modalities=("ct", "xray", "mr"),
    formula="y = x + sigma n,  n ~ N(0, 1)",
    source="Gonzalez & Woods, Digital Image Processing, ch. 5",
    parameters={"sigma": Parameter("working units", "standard deviation of the noise", 0, 10)},
    at_strength=_at_strength,
    apply=_apply,
)
