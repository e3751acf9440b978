"""Edges: where real ones lie, their mean profile, its width, and the transfer function of a disc's edge."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medfpl.scan import FloatArray

Array = npt.NDArray[np.float64]

HALF, STEP = 7.0, 0.125  # pixels: how far a profile goes to either side, and between its samples
PLATEAU = 1.5  # pixels at either end
ALONG = (-2.0, -1.0, 0.0, 1.0, 2.0)  # pixels along the edge over which a profile is averaged
STRAIGHT = 0.9  # coherence of the structure tensor over 3 pixels; 1 is a straight edge
MONOTONE = 1.35  # total variation over rise; 1 is monotone
LEVEL = 0.12  # the most that a plateau may rise, as a share of the edge
WIDEST = 6.0  # pixels
OFFSETS: Array = np.arange(-HALF, HALF + STEP / 2, STEP)
_ENDS = round(PLATEAU / STEP) + 1
ERF_WIDTH = 2.5631  # 10-90 % of the normal distribution function, in standard deviations
_SDS: Array = np.geomspace(0.15, 8.0, 81)
_CENTRES: Array = np.arange(-2.0, 2.01, 0.125)


@dataclass(frozen=True, eq=False)
class Edges:
    """Straight edges of an image: points (n, 2) on the half level, unit normals (n, 2) uphill, ends (n,) and rises."""

    points: Array
    normals: Array
    low: Array
    rise: Array

    def __len__(self) -> int:
        return len(self.points)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Edges":
        """Return some of the edges."""
        return Edges(self.points[chosen], self.normals[chosen], self.low[chosen], self.rise[chosen])


def find_edges(image: FloatArray, rng: np.random.Generator, *, faintest: float, at_most: int = 1500) -> Edges:
    """Find straight, isolated edges of ``image`` (H, W) that rise by ``faintest`` or more (the image's unit).

    Candidates are local maxima of the gradient (Gaussian, sd 1) across it, with a coherent structure tensor; up to
    ``at_most`` of them, drawn with ``rng``, are sampled. Kept are those whose profile is monotone between two level
    plateaus and at most 6 pixels wide. A profile is centred where the edge crosses half of its rise.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    x = image.astype(np.float64)
    gradient = np.stack([gaussian_filter(x, 1.0, order=o) for o in ((1, 0), (0, 1))])
    size = np.hypot(*gradient)
    yy, xx, yx = (gaussian_filter(p, 3.0) for p in (gradient[0] ** 2, gradient[1] ** 2, gradient[0] * gradient[1]))
    coherence = np.hypot(yy - xx, 2 * yx) / np.maximum(yy + xx, 1e-20)
    margin = int(HALF) + 3
    # an edge of 6 pixels has at least this gradient at its middle
    candidates = (size > faintest / (WIDEST + 2)) & (coherence > STRAIGHT)
    candidates[:margin], candidates[-margin:], candidates[:, :margin], candidates[:, -margin:] = (False,) * 4
    points = np.argwhere(candidates).astype(np.float64)
    if not len(points):
        return Edges(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), np.empty(0))
    here = tuple(points.T.astype(int))
    normals = np.stack([g[here] for g in gradient], 1) / size[here][:, None]
    beside = [map_coordinates(size, (points + s * normals).T, order=1) for s in (-1.0, 1.0)]
    top = (size[here] >= beside[0]) & (size[here] > beside[1])
    points, normals = points[top], normals[top]
    if len(points) > at_most:
        drawn = np.sort(rng.choice(len(points), at_most, replace=False))
        points, normals = points[drawn], normals[drawn]

    found = Edges(points, normals, np.zeros(len(points)), np.ones(len(points)))
    profiles = sample(x, found)
    shift = np.array([_crossing(p, 0.5 * (p[:_ENDS].mean() + p[-_ENDS:].mean())) for p in profiles])
    near = np.abs(shift) <= 1
    points, normals = points[near] + shift[near, None] * normals[near], normals[near]
    found = Edges(points, normals, np.zeros(len(points)), np.ones(len(points)))
    profiles = sample(x, found)
    low, high = profiles[:, :_ENDS].mean(1), profiles[:, -_ENDS:].mean(1)
    rise = high - low
    found = Edges(points, normals, low, rise)
    variation = np.abs(np.diff(profiles, axis=1)).sum(1)
    slopes = [profiles[:, e].max(1) - profiles[:, e].min(1) for e in (slice(0, _ENDS), slice(-_ENDS, None))]
    good = (rise >= faintest) & (variation <= MONOTONE * rise) & (np.maximum(*slopes) <= LEVEL * rise)
    good &= np.array([edge_width(p) <= WIDEST for p in profiles], dtype=bool)
    return found.where(good)


def sample(image: npt.NDArray[np.floating], edges: Edges) -> Array:
    """Return the profiles (n, samples) of ``image`` (H, W) across ``edges`` at ``OFFSETS``, by cubic splines."""
    from scipy.ndimage import map_coordinates

    tangents = edges.normals[:, ::-1] * (-1, 1)
    at = edges.points[:, None, None] + (
        edges.normals[:, None, None] * OFFSETS[:, None] + tangents[:, None, None] * np.array(ALONG)[:, None, None]
    )
    values = map_coordinates(image.astype(np.float64), np.moveaxis(at, -1, 0), order=3, mode="nearest")
    return values.mean(1)


def profiles_of(image: npt.NDArray[np.floating], edges: Edges) -> Array:
    """Return the edges' profiles (n, samples) in ``image``, scaled to go from 0 to 1 in the image they were found in.

    Measure the width of their mean: it is not biased by noise, as a mean of widths would be.
    """
    return (sample(image, edges) - edges.low[:, None]) / edges.rise[:, None]


def edge_width(profile: Array, step: float = STEP) -> float:
    """Return the 10-90 % rise distance of ``profile`` in pixels, ``step`` pixels a sample, uphill.

    0 and 100 % are the means of the first and last 1.5 pixels. For an edge blurred by a Gaussian it is 2.563 of its
    standard deviations. NaN where the profile does not rise or a level is never crossed.
    """
    ends = round(PLATEAU / step) + 1
    low, high = float(profile[:ends].mean()), float(profile[-ends:].mean())
    if not high > low:
        return float("nan")
    offsets: Array = (np.arange(len(profile), dtype=np.float64) - (len(profile) - 1) / 2) * step
    scaled = (profile - low) / (high - low)
    first, last = _crossing(scaled, 0.1, offsets), _crossing(scaled, 0.9, offsets)
    return last - first


def fitted_width(profile: Array) -> float:
    """Return the 10-90 % rise distance in pixels of the error function that is nearest to ``profile`` (``OFFSETS``).

    Its ends, width and place (within 2 pixels of the middle) are fitted by least squares, which bears noise far better
    than two crossings do. NaN where the profile falls, or the best width is below 0.4 or above 20 pixels.
    """
    models = _error_functions()
    centred = profile - profile.mean()
    fit = models @ centred  # each model has mean 0 and norm 1: the best has the largest projection
    fit = fit.reshape(len(_SDS), -1)
    s, c = np.unravel_index(int(fit.argmax()), fit.shape)
    if fit[s, c] <= 0 or s in (0, len(_SDS) - 1):
        return float("nan")
    left, top, right = fit[s - 1 : s + 2, c]
    offset = 0.5 * (left - right) / (left - 2 * top + right) if left + right < 2 * top else 0.0
    return float(ERF_WIDTH * _SDS[s] * (_SDS[1] / _SDS[0]) ** np.clip(offset, -0.5, 0.5))


@cache
def _error_functions() -> Array:
    from scipy.special import ndtr

    models: Array = ndtr((OFFSETS - _CENTRES[:, None]) / _SDS[:, None, None]).reshape(-1, len(OFFSETS))
    models -= models.mean(1, keepdims=True)
    return models / np.linalg.norm(models, axis=1, keepdims=True)


def _crossing(profile: Array, level: float, offsets: Array = OFFSETS) -> float:
    """Return where ``profile`` rises through ``level``, nearest to the middle; NaN where it does not."""
    up = np.flatnonzero((profile[:-1] < level) & (profile[1:] >= level))
    if not len(up):
        return float("nan")
    at = offsets[up] + (level - profile[up]) / (profile[up + 1] - profile[up]) * (offsets[1] - offsets[0])
    return float(at[np.argmin(np.abs(at))])


def radial_profile(window: Tensor, bin_width: float = 0.5) -> Tensor:
    """Return the mean of ``window`` (P, P) over rings of ``bin_width`` pixels about its middle, float64 (rings,).

    A ring without a pixel is interpolated.
    """
    reach = window.shape[-1] // 2
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    ring = (torch.hypot(axis[:, None], axis[None]) / bin_width).long().reshape(-1)
    rings = int(reach / bin_width)
    inside = ring < rings
    counts = torch.bincount(ring[inside], minlength=rings)
    sums = torch.bincount(ring[inside], window.double().reshape(-1)[inside], minlength=rings)
    filled = torch.nonzero(counts)[:, 0]
    return torch.from_numpy(np.interp(np.arange(rings), filled.numpy(), (sums / counts)[filled].numpy()))


def transfer_f50(recovered: Tensor, planted: Tensor, radius: float, half: float = 8.0, bin_width: float = 0.5) -> float:
    """Return where the task transfer function of a disc's edge falls to one half, in cycles a pixel, at most 0.5.

    ``recovered`` and ``planted`` (P, P) are windows about the disc, of ``radius`` pixels. Both edges' radial profiles
    are differentiated within ``half`` pixels of the radius; the ratio of their spectra, 1 at frequency 0, is the
    function (Richard et al. 2012). 0.1874 / b for a blur by a Gaussian of b pixels. NaN where no edge is left.
    """
    spreads = []
    for window in (recovered, planted):
        profile = radial_profile(window, bin_width)
        first = max(0, round((radius - half) / bin_width))
        spreads.append(-torch.diff(profile[first : round((radius + half) / bin_width)]))
    if float(spreads[0].sum()) < 0.1 * float(spreads[1].sum()):
        return float("nan")
    frequencies = torch.arange(0, 0.5 + 1e-9, 0.005, dtype=torch.float64)
    offsets = torch.arange(len(spreads[0]), dtype=torch.float64) * bin_width
    waves = torch.exp(-2j * torch.pi * frequencies[:, None] * offsets)
    out, given = ((waves @ s.to(waves.dtype)).abs() / s.sum().abs() for s in spreads)
    ratio = (out / given).numpy()
    below = np.flatnonzero(ratio < 0.5)
    if not len(below):
        return 0.5
    i = int(below[0])
    return float(frequencies[i - 1]) + 0.005 * float((ratio[i - 1] - 0.5) / (ratio[i - 1] - ratio[i]))
