"""One picture of what noises do to an image: a row of tiles a noise, weak to strong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfpl.errors import UsageError
from medfpl.noises import NOISES
from medfpl.pipeline.engine import fill_invalid
from medfpl.pipeline.noise import context_of
from medfpl.scan import FloatArray, Kind, Scan, Source, Stored, choose_intensity
from medfpl.seeds import numpy_generator
from medfpl.views import to_grey

if TYPE_CHECKING:
    from PIL.Image import Image

    from medfpl.noises.base import Context

STRENGTHS = (0.25, 0.5, 1.0)
SIDE = 256  # px: lengths in pixels are meant for about this matrix
GAP, TEXT = 6, 13
PHANTOM_MM: dict[str, float] = {"ct": 1.45, "mr": 0.9}  # pixel sizes
CT_SHOWN = (0.0, 0.75)  # -1000 to 500 HU: air, lung and soft tissue at once


@dataclass(frozen=True)
class Sample:
    """A slice in working units (H, W), at most SIDE on a side, and what the noises must know of it."""

    image: FloatArray
    context: "Context"
    inverted: bool = False

    @classmethod
    def of(cls, scan: Scan, slice_index: int | None = None) -> "Sample":
        """Return a slice of ``scan`` (default: the middle one), shrunk by averaging where it is larger."""
        from PIL import Image

        z = len(scan.pixels) // 2 if slice_index is None else slice_index
        valid = None if scan.valid is None else scan.valid[z : z + 1]
        image = fill_invalid(scan.intensity.to_working(scan.pixels[z : z + 1]), valid)[0]
        factor = max(image.shape) / SIDE
        context = context_of(scan)
        if factor > 1:
            size = tuple(max(1, round(n / factor)) for n in reversed(image.shape))
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
            context = replace(context, pixel_mm=context.pixel_mm * factor)
        return cls(np.array(image, np.float32, order="C"), context, bool(scan.meta.get("inverted", False)))


def preview(
    sample: Sample,
    cases: Sequence[tuple[str, str | None]] = (),
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> "Image":
    """Return a labelled grid: the clean image, then for each (noise, mode) of ``cases`` one tile a strength.

    Without ``cases`` all noises in their default modes; a mode of None is the default one for the image's kind.
    """
    rows = [(name, mode, *_corrupted(sample, name, mode, strengths, seed)) for name, mode in cases or _all()]
    blocks = 1 if len(rows) <= 5 else 2
    return _draw(sample, rows, strengths, blocks)


def every_mode(name: str) -> list[tuple[str, str | None]]:
    """Return the cases of one noise: each of its modes."""
    noise = NOISES.get(name)
    return [(noise.name, mode) for mode in noise.modes]


def _all() -> list[tuple[str, str | None]]:
    return [(name, None) for name in NOISES.names()]


def _corrupted(
    sample: Sample, name: str, mode: str | None, strengths: Sequence[float], seed: int
) -> tuple[str, list[FloatArray]]:
    """Return the mode that was used and the corrupted images."""
    import torch

    from medfpl.noises.base import corrupt

    noise = NOISES.get(name)
    given: dict[str, Any] = {"mode": mode} if mode else {}
    x = torch.from_numpy(sample.image)[None, None]
    images = [
        # One seed for all strengths: a sweep shares its noise.
        corrupt(x, noise, seeds=[seed], strength=s, given=given, contexts=[sample.context])[0][0, 0].numpy()
        for s in strengths
    ]
    used = mode or noise.mode_for(sample.context.kind)
    return ("" if used == "default" else used), images


def _draw(
    sample: Sample,
    rows: Sequence[tuple[str, str | None, str, list[FloatArray]]],
    strengths: Sequence[float],
    blocks: int,
) -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    low, high = CT_SHOWN if sample.context.kind == "ct" else (0.0, 1.0)
    factor = max(1, SIDE // max(sample.image.shape) // 2 * 2) if max(sample.image.shape) < SIDE // 2 else 1
    height, width = (n * factor for n in sample.image.shape)
    cell_w, cell_h = width + GAP, height + TEXT + 2 * GAP
    deep = -(-len(rows) // blocks)
    block_w = len(strengths) * cell_w + 3 * GAP
    picture = Image.new("RGB", (blocks * block_w + GAP, (deep + 1) * cell_h + GAP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)

    def tile(left: int, top: int, title: str, image: FloatArray) -> None:
        draw.text((left, top), title, fill="black", font=font)
        grey = Image.fromarray(to_grey(image, low, high, inverted=sample.inverted))
        picture.paste(grey.resize((width, height), Image.Resampling.NEAREST), (left, top + TEXT + GAP))

    kind = sample.context.kind
    shown = ", -1000 to 500 HU" if kind == "ct" else ""
    tile(GAP, GAP, f"clean ({kind}{shown})", sample.image)
    for i, (name, _, mode, images) in enumerate(rows):
        left, top = GAP + (i // deep) * block_w, GAP + (i % deep + 1) * cell_h
        for k, (strength, image) in enumerate(zip(strengths, images, strict=True)):
            title = f"{name} {mode}".strip() if k == 0 else ""
            tile(left + k * cell_w, top, f"{title} {strength:g}".strip(), image)
    return picture


def phantom_scan(kind: Kind) -> Scan:
    """Return a slice of a phantom: an abdomen (ct) or a head (mr), free of noise.

    Raises:
        UsageError: for another kind.
    """
    from medfpl.phantoms.abdomen import abdomen
    from medfpl.phantoms.brain import brain
    from medfpl.phantoms.shapes import Grid

    if kind not in PHANTOM_MM:
        raise UsageError(
            f"there is no phantom for --kind {kind}", f"choose from {', '.join(PHANTOM_MM)}, or give an image"
        )
    draw = {"ct": abdomen, "mr": brain}[kind]
    pixel = PHANTOM_MM[kind]
    grid = Grid.around((0.0, 0.0, 0.0), (16, SIDE, SIDE), (4.0, pixel, pixel))
    drawn = draw(numpy_generator(0, "preview", kind), grid)
    middle = np.ascontiguousarray(drawn.image[8:9])
    source = Source(Path(), "npy", Stored(middle), middle.shape, "")
    return Scan(middle, choose_intensity(kind, middle), drawn.geometry, source)
