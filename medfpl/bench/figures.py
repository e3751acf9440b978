"""The benchmark's figures."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfpl.bench import plotting, stats
from medfpl.bench.examples import Example
from medfpl.bench.rows import Row, TaskRow
from medfpl.bench.stats import Score
from medfpl.bench.tables import DIGITS, NAMES, kind_name, number, wrapped
from medfpl.bench.task_tables import NOISY, declared_measures
from medfpl.views import residual_limit, tiled, to_grey

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

STRIP_COLUMNS, STRIP_SIDE = 6, 320
MAX_PANELS = 6
# What the tasks vary, by the unit in which they say it.
AXES = {"HU": "contrast, HU", "%": "contrast, % of range", "px": "diameter, px"}


@dataclass(frozen=True)
class Picture:
    """A figure that was written: ``alt`` says in words what it shows. ``kind`` is "" for all kinds."""

    path: Path
    kind: str
    title: str
    alt: str


def save_figures(
    rows: Sequence[Row], tasks: Sequence[TaskRow], examples: Sequence[Example], folder: Path
) -> list[Picture]:
    """Write every figure that the results allow into ``folder`` as PNG; return them in the order to be read."""
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        for name, kind, title, alt, figure in _figures(rows, tasks):
            path = folder / f"{_file_name(name)}.png"
            figure.savefig(path, dpi=plotting.DPI, metadata={"Software": None})
            made.append(Picture(path, kind, title, alt))
    for example in examples:
        path = folder / f"{_file_name(f'strip-{example.case}-{example.noise}')}.png"
        strip(example).save(path, format="PNG")
    return made


def _figures(rows: Sequence[Row], tasks: Sequence[TaskRow]) -> Iterator[tuple[str, str, str, str, "Figure"]]:
    found = stats.cells(rows)
    psnr = "wrapped PSNR (not a PSNR)" if wrapped(rows) else "PSNR"
    for kind in stats.kinds(found):
        name = kind_name(kind)
        for score in DIGITS:
            what = f"{psnr}, dB" if score == "psnr" else "SSIM"
            alt = f"{what} of every method on every noise, {name}; the same numbers are in the table."
            yield f"{score}-{kind}", kind, f"{name}: {what}", alt, heat_map(found, kind, score, f"{name}: {what}")
        alt = f"Mean {psnr} over all noises against seconds an image, {name}; the numbers are in the table."
        yield f"speed-{kind}", kind, f"{name}: quality and speed", alt, trade_off(found, kind, f"mean {psnr}, dB")
        for score in DIGITS:
            if len({r.strength for r in rows if r.kind == kind and not math.isnan(r.strength)}) > 1:
                what = f"{psnr}, dB" if score == "psnr" else "SSIM"
                alt = f"{what} of every method by strength of the noise, a panel a noise, {name}."
                title = f"{name}: {what} by strength"
                yield f"strength-{score}-{kind}", kind, title, alt, strengths(rows, kind, score, title)
    groups = _task_groups(tasks)
    before = {(kind, task, m.replace(NOISY, "")): part for (kind, task, m), part in groups.items() if NOISY in m}
    for (kind, task, measure), part in groups.items():
        if NOISY in measure:
            continue
        title = f"{kind_name(kind)}: {task}, {measure}"
        alt = f"{measure} of every method by {_axis(part)[1]}; means over noises and patients."
        yield (
            f"task-{task}-{measure}-{kind}".replace(" ", "-"),
            kind,
            title,
            alt,
            task_curves(part, title, before.get((kind, task, measure), [])),
        )


def heat_map(found: Sequence[stats.Cell], kind: str, score: Score, title: str) -> "Figure":
    """Return the scores as numbers on colours: blue where the noisy image was improved, red where it was made worse."""
    methods, noises = stats.methods_of(found, kind), stats.noises_of(found, kind)
    at = {(c.noise, c.method): c for c in found if c.kind == kind}
    shape = (len(noises), len(methods))
    values, gains = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, n in enumerate(noises):
        for j, m in enumerate(methods):
            if (n, m) in at:
                values[i, j] = getattr(at[n, m], score)
                gains[i, j] = values[i, j] - getattr(at[n, m], f"{score}_in")
    known = np.abs(gains[np.isfinite(gains)])
    limit = max(float(known.max()) if known.size else 0.0, 10.0 ** -DIGITS[score])
    figure = plotting.new_figure(0.3 * len(noises) + 1.5)
    axes = figure.add_subplot()
    image = axes.imshow(np.clip(gains, -limit, limit), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        dark = abs(gains[i, j]) > 0.62 * limit
        text = number(value, DIGITS[score])
        axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(noises)), noises)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    unit = ", dB" if score == "psnr" else ""
    figure.colorbar(image, ax=axes, label=f"gain over the noisy image{unit}", pad=0.015, aspect=30)
    return figure


def trade_off(found: Sequence[stats.Cell], kind: str, label: str) -> "Figure":
    """Return mean quality over the noises against seconds an image; up and left is better."""
    part = [c for c in found if c.kind == kind]
    figure = plotting.new_figure(4.0)
    axes = figure.add_subplot()
    points = []
    for method in stats.methods_of(part):
        mine = [c for c in part if c.method == method]
        x = stats.over_patients((c.noise, c.seconds) for c in mine)[0]
        y = stats.over_patients((c.noise, c.psnr) for c in mine)[0]
        if x > 0 and math.isfinite(y) and math.isfinite(x):
            axes.plot(x, y, **{**plotting.style(method), "markersize": 8})
            points.append((x, y, method))
    before = stats.over_patients((c.noise, c.psnr_in) for c in part)[0]
    if math.isfinite(before):
        axes.axhline(before, color="0.5", linestyle="--", linewidth=1)
        axes.annotate("noisy ", (1, before), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_xlabel("seconds an image")
    axes.set_ylabel(label)
    axes.margins(x=0.12, y=0.12)
    plotting.plain(axes)
    axes.set_title(f"{kind_name(kind)}: quality and speed (better is up and left)", loc="left", fontsize=10)
    plotting.name_points(figure, axes, points)
    return figure


def strengths(rows: Sequence[Row], kind: str, score: Score, title: str) -> "Figure":
    """Return the mean score by strength, a panel a noise, the noisy image dashed."""
    labels = stats.Labels(rows)
    part = [r for r in rows if r.kind == kind]
    noises = sorted({labels.noise(r) for r in part})
    methods = sorted({labels.method(r) for r in part}, key=stats.method_order)
    figure = plotting.panels(title, len(noises), share_y=False)
    for axes, noise in zip(figure.axes, noises, strict=True):
        mine = [r for r in part if labels.noise(r) == noise]
        steps = sorted({r.strength for r in mine})
        before = [_at_strength(mine, s, f"{score}_in") for s in steps]
        axes.plot(steps, before, ":", color=plotting.GREY, linewidth=1.5, label="noisy")
        for m in methods:
            ours = [r for r in mine if labels.method(r) == m]
            axes.plot(steps, [_at_strength(ours, s, score) for s in steps], label=m, **plotting.style(m))
        axes.set_title(noise, fontsize=8.5)
        axes.set_xticks(steps)
    plotting.finish(figure, "strength", f"{NAMES[score]}, dB" if score == "psnr" else NAMES[score])
    return figure


def task_curves(part: Sequence[TaskRow], title: str, before: Sequence[TaskRow] = ()) -> "Figure":
    """Return one measure of a task by the first number that its details differ in; a panel each for the rest.

    ``before`` are the same measure's values in the noisy images.
    """
    curves: dict[str, dict[tuple[str, float], list[TaskRow]]] = defaultdict(lambda: defaultdict(list))
    place, across = _axis(part)
    for name, rows in ((None, part), ("", before)):
        for t in rows:
            x, _, rest = plotting.split_detail(t.detail, place)
            curves[rest][t.method if name is None else name, x].append(t)
    methods = sorted({t.method for t in part}, key=stats.method_order)
    names = sorted(curves, key=lambda rest: (plotting.numbers(rest), rest))[:MAX_PANELS]
    figure = plotting.panels(title, len(names), share_y=True)
    meant = declared_measures(part[0].task).get(part[0].measure)
    for axes, rest in zip(figure.axes, names, strict=True):
        if meant and math.isfinite(meant.ideal):
            axes.axhline(meant.ideal, color=plotting.GREY, linestyle=":", label=f"ideal ({meant.ideal:g})")
        for m in ["", *methods] if before else methods:
            steps = sorted(x for method, x in curves[rest] if method == m)
            means = [stats.over_patients((t.patient, t.value) for t in curves[rest][m, x])[0] for x in steps]
            style = plotting.style(m) if m else {"color": plotting.GREY, "linestyle": "--"}
            axes.plot(steps, means, label=m or "noisy", **style)
        axes.set_xticks(sorted({x for _, x in curves[rest]}))
        axes.set_title(rest, fontsize=8.5)
    unit = part[0].unit if part[0].unit not in ("", "1") else ""
    upwards = ", ".join(filter(None, (part[0].measure.replace("_", " "), unit)))
    plotting.finish(figure, across, upwards)
    return figure


def strip(example: Example) -> "Image":
    """Return clean, noisy and each method's image over its error (result - clean), all on one scale."""
    middle = _middle(example.clean.shape)
    limit = residual_limit((example.noisy - example.clean)[middle])
    unit = f" {example.intensity.unit}" if example.intensity.unit != "1" else ""
    methods = sorted(example.results, key=stats.method_order)
    images = [("clean", example.clean), ("noisy", example.noisy), *((m, example.results[m]) for m in methods)]
    rows = []
    for start in range(0, len(images), STRIP_COLUMNS):
        block = images[start : start + STRIP_COLUMNS]
        low, high = example.window.low, example.window.high
        rows.append([(name, to_grey(image[middle], low, high)) for name, image in block])
        scale = f"error, {-limit:g} to {limit:g}{unit}"
        errors = [to_grey((image - example.clean)[middle], -limit, limit) for _, image in block]
        rows.append([(scale if i == 0 else "error", error) for i, error in enumerate(errors)])
    return tiled(rows)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def _task_groups(tasks: Sequence[TaskRow]) -> dict[tuple[str, str, str], list[TaskRow]]:
    """Return the rows of every kind, task and measure whose details differ in a number."""
    groups: dict[tuple[str, str, str], list[TaskRow]] = defaultdict(list)
    for t in tasks:
        if plotting.numbers(t.detail) and not math.isnan(t.value):
            groups[t.kind, t.task, t.measure].append(t)
    chosen = [(k, g) for k, g in groups.items() if plotting.varying_place(t.detail for t in g) is not None]
    return dict(sorted(chosen, key=lambda item: (stats.kind_order(item[0][0]), item[0][1:])))


def _axis(part: Sequence[TaskRow]) -> tuple[int, str]:
    """Return which number of the details is drawn along x, and its unit."""
    place = plotting.varying_place(t.detail for t in part) or 0
    unit = plotting.split_detail(part[0].detail, place)[1]
    return place, AXES.get(unit, unit)


def _at_strength(rows: Sequence[Row], strength: float, field: str) -> float:
    return stats.over_patients((r.patient, getattr(r, field)) for r in rows if r.strength == strength)[0]


def _middle(shape: tuple[int, ...]) -> tuple[slice, slice]:
    # A strip shows pixels as they are: of a large image its middle.
    starts = [max(0, (n - STRIP_SIDE) // 2) for n in shape]
    return slice(starts[0], starts[0] + STRIP_SIDE), slice(starts[1], starts[1] + STRIP_SIDE)
