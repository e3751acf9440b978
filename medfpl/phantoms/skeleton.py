"""Bones that the chest and the abdomen share: the spine and the ribs around a cavity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medfpl.phantoms.shapes import Blob, Canvas, Shape, Tube, tube

Floats = npt.NDArray[Any]

CORTEX, MARROW, DISC, CORD, FLUID, CARTILAGE = 850.0, 170.0, 75.0, 38.0, 8.0, 110.0


@dataclass(frozen=True)
class Spine:
    """Vertebrae ``pitch`` mm apart; ``y`` is the middle of the bodies, ``radii`` (y, x) their size in mm."""

    y: float
    pitch: float
    radii: tuple[float, float]
    marrow: float
    levels: tuple[float, ...]  # z of the vertebrae's middles

    def column(self, z: Floats, y: Floats, x: Floats) -> Floats:
        """Return the distance to the column of bodies and discs."""
        ry, rx = self.radii
        waist = 1 - 0.07 * np.cos((z - self.levels[0]) * np.float32(2 * np.pi / self.pitch))
        # Flat towards the canal, as vertebral bodies are.
        round_part = np.hypot((y - self.y) / np.float32(ry), x / np.float32(rx)) / waist - 1
        return np.maximum(round_part * np.float32(min(ry, rx)), y - np.float32(self.y + 0.85 * ry))

    def arch(self, level: float) -> list[Shape]:
        """Return the bony parts behind one vertebral body: pedicles, laminae, processes."""
        ry, rx = self.radii
        back, side = self.y + ry, 0.62 * rx
        up, lamina = level + 3, back + 17
        parts: list[Shape] = [tube((level, lamina, 0), (level - 14, lamina + 17, 0), radius=(4.5, 3.0), tall=1.8)]
        for s in (-1, 1):
            parts += [
                tube((up, back - 6, s * side), (level, back + 8, s * (side + 1)), radius=4.0, tall=1.6),
                tube((level, back + 8, s * (side + 1)), (level - 3, lamina, 0), radius=(3.8, 3.2), tall=2.2),
                tube((level, back + 8, s * side), (level + 2, back + 14, s * (side + 22)), radius=(4.2, 3.2), tall=1.2),
            ]
        return parts

    def draw(self, canvas: Canvas, trabecular: Floats) -> None:
        """Paint the column, the canal with its cord and the arches; ``trabecular`` is texture of sd 1."""
        ry, rx = self.radii
        box = canvas.box((-1e3, self.y - 2 * ry, -2 * rx), (1e3, self.y + 2 * ry, 2 * rx))
        if box is None:
            return
        z, y, x = canvas.z[box], canvas.y[box], canvas.x[box]
        d = self.column(z, y, x)
        phase = np.abs(
            (z - self.levels[0]) / np.float32(self.pitch) - np.rint((z - self.levels[0]) / np.float32(self.pitch))
        )
        disc = (np.float32(0.40) - phase) * np.float32(self.pitch)  # negative in the disc
        canvas.paint(d, DISC, box=box, name="spine")
        body = np.maximum(d, -disc)
        canvas.paint(body, CORTEX * 0.75, box=box)
        inner = np.maximum(d + 1.6, -disc + 1.4)
        canvas.paint(inner, self.marrow + 45 * trabecular[box], box=box)
        arches = canvas.union([p for level in self.levels for p in self.arch(level)], reach=4)
        canvas.paint(arches, CORTEX, name="spine")
        canvas.paint(arches + 1.7, MARROW + 40 * trabecular)
        middle = self.y + ry + 6.5
        canvas.fill(Blob((0, middle, 0), (1e4, 7.5, 9.0)), FLUID)
        canvas.fill(Blob((0, middle, 0), (1e4, 4.0, 5.5)), CORD)


def ribs(
    spine: Spine, surface: Callable[[float, float], tuple[float, float]], *, last_bone: float = 2.45
) -> tuple[list[Tube], list[Tube]]:
    """Return the bony ribs and their cartilages, both sides, one pair a vertebra from the top down.

    ``surface(angle, z)`` gives (y, x) of the rib's middle on the left, the angle counted from the back.
    """
    bones, cartilages = [], []
    for number, level in enumerate(sorted(spine.levels, reverse=True), 1):
        slope = min(30 + 14.0 * number, 115)
        end = min(1.9 + 0.1 * number, last_bone) if number < 9 else last_bone - 0.3 * (number - 8)
        angles = np.linspace(0.36, end, 22)
        heights = level + 6 - slope * (angles / np.pi) ** 1.1
        path = [(level + 4, spine.y + 0.6 * spine.radii[0], spine.radii[1] + 1)]
        path += [(z, *surface(a, z)) for a, z in zip(angles, heights, strict=True)]
        bones += _both_sides(np.array(path), 3.3, 1.55)
        if number <= 9:
            rest = np.linspace(end, 3.0, 8)[: 8 if number <= 7 else 4]
            rise = heights[-1] + (12 + 3 * number) * ((rest - end) / (3.0 - end + 1e-9)) ** 1.5
            cartilages += _both_sides(
                np.array([(z, *surface(a, z)) for a, z in zip(rest, rise, strict=True)]), 3.8, 1.5
            )
    return bones, cartilages


def _both_sides(path: Floats, radius: float, tall: float) -> list[Tube]:
    radii = np.full(len(path), radius)
    return [Tube(path, radii, tall), Tube(path * (1, 1, -1), radii, tall)]


def draw_ribs(canvas: Canvas, bones: list[Tube], cartilages: list[Tube], trabecular: Floats) -> None:
    """Paint the ribs: cortex around marrow, and the cartilages in front."""
    canvas.paint(canvas.union([p for t in cartilages for p in t.pieces()], reach=4), CARTILAGE)
    distance = canvas.union([p for t in bones for p in t.pieces()], reach=4)
    canvas.paint(distance, CORTEX, name="ribs")
    canvas.paint(distance + 1.3, MARROW + 40 * trabecular)
