"""Lesions of exactly known profile, planted into an image, and what is left of them in a difference of two outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import torch
from torch import Tensor

from medfpl.bench.tasks.base import Trial
from medfpl.bench.tasks.regions import Place, spread
from medfpl.seeds import numpy_generator

EDGE = 1.0  # sd in pixels of the Gaussian that softens a lesion's border, about a scanner's own
DIAMETERS = (4, 8, 12)  # pixels
CONTRASTS_CT = (0.005, 0.01, 0.02)  # working units: 10, 20 and 40 HU
CONTRASTS = (0.01, 0.02, 0.04)
HALO = 6  # pixels about a lesion that belong to it
_WIDTHS = np.geomspace(0.4, 3.0, 61)
_LEAST = 0.1  # of the contrast: below, a lesion has no width


def disc(distance: Tensor, diameter: float, edge: float = EDGE) -> Tensor:
    """Return the profile of a smooth disc at ``distance`` (pixels) from its centre: 1 inside, 0 outside.

    It crosses 1/2 at the diameter, with an error function of standard deviation ``edge`` pixels.
    """
    return 0.5 * torch.erfc((distance - diameter / 2) / (sqrt(2) * edge))


def distances(reach: int) -> Tensor:
    """Return each pixel's distance from the middle of a window (2 reach + 1, 2 reach + 1), float64."""
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return torch.hypot(axis[:, None], axis[None])


def reach_of(diameter: float) -> int:
    """Return how far, in pixels, the window of a lesion goes from its centre."""
    return ceil(diameter / 2) + HALO


def plant(
    like: Tensor,
    places: Sequence[tuple[float, float]],
    contrasts: Sequence[float],
    diameters: Sequence[float],
    edge: float = EDGE,
) -> Tensor:
    """Return the sum of smooth discs to be added to ``like`` (..., H, W), in its shape, dtype and units.

    ``places`` are centres (row, column) in pixels, one a disc, as are ``contrasts`` and ``diameters``.
    """
    h, w = like.shape[-2:]
    rows = torch.arange(h, dtype=torch.float64, device=like.device)[:, None]
    columns = torch.arange(w, dtype=torch.float64, device=like.device)[None]
    total = torch.zeros(h, w, dtype=torch.float64, device=like.device)
    for (row, column), contrast, diameter in zip(places, contrasts, diameters, strict=True):
        total += contrast * disc(torch.hypot(rows - row, columns - column), diameter, edge)
    return total.to(like.dtype).expand(like.shape)


def windows(images: Tensor, places: Sequence[Place], reach: int) -> Tensor:
    """Return the windows about ``places`` of images (B, 1, H, W): (B, places, 2 reach + 1, 2 reach + 1), float64."""
    cut = [images[:, 0, r - reach : r + reach + 1, c - reach : c + reach + 1] for r, c in places]
    return torch.stack(cut, 1).double().cpu()


def contrast_recovery(difference: Tensor, lesion: Tensor) -> Tensor:
    """Return how much of ``lesion`` (P, P) is in ``difference`` (..., P, P): its least-squares factor, shape (...).

    <difference, lesion> / <lesion, lesion>, both in the same unit: 1 is all, 0 nothing, negative an inverted one.
    """
    return (difference * lesion).sum((-2, -1)) / lesion.square().sum()


def leakage(difference: Tensor, lesion: Tensor) -> Tensor:
    """Return the part of ``difference`` (..., P, P) that no multiple of ``lesion`` (P, P) explains, shape (...).

    || difference - recovery lesion || / || lesion ||: 0 is perfect; halos, a changed shape and noise all count.
    """
    rest = difference - contrast_recovery(difference, lesion)[..., None, None] * lesion
    return rest.square().sum((-2, -1)).sqrt() / lesion.square().sum().sqrt()


def width_ratio(difference: Tensor, contrast: float, diameter: float, edge: float = EDGE) -> float:
    """Return the width of the lesion in ``difference`` (P, P) over the planted one; 1 is perfect.

    The dilation k of 0.4 to 3 whose profile p(r / k), times any factor, is nearest in least squares. NaN where
    less than a tenth of the contrast is left, or the best k is an end of that range.
    """
    r = distances(difference.shape[-1] // 2)
    if float(contrast_recovery(difference, contrast * disc(r, diameter, edge))) < _LEAST:
        return float("nan")
    shapes = torch.stack([disc(r / k, diameter, edge) for k in _WIDTHS])
    fit = ((difference * shapes).sum((1, 2)) / shapes.square().sum((1, 2)).sqrt()).numpy()
    best = int(fit.argmax())
    if best in (0, len(fit) - 1):
        return float("nan")
    left, top, right = fit[best - 1 : best + 2]
    offset = 0.5 * (left - right) / (left - 2 * top + right)
    return float(_WIDTHS[best] * (_WIDTHS[1] / _WIDTHS[0]) ** offset)


@dataclass(frozen=True)
class Site:
    """Where one lesion goes: its centre and diameter in pixels."""

    place: Place
    diameter: int


def sites(trial: Trial, diameters: Sequence[int], each: int) -> list[Site]:
    """Choose up to ``each`` places for every diameter in homogeneous tissue, without overlap, by the trial's seed."""
    wanted = [d for _ in range(each) for d in diameters]
    rng = numpy_generator(trial.seed, "lesions", trial.case.id)
    places = spread(rng, trial.case, [reach_of(d) for d in wanted], [ceil(d / 2) + 2 for d in wanted])
    return [Site(p, d) for p, d in zip(places, wanted, strict=True) if p is not None]


def contrasts_of(kind: str) -> tuple[float, ...]:
    """Return the lesions' contrasts in working units for images of ``kind``."""
    return CONTRASTS_CT if kind == "ct" else CONTRASTS


def contrast_text(trial: Trial, contrast: float) -> str:
    """Return a contrast for people: "20 HU" on a CT, else "2 %" of the range."""
    if trial.case.intensity.kind == "ct":
        return f"{contrast * trial.case.intensity.scale:g} HU"
    return f"{100 * contrast:g} %"


def follows(trial: Trial, lesions: Tensor) -> bool:
    """Whether the corruption keeps its noise when ``lesions`` (1, 1, H, W) are added: four times give four times.

    A photon count is drawn anew for every rate: there the two noises have nothing in common.
    """
    base = trial.corrupt(trial.clean)
    small, large = (float((trial.corrupt(trial.clean + k * lesions) - base).norm()) for k in (1, 4))
    return large > 2 * small


def corrupt_with(trial: Trial, lesions: Tensor, realisation: int = 0, *, follow: bool) -> Tensor:
    """Return the clean image with each of ``lesions`` (B, 1, H, W), corrupted by the same noise as it is without.

    ``follow`` is what ``follows`` says. Where the corruption does not keep its noise, the lesions are added to the
    corrupted image: for contrasts this small, the noise that the lesion itself makes is negligible.
    """
    if follow:
        return trial.corrupt(trial.clean + lesions, realisation)
    return trial.corrupt(trial.clean, realisation) + lesions


def denoise_all(trial: Trial, images: Tensor, at_once: int = 4) -> Tensor:
    """Denoise a batch (B, 1, H, W) a few at a time, so that memory stays bounded."""
    return torch.cat([trial.denoise(part) for part in images.split(at_once)])
