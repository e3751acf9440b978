"""Around the lungs: skin, fat and muscles of the wall, shoulder blades, breastbone and arms, and what lies below."""

import numpy as np

from medfpl.phantoms.shapes import Blob, Canvas, Shape, Tube, ramp, tube
from medfpl.phantoms.skeleton import CORTEX, MARROW
from medfpl.scan import FloatArray

FAT, MUSCLE, SKIN, LIVER, SPLEEN = -105.0, 52.0, 15.0, 105.0, 118.0


def draw_wall(
    canvas: Canvas,
    cavity: FloatArray,
    muscle: FloatArray,
    body: FloatArray,
    angle: FloatArray,
    fine: FloatArray,
    coarse: FloatArray,
) -> None:
    """Paint skin, fat and muscle, the muscles parted by thin sheets of fat; the arguments are distances in mm."""
    canvas.paint(body, SKIN, name="body")
    canvas.paint(body + 2.0, FAT + 5 * coarse)
    inside = np.maximum(muscle, body + 5)
    canvas.paint(inside, MUSCLE + 4 * coarse + 3 * fine)
    canvas.mark("muscle", np.clip(0.5 - np.maximum(inside, -cavity) / canvas.edge, 0, 1))
    for depth, share in ((7.5, 0.9), (15.0, 0.8), (24.0, 0.7)):
        sheet = np.abs(cavity - depth - 2.0 * coarse - 2 * np.sin(5 * angle)) - np.float32(0.9)
        canvas.paint(np.maximum(sheet, inside + 2.0), FAT, opacity=share)
    for middle in (0.55, 1.3, 2.1):
        cleft = np.abs(angle - middle - 0.04 * coarse) * 70 - np.float32(1.1)
        canvas.paint(np.maximum(np.maximum(cleft, inside + 2), 8 - cavity), FAT, opacity=0.8)


def draw_below(
    canvas: Canvas, cavity: FloatArray, roof: FloatArray, left_dome: float, fine: FloatArray, *, upright: bool
) -> None:
    """Paint what the diaphragm ``roof`` (z in mm) covers: liver, stomach with its bubble, spleen, and fat between."""
    z, y, x = canvas.z, canvas.y, canvas.x
    under = np.maximum(cavity + 3, z + 3 - roof)
    canvas.paint(np.maximum(cavity, under - 3), MUSCLE)
    canvas.paint(under, FAT + 6 * fine)
    liver = np.maximum(Blob((-30, -15, -55), (90, 95, 105))(z, y, x), under + 1)
    canvas.paint(liver, LIVER + 4 * fine, name="liver")
    stomach = np.maximum(Blob((-25, -30, 62), (70, 44, 46))(z, y, x), under + 2)
    canvas.paint(stomach, 45)
    bubble = z > left_dome - 30 if upright else y < -38  # gas rises
    canvas.paint(stomach + 4, np.where(bubble, -980, 12))
    spleen = np.maximum(Blob((-28, 42, 92), (62, 38, 30), 0.5)(z, y, x), under + 2)
    canvas.paint(spleen, SPLEEN + 4 * fine, name="spleen")


def draw_shoulder_blades(canvas: Canvas, cavity: FloatArray, angle: FloatArray, fine: FloatArray) -> None:
    """Paint the blades: thin triangles behind the ribs, thick at their edges, with the ridge to the shoulder."""
    across = np.abs(angle - 0.85)
    plate = np.abs(cavity - 17 - 9 * (angle - 0.5)) - 1.7 - 2.2 * ramp(across, 0.2, 0.48)
    triangle = np.maximum(96 + 130 * across - canvas.z, canvas.z - 222)
    blade = np.maximum(np.maximum(plate, triangle), (across - 0.42) * 80)
    ridges = [
        tube((205, 84, s * 62), (212, 62, s * 120), (222, 25, s * 158), radius=(4, 5, 6), tall=1.3) for s in (-1, 1)
    ]
    blade = np.minimum(blade, canvas.union([p for t in ridges for p in t.pieces()], reach=4))
    canvas.paint(blade, 0.8 * CORTEX, name="scapulae")
    canvas.paint(blade + 1.4, MARROW + 40 * fine)


def draw_front_bones(canvas: Canvas, fronts: tuple[float, float], fine: FloatArray, *, arms_down: bool) -> None:
    """Paint breastbone, collar bones and, with the arms down, the upper arms; ``fronts`` are y at z = 150 and 60."""
    top, bottom = fronts
    bones: list[Shape] = [
        Blob((172, top + 5, 0), (26, 6.5, 27), power=2.6),
        Blob((105, (top + bottom) / 2 - 1, 0), (58, 6, 17), power=2.8),
    ]
    for s in (-1, 1):
        collar = tube(
            (190, top + 8, s * 24), (199, top + 8, s * 70), (212, -12, s * 120), (222, 2, s * 160), radius=5.8
        )
        bones += collar.pieces()
        if arms_down:
            shaft: Tube = tube((195, 8, s * 188), (150, 6, s * 200), (-60, 5, s * 232), radius=(15, 12, 11))
            bones += [Blob((200, 8, s * 182), (25, 24, 24)), *shaft.pieces()]
    distance = canvas.union(bones, reach=5)
    canvas.paint(distance, CORTEX, name="front bones")
    canvas.paint(distance + 1.8, MARROW + 40 * fine)
