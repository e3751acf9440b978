"""How a scan's slices are shown: which way up, how large, in which steps and between which values."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medfpl.report.codes import Codes, Grid
from medfpl.scan import FloatArray, Scan
from medfpl.views import Window, choose_windows, to_grey

# What a CT shows below air or above dense metal tells nothing, and costs bytes.
LIMITS_OF_CT = (-1024.0, 3071.0)
FINEST = 2048  # steps of the working range, where the values have no unit
THUMBNAIL = 112
AXES = ("RL", "AP", "IS")  # the two ends of each axis of LPS
OPPOSITE = {ends[i]: ends[1 - i] for ends in AXES for i in (0, 1)}


@dataclass(frozen=True)
class View:
    """How to turn a slice (y, x) so that it is seen as usual; ``edges`` are the letters left, top, right, bottom.

    ``aspect`` is height over width of the slice so turned, in space.
    """

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    aspect: float = 1.0
    edges: str = ""

    def turned(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return ``image`` (y, x) as it is seen."""
        image = image.T if self.swap else image
        image = image[::-1] if self.flip_rows else image
        return image[:, ::-1] if self.flip_columns else image

    def turned_box(self, box: tuple[int, int, int, int], shape: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return where (top, bottom, left, right) in pixels of a slice of ``shape`` is seen, each from 0 to 1."""
        down, across = (box[0] / shape[0], box[1] / shape[0]), (box[2] / shape[1], box[3] / shape[1])
        if self.swap:
            down, across = across, down
        if self.flip_rows:
            down = 1 - down[1], 1 - down[0]
        if self.flip_columns:
            across = 1 - across[1], 1 - across[0]
        return (*down, *across)


def choose_view(scan: Scan) -> View:
    """Return the view of ``scan``: DICOM as its rows lie, NIfTI and the like as a radiologist expects.

    That is the patient's right at the left, the front above; in side views the front at the left, the head above.
    """
    height, width = scan.pixels.shape[1:]
    spacing = scan.geometry.spacing
    aspect = height / width * (spacing[1] / spacing[2] if spacing else 1.0)
    affine = scan.geometry.affine
    if affine is None:
        return View(aspect=aspect)
    rows, columns = affine[:3, 1], affine[:3, 2]
    down, across = int(np.abs(rows).argmax()), int(np.abs(columns).argmax())
    if down == across:
        return View(aspect=aspect)
    turn = scan.source.format != "dicom"
    swap = turn and across > down
    if swap:
        rows, columns, down, across, aspect = columns, rows, across, down, 1 / aspect
    # Towards the left (x), the back (y) and the feet (z).
    flip_rows = turn and bool((rows[down] > 0) == (down == 2))
    flip_columns = turn and bool((columns[across] > 0) == (across == 2))
    right = _end(columns, across, flip_columns)
    bottom = _end(rows, down, flip_rows)
    return View(swap, flip_rows, flip_columns, aspect, OPPOSITE[right] + OPPOSITE[bottom] + right + bottom)


def _end(direction: npt.NDArray[np.float64], axis: int, flipped: bool) -> str:
    return AXES[axis][int((direction[axis] > 0) != flipped)]


def display_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the size of a slice (h, w) whose longer side is at most ``side``."""
    share = min(1.0, side / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def shrink(image: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return ``image`` (h, w) at ``size`` by averaging areas; unchanged where it has that size."""
    if image.shape == size:
        return image
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(image)).resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(small)


def finest_grid(scan: Scan) -> Grid:
    """Return the finest steps that are worth their bytes: 1 HU, or 1/2048 of the working range, or the file's own."""
    if scan.intensity.unit == "HU":
        return Grid(0.0, 1.0)
    stored = scan.source.stored
    own = float(np.abs(stored.slope).max()) if stored.values.dtype.kind in "iu" else 0.0
    return Grid(scan.intensity.black, max(own, scan.intensity.scale / FINEST))


def usable(scan: Scan, z: int) -> npt.NDArray[np.float32]:
    """Return slice ``z`` without what cannot be shown: what is not valid is black."""
    low, high = LIMITS_OF_CT if scan.intensity.unit == "HU" else (scan.intensity.black, scan.intensity.white)
    image = scan.pixels[z]
    valid = np.isfinite(image)
    if scan.valid is not None:
        valid &= scan.valid[z]
    seen = np.where(valid, image, np.float32(high if scan.meta.get("inverted") else low))
    return np.clip(seen, low, high) if scan.intensity.unit == "HU" else seen


def first_window(scan: Scan, z: int) -> Window:
    """Return the window to begin with: of a chest CT the one in which noise is seen best, not the lung's."""
    return choose_windows(scan, z)[-1]


def removed_limit(before: Codes, after: Codes, step: float) -> float:
    """Return three standard deviations of what was removed, in real units; 0 where nothing was."""
    removed = (before - after)[before != after]
    return 3 * step * math.sqrt(float(np.square(removed, dtype=np.float64).mean())) if removed.size else 0.0


def thumbnail(image: FloatArray, view: View, window: Window, *, inverted: bool) -> str:
    """Return a small PNG of a slice (y, x) as a data address."""
    from PIL import Image

    turned = view.turned(image)
    height = max(1, round(THUMBNAIL * min(1.0, view.aspect)))
    width = max(1, round(THUMBNAIL * min(1.0, 1 / view.aspect)))
    grey = to_grey(shrink(turned, (height, width)), window.low, window.high, inverted=inverted)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
