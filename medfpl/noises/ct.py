"""Parallel-beam CT for noise models: line integrals of a slice, and filtered back-projection of errors.

Lengths are in pixels of the slice, the isocentre is the middle of the image, air lies all around it.
View ``theta`` has its detector along (cos theta, sin theta) = (column, row) axes; its bins are ``spacing`` px
apart and the middle bin sees the isocentre. Attenuation is per pixel (mu in 1/mm times the pixel size), so
that its sums along rays are the dimensionless line integrals p. Source: Kak & Slaney, Principles of
Computerized Tomographic Imaging, ch. 3 and 5.
"""

from collections.abc import Sequence
from math import ceil, hypot, inf, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from medfpl.errors import MedfplError
from medfpl.noises.base import Context

MU_WATER = 0.020  # 1/mm, near 70 keV
SURROGATE_FIELD_MM = 350.0  # the field of view given to an image that is no CT slice


def units(contexts: Sequence[Context], shape: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return black and scale (HU, HU per working unit) and pixel size (mm), each (B, 1, 1, 1).

    An image that is no CT is taken for a slice of -1000 to 1000 HU and 350 mm. Raise MedfplError for a CT
    without a positive range and pixel size.
    """
    if any(c.kind == "ct" and not (c.white > c.black and 0 < c.pixel_mm < inf) for c in contexts):
        raise MedfplError("CT noise needs a pixel size and an HU range above 0", "give the pixel size in mm")
    rows = [
        (c.black, c.white - c.black, c.pixel_mm)
        if c.kind == "ct"
        else (-1e3, 2e3, SURROGATE_FIELD_MM / max(shape[-2:]))
        for c in contexts
    ]
    table = torch.tensor(rows, dtype=like.dtype, device=like.device)
    return tuple(table.view(-1, 3, 1, 1, 1).unbind(1))  # type: ignore[return-value]


def attenuation(x: Tensor, black: Tensor, scale: Tensor, pixel: Tensor) -> Tensor:
    """Return attenuation per pixel of ``x`` (working units); below air it is 0."""
    return (x * scale).add_(black).div_(1000).add_(1).clamp_min(0) * (MU_WATER * pixel)


def working_per_attenuation(scale: Tensor, pixel: Tensor) -> Tensor:
    """Return how many working units an attenuation of 1 per pixel is."""
    return 1000 / (MU_WATER * pixel * scale)


def bins(shape: Sequence[int], spacing: int = 1) -> int:
    """Return the odd number of detector bins that covers an image (..., H, W) from every side."""
    return 2 * ceil((hypot(shape[-2], shape[-1]) / 2 + 1) / spacing) + 1


def project(mu: Tensor, angles: Sequence[float], spacing: int = 1) -> Tensor:
    """Return the line integrals (B, views, bins) of ``mu`` (B, 1, H, W), on bins ``spacing`` px apart.

    With ``spacing`` > 1 the rays are strips: blocks of that many pixels are averaged first.
    """
    h, w = mu.shape[-2:]
    count = bins(mu.shape, spacing)
    mu = F.avg_pool2d(F.pad(mu, (0, -w % spacing, 0, -h % spacing)), spacing)
    padded_h, padded_w = mu.shape[-2] * spacing, mu.shape[-1] * spacing
    offset = (torch.arange(count, dtype=mu.dtype, device=mu.device) - count // 2) * spacing
    sums = []
    for theta in torch.tensor(list(angles), dtype=torch.float64):
        cos, sin = float(theta.cos()), float(theta.sin())
        column = offset * cos - offset[:, None] * sin + (w - 1) / 2  # (along the ray, across it)
        row = offset * sin + offset[:, None] * cos + (h - 1) / 2
        grid = torch.stack([(2 * column + 1) / padded_w - 1, (2 * row + 1) / padded_h - 1], -1)
        rays = F.grid_sample(mu, grid.expand(len(mu), -1, -1, -1), align_corners=False)
        sums.append(rays.sum(-2)[:, 0])
    return torch.stack(sums, 1) * spacing


def bin_positions(shape: Sequence[int], theta: float, count: int, spacing: int, like: Tensor) -> Tensor:
    """Return the fractional bin (H, W) that each pixel of an image projects to in view ``theta``."""
    h, w = shape[-2:]
    angle = torch.tensor(theta, dtype=torch.float64)
    columns = (torch.arange(w, dtype=like.dtype, device=like.device) - (w - 1) / 2) * float(angle.cos())
    rows = (torch.arange(h, dtype=like.dtype, device=like.device) - (h - 1) / 2) * float(angle.sin())
    return (columns + rows[:, None]) / spacing + count // 2


def smear(view: Tensor, position: Tensor) -> Tensor:
    """Spread one view (B, bins) back along its rays, linearly between bins: (B, 1, H, W)."""
    lower = position.floor().clamp_(0, view.shape[-1] - 2)
    index = lower.long().view(-1)
    step = F.pad(view.diff(dim=-1), (0, 1))
    fraction = (position - lower).view(-1)
    out = view.index_select(-1, index).addcmul(step.index_select(-1, index), fraction)
    return out.view(len(view), 1, *position.shape)


def hann(frequency: Tensor, cutoff: Tensor) -> Tensor:
    """Return the Hann window 0.5 (1 + cos(pi f/cutoff)) at ``frequency`` in cycles/px; 1 where ``cutoff`` is 0.

    It stands for a reconstruction kernel: the lower its cut-off, the softer the image and its noise.
    """
    share = frequency.abs() / cutoff.clamp_min(1e-6)
    window = 0.5 * (1 + torch.cos(pi * share.clamp_max(1)))
    return torch.where(cutoff == 0, torch.ones_like(window), window)


def ramp_filter(sinogram: Tensor, cutoff: Tensor | None = None) -> Tensor:
    """Convolve the views (..., bins) with the band-limited ramp (Ram-Lak) of a bin spacing of 1 px.

    With a ``cutoff`` that broadcasts against the views the ramp is windowed (``hann``).
    """
    count = sinogram.shape[-1]
    size = 1 << (2 * count - 1).bit_length()
    n = torch.arange(size // 2 + 1, dtype=sinogram.dtype, device=sinogram.device)
    kernel = torch.where(n % 2 == 1, -1 / (pi * n.clamp_min(1)).square(), torch.zeros_like(n))
    kernel[0] = 0.25
    response = torch.fft.rfft(torch.cat([kernel, kernel[1:-1].flip(0)])).real
    if cutoff is not None:
        frequency = torch.fft.rfftfreq(size, dtype=sinogram.dtype, device=sinogram.device)
        response = response * hann(frequency, cutoff)
    return torch.fft.irfft(torch.fft.rfft(sinogram, n=size) * response, n=size)[..., :count]


def back_project(filtered: Tensor, angles: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Return the attenuation per pixel (B, 1, H, W) of ramp-filtered views (B, views, bins) over half a turn."""
    image = filtered.new_zeros(len(filtered), 1, *shape[-2:])
    for k, theta in enumerate(angles):
        image.add_(smear(filtered[:, k], bin_positions(shape, theta, filtered.shape[-1], 1, filtered)))
    return image.mul_(pi / len(angles))


def half_turn(views: int) -> list[float]:
    """Return ``views`` angles (radians) spread evenly over half a turn, from 0."""
    return [pi * k / views for k in range(views)]


def coarse(shape: Sequence[int]) -> int:
    """Return the bin spacing at which the line integrals of an image are smooth enough: about 128 bins a side."""
    return max(1, round(max(shape[-2:]) / 128))
