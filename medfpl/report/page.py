"""The page itself: what was collected and what is known of the method, in one file that needs nothing else."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from medfpl import __version__
from medfpl.io.atomic import atomic_target
from medfpl.manifest import versions
from medfpl.report.collector import Block, Collector, Flag, Series
from medfpl.report.display import LIMITS_OF_CT
from medfpl.views import CT_WINDOWS, Window

if TYPE_CHECKING:
    from medfpl.pipeline.engine import Engine, Recipe

SCRIPTS = ("decode.js", "image.js", "page.js")
KINDS = {"ct": "CT", "xray": "X-ray", "mr": "MR", "other": "Image"}
USE = (
    "Research use only: medfpl is not a medical device. No diagnosis and no treatment may rest on this page.",
    "A denoiser can blur, weaken or remove what is small or of low contrast, and can make up structure. Compare with "
    "the original, above all where something is flagged; where nothing is flagged, nothing is guaranteed.",
    "The pixels on this page may be smaller and coarser than those of the files (see Display). Read images from the "
    "files themselves, on a screen that is made for it.",
)


@dataclass(frozen=True)
class About:
    """What the page says of the run beside its images; nothing here may hold identity or a path.

    ``refused`` are the reasons why files were refused, one each; ``kept`` is the number of files of an earlier run.
    """

    method: str
    summary: str = ""
    source: str = ""
    model: str = ""
    weights_sha256: str = ""
    model_summary: str = ""
    limits: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    seed: int = 0
    refused: tuple[str, ...] = ()
    kept: int = 0


def about_engine(recipe: "Recipe", engine: "Engine | None", **more: Any) -> About:
    """Return what is known of a run with ``recipe``; ``engine`` is None where no file had to be denoised."""
    from medfpl.denoisers import METHODS

    method = METHODS.get(recipe.method)
    about = About(method=method.name, summary=method.summary, source=method.source, **more)
    if engine is None:
        return about
    model = getattr(engine.denoiser, "model", None)
    derivation = engine.derivation
    level = {"noise level": "auto"} if engine.needs_level and recipe.noise_level is None else {}
    known = {
        "model": derivation.model,
        "weights_sha256": derivation.weights_sha256,
        "settings": {**derivation.parameters, **level},
        "device": engine.device,
        "model_summary": model.card.summary if model else "",
        # Said above them already.
        "limits": tuple(limit for limit in model.card.limits if "medical device" not in limit) if model else (),
    }
    return About(**{**vars(about), **known})


def write_page(collector: Collector, about: About, target: Path, *, overwrite: bool = False) -> None:
    """Write the page to ``target``, whole or not at all; its bytes depend on the images and ``about`` alone.

    TargetExists if there is one and not to be overwritten; MedfplError where it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    series = collector.series()
    script, style = "\n".join(map(_text, SCRIPTS)), _text("page.css")
    environment = Environment(
        loader=PackageLoader("medfpl.report", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"sig": _sig}
    page = environment.get_template("template.html.j2").generate(
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
        about=about,
        version=__version__,
        versions={k: v for k, v in versions().items() if k != "medfpl"},
        use=USE,
        rows=[_row(s) for s in series],
        flags=_flags(series),
        warnings=_warnings(series, about),
        counts=_counts(series),
        has_maps=any(p.maps for s in series for _, _, p in s.pictures()),
        data={"series": [_series(s) for s in series], "presets": _presets()},
        blocks=_blocks(collector, series),
    )
    with atomic_target(target, overwrite=overwrite) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(page)


def _text(name: str) -> str:
    return resources.files("medfpl.report").joinpath("page", name).read_text("utf-8").strip()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sig(value: float) -> str:
    return f"{value:.3g}"


def _unit(series: Series) -> str:
    return "HU" if series.files[0].unit == "HU" else "grey levels"


def _presets() -> list[list[Any]]:
    windows = {name: Window.ct(name) for name in CT_WINDOWS}
    return [[name, window.low, window.high] for name, window in windows.items()]


def _first_window(series: Series) -> list[float]:
    """Return the window to begin with: the one that suits most slices, or of other kinds than CT the usual one."""
    windows = [picture.window for _, _, picture in series.pictures()]
    if series.files[0].unit == "HU":
        window = Counter(windows).most_common(1)[0][0]
        return [window.low, window.high]
    return [median(w.low for w in windows), median(w.high for w in windows)]


def _row(series: Series) -> dict[str, Any]:
    """Return what the template shows of a series."""
    first = series.files[0]
    pictures = [picture for _, _, picture in series.pictures()]
    noise = series.noise
    return {
        "number": series.number,
        "kind": KINDS[first.kind],
        "slices": series.slices,
        "suffix": " HU" if first.unit == "HU" else "",
        "noise": noise,
        "change": (noise[1] / noise[0] - 1) * 100 if noise and noise[0] > 0 else None,
        "thumbnail": series.files[len(series.files) // 2].thumbnail,
        "flagged": any(f.flags for f in series.files),
        "display": _display(series, [p.grid.step for p in pictures]),
    }


def _display(series: Series, steps: Sequence[float]) -> str:
    first, pictures = series.files[0], [p for _, _, p in series.pictures()]
    size, native = pictures[0].size, first.native[::-1] if first.view.swap else first.native
    where = f"{size[1]} × {size[0]}"
    whole = tuple(size) == tuple(native)
    text = f"{where} pixels" if whole else f"{where} of {native[1]} × {native[0]} pixels, averaged"
    low, high = min(steps), max(steps)
    step = _sig(low) if low == high else f"{_sig(low)} to {_sig(high)}"
    text += f", in steps of {step} {_unit(series)}".replace("of 1 grey levels", "of 1 grey level")
    if len(pictures) < series.slices:
        text += f"; {len(pictures)} of {series.slices} slices"
    if first.unit == "HU":
        text += f"; values below {LIMITS_OF_CT[0]:g} and above {LIMITS_OF_CT[1]:g} HU look like these"
    return text


def _flags(series: Sequence[Series]) -> list[dict[str, Any]]:
    """Return what the list of flags shows, one a slice, the worst first."""
    found = [(s, number, flags) for s in series for number, flags in _flagged(s).items()]
    found.sort(key=lambda item: -max(flag.score for flag in item[2]))
    return [
        {
            "series": s.number,
            "slice": number,
            # Of one image, or of a whole file that is the series, there is no slice to name.
            "named": s.slices > 1 and (len(s.files) > 1 or any(flag.slice is not None for flag in flags)),
            "text": "; ".join(_texts(flags)),
        }
        for s, number, flags in found
    ]


def _texts(flags: Sequence[Flag]) -> list[str]:
    return [text + (f" ({n} places)" if n > 1 else "") for text, n in Counter(flag.text for flag in flags).items()]


def _flagged(series: Series) -> dict[int, list[Flag]]:
    """Return the flags of each slice that has some, by its number; those of a whole file are its first slice's."""
    found: dict[int, list[Flag]] = {}
    before = 0
    for file in series.files:
        for flag in file.flags:
            found.setdefault(before + (flag.slice or 0) + 1, []).append(flag)
        before += file.depth
    return found


def _warnings(series: Sequence[Series], about: About) -> list[str]:
    found = [f"{_times(n, 'file')} refused: {reason}" for reason, n in Counter(about.refused).items()]
    for s in series:
        notes = Counter(note for file in s.files for note in file.notes)
        for note, count in notes.items():
            of = "" if len(s.files) == 1 else f" ({count} of {len(s.files)} images)"
            found.append(f"Series {s.number}: {note}{of}")
    if about.kept:
        found.append(f"{_times(about.kept, 'file')} kept from an earlier run, whose method may have been another")
    return found


def _times(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _counts(series: Sequence[Series]) -> str:
    return f"{len(series)} series, {_times(sum(s.slices for s in series), 'slice')}"


def _series(series: Series) -> dict[str, Any]:
    """Return what the viewer needs of a series, as plain values."""
    first, pictures = series.files[0], [picture for _, _, picture in series.pictures()]
    flags = _flagged(series)
    return {
        "number": series.number,
        "label": f"Series {series.number}: {KINDS[first.kind]}",
        "ct": first.unit == "HU",
        "unit": _unit(series),
        "total": series.slices,
        "aspect": first.view.aspect,
        "edges": first.view.edges,
        "inverted": first.inverted,
        "window": _first_window(series),
        "limit": float(_sig(median(picture.removed for picture in pictures) or 1.0)),
        "slices": [
            {
                "number": number,
                "size": picture.size,
                "grid": [picture.grid.zero, picture.grid.step],
                "pair": _name(picture.pair),
                "maps": {name: [size, _name(block)] for name, (size, block) in picture.maps.items()},
                "flags": _texts(flags.get(number, [])),
                "boxes": [file.view.turned_box(f.box, file.native) for f in flags.get(number, []) if f.box],
            }
            for number, file, picture in series.pictures()
        ],
    }


def _name(block: Block) -> str:
    return f"b{block.start}"


def _blocks(collector: Collector, series: Sequence[Series]) -> Iterator[tuple[str, str]]:
    """Yield the name and the base64 text of each block, one in memory at a time."""
    for s in series:
        for _, _, picture in s.pictures():
            for block in (picture.pair, *(block for _, block in picture.maps.values())):
                yield _name(block), base64.b64encode(collector.read(block)).decode()
