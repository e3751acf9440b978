"""Speckle: noise that multiplies the signal, as in ultrasound and optical coherence tomography."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column, fields
from medfpl.noises.draws import gamma
from medfpl.noises.fourier import correlated


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma": 0.2 * s, **({} if mode == "gamma" else {"correlation": 0.0})}


def _field(x: Tensor, values: Sequence[Values], generators: Sequence[Generator]) -> Tensor:
    noise = correlated(fields(generators, x.shape[1:], x), [v["correlation"] for v in values])
    return noise * column(values, "sigma", x)


def _gaussian(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    return x.addcmul(x, _field(x, values, generators))


def _gamma(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    # round: 1 / 0.5**2 is exactly 4 looks, 1 / 0.1**2 is 99.99999999999999
    looks = [round(1 / max(v["sigma"], 1e-9) ** 2, 6) for v in values]
    mean = torch.tensor(looks, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
    return gamma(looks, x.shape[1:], generators, x).div_(mean).mul(x)


def _loupas(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    return x.addcmul(x.sqrt(), _field(x, values, generators))


NOISE = Noise(
    name="speckle",
    summary="Multiplicative speckle: Gaussian, gamma (multi-look intensity) or Loupas (log-compressed)",
    modalities=("other",),
    formula="gaussian: y = x (1 + sigma n);  gamma: y = x g, g ~ Gamma(L, 1/L), L = 1/sigma^2;  "
    "loupas: y = x + sqrt(x) sigma n",
    source="Goodman 2007, Speckle Phenomena in Optics; Loupas et al. 1989, IEEE Trans Circuits Syst 36:129",
    parameters={
        "sigma": Parameter("", "standard deviation of the multiplier", 0, 10),
        "correlation": Parameter("px", "sd of the Gaussian that smooths the field (gaussian and loupas)", 0, 100),
    },
    at_strength=_at_strength,
    apply=by_mode({"gaussian": _gaussian, "gamma": _gamma, "loupas": _loupas}),
    modes=("gaussian", "gamma", "loupas"),
    needs_nonnegative=("loupas",),
)
