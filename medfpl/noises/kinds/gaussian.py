"""Additive Gaussian noise: white, the reference model of most denoising studies, or smooth as after interpolation."""

from collections.abc import Sequence

from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, column, fields
from medfpl.noises.fourier import correlated


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma": 0.2 * s, "correlation": 0.0}


def _apply(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    noise = correlated(fields(generators, x.shape[1:], x), [v["correlation"] for v in values])
    return x + column(values, "sigma", x) * noise


NOISE = Noise(
    name="gaussian",
    summary="Additive Gaussian noise, white or correlated",
    modalities=("ct", "xray", "mr"),
    formula="y = x + sigma n,  n ~ N(0, 1), smoothed at unit variance where correlated",
    source="Gonzalez & Woods, Digital Image Processing, ch. 5",
    parameters={
        "sigma": Parameter("working units", "standard deviation of the noise", 0, 10),
        "correlation": Parameter("px", "sd of the Gaussian that smooths the noise; 0: white", 0, 100),
    },
    at_strength=_at_strength,
    apply=_apply,
)
