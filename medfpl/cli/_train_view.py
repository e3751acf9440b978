"""What ``medfpl train`` shows: a dashboard on a terminal, else a line now and then, or JSON lines."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from medfpl.cli.output import Output
from medfpl.errors import escape

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_EVERY = 30.0
Event = Mapping[str, Any]
Table = Mapping[str, Mapping[str, float]]


class TrainView:
    """Takes the events of ``medfpl.train``; ``show`` is where the dashboard goes (Output.live)."""

    def __init__(self, out: Output, show: Callable[[Any], None] | None) -> None:
        self._out, self._show = out, show
        self._config: Event = {}
        self._stage: Event = {}
        self._step: Event = {}
        self._check: Event = {}
        self._told = 0.0

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        self._out.event(event)
        match event["event"]:
            case "run":
                self._config = event["config"]
                self._out.say(f"{' and '.join(event['stages'])} on {event['engine']}")
            case "warning":
                self._out.warn(event["message"])
            case "stage":
                self._stage, self._step, self._check, self._told = event, {}, {}, 0.0
            case "step":
                self._step = event
                if self._show is None and event["seconds"] - self._told >= LINE_EVERY:
                    self._told = event["seconds"]
                    self._out.say(f"{self._where()}: {losses(event)}, {self._pace()}")
            case "validation":
                self._check = event
                if self._show is None:
                    self._out.say(f"{event['stage']} step {event['step']}: {held_out(event['table'])}")
            case "model":
                self._out.say(f"{event['stage']}: {held_out(event['table'])}; {escape(event['folder'])}")
        if self._show is not None and self._step:
            self._show(self._dashboard())

    def _where(self) -> str:
        of = f" of {self._stage['steps']}" if self._stage.get("steps") else ""
        return f"{self._stage['stage']} step {self._step['step']}{of}"

    def _pace(self) -> str:
        left = self._left()
        return f"{self._step['images_per_s']:.1f} images/s" + ("" if left is None else f", {clock(left)} left")

    def _left(self) -> float | None:
        """Return the seconds until the stage's budget is spent."""
        step, ends = self._step, []
        if self._stage.get("steps"):
            todo = (self._stage["steps"] - step["step"]) * self._config["data"]["batch"]
            ends.append(todo / max(step["images_per_s"], 1e-9))
        if self._stage.get("minutes"):
            ends.append(60 * self._stage["minutes"] - step["seconds"])
        return max(0.0, min(ends)) if ends else None

    def _dashboard(self) -> "RenderableType":
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        left, spent = self._left(), self._step["seconds"]
        total = spent + (left or 0.0)
        lines: list[RenderableType] = [
            Text(f"{self._where()}   {clock(spent)} of {clock(total)}   {self._pace()}", no_wrap=True),
            Padding(ProgressBar(total=max(total, 1e-9), completed=spent), 0),  # alone it ends without a line end
            Text(losses(self._step), no_wrap=True),
        ]
        if self._check:
            lines.append(Text(f"held-out patients, step {self._check['step']}: {held_out(self._check['table'])}"))
            lines.append(_noise_table(self._check["table"]))
        return Group(*lines)


def losses(step: Event) -> str:
    """Return the loss and its terms as text."""
    if "feature" in step:
        terms = f"loss {step['loss']:.4f} (residual {step['residual']:.4f}, feature {step['feature']:.3f})"
    else:
        terms = f"loss {step['loss']:.4f}"
    return f"{terms}, gradient {step.get('gradient', 0):.3f}, rate {step['rate']:.1e}"


def held_out(table: Table) -> str:
    """Return the mean over the noises as text; a restoration network has no noisy input to compare with."""
    mean = table["mean"]
    if set(table) <= {"clean", "mean"}:
        return f"PSNR {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.3f}"
    psnr = f"PSNR {mean['input_psnr']:.2f} -> {mean['psnr']:.2f} dB"
    return f"{psnr}, SSIM {mean['input_ssim']:.3f} -> {mean['ssim']:.3f}"


def clock(seconds: float) -> str:
    """Return a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _noise_table(table: Table) -> "RenderableType":
    """Two noises a line, so that all of them fit a terminal of 24 lines and 80 columns."""
    from rich.table import Table as RichTable

    names = [name for name in table if name != "mean"]
    half = (len(names) + 1) // 2
    grid = RichTable.grid(padding=(0, 1))
    for _ in range(2 if len(names) > 1 else 1):
        for justify in ("left", "right", "left", "right", "right"):
            grid.add_column(justify=justify, no_wrap=True)
    for i in range(half):
        pair = [names[i], *names[half + i : half + i + 1]]
        grid.add_row(*(cell for name in pair for cell in _cells(name, table[name])))
    return grid


def _cells(name: str, row: Mapping[str, float]) -> tuple[str, ...]:
    # A clean input has no error to speak of: 100 dB stands for none.
    before = "clean" if row["input_psnr"] >= 99.99 else f"{row['input_psnr']:.1f}"
    return name, before, f"-> {row['psnr']:.1f}", f"{row['ssim']:.3f}", " "
