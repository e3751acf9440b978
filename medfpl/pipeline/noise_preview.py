"""One picture of what noises do to images: a row of tiles a noise, weak to strong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medfpl.errors import UsageError
from medfpl.io import read
from medfpl.noises import NOISES
from medfpl.pipeline.engine import fill_invalid
from medfpl.pipeline.noise import context_of
from medfpl.sample import sample_path
from medfpl.scan import FloatArray, Kind, Scan
from medfpl.views import to_grey

if TYPE_CHECKING:
    from PIL.Image import Image

    from medfpl.noises.base import Context

STRENGTHS = (0.25, 0.5, 1.0)
SIDE = 256  # px: lengths in pixels are meant for about this matrix
GAP, TEXT = 6, 13
CT_SHOWN = (0.0, 0.75)  # -1000 to 500 HU: air, lung and soft tissue at once
SAMPLES = {"ct": "abdomen_ct_clean.nii.gz", "xray": "chest_xray_clean.dcm", "mr": "brain_mr_clean.nii.gz"}


@dataclass(frozen=True, eq=False)
class Sample:
    """A slice in working units (H, W), at most SIDE on a side, and what the noises must know of it."""

    image: FloatArray
    context: "Context"
    inverted: bool = False

    @classmethod
    def of(cls, scan: Scan) -> "Sample":
        """Return the middle slice of ``scan``, shrunk by averaging where it is larger than SIDE."""
        from PIL import Image

        z = len(scan.pixels) // 2
        valid = None if scan.valid is None else scan.valid[z : z + 1]
        image = fill_invalid(scan.intensity.to_working(scan.pixels[z : z + 1]), valid)[0]
        factor, context = max(image.shape) / SIDE, context_of(scan)
        if factor > 1:
            height, width = (max(1, round(n / factor)) for n in image.shape)
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
            context = replace(context, pixel_mm=context.pixel_mm * factor)
        return cls(np.array(image, np.float32, order="C"), context, bool(scan.meta.get("inverted", False)))

    def grey(self, image: FloatArray) -> "Image":
        """Return an image of this sample's kind as it is shown: CT from -1000 to 500 HU, others over their range."""
        from PIL import Image

        low, high = CT_SHOWN if self.context.kind == "ct" else (0.0, 1.0)
        return Image.fromarray(to_grey(image, low, high, inverted=self.inverted))


@dataclass(frozen=True)
class Case:
    """A noise on a sample; a mode of None is the default one for the sample's kind."""

    sample: Sample
    noise: str
    mode: str | None = None

    @property
    def title(self) -> str:
        """The noise and its mode, if it has several."""
        mode = self.mode or NOISES.get(self.noise).mode_for(self.sample.context.kind)
        return self.noise if mode == "default" else f"{self.noise} {mode}"


def all_noises(sample: Sample) -> list[Case]:
    """Return every noise in its default mode."""
    return [Case(sample, name) for name in NOISES.names()]


def every_mode(sample: Sample, name: str) -> list[Case]:
    """Return the modes of one noise."""
    noise = NOISES.get(name)
    return [Case(sample, noise.name, mode) for mode in noise.modes]


def sample_scan(kind: Kind) -> Scan:
    """Return the sample data's clean image of a kind; UsageError where it has none."""
    if kind not in SAMPLES:
        raise UsageError(f"the sample data has no --kind {kind}", f"choose from {', '.join(SAMPLES)}, or give an image")
    return read(sample_path() / SAMPLES[kind], kind=kind)


def preview(cases: Sequence[Case], *, strengths: Sequence[float] = STRENGTHS, seed: int = 0) -> "Image":
    """Return a labelled grid in grey: the clean samples, then a row of tiles for each case, one a strength.

    More than five cases stand in two columns.
    """
    samples = list(dict.fromkeys(case.sample for case in cases))
    clean = [(f"clean ({_what(s)})", s.grey(s.image)) for s in samples]
    rows = [tiles(case, strengths, seed) for case in cases]
    deep = len(rows) if len(rows) <= 5 else -(-len(rows) // 2)
    return beside([[clean, *rows[:deep]], [[], *rows[deep:]]] if rows[deep:] else [[clean, *rows]])


def _what(sample: Sample) -> str:
    return "ct, -1000 to 500 HU" if sample.context.kind == "ct" else sample.context.kind


def tiles(case: Case, strengths: Sequence[float], seed: int) -> list[tuple[str, "Image"]]:
    """Return a case's titled tiles; one seed for all strengths, so that they share their noise."""
    import torch

    from medfpl.noises.base import corrupt

    noise, sample = NOISES.get(case.noise), case.sample
    given: dict[str, Any] = {"mode": case.mode} if case.mode else {}
    x = torch.from_numpy(sample.image)[None, None]
    found = []
    for i, strength in enumerate(strengths):
        y, _ = corrupt(x, noise, seeds=[seed], strength=strength, given=given, contexts=[sample.context])
        title = f"{case.title} {strength:g}" if i == 0 else f"{strength:g}"
        found.append((title, sample.grey(y[0, 0].numpy())))
    return found


def beside(blocks: Sequence[Sequence[Sequence[tuple[str, "Image"]]]]) -> "Image":
    """Draw blocks of rows of titled tiles side by side; all cells are of one size, and a row may be empty."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = [tile for rows in blocks for row in rows for _, tile in row]
    cell_w = max(t.width for t in pictures) + GAP
    cell_h = max(t.height for t in pictures) + TEXT + 2 * GAP
    widths = [max(map(len, rows)) * cell_w + 3 * GAP for rows in blocks]
    whole = Image.new("L", (sum(widths) - GAP, max(map(len, blocks)) * cell_h + GAP), 255)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(TEXT)
    for b, rows in enumerate(blocks):
        for r, row in enumerate(rows):
            for c, (title, tile) in enumerate(row):
                left, top = GAP + sum(widths[:b]) + c * cell_w, GAP + r * cell_h
                draw.text((left, top), title, fill=0, font=font)
                whole.paste(tile, (left, top + TEXT + GAP))
    return whole
