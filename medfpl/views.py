"""Pictures of a scan before and after: one window for both, the residual on a stated scale, pixels not smoothed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medfpl.scan import FloatArray, Scan

if TYPE_CHECKING:
    from PIL.Image import Image

# Level and width in HU, as on a workstation.
CT_WINDOWS = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "abdomen": (50.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
MARGIN, TEXT = 8, 15
SMALLEST = 256


@dataclass(frozen=True)
class Window:
    """The real values shown as black and white, and what to call them."""

    low: float
    high: float
    label: str

    @classmethod
    def ct(cls, name: str) -> "Window":
        """Return a CT window by its usual name."""
        level, width = CT_WINDOWS[name]
        return cls(level - width / 2, level + width / 2, name)


def choose_windows(scan: Scan, slice_index: int) -> list[Window]:
    """Return how to show a slice: lung and mediastinum for a chest CT, abdomen for other CT, percentiles else."""
    pixels = scan.pixels[slice_index]
    if scan.intensity.unit == "HU":
        # The lung's density is found in no other organ; bowel gas and outer air are far lower.
        chest = ((pixels > -950) & (pixels < -600)).mean() > 0.05
        return [Window.ct("lung"), Window.ct("mediastinum")] if chest else [Window.ct("abdomen")]
    usable = pixels[np.isfinite(pixels)]
    if not usable.size:
        return [Window(0, 1, "")]
    low, high = np.percentile(usable, [1, 99.5])
    return [Window(float(low), float(max(high, low + 1e-6)), "")]


def to_grey(pixels: FloatArray, low: float, high: float, *, inverted: bool = False) -> npt.NDArray[np.uint8]:
    """Return (H, W) real values as 8-bit grey; NaN is black."""
    share = np.clip((np.nan_to_num(pixels, nan=low, posinf=high, neginf=low) - low) / (high - low), 0, 1)
    return np.rint(255 * (1 - share if inverted else share)).astype(np.uint8)


def residual_limit(residual: FloatArray) -> float:
    """Return the symmetric limit of a residual's scale: three standard deviations, robustly, never 0."""
    usable = np.abs(residual[np.isfinite(residual)])
    usable = usable[usable > 0]
    limit = float(3 * np.sqrt(np.square(usable, dtype=np.float64).mean())) if usable.size else 1.0
    return float(f"{limit:.2g}")


def panel(before: Scan, after: Scan, *, slice_index: int | None = None, truth: Scan | None = None) -> "Image":
    """Return one picture of a slice (default: the middle one): before, after, removed, and the truth if it is known.

    One row for each window that suits the image. Removed = before - after, grey where nothing was removed.
    """
    middle = before.pixels.shape[0] // 2 if slice_index is None else slice_index
    inverted = bool(before.meta.get("inverted", False))
    unit = before.intensity.unit if before.intensity.unit != "1" else ""
    removed = before.pixels[middle] - after.pixels[middle]
    limit = residual_limit(removed)
    rows: list[list[tuple[str, npt.NDArray[np.uint8]]]] = []
    for window in choose_windows(before, middle):
        label = f", {window.label} window" if window.label else ""
        cells = [
            (f"before{label}", to_grey(before.pixels[middle], window.low, window.high, inverted=inverted)),
            ("after", to_grey(after.pixels[middle], window.low, window.high, inverted=inverted)),
        ]
        if not rows:
            scale = f"removed, -{limit:g} to {limit:g} {unit}".rstrip()
            cells.append((scale, to_grey(removed, -limit, limit)))
        if truth is not None:
            cells.append(("truth", to_grey(truth.pixels[middle], window.low, window.high, inverted=inverted)))
        rows.append(cells)
    return tiled(rows)


def tiled(rows: list[list[tuple[str, npt.NDArray[np.uint8]]]]) -> "Image":
    """Return one RGB picture of titled grey images in rows; small images are enlarged by whole factors, unsmoothed."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = rows[0][0][1].shape[:2]
    factor = max(1, -(-SMALLEST // max(height, width)))
    cell_w, cell_h = width * factor + MARGIN, height * factor + TEXT + 2 * MARGIN
    columns = max(len(row) for row in rows)
    picture = Image.new("RGB", (columns * cell_w + MARGIN, len(rows) * cell_h + MARGIN), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    for r, row in enumerate(rows):
        for c, (title, grey) in enumerate(row):
            left, top = MARGIN + c * cell_w, MARGIN + r * cell_h
            draw.text((left, top), title, fill="black", font=font)
            cell = Image.fromarray(grey).resize((width * factor, height * factor), Image.Resampling.NEAREST)
            picture.paste(cell, (left, top + TEXT + MARGIN // 2))
    return picture


def save_panel(before: Scan, after: Scan, path: Path, *, truth: Scan | None = None) -> None:
    """Write ``panel`` as PNG."""
    panel(before, after, truth=truth).save(path, format="PNG", optimize=True)
