"""What a run writes while it goes: log.csv, TensorBoard events and the picture of the curves."""

import csv
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medfpl.io.atomic import atomic_target
from medfpl.training.step import COLUMNS
from medfpl.training.validate import METRICS

FIELDS = ("stage", "event", "step", "seconds", "noise", *METRICS, *COLUMNS, "rate", "images_per_s")
Row = dict[str, str]
DRAW_EVERY = 60.0


class RunLog:
    """Takes the rows of ``training.loop.train`` for one stage; ``log.csv`` has a row a step and a row a noise."""

    def __init__(self, folder: Path, stage: str) -> None:
        self._path, self._folder, self._stage = folder / "log.csv", folder, stage
        self._begun = False
        self._drawn = time.monotonic()
        self._board: Any = None

    def write(self, event: Mapping[str, Any]) -> None:
        """Add what an event says. A validation also draws the curves again, if the last picture is old."""
        if event["event"] not in ("step", "validation"):
            return
        if not self._begun:
            self._begin(event)
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, FIELDS).writerows(self._rows(event))
        self._to_board(event)
        if event["event"] == "validation" and time.monotonic() - self._drawn > DRAW_EVERY:
            self.draw()

    def draw(self) -> None:
        """Draw curves.png from log.csv."""
        from medfpl.training.curves import draw_curves

        rows = read_log(self._path)
        if rows:
            with atomic_target(self._folder / "curves.png", overwrite=True) as part:
                draw_curves(rows, part)
        self._drawn = time.monotonic()

    def close(self) -> None:
        """End the TensorBoard events."""
        if self._board is not None:
            self._board.close()

    def _begin(self, event: Mapping[str, Any]) -> None:
        # A run that was killed has logged steps after its last checkpoint: they are done again.
        kept = [row for row in read_log(self._path) if not self._again(row, event)]
        with atomic_target(self._path, overwrite=True) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(kept)
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(self._folder / "tensorboard" / self._stage, purge_step=event["step"])
        self._begun = True

    def _again(self, row: Row, event: Mapping[str, Any]) -> bool:
        step = int(row["step"])
        same = row["event"] == event["event"]
        return row["stage"] == self._stage and (step > event["step"] or (step == event["step"] and same))

    def _rows(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        shared = {"stage": self._stage, **{k: _short(event[k]) for k in FIELDS if k in event}}
        if event["event"] == "step":
            return [shared]
        return [{**shared, "noise": n, **{k: _short(v) for k, v in row.items()}} for n, row in event["table"].items()]

    def _to_board(self, event: Mapping[str, Any]) -> None:
        if self._board is None:
            return
        if event["event"] == "step":
            for name in (*COLUMNS, "rate", "images_per_s"):
                if name in event:
                    self._board.add_scalar(f"train/{name}", event[name], event["step"])
            return
        for noise, row in event["table"].items():
            for name in ("psnr", "ssim"):
                self._board.add_scalar(f"{name}/{noise}", row[name], event["step"])
        self._board.flush()


def read_log(path: Path) -> list[Row]:
    """Return the whole rows of a log.csv, none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if (row.get("step") or "").isdigit() and None not in row.values()]


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
