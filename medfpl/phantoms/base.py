"""What a phantom is: an image with the exact list of what was planted in it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medfpl.errors import MedfplError
from medfpl.phantoms.shapes import Blob, Canvas, Distance, Grid, Point, Waves
from medfpl.scan import FloatArray, Geometry


@dataclass(frozen=True)
class Lesion:
    """A planted ball: ``centre`` (z, y, x) in mm, LPS, ``diameter`` in mm, and how it differs from what it lies in.

    ``contrast`` (the image's unit) is added to the tissue. Where ``background`` is given the tissue is replaced
    instead, by ``background + contrast``: a solid nodule shows no vessel that it covers.
    """

    kind: str
    centre: Point
    diameter: float
    contrast: float
    background: float | None = None

    def cover(self, canvas: Canvas) -> tuple[Any, FloatArray] | None:
        """Return the voxels near it and the share of each that lies inside (no irregularity: the ball is exact)."""
        radius = self.diameter / 2
        ball = Blob(self.centre, (radius, radius, radius))
        box = canvas.box(*ball.bounds())
        if box is None:
            return None
        z, y, x = (a[s] - np.float32(c) for a, s, c in zip(canvas.axes, box, self.centre, strict=True))
        distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2) - np.float32(radius)
        return box, np.clip(np.float32(0.5) - distance / canvas.edge, 0, 1)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn image, float32 (z, y, x) in ``unit``, without noise.

    ``places`` are the lesions' centres in voxels (z, y, x), in the order of ``lesions``. ``masks`` (bool, the image's
    shape) hold organs by name, each as it was drawn before what lies in it; ``lesion_labels`` is 1 for voxels more
    than half in the first lesion, 2 for the second, ..., and 0 elsewhere.
    """

    image: FloatArray
    unit: str
    geometry: Geometry
    lesions: tuple[Lesion, ...]
    places: tuple[Point, ...]
    masks: dict[str, npt.NDArray[np.bool_]]
    lesion_labels: npt.NDArray[np.uint8]

    def lesion_list(self) -> list[dict[str, Any]]:
        """Return the lesions as plain values: kind, centre_mm (x, y, z), centre_voxel (z, y, x), sizes and contrast."""
        rows = []
        for lesion, place in zip(self.lesions, self.places, strict=True):
            row = asdict(lesion)
            centre = row.pop("centre")
            row.pop("background")
            row["diameter_mm"] = row.pop("diameter")
            row["contrast"], row["unit"] = lesion.contrast, self.unit
            rows.append(
                {**row, "centre_mm": [round(c, 3) for c in centre[::-1]], "centre_voxel": [round(v, 3) for v in place]}
            )
        return rows


def finish(canvas: Canvas, grid: Grid, unit: str, lesions: Sequence[Lesion]) -> Phantom:
    """Plant ``lesions`` and average the canvas's thin slices to those of ``grid``."""
    times = canvas.grid.shape[0] // grid.shape[0]
    labels = np.zeros(grid.shape, np.uint8)
    for number, lesion in enumerate(lesions, 1):
        found = lesion.cover(canvas)
        if found is None:
            raise MedfplError("a lesion lies outside the phantom's field of view")
        box, cover = found
        target = canvas.values[box]
        change = lesion.contrast if lesion.background is None else lesion.background + lesion.contrast - target
        target += cover * np.float32(1) * change
        whole = np.zeros(canvas.grid.shape, np.float32)
        whole[box] = cover
        labels[_mean(whole, times) > 0.5] = number
    masks = {name: _mean(cover, times) > 0.5 for name, cover in canvas.covers.items()}
    places = tuple(grid.voxel(lesion.centre) for lesion in lesions)
    return Phantom(_mean(canvas.values, times), unit, grid.geometry(), tuple(lesions), places, masks, labels)


def _mean(values: FloatArray, times: int) -> FloatArray:
    z, y, x = values.shape
    return values.reshape(z // times, times, y, x).mean(1, dtype=np.float32)


def place(
    generator: np.random.Generator,
    inside: Distance,
    waves: Waves,
    grid: Grid,
    radii: Sequence[float],
    *,
    margin: float = 3.0,
) -> list[Point]:
    """Draw a centre for each ball of ``radii`` mm, ``margin`` mm or more inside the distance and well off each other.

    Raise MedfplError where there is no room.
    """
    low, high = np.array(grid.origin), np.array(grid.origin) + (np.array(grid.shape) - 1) * grid.spacing
    found: list[Point] = []
    for i, radius in enumerate(radii):
        tried = generator.uniform(low, high, (20_000, 3))
        depth = -distance_at(inside, waves, tried)
        good = depth > radius + margin
        for other, centre in zip(radii[:i], found, strict=True):
            good &= np.linalg.norm(tried - centre, axis=1) > radius + other + 4 * margin
        good &= ((tried - radius >= low) & (tried + radius <= high)).all(1)
        if not good.any():
            raise MedfplError("no room for so many or so large lesions in this field of view")
        z, y, x = tried[int(np.argmax(good))].tolist()
        found.append((z, y, x))
    return found


def distance_at(inside: Distance, waves: Waves, points: npt.NDArray[np.float64]) -> FloatArray:
    """Return a shape's distance at ``points`` (n, 3), bent as the canvas bends it."""
    z, y, x = (points + waves.at(points)).astype(np.float32).T
    return inside(z, y, x)


def fill_space(
    generator: np.random.Generator,
    inside: Callable[..., FloatArray],
    box: tuple[Point, Point],
    count: int,
    depth: float,
) -> npt.NDArray[np.float64]:
    """Draw ``count`` points (n, 3), evenly spread, that lie ``depth`` mm or more inside a distance (not bent)."""
    points = np.empty((0, 3))
    while len(points) < count:
        tried = generator.uniform(*box, (8 * count, 3))
        z, y, x = tried.astype(np.float32).T
        points = np.vstack([points, tried[inside(z, y, x) < -depth]])
    return points[:count]
