"""Thermal noise of an MR receiver: complex white noise in k-space, set by temperature and bandwidth."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, fields

REFERENCE_K = 293.0
REFERENCE_HZ = 200.0


def _at_strength(s: float, mode: str, context: Context) -> Values:
    return {"sigma_ref": 0.2 * s, "temperature": REFERENCE_K, "bandwidth": REFERENCE_HZ}


def _sigma(like: Tensor, values: Sequence[Values]) -> Tensor:
    sigma = [v["sigma_ref"] * sqrt(v["temperature"] / REFERENCE_K * v["bandwidth"] / REFERENCE_HZ) for v in values]
    return torch.tensor(sigma, dtype=like.dtype, device=like.device).view(-1, 1, 1, 1, 1)


def image_noise(like: Tensor, values: Sequence[Values], generators: Sequence[Generator]) -> Tensor:
    """Return F^-1 of the k-space noise, complex (B, 1, H, W): sd sigma in each channel (F is orthonormal)."""
    k_space = fields(generators, (*like.shape[1:], 2), like).mul_(_sigma(like, values))
    return torch.fft.ifft2(torch.view_as_complex(k_space), norm="ortho")


def real_noise(like: Tensor, values: Sequence[Values], generators: Sequence[Generator]) -> Tensor:
    """Return the real channel of such noise (B, 1, H, W) from half of k-space.

    It holds what is Hermitian of the k-space noise: the mean of each coefficient and its mirror's conjugate, with half
    the variance. Columns that mirror themselves are left to the inverse transform, which takes their Hermitian part.
    """
    h, w = like.shape[-2:]
    half = fields(generators, (1, h, w // 2 + 1, 2), like).mul_(_sigma(like, values) * sqrt(0.5))
    half[..., :: w // 2 if w % 2 == 0 else w, :].mul_(sqrt(2))
    return torch.fft.irfft2(torch.view_as_complex(half), s=(h, w), norm="ortho")


def _real(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    return x + real_noise(x, values, generators)


def _magnitude(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    noise = image_noise(x, values, generators)
    return torch.hypot(x + noise.real, noise.imag)


NOISE = Noise(
    name="thermal",
    summary="Thermal (Johnson-Nyquist) noise of an MR receiver, drawn in k-space",
    modalities=("mr",),
    formula="y = Re F^-1[F x + sigma (n1 + i n2)] (magnitude mode: its modulus),  "
    "sigma = sigma_ref sqrt(temperature/293 K * bandwidth/200 Hz)",
    source="Johnson 1928 and Nyquist 1928, Phys Rev 32:97, 110; Edelstein et al. 1986, Magn Reson Med 3:604",
    parameters={
        "sigma_ref": Parameter("working units", "standard deviation at 293 K and 200 Hz/px", 0, 10),
        "temperature": Parameter("K", "temperature of coil and body", 0, 10_000),
        "bandwidth": Parameter("Hz/px", "receiver bandwidth", 0, 1e7),
    },
    at_strength=_at_strength,
    apply=by_mode({"real": _real, "magnitude": _magnitude}),
    modes=("real", "magnitude"),
    needs_nonnegative=("magnitude",),
)
