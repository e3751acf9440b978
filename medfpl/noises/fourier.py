"""Fourier pieces of the artifacts: phase ramps, sub-pixel shifts, smooth object phase, filtered noise."""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from medfpl.noises.base import Values, column
from medfpl.noises.polynomial import polynomial_field


def ramp(shift: Tensor, frequency: Tensor) -> Tensor:
    """Return exp(-2 pi i frequency shift), the spectrum's factor for a shift in px (frequency in cycles/px)."""
    return turn(-2 * pi * frequency * shift)


def turn(angle: Tensor) -> Tensor:
    """Return exp(i angle), several times faster on the CPU than ``torch.polar``."""
    return torch.complex(angle.cos(), angle.sin())


def frequencies(n: int, like: Tensor) -> Tensor:
    """Return the frequencies of an FFT of ``n`` points in cycles/px, DC first: (n,)."""
    return torch.fft.fftfreq(n, dtype=like.dtype, device=like.device)


def shift_lines(x: Tensor, shift: Tensor, dim: int) -> Tensor:
    """Shift real ``x`` (B, 1, H, W) cyclically along ``dim`` by ``shift`` px (B, 1, 1, 1), band-limited.

    Whole pixels are a roll; sums along ``dim`` are kept.
    """
    n = x.shape[dim]
    frequency = torch.fft.rfftfreq(n, dtype=x.dtype, device=x.device)
    shape = [1] * x.ndim
    shape[dim] = -1
    spectrum = torch.fft.rfft(x, dim=dim) * ramp(shift, frequency.view(shape))
    return torch.fft.irfft(spectrum, n=n, dim=dim)


def with_phase(x: Tensor, values: Sequence[Values]) -> Tensor:
    """Return ``x`` (B, 1, H, W) with each item's smooth object phase: amplitude ``phase`` rad, shape ``phase_map``.

    A magnitude image has lost its phase; without one its k-space is Hermitian and one-sided corruptions look
    too mild. Real where no item asks for a phase.
    """
    if not any(v["phase"] for v in values):
        return x
    angle = column(values, "phase", x) * polynomial_field([v["phase_map"] for v in values], x)
    return turn(angle) * x


def mirror(x: Tensor, margin: int) -> Tensor:
    """Continue ``x`` (B, 1, H, W) by ``margin`` px on every side, mirrored at its edges as often as it takes."""
    for dim in (-2, -1):
        n = x.shape[dim]
        at = torch.arange(-margin, n + margin, device=x.device).remainder(2 * n)
        x = x.index_select(dim, torch.minimum(at, 2 * n - 1 - at))
    return x


def smooth_noise(white: Tensor, correlation: Tensor) -> Tensor:
    """Filter white noise (B, 1, H, W) to the autocorrelation exp(-r^2/(2 correlation^2)), variance unchanged."""
    fy = frequencies(white.shape[-2], white)[:, None]
    fx = torch.fft.rfftfreq(white.shape[-1], dtype=white.dtype, device=white.device)
    transfer = torch.exp(-((pi * correlation) ** 2) * (fy**2 + fx**2))
    # columns of the half plane count twice but for DC and, on even widths, Nyquist
    twice = torch.full_like(fx, 2)
    twice[0] = 1
    if white.shape[-1] % 2 == 0:
        twice[-1] = 1
    power = (transfer**2 * twice).sum((-2, -1), keepdim=True) / (white.shape[-2] * white.shape[-1])
    return torch.fft.irfft2(torch.fft.rfft2(white) * (transfer / power.sqrt()), s=white.shape[-2:])


def correlated(noise: Tensor, lengths: Sequence[float]) -> Tensor:
    """Return white ``noise`` (B, 1, H, W) smoothed by a Gaussian of ``lengths`` px (sd), unit variance kept.

    An item of length 0 stays as it is. The borders are periodic.
    """
    if not any(lengths):
        return noise
    scale = torch.tensor(lengths, dtype=noise.dtype, device=noise.device).view(-1, 1, 1, 1)
    # a Gaussian of sd s makes the autocorrelation exp(-r^2/(4 s^2))
    return torch.where(scale > 0, smooth_noise(noise, 2**0.5 * scale), noise)
