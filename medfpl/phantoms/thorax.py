"""A chest: drawn once as a patient, rendered on any grid (CT slices, or the volume behind a radiograph)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, sin

import numpy as np

from medfpl.phantoms.base import Lesion, Phantom, fill_space, finish, place
from medfpl.phantoms.chest_wall import draw_below, draw_front_bones, draw_shoulder_blades, draw_wall
from medfpl.phantoms.mediastinum import Mediastinum, draw_mediastinum
from medfpl.phantoms.shapes import Blob, Canvas, Grid, Point, Tube, Waves, blend, implicit, ramp, texture, tube
from medfpl.phantoms.skeleton import Spine, draw_ribs, ribs
from medfpl.phantoms.trees import grow
from medfpl.scan import FloatArray

AIR, FAT, LUNG, SOLID = -1000.0, -105.0, -855.0, 40.0
CARINA = 115.0  # where the windpipe forks, in mm over the origin of the anatomy (about the dome of the diaphragm)
APEX, SQUARE, BELL = 242.0, 2.6, 2.7  # top of the cavity (mm); how square its section and how blunt its top is


@dataclass(frozen=True, eq=False)
class Thorax:
    """One patient's chest; lengths in mm. ``arms_down`` is how one stands for a radiograph."""

    width: float  # half width and half depth of the chest cavity
    depth: float
    fat: float
    muscle: float
    breast: float
    domes: tuple[float, float]  # z of the diaphragm's tops: right, left
    waves: Waves
    spine: Spine
    inner: Mediastinum
    arteries: tuple[Tube, ...] = ()
    veins: tuple[Tube, ...] = ()
    bronchi: tuple[Tube, ...] = ()
    arms_down: bool = False

    def cavity(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Return the distance to the inside of the rib cage: a bell, open below."""
        return implicit((np.maximum(z, 0), y + 6, x), (APEX, self.depth, self.width), (BELL, SQUARE, SQUARE))

    def surface(self, angle: float, z: float, outside: float = 5.0) -> tuple[float, float]:
        """Return (y, x) on the left, ``outside`` mm beyond the cavity, ``angle`` radians from the back."""
        room = max(1 - (max(z, 0.0) / APEX) ** BELL, 0.02) ** (1 / SQUARE)
        radius = (abs(sin(angle)) / self.width) ** SQUARE + (abs(cos(angle)) / self.depth) ** SQUARE
        radius = radius ** (-1 / SQUARE) * room + outside
        return radius * cos(angle) - 6, radius * sin(angle)

    def diaphragm(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """Return the height of the diaphragm over each place."""
        right = self.domes[0] - ((x + 68) ** 2 + 0.8 * (y + 20) ** 2) / 120
        left = self.domes[1] - ((x - 68) ** 2 + 0.8 * (y + 20) ** 2) / 120
        return np.maximum(np.where(x < 0, right, left), -75)

    def lung(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Return the distance to the lungs, both as one."""
        return self.lung_from(self.cavity(z, y, x), self.inner.outline(z, y, x), z, y, x)

    def lung_from(
        self, cavity: FloatArray, core: FloatArray, z: FloatArray, y: FloatArray, x: FloatArray
    ) -> FloatArray:
        """Return the distance to the lungs, given those to the cavity and to the mediastinum."""
        above = (self.diaphragm(y, x) - z) * np.float32(0.8)
        outer = -blend(-(cavity + 2), -above, 6)
        return -blend(-outer, blend(core, self.spine.column(z, y, x) - 5, 8), 8)

    def wall(self, cavity: FloatArray, z: FloatArray, y: FloatArray, x: FloatArray) -> tuple[FloatArray, ...]:
        """Return the distances to the wall's muscle and to the body, and the angle from the back (radians, 0 to pi)."""
        angle = np.arctan2(np.abs(x), y + 6)

        def bump(middle: float, half: float) -> FloatArray:
            return np.exp(-(((angle - middle) / half) ** 2)).astype(np.float32)

        shoulder = 9 * bump(0.95, 0.35) * (1 + 1.3 * ramp(z, 60, 150))
        thick = 6 + self.muscle * (11 * bump(0.30, 0.30) + shoulder + 12 * bump(2.55, 0.38) * ramp(z, 40, 120))
        muscle = cavity - thick
        groove = 7 * np.exp(-((x / 13) ** 2)) * (y > 0)
        layer = self.fat * (0.55 + 0.5 * bump(2.3, 0.7) + 0.35 * bump(1.4, 0.5)) + 3 - groove
        trunk = implicit((y + 4, x), (self.depth + 20, self.width + 20), (2.4, 2.4))
        if self.arms_down:  # the shoulders close the trunk above
            trunk = np.maximum(trunk, z - 215)
        body = blend(muscle - layer, trunk, 30)
        if self.breast:
            for s in (-1, 1):
                body = blend(body, Blob((85, -self.depth - 18, s * 72), (52, self.breast, 50))(z, y, x), 22)
        if self.arms_down:
            for s in (-1, 1):
                arm = tube(
                    (262, 8, s * 30), (222, 8, s * 150), (190, 5, s * 178), (40, 5, s * 215), radius=(48, 46, 48, 42)
                )
                body = blend(body, arm(z, y, x), 25)
            body = blend(body, tube((200, 5, 0), (340, 0, 0), radius=58)(z, y, x), 30)
        return muscle, body, angle

    def lung_density(self, y: FloatArray, fine: FloatArray, coarse: FloatArray) -> FloatArray:
        """Return the parenchyma in HU: denser towards the back, where a lying patient's blood goes."""
        return LUNG + np.float32(0.28) * (y + 20) + 16 * fine + 14 * coarse

    def render(self, grid: Grid, generator: np.random.Generator) -> Canvas:
        """Paint this chest in HU on ``grid``; textures come from ``generator``."""
        canvas = Canvas(grid, self.waves, AIR)
        z, y, x = canvas.z, canvas.y, canvas.x
        fine, coarse = texture(generator, grid, 3.0), texture(generator, grid, 14.0)
        cavity = self.cavity(z, y, x)
        muscle, body, angle = self.wall(cavity, z, y, x)
        draw_wall(canvas, cavity, muscle, body, angle, fine, coarse)
        if self.breast:
            gland = canvas.union([Blob((85, -self.depth - 18, s * 72), (36, self.breast * 0.8, 34)) for s in (-1, 1)])
            canvas.paint(np.maximum(gland + 8 * coarse, body + 6), 20 + 20 * coarse, opacity=0.75)
        roof = self.diaphragm(y, x)
        draw_below(canvas, cavity, roof, self.domes[1], fine, upright=self.arms_down)
        lung = self.lung_from(cavity, canvas.union(self.inner.shapes(), 10, 24), z, y, x)
        # What is neither lung nor organ between ribs and diaphragm is fat.
        canvas.paint(np.maximum(np.maximum(cavity + 2, roof - z), -lung - 3), FAT + 6 * coarse)
        canvas.paint(lung, self.lung_density(y, fine, coarse), name="lungs")
        fissure = np.abs(y - 10 + 0.75 * (z - 85)) - 0.5
        canvas.paint(np.maximum(fissure, lung), -640, opacity=0.5)
        self._draw_trees(canvas, lung)
        draw_mediastinum(canvas, self.inner, fine, coarse)
        draw_ribs(canvas, *ribs(self.spine, self.surface), fine)
        draw_shoulder_blades(canvas, cavity, angle, fine)
        fronts = (self.surface(np.pi, 150)[0], self.surface(np.pi, 60)[0])
        draw_front_bones(canvas, fronts, fine, arms_down=self.arms_down)
        self.spine.draw(canvas, fine)
        return canvas

    def _draw_trees(self, canvas: Canvas, lung: FloatArray) -> None:
        within = np.clip(0.5 - (lung + 1) / canvas.edge, 0, 1)
        canvas.mix(canvas.cover_of(self.veins) * within, 40)
        canvas.mix(canvas.cover_of(self.bronchi) * within, -150)
        canvas.mix(canvas.cover_of(self.arteries) * within, 45)
        lumen = [Tube(t.points, np.maximum(t.radii - 1.0, 0.25)) for t in self.bronchi]
        canvas.mix(canvas.cover_of(lumen) * within, -985)


def draw_thorax(generator: np.random.Generator, *, arms_down: bool = False) -> Thorax:
    """Draw a patient's chest."""
    width, depth = generator.normal(134, 7), generator.normal(84, 5)
    size = width / 134
    pitch = generator.normal(24, 0.8)
    top = 236 + pitch * generator.uniform(-0.5, 0.5)
    levels = tuple(float(top - pitch * i) for i in range(13))
    bare = Thorax(
        width=width,
        depth=depth,
        fat=generator.uniform(8, 20),
        muscle=generator.uniform(0.85, 1.2),
        breast=float(generator.choice([0.0, 0.0, 26.0, 34.0])),
        domes=(generator.uniform(24, 36), generator.uniform(10, 22)),
        waves=Waves.draw(generator, [(170, 2.2), (60, 0.9), (22, 0.25)]),
        spine=Spine(40 * size, pitch, (15.5 * size, 18.5 * size), generator.uniform(140, 230), levels),
        inner=Mediastinum.draw(generator, size),
        arms_down=arms_down,
    )
    trees: dict[str, list[Tube]] = {"arteries": [], "veins": [], "bronchi": []}
    for side in (-1, 1):

        def half(z: FloatArray, y: FloatArray, x: FloatArray, side: int = side) -> FloatArray:
            return np.maximum(bare.lung(z, y, x), -side * x)

        box = ((-70.0, -depth, min(0.0, side * width)), (APEX, depth, max(0.0, side * width)))
        for which, (name, count, tip) in enumerate(
            (("arteries", 750, 0.42), ("veins", 650, 0.42), ("bronchi", 90, 1.25))
        ):
            points = fill_space(generator, half, box, count, 18 if name == "bronchi" else 4)
            trees[name] += grow(generator, bare.inner.hilum(side, which), points, tip=tip)
    return replace(
        bare, arteries=tuple(trees["arteries"]), veins=tuple(trees["veins"]), bronchi=tuple(trees["bronchi"])
    )


def draw_nodules(generator: np.random.Generator, patient: Thorax, grid: Grid, count: int) -> list[Lesion]:
    """Draw ``count`` nodules in the lungs within ``grid``, solid and ground glass in turn, off the large vessels."""
    diameters = generator.uniform(5, 14, count).round(2).tolist()
    large = [t.points for t in (*patient.arteries, *patient.veins, *patient.bronchi) if t.radii.max() > 1.2]
    ends = np.vstack(large).astype(np.float32)[::2]

    def free(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        inside = patient.lung(z, y, x)
        points = np.stack([z, y, x], 1)
        near = inside < -4  # elsewhere there is no room anyway
        away = np.linalg.norm(points[near, None] - ends, axis=2).min(1)
        inside[near] = np.maximum(inside[near], 2.5 - away)
        return inside

    lesions = []
    for i, centre in enumerate(place(generator, free, patient.waves, grid, [d / 2 for d in diameters])):
        bent = (np.array([centre]) + patient.waves.at(np.array([centre])))[:, 1].astype(np.float32)
        around = float(patient.lung_density(bent, np.zeros_like(bent), np.zeros_like(bent))[0])
        if i % 2 == 0:
            lesions.append(Lesion("solid", centre, diameters[i], round(SOLID - around, 1), around))
        else:
            lesions.append(Lesion("ground-glass", centre, diameters[i], round(generator.uniform(180, 310), 1)))
    return lesions


def thorax(
    generator: np.random.Generator,
    grid: Grid,
    *,
    nodules: int | Sequence[Lesion] = 6,
    arms_down: bool = False,
) -> Phantom:
    """Draw a chest in HU on ``grid``, whose point (0, 0, 0) is at the height of the carina: contrast-enhanced blood.

    ``nodules`` are a number (solid ones and ground glass in turn, 5 to 14 mm) or the very lesions. The same generator
    state gives the same patient, whatever the grid, ``arms_down`` and ``nodules``; the texture belongs to the grid.

    Raises:
        MedfplError: if the nodules do not fit into the lungs within the grid.
    """
    patient = draw_thorax(generator, arms_down=arms_down)
    lifted = replace(grid, origin=_lift(grid.origin, CARINA))
    canvas = patient.render(lifted.thinner(max(1, round(grid.spacing[0] / 1.6))), generator)
    if isinstance(nodules, int):
        lesions = draw_nodules(generator, patient, lifted, nodules)
    else:
        lesions = [replace(lesion, centre=_lift(lesion.centre, CARINA)) for lesion in nodules]
    drawn = finish(canvas, lifted, "HU", lesions)
    lowered = tuple(replace(lesion, centre=_lift(lesion.centre, -CARINA)) for lesion in drawn.lesions)
    return replace(drawn, geometry=grid.geometry(), lesions=lowered)


def _lift(point: Point, by: float) -> Point:
    return point[0] + by, point[1], point[2]
