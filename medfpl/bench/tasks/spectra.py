"""The noise power spectrum of square regions."""

import torch
from torch import Tensor


def power_spectrum(regions: Tensor) -> Tensor:
    """Return the noise power spectrum (N, N) of noise in ``regions`` (n, N, N), unit^2 px^2, frequency 0 first.

    |DFT|^2 / N^2, the mean over regions less their own mean. Its mean over all frequencies is the variance.
    """
    centred = regions.double() - regions.double().mean((-2, -1), keepdim=True)
    return torch.fft.fft2(centred).abs().square().mean(0) / regions[0].numel()


def mean_frequency(spectrum: Tensor) -> float:
    """Return the mean frequency in cycles a pixel of the radial profile of ``spectrum`` (N, N), up to 0.5.

    Integral of f S(f) over integral of S(f), S the mean over rings one frequency step wide (AAPM Report 233). White
    noise has 0.25; white noise blurred by a Gaussian of b pixels 0.0898 / b (7 % more where N = 32 and b = 1.5, for
    the border of a region leaks). NaN for a spectrum of zeros.
    """
    n = spectrum.shape[-1]
    f = torch.fft.fftfreq(n, dtype=torch.float64)
    ring = (torch.hypot(f[:, None], f[None]) * n).round().long().reshape(-1)
    used = (ring > 0) & (ring <= n // 2)
    sums, counts = (
        torch.zeros(n // 2 + 1, dtype=torch.float64).index_add_(0, ring[used], v.reshape(-1)[used])
        for v in (spectrum.double().cpu(), torch.ones(n, n, dtype=torch.float64))
    )
    radial = sums / counts.clamp_min(1)
    radial[0] = radial[1]  # the regions' means were taken off, so frequency 0 tells nothing
    frequencies = torch.arange(n // 2 + 1, dtype=torch.float64) / n
    total = float(torch.trapezoid(radial, frequencies))
    return float(torch.trapezoid(frequencies * radial, frequencies)) / total if total > 0 else float("nan")
