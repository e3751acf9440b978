"""A head in MR signal: folded cortex, white matter, ventricles and deep nuclei, T1- or T2-like."""

from typing import Literal

import numpy as np

from medfpl.phantoms.base import Lesion, Phantom, finish, place
from medfpl.phantoms.shapes import Blob, Canvas, Grid, Waves, texture, tube

Contrast = Literal["t1", "t2"]
# Magnitude signal, arbitrary units. Bone and air have none.
SIGNAL: dict[Contrast, dict[str, float]] = {
    "t1": {"fat": 900, "muscle": 330, "csf": 130, "grey": 420, "white": 620, "nuclei": 490, "lesion": -160},
    "t2": {"fat": 520, "muscle": 160, "csf": 950, "grey": 470, "white": 330, "nuclei": 380, "lesion": 260},
}
LESIONS_MM = (5.0, 7.0, 9.0, 6.0)


def brain(generator: np.random.Generator, grid: Grid, contrast: Contrast = "t1", *, shading: float = 0.1) -> Phantom:
    """Draw a head on ``grid``, whose middle (0, 0, 0) is at the height of the lateral ventricles.

    ``shading`` is the standard deviation of a smooth receive field (relative). Values are 0 or more.
    """
    signal = SIGNAL[contrast]
    waves = Waves.draw(generator, [(110.0, 2.0), (50.0, 0.8)])
    canvas = Canvas(grid, waves, 0.0)
    canvas.fill(Blob((-8, 0, 0), (96, 97, 79)), signal["muscle"])
    canvas.fill(Blob((-8, 0, 0), (94.5, 95.5, 77.5)), signal["fat"])
    canvas.fill(Blob((-8, 0, 0), (89, 90, 72.5)), 25.0)  # skull: cortical bone
    canvas.fill(Blob((-8, 0, 0), (86.5, 87.5, 70)), signal["fat"] * 0.45)  # its marrow
    canvas.fill(Blob((-8, 0, 0), (84, 85, 67.5)), 25.0)
    canvas.fill(Blob((-8, 0, 0), (81, 82.5, 65)), signal["csf"])
    outside, white = _cortex(canvas, generator)
    noise = texture(generator, grid, 3.0)
    canvas.paint(outside, signal["grey"] * (1 + 0.02 * noise), name="brain")
    canvas.paint(white, signal["white"] * (1 + 0.015 * noise), name="white matter")
    _middle(canvas, signal)
    core = Blob((6, 0, 0), (34, 60, 47))
    hole = Blob((6, 0, 0), (60, 48, 34))  # ventricles and nuclei
    places = place(
        generator,
        lambda z, y, x: np.maximum(core(z, y, x), -hole(z, y, x)),
        waves,
        grid,
        [d / 2 for d in LESIONS_MM],
        margin=1.0,
    )
    lesions = [
        Lesion("white matter lesion", centre, diameter, signal["lesion"], background=signal["white"])
        for centre, diameter in zip(places, LESIONS_MM, strict=True)
    ]
    drawn = finish(canvas, grid, "1", lesions)
    field = 1 + shading * texture(generator, grid, 90.0)
    return Phantom(
        np.maximum(drawn.image * field, 0).astype(np.float32),
        drawn.unit,
        drawn.geometry,
        drawn.lesions,
        drawn.places,
        drawn.masks,
        drawn.lesion_labels,
    )


def _cortex(canvas: Canvas, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances to the pial surface and to the white matter.

    Gyri are ridges of a random field with one wavelength (about 20 mm): sulci cut in from the surface along its zeros.
    """
    brain_shape = Blob((-8, 0, 0), (78.5, 80, 62.5))
    surface = canvas.union([brain_shape], reach=40.0)
    folds = Waves.draw(generator, [(21.0, 1.0)], each=60).on_axes(*canvas.grid.axes())[0]
    depth = np.clip(-surface, 0, None)
    sulcus = np.abs(folds) * 9.0 - np.clip(1.5 * (1 - depth / 17.0), -2, 1.5)  # mm off the middle of a sulcus
    fissure = np.maximum(np.abs(canvas.x) - 1.1, -(depth - 60) - np.where(np.abs(canvas.y) > 38, 1e3, 22))
    outside = np.maximum(surface, -np.minimum(sulcus, fissure))
    thickness = np.float32(3.2)
    crown = np.clip(depth - 3.0, -3, None)
    white = thickness - np.minimum(np.minimum(crown, np.abs(folds) * 9.0 + np.clip(depth - 17, 0, None)), 12)
    return outside, np.maximum(white, outside + thickness * 0.6)


def _middle(canvas: Canvas, signal: dict[str, float]) -> None:
    """Ventricles, deep nuclei, corpus callosum and the falx's neighbourhood."""
    canvas.fill(Blob((10, 0, 0), (22, 46, 27)), signal["white"])
    for side in (-1, 1):
        canvas.fill(Blob((0, 4, 15 * side), (16, 17, 9.5), turn=0.35 * side), signal["nuclei"])  # thalamus
        canvas.fill(Blob((2, -18, 25 * side), (17, 19, 6.5), turn=-0.35 * side), signal["nuclei"])  # putamen
        canvas.fill(Blob((10, -22, 13 * side), (13, 12, 5.5), turn=-0.3 * side), signal["nuclei"])  # caudate head
        horn = tube(
            (12, -34, 9 * side), (17, -8, 7 * side), (16, 20, 12 * side), (4, 38, 21 * side), radius=(3.5, 5, 5.5, 5)
        )
        canvas.fill(horn, signal["csf"], name="ventricles")
    canvas.fill(Blob((0, 4, 0), (14, 14, 2.2)), signal["csf"])  # third ventricle
