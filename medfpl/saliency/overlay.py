"""Pictures of feature maps: laid over the image, one scale before and after, a bar that says what a colour means."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medfpl.saliency.trust import SliceTrust
from medfpl.scan import FloatArray, Scan
from medfpl.views import MARGIN, SMALLEST, TEXT, choose_windows, to_grey

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Rgb = npt.NDArray[np.uint8]
# Perceptually uniform and dark where there is nothing; diverging from grey for what has a sign.
STRENGTH, CHANGE = "magma", "coolwarm"
UNIT = "guided gradient, image range 0 to 1"
# Beyond this percentile of the map before, all is drawn alike: a few pixels of metal would hide the rest.
FULL = 99.5
FLAG = (0, 230, 255)


def scale_of(before: FloatArray) -> float:
    """Return the strength (H, W) that has the brightest colour; the same is used after. Never 0."""
    return float(f"{float(np.percentile(np.abs(before), FULL)) or 1.0:.2g}")


def overlay(
    before: Scan,
    after: Scan,
    maps: tuple[FloatArray, FloatArray],
    z: int,
    trust: SliceTrust | None = None,
    title: str = "",
) -> "Image":
    """Return the picture of slice ``z``: feature strength before and after, over the image, and its change.

    ``maps`` are those of the slice (H, W) before and after, drawn on one scale; the change of their strength has its
    own. Flagged tiles are framed.
    """
    from PIL import Image, ImageDraw, ImageFont

    full = np.float32(scale_of(maps[0]))
    window = choose_windows(before, z)[0]
    inverted = bool(before.meta.get("inverted", False))
    greys = [to_grey(scan.pixels[z], window.low, window.high, inverted=inverted) for scan in (before, after)]
    strength = [(np.abs(m) / full).astype(np.float32) for m in maps]
    difference = np.abs(maps[1]) - np.abs(maps[0])
    most = np.float32(scale_of(difference))
    change = ((difference / most + 1) / 2).astype(np.float32)
    cells = [
        ("before", greys[0], blend(greys[0], strength[0], STRENGTH)),
        ("after", greys[1], blend(greys[1], strength[1], STRENGTH)),
        ("change", greys[1], blend(greys[1], change, CHANGE, weight=np.abs(2 * change - 1))),
    ]
    height, width = greys[0].shape
    factor = max(1, -(-SMALLEST // max(height, width)))
    step, tall = width * factor + MARGIN, height * factor
    text = max(TEXT, width * factor // 40)
    bar, label = text, 4 * text
    top = 2 * (text + MARGIN)
    picture = Image.new("RGB", (3 * step + 2 * (bar + label) + MARGIN, top + 2 * (tall + MARGIN)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(text)
    draw.text((MARGIN, MARGIN // 2), f"{title}; {UNIT}" if title else UNIT, fill="black", font=font)
    for column, (name, grey, coloured) in enumerate(cells):
        left = MARGIN + column * step + (bar + label if column == 2 else 0)
        draw.text((left, text + MARGIN), name, fill="black", font=font)
        for row, image in enumerate((grey, coloured)):
            cell = Image.fromarray(image).resize((width * factor, tall), Image.Resampling.NEAREST)
            picture.paste(cell, (left, top + row * (tall + MARGIN)))
        if column and trust:
            _frame(draw, trust, (left, top), factor, tall + MARGIN)
    for left, colours, ticks in (
        (MARGIN + 2 * step, STRENGTH, (full, full / 2, 0.0)),
        (MARGIN + 3 * step + bar + label, CHANGE, (most, 0.0, -most)),
    ):
        ramp = np.linspace(1, 0, tall, dtype=np.float32)[:, None].repeat(bar, 1)
        place = top + tall + MARGIN
        picture.paste(Image.fromarray(colour(ramp, colours)), (left, place))
        for share, value in zip((0, 0.5, 1), ticks, strict=True):
            y = place + share * (tall - text)
            draw.text((left + bar + 4, y), f"{value:.2g}", fill="black", font=font)
    return picture


def blend(grey: Rgb, share: FloatArray, colours: str, weight: FloatArray | None = None) -> Rgb:
    """Return (H, W, 3): ``grey`` with ``share`` (0 to 1) in ``colours`` over it, the denser the larger ``weight``."""
    alpha = np.clip(share if weight is None else weight, 0, 1)[..., None] ** 0.5 * 0.85
    return np.rint(grey[..., None] * (1 - alpha) + colour(share, colours) * alpha).astype(np.uint8)


def colour(share: FloatArray, colours: str) -> Rgb:
    """Return ``share`` (H, W), 0 to 1, as colours (H, W, 3)."""
    from matplotlib import colormaps

    table = (colormaps[colours](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return table[np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)]


def _frame(draw: "ImageDraw", trust: SliceTrust, corner: tuple[int, int], factor: int, below: int) -> None:
    for flag in trust.flags:
        top, bottom, left, right = (v * factor for v in flag.tile)
        x, y = corner
        for row in (0, below):
            box: Sequence[int] = (x + left, y + row + top, x + right - 1, y + row + bottom - 1)
            draw.rectangle(tuple(box), outline=FLAG, width=2)
