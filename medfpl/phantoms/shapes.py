"""What the phantoms are drawn with: grids, signed distances and a canvas with smooth edges.

Points are (z, y, x) in mm, LPS: x grows to the patient's left, y to the back, z to the head. A shape gives the signed
distance to its surface (negative inside, exact to first order near it), so that an edge is as wide as a pixel
and partial volume comes out right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medfpl.scan import FloatArray, Geometry

Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]
Distance = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
FAR = np.float32(1e3)


@dataclass(frozen=True)
class Grid:
    """Voxel centres: ``shape`` and ``spacing`` (mm) as (z, y, x), ``origin`` the centre of voxel (0, 0, 0)."""

    shape: tuple[int, int, int]
    spacing: Point
    origin: Point

    @classmethod
    def around(cls, centre: Point, shape: tuple[int, int, int], spacing: Point) -> "Grid":
        """Return the grid whose middle lies at ``centre``."""
        z, y, x = (c - (n - 1) / 2 * s for c, n, s in zip(centre, shape, spacing, strict=True))
        return cls(shape, spacing, (z, y, x))

    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the coordinates along z, y and x in mm."""
        z, y, x = (
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(self.origin, self.spacing, self.shape, strict=True)
        )
        return z, y, x

    def thinner(self, times: int) -> "Grid":
        """Return this grid with each slice cut into ``times`` thinner ones."""
        thin = self.spacing[0] / times
        first = self.origin[0] - self.spacing[0] / 2 + thin / 2
        return Grid((self.shape[0] * times, *self.shape[1:]), (thin, *self.spacing[1:]), (first, *self.origin[1:]))

    def voxel(self, point: Point) -> Point:
        """Return where ``point`` lies, in voxels (z, y, x)."""
        z, y, x = ((p - o) / s for p, o, s in zip(point, self.origin, self.spacing, strict=True))
        return z, y, x

    def holds(self, point: Point, margin: float = 0.0) -> bool:
        """Whether ``point`` is inside the grid, at least ``margin`` mm from its outermost voxel centres."""
        inside = zip(self.voxel(point), self.shape, self.spacing, strict=True)
        return all(margin / s <= v <= n - 1 - margin / s for v, n, s in inside)

    def geometry(self) -> Geometry:
        """Return the grid's place in space: index (z, y, x, 1) -> LPS mm (x, y, z, 1)."""
        affine = np.zeros((4, 4))
        for axis in range(3):
            affine[2 - axis, axis], affine[2 - axis, 3] = self.spacing[axis], self.origin[axis]
        affine[3, 3] = 1
        return Geometry(self.spacing, affine)


class Shape(Protocol):
    """A signed distance with the corners of a box around it."""

    def bounds(self) -> tuple[Point, Point]: ...
    def __call__(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray: ...


@dataclass(frozen=True)
class Blob:
    """A (super-)ellipsoid: ``radii`` (z, y, x) in mm, turned by ``turn`` radians from x to y, ``power`` 2 or more."""

    centre: Point
    radii: Point
    turn: float = 0.0
    power: float = 2.0

    def bounds(self) -> tuple[Point, Point]:
        rz, ry, rx = self.radii
        reach = (rz, max(ry, rx), max(ry, rx)) if self.turn else self.radii
        z, y, x = self.centre
        return (z - reach[0], y - reach[1], x - reach[2]), (z + reach[0], y + reach[1], x + reach[2])

    def __call__(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        z, y, x = z - self.centre[0], y - self.centre[1], x - self.centre[2]
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return implicit((z, y * cos - x * sin, x * cos + y * sin), self.radii, (self.power,) * 3)


def implicit(offsets: Sequence[FloatArray], radii: Sequence[float], powers: Sequence[float]) -> FloatArray:
    """Return the distance to sum |offset / radius|^power = 1 to first order: (sum - 1) / |gradient of the sum|."""
    level: Any = np.float32(-1)
    slope: Any = np.float32(1e-8)
    for offset, radius, power in zip(offsets, radii, powers, strict=True):
        ratio = np.abs(offset) / np.float32(radius)
        lower = ratio if power == 2 else ratio ** np.float32(power - 1)
        level = level + lower * ratio
        slope = slope + (lower * np.float32(power) / radius) ** 2
    return np.asarray(level / np.sqrt(slope), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Tube:
    """A line through ``points`` (n, 3) with ``radii`` (n,) in mm; its section is ``tall`` times as high (z) as wide."""

    points: npt.NDArray[np.float64]
    radii: npt.NDArray[np.float64]
    tall: float = 1.0

    def bounds(self) -> tuple[Point, Point]:
        reach = self.radii[:, None] * (self.tall, 1, 1)
        low, high = (self.points - reach).min(0), (self.points + reach).max(0)
        return tuple(low.tolist()), tuple(high.tolist())

    def pieces(self) -> list["Tube"]:
        """Return the segments, one tube each."""
        return [Tube(self.points[i : i + 2], self.radii[i : i + 2], self.tall) for i in range(len(self.points) - 1)]

    def __call__(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        scale = np.array([1 / self.tall, 1, 1])
        z, found = z * np.float32(scale[0]), None
        for i in range(len(self.points) - 1):
            a, b = (self.points[i] * scale).astype(np.float32), (self.points[i + 1] * scale).astype(np.float32)
            along = b - a
            length2 = max(float(along @ along), 1e-12)
            t = ((z - a[0]) * along[0] + (y - a[1]) * along[1] + (x - a[2]) * along[2]) / np.float32(length2)
            t = np.clip(t, 0, 1)
            gap = np.sqrt(
                (z - a[0] - t * along[0]) ** 2 + (y - a[1] - t * along[1]) ** 2 + (x - a[2] - t * along[2]) ** 2
            )
            gap -= np.float32(self.radii[i]) + t * np.float32(self.radii[i + 1] - self.radii[i])
            found = gap if found is None else np.minimum(found, gap)
        assert found is not None, "a tube has two points or more"
        return found


def tube(*points: Point, radius: float | npt.ArrayLike, tall: float = 1.0) -> Tube:
    """Return a tube through ``points``, with one radius or one a point."""
    return Tube(np.array(points, dtype=float), np.broadcast_to(np.asarray(radius, float), len(points)), tall)


def blend(a: FloatArray, b: FloatArray, width: float) -> FloatArray:
    """Return the union of two distances, its inner corners rounded over ``width`` mm (a smooth minimum)."""
    h = np.maximum(np.float32(width) - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h / np.float32(4 * width)


def ramp(v: Any, low: float, high: float) -> Any:
    """Return 0 below ``low``, 1 above ``high`` and a smooth step between (``high`` < ``low`` turns it round)."""
    t = np.clip((v - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random vector field (mm), the sum of plane waves: it makes every outline irregular."""

    vectors: npt.NDArray[np.float64]  # (k, 3), radians a mm
    phases: npt.NDArray[np.float64]  # (k, 3)
    sizes: npt.NDArray[np.float64]  # (k, 3), mm

    @classmethod
    def draw(cls, generator: np.random.Generator, bands: Sequence[tuple[float, float]], each: int = 8) -> "Waves":
        """Draw ``each`` waves for every (wavelength mm, standard deviation mm)."""
        lengths = np.repeat([b[0] for b in bands], each) * generator.uniform(0.75, 1.4, each * len(bands))
        direction = generator.normal(size=(len(lengths), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        sizes = np.repeat([b[1] for b in bands], each)[:, None] * np.sqrt(2 / each) * np.ones(3)
        return cls(
            direction * (2 * np.pi / lengths)[:, None], generator.uniform(0, 2 * np.pi, (len(lengths), 3)), sizes
        )

    def reach(self) -> float:
        """Return a bound of the displacement that is met in practice (4 standard deviations)."""
        return float(4 * np.sqrt((self.sizes[:, 0] ** 2).sum() / 2))

    def on_axes(self, z: FloatArray, y: FloatArray, x: FloatArray) -> list[FloatArray]:
        """Return the three components on the grid of the axes."""
        wz, wy, wx = (np.exp(1j * self.vectors[:, i, None] * a) for i, a in enumerate((z, y, x)))
        plane = (wy[:, :, None] * wx[:, None, :]).reshape(len(wy), -1).astype(np.complex64)
        shape = (len(z), len(y), len(x))
        return [
            ((wz * (self.sizes[:, c] * np.exp(1j * self.phases[:, c]))[:, None]).T.astype(np.complex64) @ plane)
            .imag.reshape(shape)
            .astype(np.float32)
            for c in range(3)
        ]

    def at(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the displacement (n, 3) at ``points`` (n, 3)."""
        angle = (points @ self.vectors.T)[:, :, None] + self.phases
        return (np.sin(angle) * self.sizes).sum(1)


@dataclass(eq=False)
class Canvas:
    """A volume that shapes are painted on, in the coordinates that ``waves`` bend."""

    grid: Grid
    waves: Waves
    background: float = 0.0
    values: FloatArray = field(init=False)
    covers: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        axes = self.grid.axes()
        self.values = np.full(self.grid.shape, self.background, np.float32)
        self.axes = axes
        bent = self.waves.on_axes(*axes)
        self.z, self.y, self.x = (
            u + a for u, a in zip(bent, (axes[0][:, None, None], axes[1][:, None], axes[2]), strict=True)
        )
        self.pad = self.waves.reach() + max(self.grid.spacing)
        self.edge = np.float32(max(self.grid.spacing[1:]))

    def box(self, low: Point, high: Point, margin: float = 0.0) -> Box | None:
        """Return the voxels that a shape between two corners may touch, None if there are none."""
        slices = []
        for axis, a, b in zip(self.axes, low, high, strict=True):
            first, last = np.searchsorted(axis, [a - margin - self.pad, b + margin + self.pad])
            if first >= last:
                return None
            slices.append(slice(int(first), int(last)))
        return slices[0], slices[1], slices[2]

    def union(self, shapes: Sequence[Shape], blending: float = 0.0, reach: float = 12.0) -> FloatArray:
        """Return the distance to the nearest of ``shapes``, right up to ``reach`` mm outside and FAR beyond."""
        found = np.full(self.grid.shape, FAR, np.float32)
        for shape in shapes:
            box = self.box(*shape.bounds(), reach)
            if box is not None:
                d = shape(self.z[box], self.y[box], self.x[box])
                found[box] = blend(found[box], d, blending) if blending else np.minimum(found[box], d)
        return found

    def paint(
        self, distance: npt.NDArray[Any], value: Any, *, opacity: Any = 1.0, name: str = "", box: Box | None = None
    ) -> None:
        """Paint where ``distance`` is negative; ``value`` may be an array. ``name`` keeps the cover as a mask."""
        cover = np.clip(np.float32(0.5) - distance / self.edge, 0, 1) * np.float32(opacity)
        target = self.values if box is None else self.values[box]
        target += cover * (np.asarray(value, np.float32) - target)
        if name:
            self.mark(name, cover, box)

    def mark(self, name: str, cover: npt.NDArray[Any], box: Box | None = None) -> None:
        """Add ``cover`` (0 to 1) to the mask called ``name`` without painting."""
        kept = self.covers.setdefault(name, np.zeros(self.grid.shape, np.float32))
        part = kept if box is None else kept[box]
        np.maximum(part, cover, out=part)

    def fill(self, shape: Shape, value: float, *, within: FloatArray | None = None, name: str = "") -> None:
        """Paint one shape in its own box, only where the distance ``within`` is negative too."""
        box = self.box(*shape.bounds())
        if box is not None:
            d = shape(self.z[box], self.y[box], self.x[box])
            self.paint(d if within is None else np.maximum(d, within[box]), value, name=name, box=box)

    def cover_of(self, tubes: Sequence[Tube]) -> FloatArray:
        """Return the share of each voxel that lies in ``tubes``, also where they are thinner than a pixel."""
        cover = np.zeros(self.grid.shape, np.float32)
        for piece in (p for t in tubes for p in t.pieces()):
            box = self.box(*piece.bounds())
            if box is None:
                continue
            d = piece(self.z[box], self.y[box], self.x[box])
            share = min(1.0, float(np.pi * piece.radii.mean() ** 2 / self.edge**2))
            np.maximum(cover[box], np.clip(np.float32(0.5) - d / self.edge, 0, 1) * np.float32(share), out=cover[box])
        return cover

    def mix(self, cover: npt.NDArray[Any], value: Any) -> None:
        """Paint ``value`` with the given cover (0 to 1) everywhere."""
        self.values += cover * (np.asarray(value, np.float32) - self.values)


def texture(generator: np.random.Generator, grid: Grid, length: float) -> FloatArray:
    """Return correlated Gaussian noise, mean 0 and standard deviation 1, alike over about ``length`` mm."""
    from scipy.ndimage import gaussian_filter

    white = generator.standard_normal(grid.shape, dtype=np.float32)
    smooth = gaussian_filter(white, [length / 2 / s for s in grid.spacing], mode="wrap")
    smooth -= smooth.mean()
    return (smooth / smooth.std()).astype(np.float32)
