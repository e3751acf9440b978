"""How far a change can be trusted: is what was removed like noise, or like structure?

Nothing here knows what is true. A pair of images can show three things that noise alone does not do:

- *structure*: blobs of 3 to 20 pixels in ``before - after`` that stand out of it, in units of its own local noise.
  They are called removed or added where one image's blob is twice as strong as the other's, else changed: next to
  other structure a lesion that went looks like a hole that came, and nobody can tell which is true;
- *edges*: a share of the contrast of edges that is missing in the image after, nearby or in the whole slice.

Each is divided by the threshold that scripts/calibrate_trust.py found: a score above 1 is flagged. What this can find
and what not is measured in docs/evidence/trust.md.
"""

import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, uniform_filter

from medfpl.scan import FloatArray

Mask = npt.NDArray[np.bool_]
Reason = Literal["structure removed", "structure added", "structure changed", "edges blurred"]

TILE = 32
# Standard deviations, in pixels, of Gaussians whose neighbours' differences are the bands that blobs are sought in.
SCALES = (1.5, 2.4, 3.84, 6.14, 9.83)
# The band in which edges are compared, pixels: finer ones drown in noise, coarser ones are no edges.
BAND = (1.5, 3.0)
LOCAL, WINDOW = 7.0, 64
EDGE_PIXELS, SLICE_EDGE_PIXELS = 200, 100
# What is darker than this after smoothing is air (-940 HU) or black.
AIR = 0.03
# So many times as strong must a blob be to belong to one image.
CLEARLY = 2.0
# Noise weaker than this counts as this: 5 HU, two thirds of a grey level of 255 (working units).
FLOOR = 0.0025
EDGE_FLOOR = 0.004
# An impulse counts as this many local standard deviations, so that removed salt and pepper is no structure.
CLIP = 3.5
_MAD, _ABS = 1 / 0.6744897501960817, (np.pi / 2) ** 0.5


@dataclass(frozen=True)
class Thresholds:
    """The largest values that are normal: of ``structure`` in local noise, of edge contrast lost as a share."""

    structure: float
    edges_nearby: float
    edges_slice: float


@dataclass(frozen=True)
class Tile:
    """A square of a slice: ``box`` is (top, bottom, left, right) in pixels. Scores above 1 are flagged.

    ``feature_like`` is the share, 0 to 1, of the change's energy that lies in blobs (of half the threshold and more)
    and along lost edges; the rest is like noise. ``reasons`` say what is above 1, the worst first.
    """

    box: tuple[int, int, int, int]
    score: float
    feature_like: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Flag:
    """A place to look at: why, how far beyond normal (above 1), and where (top, bottom, left, right), pixels."""

    reason: Reason
    score: float
    tile: tuple[int, int, int, int]


@dataclass(frozen=True)
class SliceTrust:
    """One slice: ``score`` is its worst by any measure, ``tiles`` row by row, and what was measured in all of it.

    ``structure`` is the strongest blob in units of local noise, ``edges_lost`` the share of edge contrast that is
    missing in the whole slice and ``edges_lost_nearby`` in its worst part (0 where there is no edge to judge).
    ``edges_blurred`` is the score of ``edges_lost``.
    """

    score: float
    reasons: tuple[Reason, ...]
    feature_like: float
    structure: float
    edges_lost: float
    edges_lost_nearby: float
    edges_blurred: float
    tiles: tuple[Tile, ...]

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What is above 1, the worst first: tiles, or the whole slice where its edges are blurred in all."""
        found = [Flag(t.reasons[0], t.score, t.box) for t in self.tiles if t.reasons]
        if self.edges_blurred > 1:
            last = self.tiles[-1].box
            found.append(Flag("edges blurred", self.edges_blurred, (0, last[1], 0, last[3])))
        return tuple(sorted(found, key=lambda flag: -flag.score))


@dataclass(frozen=True)
class Assessment:
    """The slices of a pair, in order."""

    slices: tuple[SliceTrust, ...]

    @property
    def flagged(self) -> list[int]:
        """The numbers of the flagged slices, from 0."""
        return [z for z, one in enumerate(self.slices) if one.score > 1]


@cache
def thresholds() -> Thresholds:
    """Return the thresholds that ship with medfpl (trust.json, written by scripts/calibrate_trust.py)."""
    made = json.loads(Path(__file__).with_name("trust.json").read_text("utf-8"))
    return Thresholds(**made["thresholds"])


def assess(
    before: FloatArray, after: FloatArray, valid: Mask | None = None, limits: Thresholds | None = None
) -> Assessment:
    """Judge the change from ``before`` to ``after``: slices (z, y, x) in working units, finite everywhere.

    Pixels where ``valid`` is False are not judged. ``limits`` are the shipped thresholds unless given.
    """
    limits = limits or thresholds()
    masks = [None] * len(before) if valid is None else valid
    return Assessment(tuple(_slice(*pair, limits) for pair in zip(before, after, masks, strict=True)))


def _slice(before: FloatArray, after: FloatArray, valid: Mask | None, limits: Thresholds) -> SliceTrust:
    before, after = (image.astype(np.float32, copy=False) for image in (before, after))
    change = before - after
    if valid is not None:
        change = np.where(valid, change, np.float32(0))
    body = _body(before)
    strength, scale = _structure(change, body)
    lost, lost_nearby, along_edges = _edges(before, after, body)
    if valid is not None:
        strength, lost_nearby = np.where(valid, strength, 0), np.where(valid, lost_nearby, 0)
    in_blobs = np.where(strength > limits.structure / 2, _blur(change, 1.0), 0)
    explained = np.clip(in_blobs * (2 * change - in_blobs), 0, None) + along_edges
    tiles = []
    for box in _boxes(*change.shape):
        here = (slice(*box[:2]), slice(*box[2:]))
        peak = np.unravel_index(np.argmax(strength[here]), strength[here].shape)
        at = (box[0] + int(peak[0]), box[2] + int(peak[1]))
        # Of the tile's middle: the windows around it reach WINDOW / 2 further.
        blurred = float(np.median(lost_nearby[here])) / limits.edges_nearby
        scores: dict[Reason, float] = {"edges blurred": blurred}
        blob = float(strength[at]) / limits.structure
        scores[_what(before, after, at, int(scale[at])) if blob > 1 else "structure removed"] = blob
        reasons = sorted((r for r in scores if scores[r] > 1), key=lambda r: -scores[r])
        share = _share(explained[here], change[here])
        tiles.append(Tile(box, max(scores.values()), share, tuple(reasons)))
    whole = lost / limits.edges_slice
    found = sorted((-t.score, t.reasons) for t in tiles if t.reasons)
    reasons = [r for _, several in found for r in several] + ["edges blurred"] * (whole > 1)
    return SliceTrust(
        score=max(whole, *(t.score for t in tiles)),
        reasons=tuple(dict.fromkeys(reasons)),
        feature_like=_share(explained, change),
        structure=float(strength.max()),
        edges_lost=lost,
        edges_lost_nearby=float(lost_nearby.max()),
        edges_blurred=whole,
        tiles=tuple(tiles),
    )


def _structure(change: FloatArray, body: Mask) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Return at each pixel the strongest blob of ``change`` in units of its local noise, and its scale's number.

    Band-passed after division by the local noise, so that noise that varies (lung and shoulder) has no
    blobs; then divided by what the band typically holds in the slice where that is more than
    white noise would, so that correlated noise has none either.
    """
    local = _ABS * _blur(np.abs(change), LOCAL)
    local = np.maximum(local, max(FLOOR, 0.3 * _median(local, body)))
    unit = np.clip(change, -CLIP * local, CLIP * local) / local
    bands = []
    for n, band in enumerate(_bands(unit)):
        band = np.abs(band) / _white(n)
        bands.append(band / max(1.0, _MAD * _median(band, body)))
    stack = np.stack(bands)
    # Nobody looks for structure in air, and the streaks of CT there are no noise.
    return np.where(body, stack.max(0), 0), stack.argmax(0)


def _what(before: FloatArray, after: FloatArray, at: tuple[int, int], scale: int) -> Reason:
    """Return whether the blob at that pixel is clearly stronger before or after."""
    # The surroundings that the band's outer Gaussian sees.
    reach = int(4 * SCALES[scale + 1]) + 1
    top, left = max(0, at[0] - reach), max(0, at[1] - reach)
    here = (slice(top, at[0] + reach + 1), slice(left, at[1] + reach + 1))
    had, has = (
        abs(float(_bands(image[here], scale + 2)[scale][at[0] - top, at[1] - left])) for image in (before, after)
    )
    if max(had, has) < CLEARLY * min(had, has):
        return "structure changed"
    return "structure removed" if had >= has else "structure added"


def _edges(before: FloatArray, after: FloatArray, body: Mask) -> tuple[float, FloatArray, FloatArray]:
    """Return the share of edge contrast that ``after`` lost, in the slice and around each pixel; 0 without edges.

    At the edges of ``after`` the bands of both are compared: <B - A, A> / <A, A>, or b - 1 if A = B / b. Edges are
    chosen, and weighted, by ``after`` alone, whose noise is the smaller: what is removed from the noise does not
    count. The third result is the energy of the change that lies along the lost edges.
    """
    was, now = (_blur(image, BAND[0]) - _blur(image, BAND[1]) for image in (before, after))
    lost = was - now
    noise = _MAD * _median(np.abs(lost), body)
    edge = np.abs(now) > max(2 * noise, EDGE_FLOOR)
    # An impulse that was removed beside an edge is not the edge's.
    room = 4 * noise + np.abs(now)
    product = np.where(edge, np.clip(lost, -room, room) * now, 0).astype(np.float32)
    energy = np.where(edge, now * now, 0).astype(np.float32)
    nearby, weight = (uniform_filter(a, WINDOW, mode="constant") for a in (product, energy))
    enough = uniform_filter(edge.astype(np.float32), WINDOW, mode="constant") * WINDOW**2 > EDGE_PIXELS
    shares = np.where(enough, np.maximum(nearby, 0) / np.maximum(weight, 1e-12), 0).astype(np.float32)
    total = float(product.sum() / energy.sum()) if edge.sum() > SLICE_EDGE_PIXELS else 0.0
    return max(total, 0.0), shares, shares**2 * energy


def _share(explained: FloatArray, change: FloatArray) -> float:
    # float64: float32 sums of a large slice drift.
    total = float(np.square(change, dtype=np.float64).sum())
    return float(np.clip(explained.sum(dtype=np.float64) / total, 0, 1)) if total > 0 else 0.0


def _body(image: FloatArray) -> Mask:
    """Return where there is more than air; everywhere if that is hardly anywhere."""
    body = _blur(image, 4.0) > AIR
    return body if body.mean() > 0.05 else np.ones(image.shape, bool)


def _boxes(height: int, width: int) -> list[tuple[int, int, int, int]]:
    tops, lefts = range(0, height, TILE), range(0, width, TILE)
    return [(t, min(t + TILE, height), left, min(left + TILE, width)) for t in tops for left in lefts]


def _bands(image: npt.NDArray[Any], count: int = len(SCALES)) -> list[npt.NDArray[Any]]:
    """Return the differences of ``image`` blurred at neighbouring SCALES, the first ``count`` of them."""
    blurred, before = [image], 0.0
    for sigma in SCALES[:count]:
        # From the one before: variances of Gaussians add.
        blurred.append(_blur(blurred[-1], float(np.sqrt(sigma**2 - before**2))))
        before = sigma
    return [fine - coarse for fine, coarse in pairwise(blurred[1:])]


def _blur(image: npt.NDArray[Any], sigma: float) -> npt.NDArray[Any]:
    return gaussian_filter(image, sigma, truncate=3.0)


def _median(values: FloatArray, where: Mask) -> float:
    return float(np.median(values[where]))


@cache
def _white(number: int) -> float:
    """Return the standard deviation of white noise of unit variance after the band of that number."""
    reach = int(8 * SCALES[-1])
    point = np.zeros((2 * reach + 1, 2 * reach + 1))
    point[reach, reach] = 1
    return float(np.sqrt(np.square(_bands(point)[number]).sum()))


def to_plain(trust: SliceTrust) -> dict[str, Any]:
    """Return what a record says of a slice: plain values; tiles are (top, bottom, left, right), pixels."""
    return {
        "score": round(trust.score, 4),
        "reasons": list(trust.reasons),
        "feature_like": round(trust.feature_like, 4),
        "structure": round(trust.structure, 4),
        "edges_lost": round(trust.edges_lost, 4),
        "edges_lost_nearby": round(trust.edges_lost_nearby, 4),
        "flags": [{"reason": f.reason, "score": round(f.score, 4), "tile": list(f.tile)} for f in trust.flags],
    }
