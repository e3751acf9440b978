"""The benchmark as one HTML page that needs nothing else: no network, no server, no font."""

import base64
import hashlib
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfpl.bench import stats
from medfpl.bench.captions import settings_table
from medfpl.bench.examples import Example
from medfpl.bench.figures import Picture
from medfpl.bench.rows import Row
from medfpl.bench.tables import Table, extent, interval_text, kind_name, number, wrapped
from medfpl.scan import FloatArray
from medfpl.views import to_grey

if TYPE_CHECKING:
    from PIL.Image import Image

# A page of 10 MB still opens on a phone; base64 makes four bytes of three.
MOST_BYTES = 7_000_000
# The longest side and the WebP quality of the example images: the first that fits.
SIZES = ((512, 88), (384, 84), (320, 82), (256, 82), (256, 70), (256, 60), (224, 60), (192, 55))
SECTIONS = {
    "summary": "Over all noises",
    "psnr": "Noise by noise",
    "ssim": "Noise by noise",
    "task": "What PSNR cannot see",
    "paper": "Beside the paper",
}
LIMITS = (
    "PSNR and SSIM say how near an image is to the clean one on average. They do not say whether a small or faint "
    "lesion is still there: that is what the tasks measure.",
    "The noise is simulated on clean images, so that the truth is known. A scanner's noise differs from it.",
    "An interval is over the patients of this run. It says nothing about other scanners, organs or protocols.",
    "The images here are 8-bit, compressed and maybe made smaller: to look at, not to measure or to diagnose.",
    "A denoised image is no original: it supports no diagnosis alone.",
)


@dataclass(frozen=True)
class Headline:
    """The chief number of one kind of image."""

    kind: str
    title: str
    value: str
    what: str
    detail: str
    extent: str


def write_page(
    path: Path,
    title: str,
    rows: Sequence[Row],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    examples: Sequence[Example],
    notes: Sequence[str],
) -> None:
    """Write the page. Whatever comes from outside (names of cases, methods, notes) is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    place = files("medfpl.bench") / "page"
    texts = {name: (place / name).read_text("utf-8") for name in ("template.html.j2", "page.css", "page.js")}
    figures = [(p, _figure(p.path)) for p in pictures]
    shown, remark = encode(examples, MOST_BYTES - sum(len(source) for _, source in figures) * 3 // 4)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(kind_name=kind_name)
    page = environment.from_string(texts["template.html.j2"]).render(
        title=title,
        kinds=stats.kinds(rows),
        headlines=headlines(rows),
        sections=_sections(tables),
        figures=figures,
        examples=shown,
        remark=remark,
        methods=settings_table(rows),
        notes=notes,
        limits=LIMITS,
        versions=_versions(),
        css=Markup(texts["page.css"]),
        js=Markup(texts["page.js"]),
        policy=_policy(texts["page.css"], texts["page.js"]),
    )
    path.write_text(page, "utf-8")


def headlines(rows: Sequence[Row]) -> list[Headline]:
    """Return one for each kind: what the reference reaches over all noises, and its lead over the best other."""
    found = stats.cells(rows)
    reference = stats.reference_of(found)
    leads = stats.differences(rows, "psnr", reference) if reference else []
    psnr = "wrapped PSNR (not a PSNR)" if wrapped(rows) else "PSNR"
    made = []
    for kind in stats.kinds(found):
        part = [c for c in found if c.kind == kind]
        best = max(stats.standings(part, "psnr"), key=lambda s: (not math.isnan(s.mean), s.method == reference, s.mean))
        before = number(stats.over_patients((c.noise, c.psnr_in) for c in part)[0], 1)
        what = f"dB {psnr}, {best.method}, mean over {best.noises} noises; noisy {before} dB"
        rival = min((d for d in leads if d.kind == kind), key=lambda d: d.mean, default=None)
        lead = f"{interval_text(rival, 2)} dB against the best other, {rival.rival}" if rival else ""
        made.append(Headline(kind, kind_name(kind), number(best.mean, 1), what, lead, extent(rows, kind)))
    return made


def encode(examples: Sequence[Example], most: int) -> tuple[list[dict[str, Any]], str]:
    """Return the examples with their images as data addresses, in about ``most`` bytes, and what that took."""
    side, quality = _size_for(examples, most)
    shown: list[dict[str, Any]] = []
    cleans: dict[str, str] = {}  # one for all noises of a case
    used = largest = 0
    for example in examples:
        images = {name: _webp(example, image, side, quality) for name, image in named_images(example).items()}
        images["clean"] = cleans.setdefault(example.case, images["clean"])
        used += sum(len(data) for name, data in images.items() if name != "clean") * 3 // 4
        if used > most:
            break
        largest = max(largest, *example.clean.shape)
        shown.append(_entry(example, images))
    remark = f"Shown smaller than they are, {side} pixels wide or high at most." if largest > side else ""
    if len(shown) < len(examples):
        remark += f" {len(examples) - len(shown)} more are in the folder examples."
    return shown, remark.strip()


def named_images(example: Example) -> dict[str, FloatArray]:
    """Return noisy, clean and every method's image by name, in the order of the tables."""
    methods = sorted(example.results, key=stats.method_order)
    return {"noisy": example.noisy, "clean": example.clean, **{m: example.results[m] for m in methods}}


def _entry(example: Example, images: Mapping[str, str]) -> dict[str, Any]:
    height, width = example.clean.shape
    unit = f" {example.intensity.unit}" if example.intensity.unit != "1" else ""
    low, high, label = example.window.low, example.window.high, example.window.label
    window = f"{label} window, " if label else ""
    return {
        "case": example.case,
        "kind": example.intensity.kind,
        "noise": example.noise,
        "about": f"{width} x {height} pixels; {window}{low:.4g} to {high:.4g}{unit}",
        "images": images,
        "psnr": {name: _psnr(example, image) for name, image in named_images(example).items() if name != "clean"},
        "width": width,
        "height": height,
    }


def _psnr(example: Example, image: FloatArray) -> str:
    error = float(np.square(image.astype(np.float64) - example.clean).mean()) / example.intensity.scale**2
    return number(-10 * math.log10(error) if error > 0 else math.inf, 1)


def _size_for(examples: Sequence[Example], most: int) -> tuple[int, int]:
    """Return the first of SIZES in which a sample of the images says that all will fit."""
    sample = [*examples[:: max(1, len(examples) // 4)]]
    for side, quality in SIZES:
        sizes = [sum(len(_webp(e, i, side, quality)) for i in named_images(e).values()) * 3 / 4 for e in sample]
        if not sizes or len(examples) * sum(sizes) / len(sizes) <= most:
            return side, quality
    return SIZES[-1]


def _webp(example: Example, image: FloatArray, side: int, quality: int) -> str:
    from PIL import Image

    grey = Image.fromarray(to_grey(image, example.window.low, example.window.high))
    if max(grey.size) > side:
        grey.thumbnail((side, side), Image.Resampling.BOX)
    return _address(grey, quality)


def _figure(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return _address(image.convert("RGB"), 90)


def _address(image: "Image", quality: int) -> str:
    data = io.BytesIO()
    image.save(data, format="WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _policy(css: str, js: str) -> str:
    """Return a content security policy that lets the page's own style and script run, and nothing be fetched."""
    style, script = (base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (css, js))
    allowed = f"style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _sections(tables: Sequence[Table]) -> list[tuple[str, list[Table]]]:
    made: dict[str, list[Table]] = {}
    for table in tables:
        made.setdefault(SECTIONS[table.name.split("-")[0]], []).append(table)
    return list(made.items())


def _versions() -> dict[str, str]:
    names = ("medfpl", "torch", "numpy", "scipy", "scikit-image", "PyWavelets")
    return {"Python": platform.python_version(), **{name: metadata.version(name) for name in names}}
