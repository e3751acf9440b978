"""An upper abdomen in HU, portal venous phase: liver with faint lesions, spleen, kidneys, stomach, bowel, spine."""

import numpy as np

from medfpl.phantoms.base import Lesion, Phantom, finish, place
from medfpl.phantoms.shapes import Blob, Canvas, Grid, Waves, ramp, texture, tube
from medfpl.phantoms.trees import grow

AIR, FAT, MUSCLE, LIVER, SPLEEN, VESSEL = -1000.0, -105.0, 58.0, 108.0, 118.0, 158.0
LIVER_CENTRE, LIVER_RADII = (4.0, -8.0, -66.0), (84.0, 74.0, 72.0)
# Diameter in mm and contrast to the liver in HU, faint to plain.
LIVER_LESIONS = ((14.0, -15.0), (10.0, -25.0), (8.0, -40.0), (12.0, -60.0), (18.0, -10.0))


def abdomen(generator: np.random.Generator, grid: Grid) -> Phantom:
    """Draw an abdomen on ``grid``, whose middle (0, 0, 0) is at the height of the liver's hilum; HU."""
    waves = Waves.draw(generator, [(150.0, 3.5), (70.0, 1.6), (30.0, 0.5)])
    canvas = Canvas(grid, waves, AIR)
    canvas.fill(Blob((0, 0, 0), (700, 118, 166), power=2.5), 30.0)
    canvas.fill(Blob((0, 0, 0), (700, 116, 164), power=2.5), FAT)
    canvas.fill(Blob((0, 2, 0), (700, 100, 148), power=2.5), MUSCLE)
    canvas.fill(Blob((0, -6, 0), (700, 86, 136), power=2.4), FAT + 5)
    _back(canvas)
    _stomach_and_bowel(canvas, generator)
    liver = Blob(LIVER_CENTRE, LIVER_RADII, power=2.3)
    left_lobe = Blob((14.0, -52.0, 4.0), (54.0, 30.0, 56.0), turn=-0.2)
    outline = np.maximum(canvas.union([liver, left_lobe], blending=18.0), canvas.union([_cavity()]))
    canvas.paint(outline, LIVER + 3 * texture(generator, grid, 5.0), name="liver")
    inside = np.clip(0.5 - outline / canvas.edge, 0, 1)
    for root, value in (((0.0, 16.0, -34.0), VESSEL), ((40.0, 20.0, -26.0), VESSEL - 8)):
        points = np.array(LIVER_CENTRE) + generator.uniform(-0.8, 0.8, (70, 3)) * LIVER_RADII
        canvas.mix(canvas.cover_of(grow(generator, root, points, tip=0.9)) * inside, value)
    _other_organs(canvas)
    radii = [d / 2 for d, _ in LIVER_LESIONS]
    core = Blob(LIVER_CENTRE, tuple(0.82 * r for r in LIVER_RADII), power=2.3)  # type: ignore[arg-type]
    centres = place(generator, core, waves, grid, radii, margin=2.0)
    lesions = [
        Lesion("liver lesion", centre, diameter, contrast, background=LIVER)
        for centre, (diameter, contrast) in zip(centres, LIVER_LESIONS, strict=True)
    ]
    return finish(canvas, grid, "HU", lesions)


def _cavity() -> Blob:
    return Blob((0, -6, 0), (700, 84, 134), power=2.4)


def _back(canvas: Canvas) -> None:
    for side in (-1, 1):
        canvas.fill(Blob((0, 86, 40 * side), (700, 20, 32)), MUSCLE)
        canvas.fill(Blob((-40, 58, 38 * side), (90, 17, 15)), MUSCLE)
        for n in range(-4, 5):
            z = 26.0 * n
            canvas.fill(
                tube((z + 30, 84, 60 * side), (z, 30, 143 * side), (z - 26, -30, 140 * side), radius=5.0), 520.0
            )
    canvas.fill(Blob((0, 62, 0), (700, 17, 21)), 85.0)
    for n in range(-4, 5):
        z = 27.0 * n + 6
        canvas.fill(Blob((z, 62, 0), (11.5, 18, 22), power=5), 560.0)
        canvas.fill(Blob((z, 62, 0), (9.8, 16, 20), power=5), 185.0)
        canvas.fill(tube((z - 2, 92, 0), (z - 8, 108, 0), radius=(4.5, 3.5)), 380.0)
        for side in (-1, 1):
            canvas.fill(tube((z, 76, 14 * side), (z - 2, 88, 30 * side), radius=(4.0, 3.0)), 360.0)
    canvas.fill(Blob((0, 84, 0), (700, 8, 9.5)), 32.0)
    canvas.fill(Blob((0, 36, 8), (700, 10, 10)), VESSEL)
    canvas.fill(Blob((0, 34, -20), (700, 11, 13)), VESSEL - 22)


def _stomach_and_bowel(canvas: Canvas, generator: np.random.Generator) -> None:
    stomach = Blob((20, -38, 62), (62, 32, 44), turn=0.3)
    canvas.fill(stomach, 70.0)
    content = Blob((20, -38, 62), (58, 28, 40), turn=0.3)
    canvas.fill(content, 22.0)
    gas = np.maximum(canvas.union([content]), canvas.y + 46)  # gas rises to the front of a patient on the back
    canvas.paint(gas, AIR + 20)
    for _ in range(9):
        y, x = generator.uniform(-60, 0), generator.uniform(30, 95)
        z = generator.uniform(-90, -36)
        loop = tube((z, y, x), (z - 6, y + 16, x - 20), (z + 4, y + 6, x - 40), radius=11.0)
        canvas.fill(loop, 62.0)
        canvas.fill(tube(*map(tuple, loop.points.tolist()), radius=8.8), 24.0)
    colon = tube((-60, -20, -104), (-30, -58, -84), (-34, -70, 0), (-28, -58, 84), (0, 10, 112), radius=19.0)
    canvas.fill(colon, 60.0)
    inner = tube(*map(tuple, colon.points.tolist()), radius=16.5)
    filled = canvas.union([inner])
    canvas.paint(filled, 15.0 + 220 * (ramp(texture(generator, canvas.grid, 9.0), 0.3, 1.2) - 0.4))
    canvas.paint(np.maximum(filled, canvas.y + 62), AIR + 15)


def _other_organs(canvas: Canvas) -> None:
    canvas.fill(Blob((16, 40, 104), (52, 38, 22), turn=-0.5), SPLEEN, name="spleen")
    canvas.fill(Blob((6, -14, -34), (22, 13, 11), turn=0.4), 12.0)  # gall bladder
    for side, z in ((-1, -34.0), (1, -22.0)):
        canvas.fill(Blob((z, 50, 66 * side), (62, 38, 36)), FAT)
        canvas.fill(Blob((z, 50, 64 * side), (54, 27, 25), turn=0.5 * side), 178.0, name="kidneys")
        canvas.fill(Blob((z, 50, 63 * side), (42, 19, 17), turn=0.5 * side), 132.0)
        canvas.fill(Blob((z, 44, 50 * side), (24, 10, 14), turn=0.5 * side), FAT + 20)
    pancreas = tube((-10, 4, -22), (0, 0, 10), (12, 14, 52), (20, 26, 80), radius=(13.0, 10.0, 9.5, 7.0))
    canvas.fill(pancreas, 92.0)
    canvas.fill(tube((2, 14, -22), (8, 14, 12), (16, 24, 74), radius=(6.5, 5.5, 4.0)), VESSEL)
