"""Images unlike those of the store, made of them: a network that learns anatomy by heart takes any other for artifact.

No store has every part of the body, sequence, crop or stripped skull. What is odd here goes further than those do, so
that only an artifact's own signs are left to learn. After Tobin et al. 2017, Domain randomization, IROS.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from medfpl.noises.polynomial import TERMS, polynomial_field
from medfpl.scan import FloatArray
from medfpl.seeds import log_uniform

DARK = 0.03  # working units: darker is air, and stays it where tones are turned over
TURNS, ASPECT, ZOOM = (-180.0, 180.0), (0.7, 1.4), (0.6, 1.5)
GAMMA, BRIGHTEST = (0.4, 2.5), (0.3, 1.2)
FIELD = (0.05, 0.7)  # largest logarithm of the gain that an odd image has by nature
LEAVES = (20, 120)
_WAVES = 12


def make_odd(rng: np.random.Generator, image: FloatArray, other: Callable[[], FloatArray]) -> FloatArray:
    """Return an odd image (H, W), 0 to 2 in working units: warped, mixed with ``other()``, retoned, cut out, shaded.

    Each of the five happens with a probability of its own, so that some images are hardly odd; one in eight is made
    of overlapping ellipses (dead leaves) and of nothing real.
    """
    made = _leaves(rng, image.shape) if rng.random() < 0.125 else np.clip(image, 0, 2).astype(np.float32)
    if rng.random() < 0.25:
        made = _mixed(rng, made, np.clip(other(), 0, 2))
    if rng.random() < 0.5:
        made = _warped(rng, made)
    if rng.random() < 0.6:
        made = _retoned(rng, made)
    if rng.random() < 0.5:
        made = made * _outline(rng, made.shape)
    if rng.random() < 0.6:
        field = polynomial_field([rng.normal(size=TERMS).tolist()], torch.from_numpy(made)[None, None])
        made = made * np.exp(log_uniform(rng, *FIELD) * field[0, 0].numpy())
    return np.clip(made, 0, 2).astype(np.float32)


def _mixed(rng: np.random.Generator, image: FloatArray, other: FloatArray) -> FloatArray:
    """Two images as one: their mean, the brighter of them, or one beyond a line of the other."""
    way, share = rng.integers(3), rng.uniform(0.2, 0.8)
    if way == 0:
        return share * image + (1 - share) * other
    if way == 1:
        return np.maximum(image, share * other)
    y, x = _grid(image.shape)
    turn = rng.uniform(0, 2 * np.pi)
    return np.where(x * np.cos(turn) + y * np.sin(turn) > share - 0.5, image, other)


def _warped(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Turned by any angle and scaled along two axes; beyond is black."""
    turn, zoom, aspect = np.deg2rad(rng.uniform(*TURNS)), log_uniform(rng, *ZOOM), log_uniform(rng, *ASPECT)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = np.diag([1 / zoom, 1 / (zoom * aspect)]) @ rotation
    centre = (np.array(image.shape) - 1) / 2
    warped: FloatArray = ndimage.affine_transform(image, matrix, centre - matrix @ centre, order=1, mode="constant")
    return warped


def _retoned(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Another contrast: a gamma, tissue all nearly as bright, or dark for bright; then another brightness."""
    top = max(float(image.max()), DARK)
    toned = (image / top) ** log_uniform(rng, *GAMMA)
    inside = image > DARK
    if rng.random() < 0.3:
        toned = np.where(inside, 1 - toned, toned)
    if rng.random() < 0.5:
        floor = rng.uniform(0, 0.8)
        toned = np.where(inside, floor + (1 - floor) * toned, toned)
    return toned * log_uniform(rng, *BRIGHTEST)


def _outline(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """1 inside an irregular outline, as of a stripped skull or a limb, and 0 outside."""
    y, x = _grid(shape)
    y, x = y - rng.uniform(-0.1, 0.1), (x - rng.uniform(-0.1, 0.1)) / log_uniform(rng, 0.7, 1.4)
    angle, waves = np.arctan2(y, x), np.arange(1, _WAVES + 1)
    sizes, phases = rng.normal(0, 0.1, _WAVES) / waves, rng.uniform(0, 2 * np.pi, _WAVES)
    wave = (sizes * np.cos(angle[..., None] * waves + phases)).sum(-1)
    distance = rng.uniform(0.25, 0.5) * (1 + wave) - np.hypot(y, x)
    soft = rng.uniform(0.3, 1.5) / max(shape)
    return 1 / (1 + np.exp(np.clip(-2 * distance / soft, -60, 60)))


def _leaves(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Dead leaves: ellipses of all sizes over one another, each of one brightness. Lee et al. 2001, IJCV 41:35."""
    y, x = _grid(shape)
    image = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(*LEAVES))):
        (top, left), radius, turn = rng.uniform(-0.5, 0.5, 2), log_uniform(rng, 0.01, 0.3), rng.uniform(0, np.pi)
        along = (x - left) * np.cos(turn) + (y - top) * np.sin(turn)
        across = ((y - top) * np.cos(turn) - (x - left) * np.sin(turn)) / rng.uniform(0.3, 1)
        image[np.hypot(along, across) < radius] = rng.uniform(0, 1)
    blurred: FloatArray = ndimage.gaussian_filter(image, rng.uniform(0.3, 1))
    return blurred


def _grid(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return rows and columns, -0.5 to 0.5 along the longer side, (2, H, W)."""
    centre = (np.array(shape) - 1) / 2
    return (np.mgrid[: shape[0], : shape[1]] - centre[:, None, None]) / max(shape)
