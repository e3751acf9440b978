"""The curves of a training run: losses, gradients, and the held-out patients."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = Mapping[str, str]
LOSSES = {"loss": "total", "residual": "residual", "feature": "feature preserving"}
NORMS = {
    "gradient": "at the weights",
    "residual_norm": "residual, at the image",
    "feature_norm": "feature preserving, at the image",
}


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows of a run's log.csv into a PNG file: a line of four pictures a stage."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    # Laid out by hand: matplotlib's own layout draws everything twice to measure it.
    figure = Figure(figsize=(18, 4.2 * len(stages)))
    margin = 0.55 / (4.2 * len(stages))
    figure.subplots_adjust(0.05, margin, 0.875, 1 - margin, wspace=0.18, hspace=0.3)
    FigureCanvasAgg(figure)
    for place, stage in enumerate(stages):
        steps = [r for r in rows if r["stage"] == stage and r["event"] == "step"]
        checks = [r for r in rows if r["stage"] == stage and r["event"] == "validation"]
        across = [figure.add_subplot(len(stages), 4, 4 * place + k) for k in range(1, 5)]
        _lines(across[0], steps, LOSSES, f"{stage}: losses")
        _lines(across[1], steps, NORMS, "norm of the gradient")
        _gains(across[2], checks, "psnr", "held-out patients: PSNR (dB)")
        _gains(across[3], checks, "ssim", "held-out patients: SSIM")
        across[3].legend(fontsize=6, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, format="png", dpi=100)


def _lines(axes: Axes, rows: Iterable[Row], columns: Mapping[str, str], title: str) -> None:
    positive = True
    for name, label in columns.items():
        points = [(int(r["step"]), float(r[name])) for r in rows if r[name]]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if not points or (name == "residual" and not any(r["feature"] for r in rows)):
            continue
        positive &= all(y > 0 for _, y in points)
        mark = "." if len(points) < 40 else ""
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1, marker=mark)
    axes.set(title=title, xlabel="step", yscale="log" if positive else "linear")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)


def _gains(axes: Axes, rows: Sequence[Row], metric: str, title: str) -> None:
    noises = list(dict.fromkeys(r["noise"] for r in rows if r["noise"] not in ("mean", "clean")))
    axes.set_prop_cycle(color=colormaps["tab20"].colors)  # type: ignore[attr-defined]
    for noise in [*noises, *(["mean"] if noises else ["clean"])]:
        mine = [r for r in rows if r["noise"] == noise]
        mean = noise in ("mean", "clean")
        style = {"color": "black", "linewidth": 2} if mean else {"linewidth": 0.9}
        x, y = [int(r["step"]) for r in mine], [float(r[metric]) for r in mine]
        axes.plot(x, y, label=noise, marker="." if len(x) < 40 else "", **style)
        if mean and noises and mine:
            axes.axhline(float(mine[-1][f"input_{metric}"]), color="black", linestyle=":", label="mean, noisy")
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
