"""What lies between the lungs: the heart with its chambers, the great vessels, windpipe, gullet, fat and nodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfpl.phantoms.shapes import Blob, Canvas, Point, Shape, Tube, blend, ramp, tube
from medfpl.scan import FloatArray

WALL, MYOCARDIUM, PERICARDIUM = 45.0, 95.0, 35.0


@dataclass(frozen=True, eq=False)
class Mediastinum:
    """One patient's: the heart's parts and the vessels, in mm; ``blood`` is its density in HU (contrast medium)."""

    heart: Blob
    muscle: tuple[Blob, ...]
    chambers: tuple[tuple[Blob, float], ...]  # with the share of the blood's density
    vessels: tuple[tuple[Tube, float], ...]
    airways: tuple[Tube, ...]
    gullet: Tube
    nodes: tuple[Blob, ...]
    blood: float

    @classmethod
    def draw(cls, generator: np.random.Generator, size: float = 1.0) -> "Mediastinum":
        """Draw one; ``size`` scales it with the chest."""
        g = size * generator.normal(1.0, 0.04)

        def p(z: float, y: float, x: float) -> Point:
            return z, y * g, x * g

        def b(z: float, y: float, x: float, rz: float, ry: float, rx: float, turn: float = 0.0) -> Blob:
            return Blob(p(z, y, x), (rz * g, ry * g, rx * g), turn)

        blood = generator.uniform(140, 230)
        # The heart's long axis points to the left and the front.
        axis = -0.68 + generator.normal(0, 0.08)
        heart = b(46, -24, 18, 56, 42, 60, axis)
        muscle = (b(38, -22, 34, 42, 27, 42, axis), b(46, -46, 6, 40, 18, 40, axis * 0.5))
        chambers = (
            (b(40, -20, 32, 34, 16, 32, axis), 1.0),  # left ventricle
            (b(46, -47, 6, 38, 13, 34, axis * 0.5), 0.85),  # right ventricle
            (b(55, -20, -26, 32, 26, 20, 0.3), 0.85),  # right atrium
            (b(72, 8, 6, 24, 15, 32), 1.05),  # left atrium
        )

        def v(share: float, *rows: tuple[float, float, float, float]) -> tuple[Tube, float]:
            points = np.array([p(*row[:3]) for row in rows])
            return Tube(points, g * np.array([row[3] for row in rows])), share

        vessels = (  # share of the blood's density, then (z, y, x, radius)
            v(1.0, (58, -26, 2, 13), (90, -32, -12, 15), (125, -30, -14, 15), (140, -18, -8, 14), (147, 0, 4, 13),
              (143, 18, 14, 12.5), (128, 27, 20, 12)),  # aorta: up and over
            v(1.0, (128, 27, 20, 12), (80, 30, 20, 11.5), (30, 30, 15, 11), (-120, 22, 6, 10)),  # and down
            v(0.9, (70, -48, 12, 13), (92, -46, 18, 13.5), (108, -26, 24, 13)),  # pulmonary trunk
            v(0.9, (108, -26, 24, 11), (104, -8, -8, 10.5), (99, 0, -34, 9), (95, 6, -50, 6.5)),  # to the right
            v(0.9, (108, -26, 24, 11.5), (114, -6, 34, 10), (112, 10, 44, 8.5), (100, 14, 52, 6.5)),  # to the left
            v(1.2, (62, -22, -24, 11), (100, -24, -28, 9.5), (160, -22, -28, 9)),  # superior vena cava
            v(1.2, (160, -22, -28, 8), (192, -20, -36, 6.5), (240, -10, -40, 6)),
            v(1.1, (160, -22, -28, 7), (168, -34, -2, 6.5), (180, -30, 26, 6.5), (240, -10, 42, 6)),
            v(1.0, (143, -14, -5, 7), (175, -18, -14, 6), (240, -5, -26, 4.5)),  # arteries of head and arms
            v(1.0, (147, -2, 3, 5), (175, -8, 10, 4), (240, -2, 22, 3.5)),
            v(1.0, (147, 6, 8, 5.5), (175, 8, 20, 4.5), (240, 10, 34, 4)),
            v(1.05, (70, 10, -20, 7.5), (66, 12, -46, 5)),  # pulmonary veins
            v(1.05, (84, 6, -18, 7), (92, -2, -48, 5)),
            v(1.05, (70, 12, 32, 7.5), (64, 16, 52, 5)),
            v(1.05, (84, 4, 30, 7), (92, -4, 52, 5)),
            v(0.7, (-120, 24, -16, 3.5), (125, 26, -10, 4.5), (136, 12, -24, 4)),  # azygos vein
            v(0.75, (30, -8, -26, 12), (-120, -2, -28, 12)),  # inferior vena cava
        )  # fmt: skip
        airways = (
            tube(p(300, -2, 0), p(200, 0, -1), p(122, 8, -2), radius=np.array([9, 9, 9]) * g),
            tube(p(124, 8, -4), p(104, 10, -24), p(90, 10, -46), radius=np.array([8, 7.2, 5.5]) * g),
            tube(p(124, 8, 0), p(106, 12, 22), p(92, 14, 50), radius=np.array([7.5, 6.5, 5.2]) * g),
        )
        gullet = tube(p(300, 14, 4), p(180, 17, 5), p(100, 24, 2), p(30, 20, 8), p(-30, 0, 22), radius=6.0 * g)
        places = generator.uniform((95, -30, -30), (150, 14, 30), (16, 3))
        nodes = tuple(
            b(z, y, x, r * 1.2, r * 0.7, r) for (z, y, x), r in zip(places, generator.uniform(2, 4, 16), strict=True)
        )
        return cls(heart, muscle, chambers, vessels, airways, gullet, nodes, blood)

    def hilum(self, side: int, which: int) -> Point:
        """Return where the arteries (0), veins (1) or bronchi (2) of the lung on ``side`` (-1 right, 1 left) begin."""
        if which == 2:
            tip = self.airways[1 if side < 0 else 2].points[-1]
        else:
            tip = self.vessels[(3 if side < 0 else 4) if which == 0 else (11 if side < 0 else 13)][0].points[-1]
        z, y, x = tip.tolist()
        return z, y, x

    def shapes(self) -> Sequence[Shape]:
        """Return the shapes whose rounded union, with fat around, parts the lungs."""
        fatter = [_grown(t, 3.5) for t, _ in self.vessels]
        pieces = [
            q for t in (*fatter, *(_grown(a, 3) for a in self.airways), _grown(self.gullet, 3)) for q in t.pieces()
        ]
        wide = Blob(self.heart.centre, tuple(r + 4 for r in self.heart.radii), self.heart.turn)  # type: ignore[arg-type]
        front = Blob((100, -62, 4), (110, 46, 9), power=2.4)  # where the lungs almost meet behind the breastbone
        core = Blob((150, -4, 0), (95, 26, 21), power=2.4)
        return [wide, front, core, *pieces]

    def outline(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Return the distance to all of it at single points."""
        found: FloatArray | None = None
        for shape in self.shapes():
            d = shape(z, y, x)
            found = d if found is None else blend(found, d, 10)
        assert found is not None
        return found


def _grown(t: Tube, by: float) -> Tube:
    return Tube(t.points, t.radii + by, t.tall)


def draw_mediastinum(canvas: Canvas, inner: Mediastinum, fine: FloatArray, coarse: FloatArray) -> None:
    """Paint it in HU over the fat that is already there."""
    for node in inner.nodes:
        canvas.fill(node, 40)
    heart = canvas.union([inner.heart])
    canvas.paint(np.abs(heart - 2) - 0.7, PERICARDIUM, opacity=0.8 * ramp(canvas.z, 110, 80))
    walls = canvas.union([*inner.muscle, *(_thick(c, 2.5) for c, _ in inner.chambers)], 6)
    walls = np.maximum(walls, heart + 2.5 + 1.5 * coarse)
    canvas.paint(walls, MYOCARDIUM + 5 * fine, name="heart")
    for chamber, share in inner.chambers:
        canvas.fill(chamber, inner.blood * share, within=walls + 2.5)
    for vessel, share in inner.vessels:
        d = canvas.union(vessel.pieces(), reach=3)
        canvas.paint(d, WALL)
        canvas.paint(d + 1.2, inner.blood * share + 3 * fine, name="vessels")
    gullet = canvas.union(inner.gullet.pieces(), reach=3)
    canvas.paint(gullet, 40)
    canvas.paint(gullet + 4.4, -600, opacity=0.8)
    airway = canvas.union([q for t in inner.airways for q in t.pieces()], 3)
    canvas.paint(airway - 1.6, WALL)
    canvas.paint(airway, -995, name="airways")


def _thick(blob: Blob, by: float) -> Blob:
    z, y, x = blob.radii
    return Blob(blob.centre, (z + by, y + by, x + by), blob.turn, blob.power)
