"""Features of known place: lesions, vessels and boundaries planted into real images, with labels from the planting.

What a feature network learns to find, and what a denoiser is shown so that it keeps it. Slabs lie along rows or
columns, as tables, cushions and flat skin do: whoever is to remove stripes must be shown what looks like one.
"""

import numpy as np
import numpy.typing as npt

from medfpl.scan import FloatArray
from medfpl.seeds import log_uniform

# The label maps, in this order.
FEATURES = ("lesion", "vessel", "boundary")
# Planted contrast in working units: of 2000 HU, 8 to 200 HU for a lesion.
LESION, VESSEL, BOUNDARY = (0.004, 0.1), (0.01, 0.25), (0.005, 0.15)
SLAB = (0.01, 0.5)
RADIUS, CALIBRE = (2.0, 12.0), (1.0, 4.0)  # pixels
THICKNESS, LENGTH = (2.0, 100.0), (20.0, 300.0)  # of a slab
DARKEST = 0.03  # working units: nothing is planted into air
_TRIES = 8
# A feature fainter than this is drawn but not labelled: nobody could say where it ends.
_HALF = 0.5


def plant(
    rng: np.random.Generator, image: FloatArray, *, density: float = 1.0
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return a copy of ``image`` (H, W), working units, with features added, and their labels (3, H, W).

    On average 3 lesions, 2 vessels and one boundary for each 128 x 128 pixels at ``density`` 1, and, without a label,
    half a slab.
    """
    made = image.astype(np.float32, copy=True)
    labels = np.zeros((len(FEATURES), *image.shape), bool)
    amount = density * image.size / 128**2
    for _ in range(rng.poisson(amount / 2)):
        _slab(rng, made)
    for _ in range(rng.poisson(amount)):
        _boundary(rng, made, labels[2])
    for _ in range(rng.poisson(2 * amount)):
        _vessel(rng, made, labels[1])
    for _ in range(rng.poisson(3 * amount)):
        _lesion(rng, made, labels[0])
    return made, labels


def _lesion(rng: np.random.Generator, image: FloatArray, label: npt.NDArray[np.bool_]) -> None:
    """A blob of irregular outline, from a calcification's two pixels to a metastasis."""
    radius, contrast = log_uniform(rng, *RADIUS), log_uniform(rng, *LESION) * rng.choice((-1, 1))
    centre = _place(rng, image)
    aspect, turn, soft = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi), rng.uniform(0.5, 0.5 + 0.25 * radius)
    waves, phases = rng.normal(0, 0.06, 3), rng.uniform(0, 2 * np.pi, 3)
    if centre is None:
        return
    box, (y, x) = _around(image.shape, centre, radius * 1.5 + 3 * soft)
    along, across = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / aspect
    angle = np.arctan2(across, along)
    outline = radius * (1 + sum(waves[k] * np.cos((k + 2) * angle + phases[k]) for k in range(3)))
    profile = _step(outline - np.hypot(along, across), soft)
    image[box] += np.float32(contrast) * profile
    label[box] |= profile > _HALF


def _vessel(rng: np.random.Generator, image: FloatArray, label: npt.NDArray[np.bool_]) -> None:
    """A curved tube whose calibre tapers."""
    calibre, contrast = log_uniform(rng, *CALIBRE), log_uniform(rng, *VESSEL) * (1 if rng.random() < 0.8 else -1)
    start, heading, length = _place(rng, image), rng.uniform(0, 2 * np.pi), rng.uniform(20, 80)
    bend, bends = rng.uniform(-0.04, 0.04), rng.normal(0, 0.02, 80)
    if start is None:
        return
    steps = int(length)
    angles = heading + np.cumsum(bend + bends[:steps])
    path = np.asarray(start) + np.stack([np.cumsum(np.sin(angles)), np.cumsum(np.cos(angles))], 1)
    low = np.floor(path.min(0) - calibre - 3).astype(int).clip(0)
    high = np.ceil(path.max(0) + calibre + 4).astype(int).clip(0, image.shape)
    if (high <= low).any():
        return
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    y, x = np.mgrid[box]
    squared = (y[..., None] - path[:, 0]) ** 2 + (x[..., None] - path[:, 1]) ** 2
    nearest = squared.argmin(-1)
    width = calibre / 2 * (1 - 0.5 * nearest / steps)
    profile = _step(width - np.sqrt(np.take_along_axis(squared, nearest[..., None], -1)[..., 0]), 0.5)
    image[box] += np.float32(contrast) * profile
    label[box] |= profile > _HALF


def _boundary(rng: np.random.Generator, image: FloatArray, label: npt.NDArray[np.bool_]) -> None:
    """The gently curved edge of a region that goes on to the border of the image; the label is its line."""
    contrast, soft = log_uniform(rng, *BOUNDARY) * rng.choice((-1, 1)), rng.uniform(0.4, 1.5)
    centre, turn, curve = _place(rng, image), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.004)
    if centre is None:
        return
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    y, x = y - centre[0], x - centre[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = across - curve * along**2
    # It fades along its own line, so that it ends nowhere sharply.
    fade = np.exp(-((along / 40) ** 2)) * np.exp(-((np.clip(distance, 0, None) / 40) ** 2))
    image += (np.float32(contrast) * _step(distance, soft) * fade).astype(np.float32)
    label |= (np.abs(distance) < 1) & (fade > _HALF)


def _slab(rng: np.random.Generator, image: FloatArray) -> None:
    """A straight slab along the rows or the columns, to within a degree or two; in air as well, which stays >= 0."""
    contrast, soft = log_uniform(rng, *SLAB) * rng.choice((-1, 1)), rng.uniform(0.3, 1.5)
    thickness, length = log_uniform(rng, *THICKNESS), log_uniform(rng, *LENGTH)
    centre, turn = rng.random(2) * image.shape, rng.normal(0, 0.02) + rng.choice((0, np.pi / 2))
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] - centre[:, None, None]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    profile = _step(thickness / 2 - np.abs(across), soft) * _step(length / 2 - np.abs(along), soft)
    image[:] = np.maximum(image + np.float32(contrast) * profile, np.minimum(image, 0))


def _place(rng: np.random.Generator, image: FloatArray) -> tuple[float, float] | None:
    """Draw a point that is not in air; None where there hardly is one. Draws the same count whatever it finds."""
    points = rng.random((_TRIES, 2)) * image.shape
    inside = [p for p in points if image[int(p[0]), int(p[1])] > DARKEST]
    return (float(inside[0][0]), float(inside[0][1])) if inside else None


def _around(
    shape: tuple[int, ...], centre: tuple[float, float], reach: float
) -> tuple[tuple[slice, slice], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    top, left = (max(0, int(c - reach)) for c in centre)
    bottom, right = (min(n, int(c + reach) + 2) for n, c in zip(shape, centre, strict=True))
    y, x = np.mgrid[top:bottom, left:right]
    return (slice(top, bottom), slice(left, right)), (y - centre[0], x - centre[1])


def _step(distance: npt.NDArray[np.float64], soft: float) -> FloatArray:
    """Return 1 inside (distance > 0), 0 outside, with a logistic edge of about ``soft`` pixels."""
    return (1 / (1 + np.exp(np.clip(-2 * distance / soft, -60, 60)))).astype(np.float32)
