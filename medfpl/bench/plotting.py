"""What the benchmark's figures share: canvas, colours, panels, and labels that do not hide each other."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from medfpl.bench.stats import ORDER, REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, DPI = 8.4, 140  # inches; about 1200 pixels: sharp at the width of a page of text
# Okabe & Ito's colours, without yellow (too faint on white): told apart by colour-blind readers.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#8C6D1F")
MARKERS = "osD^vPX*<>hdp"
GREY = "0.45"
_NUMBER = re.compile(r"([-+\N{MINUS SIGN}]?\d+(?:\.\d+)?)\s*([A-Za-z%\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]*)")


def new_figure(height: float, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    """Return an empty figure of full width and ``height`` inches, without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panels(title: str, n: int, *, share_y: bool) -> "Figure":
    """Return a figure of ``n`` small panels, at most three a row, under one title."""
    across = min(n, 3)
    down = math.ceil(n / across)
    height = 2.0 * down + 1.5
    # Margins in inches: matplotlib's own layout takes seconds for a page of panels.
    figure = new_figure(height, None)
    figure.subplots_adjust(
        left=0.75 / WIDTH, right=1 - 0.1 / WIDTH, top=1 - 0.55 / height, bottom=0.95 / height, hspace=0.3, wspace=0.2
    )
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=share_y).ravel()
    for axes in grid[n:]:
        axes.remove()
    for axes in grid[max(0, n - across) : n]:
        axes.tick_params(labelbottom=True)  # also above a panel that was removed
    figure.suptitle(title, x=0.01, y=1 - 0.1 / height, ha="left", va="top", fontsize=10)
    return figure


def plain(axes: "Axes") -> None:
    """Leave two spines and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def style(label: str) -> dict[str, Any]:
    """Return a method's colour and marker, the same in every figure; ours is drawn strongest and on top."""
    name = label.split(" (")[0]
    i = ORDER.index(name) if name in ORDER else len(ORDER) + sum(label.encode())
    i += label != name  # a variant beside its plain namesake
    ours = name == REFERENCE
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 5 if ours else 4,
        "linewidth": 2 if ours else 1,
        "linestyle": "-" if i < len(COLOURS) else "--",
        "zorder": 3 if ours else 2,
    }


def finish(figure: "Figure", across: str, upwards: str) -> None:
    """Name the axes of a figure of panels and put one legend beneath them all."""
    for axes in figure.axes:
        plain(axes)
    height = figure.get_size_inches()[1]
    figure.supxlabel(across, y=0.5 / height, va="bottom", fontsize=9)
    figure.supylabel(upwards, x=0.1 / WIDTH, ha="left", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=6, fontsize=8, frameon=False, borderaxespad=0.2)


def name_points(figure: "Figure", axes: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name where it hides no other name and no point, if there is such a place."""
    figure.canvas.draw()  # the layout must be settled before places are compared
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in _pixels(axes, points)]
    for (x, y), (px, py, name) in zip(_pixels(axes, points), points, strict=True):
        width, height = 5.0 * len(name) * scale, 10 * scale
        best, best_cost = (8.0, 0.0), math.inf
        for dx, dy in ((8, 0), (-8, 0), (0, 9), (0, -9), (8, 9), (8, -9), (-8, 9), (-8, -9), (0, 18), (0, -18)):
            left = x + dx * scale - (0 if dx > 0 else width if dx < 0 else width / 2)
            low = y + dy * scale - height / 2
            box = (left, low, left + width, low + height)
            cost = sum(_overlap(box, other) for other in taken)
            if cost < best_cost:
                best, best_cost, place = (dx, dy), cost, box
        taken.append(place)
        side = "left" if best[0] > 0 else "right" if best[0] < 0 else "center"
        axes.annotate(name, (px, py), best, textcoords="offset points", ha=side, va="center", fontsize=8)


def numbers(detail: str) -> list[tuple[float, str]]:
    """Return the numbers in a task's detail with their units: "20 HU, 3 mm" -> [(20, "HU"), (3, "mm")]."""
    return [(float(n.replace("\N{MINUS SIGN}", "-")), unit) for n, unit in _NUMBER.findall(detail)]


def split_detail(detail: str, place: int = 0) -> tuple[float, str, str]:
    """Return the ``place``-th number of a detail, its unit, and the rest of the detail; NaN if there is none.

    "20 HU, 3 mm" -> (20, "HU", "3 mm"), and for place 1 (3, "mm", "20 HU").
    """
    found = list(_NUMBER.finditer(detail))
    if len(found) <= place:
        return math.nan, "", detail
    chosen = found[place]
    value, unit = numbers(chosen[0])[0]
    rest = ", ".join(filter(None, (detail[: chosen.start()].strip(" ,;"), detail[chosen.end() :].strip(" ,;"))))
    return value, unit, rest


def varying_place(details: Iterable[str]) -> int | None:
    """Return which of the details' numbers is the first that differs between them; None if none does."""
    columns = zip(*(numbers(d) for d in set(details)), strict=False)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), None)


def _pixels(axes: "Axes", points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float]]:
    return [(float(px), float(py)) for px, py in (axes.transData.transform((x, y)) for x, y, _ in points)]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
