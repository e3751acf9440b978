"""PSNR and SSIM of batches in working units (data range 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA, RADIUS = 1.5, 5
C1, C2 = 0.01**2, 0.03**2


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the PSNR in dB of each item of two (B, 1, H, W) batches, data range 1, at most 100."""
    return -10 * torch.log10((a.double() - b.double()).square().mean((1, 2, 3)).clamp_min(1e-10))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the SSIM of each item of two (B, 1, H, W) batches, data range 1, sides at least 11.

    Wang et al. 2004: Gaussian window of standard deviation 1.5 cut at 5 pixels, population covariance, averaged over
    the pixels whose window lies inside the image.
    """
    a, b = a.double(), b.double()
    n = len(a)
    means = _smooth(torch.cat([a, b, a * a, b * b, a * b]))
    ma, mb, aa, bb, ab = (means[k * n : (k + 1) * n] for k in range(5))
    structure = (2 * (ab - ma * mb) + C2) / ((aa - ma * ma) + (bb - mb * mb) + C2)
    luminance = (2 * ma * mb + C1) / (ma * ma + mb * mb + C1)
    return (luminance * structure).mean((1, 2, 3))


def _smooth(x: Tensor) -> Tensor:
    distance = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    window = torch.exp(-0.5 * (distance / SIGMA) ** 2)
    window = (window / window.sum()).view(1, 1, 1, -1)
    return F.conv2d(F.conv2d(x, window), window.transpose(-1, -2))
