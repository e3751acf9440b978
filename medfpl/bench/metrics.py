"""How far one image is from another: PSNR, SSIM, RMSE and GMSD of two slices in working units (data range 1)."""

from typing import Literal

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

PsnrKind = Literal["true", "uint8-wrapped"]

# A perfect image would have an infinite PSNR, with which no mean can be taken.
MOST_DB = 100.0
SSIM_SIGMA, SSIM_TRUNCATE, SSIM_C1, SSIM_C2 = 1.5, 3.5, 0.01**2, 0.03**2
# Xue et al. 2014: the constant that was best for 8-bit images.
GMSD_CONSTANT = 170 / 255**2


def psnr(clean: Tensor, other: Tensor, *, kind: PsnrKind = "true") -> float:
    """Return the peak signal-to-noise ratio in dB of (H, W) or (1, 1, H, W), data range 1, at most 100.

    "true" is -10 log10 of the mean squared error, in float64, nothing clipped or rounded. "uint8-wrapped" is what
    published tables were made with: both images rounded to uint8 (0..1 clipped to 0..255) and subtracted and squared
    in uint8 arithmetic, where 16 squared is 0. It never falls much below 27.9 dB (the mean of x * x mod 256 is
    105.5), however bad the image, and agrees with the true one above about 35 dB.
    """
    a, b = _pair(clean, other)
    if kind == "true":
        error = (a - b).square().mean()
    elif kind == "uint8-wrapped":
        a, b = (x.mul(255).round_().clamp_(0, 255) for x in (a, b))
        error = (a - b).square().remainder(256).mean() / 255**2
    else:
        raise ValueError(f"psnr is 'true' or 'uint8-wrapped', not {kind!r}")
    return min(MOST_DB, -10 * float(torch.log10(error.clamp_min(1e-12))))


def ssim(clean: Tensor, other: Tensor) -> float:
    """Return the structural similarity of (H, W) or (1, 1, H, W), sides at least 11, data range 1; 1 is perfect.

    Wang et al. 2004: Gaussian window of sd 1.5 cut at 3.5 sd, K1 0.01, K2 0.03, population covariance, averaged over
    the pixels whose window lies inside the image. The same as scikit-image's
    structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False) to 1e-9.
    """
    reach = int(SSIM_TRUNCATE * SSIM_SIGMA + 0.5)
    a, b = (x[0, 0].cpu().numpy() for x in _pair(clean, other))
    if min(a.shape) <= 2 * reach:
        raise ValueError(f"SSIM needs sides of at least {2 * reach + 1}, not {a.shape}")
    inside = (slice(reach, -reach),) * 2
    # on one thread scipy is far faster than torch is at convolving float64
    ma, mb, aa, bb, ab = (
        gaussian_filter(x, SSIM_SIGMA, truncate=SSIM_TRUNCATE)[inside] for x in (a, b, a * a, b * b, a * b)
    )
    luminance = (2 * ma * mb + SSIM_C1) / (ma * ma + mb * mb + SSIM_C1)
    structure = (2 * (ab - ma * mb) + SSIM_C2) / (aa - ma * ma + bb - mb * mb + SSIM_C2)
    return float((luminance * structure).mean())


def rmse(clean: Tensor, other: Tensor, scale: float) -> float:
    """Return the root mean squared error in real units; ``scale`` is real units a working unit (CT: 2000 HU)."""
    a, b = _pair(clean, other)
    return float((a - b).square().mean().sqrt()) * scale


def gmsd(clean: Tensor, other: Tensor) -> float:
    """Return the gradient magnitude similarity deviation of (H, W) or (1, 1, H, W), data range 1; 0 is perfect.

    Xue, Zhang, Mou and Bovik 2014, IEEE Transactions on Image Processing 23(2): 2 x 2 means, Prewitt gradients with a
    border of zeros, similarity with the constant 170 / 255^2, and its standard deviation over the image. An odd last
    row or column is left out. For even sides it is piq.gmsd to 1e-6, but takes values outside 0..1 as they are.
    """
    a, b = (_gradient_magnitude(F.avg_pool2d(x, 2)) for x in _pair(clean, other))
    similarity = (2 * a * b + GMSD_CONSTANT) / (a * a + b * b + GMSD_CONSTANT)
    return float(similarity.std(correction=0))


def _gradient_magnitude(x: Tensor) -> Tensor:
    prewitt = torch.tensor([[1.0, 0, -1]] * 3, dtype=x.dtype, device=x.device).div_(3)
    g = F.conv2d(x, torch.stack([prewitt, prewitt.T])[:, None], padding=1)
    return torch.hypot(g[:, :1], g[:, 1:])


def _pair(clean: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if clean.shape != other.shape:
        raise ValueError(f"images of {tuple(clean.shape)} and {tuple(other.shape)} cannot be compared")
    if not (clean.ndim == 2 or (clean.ndim == 4 and clean.shape[:2] == (1, 1))):
        raise ValueError(f"an image is (H, W) or (1, 1, H, W), not {tuple(clean.shape)}")
    a, b = (x.detach().double().reshape(1, 1, *x.shape[-2:]) for x in (clean, other))
    return a, b
