"""Wavelet shrinkage with a threshold a band (BayesShrink), averaged over shifts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.sigma import noise_levels

WAVELETS = ("db1", "db2", "db3", "db4", "sym4", "sym8", "coif1", "coif2")
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class WaveletShrinkage:
    """Soft threshold sigma^2 / s in each band of an orthogonal wavelet, s^2 = max(band's variance - sigma^2, 0).

    The mean over ``shifts`` x ``shifts`` positions of the grid (cycle spinning) removes the blocks that a decimated
    transform leaves. Borders by half-sample reflection; an image too small for ``levels`` octaves gets as many
    as it holds, at least 1. The transform runs in NumPy on the CPU.
    """

    wavelet: str
    levels: int
    shifts: int

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return the shrunk batch (B, 1, H, W), working units; at noise level 0, ``x`` itself."""
        sigma = noise_levels(x, noise_level)
        pixels, variance = x.detach().cpu().numpy(), (sigma**2).cpu().numpy()
        h, w = pixels.shape[-2:]
        total = np.zeros_like(pixels)
        for dy in range(self.shifts):
            for dx in range(self.shifts):
                moved = np.pad(pixels, ((0, 0), (0, 0), (dy, 0), (dx, 0)), mode="symmetric")
                total += self._shrink(moved, variance)[..., dy : dy + h, dx : dx + w]
        result = torch.from_numpy(total / self.shifts**2).to(x.device, x.dtype)
        return torch.where(sigma > 0, result, x)

    def _shrink(self, pixels: FloatArray, variance: FloatArray) -> FloatArray:
        import pywt

        wavelet = pywt.Wavelet(self.wavelet)
        levels = min(self.levels, max(pywt.dwtn_max_level(pixels.shape[-2:], wavelet), 1))
        # Level by level: pywt.wavedec2 warns about images that are small for the wavelet, which are welcome here.
        smooth, bands = pixels, []
        for _ in range(levels):
            smooth, details = pywt.dwt2(smooth, wavelet, mode="symmetric", axes=(-2, -1))
            bands.append(tuple(_soft(d, variance) for d in details))
        for details in reversed(bands):
            # Odd lengths come back one longer than they went in.
            smooth = smooth[..., : details[0].shape[-2], : details[0].shape[-1]]
            smooth = pywt.idwt2((smooth, details), wavelet, mode="symmetric", axes=(-2, -1))
        return smooth


def _soft(band: FloatArray, variance: FloatArray) -> FloatArray:
    signal = np.square(band).mean((-2, -1), keepdims=True) - variance
    threshold = variance / np.sqrt(np.maximum(signal, np.finfo(band.dtype).tiny))
    return np.sign(band) * np.maximum(np.abs(band) - threshold, 0)


METHOD = Method(
    name="wavelet",
    summary="wavelet shrinkage with BayesShrink thresholds",
    build=WaveletShrinkage,
    source="Chang, Yu & Vetterli 2000, IEEE Transactions on Image Processing 9; shifts: Coifman & Donoho 1995",
    settings={
        "wavelet": Setting("sym4", "orthogonal wavelet", choices=WAVELETS),
        "levels": Setting(5, "octaves to shrink", 1, 10),
        "shifts": Setting(4, "positions of the grid a direction, whose results are averaged", 1, 8),
    },
    uses_noise_level=True,
)
