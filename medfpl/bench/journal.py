"""Results on disk as they come: JSON lines, one a row, that survive a killed process.

FOLDER/rows.jsonl, tasks.jsonl, notes.jsonl; the parts of a sharded run have names of their own (rows-1-of-4.jsonl).
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medfpl.bench.rows import Row, TaskRow, from_json
from medfpl.bench.unit import Done
from medfpl.io.atomic import atomic_target
from medfpl.pipeline.jobs import Shard

STREAMS = ("rows", "tasks", "notes")
WHOLE = Shard()


@dataclass(frozen=True)
class Results:
    """What is in a folder: rows and task rows of whole units, and notes."""

    rows: tuple[Row, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Journal:
    """The files of one run, or of one part of it, in ``folder``."""

    folder: Path
    shard: Shard = WHOLE

    def path(self, stream: str) -> Path:
        """Return the file of a stream."""
        part = "" if self.shard.count == 1 else f"-{self.shard.index}-of-{self.shard.count}"
        return self.folder / f"{stream}{part}.jsonl"

    def add(self, done: Done) -> None:
        """Append a unit's results and see them on disk; its rows come last, so that what has rows is whole."""
        notes = [{"cell": note.partition(": ")[0], "note": note} for note in done.notes]
        for stream, lines in (("notes", notes), ("tasks", map(asdict, done.tasks)), ("rows", map(asdict, done.rows))):
            _append(self.path(stream), lines)

    def begin(self, units: Mapping[str, Sequence[str]]) -> set[str]:
        """Return the units of this part that are whole, and drop what is left of others.

        ``units`` maps a unit to its cells. A line that was torn when the process was killed counts as absent.
        """
        found = read_results([self], units)
        whole = {unit for unit, cells in units.items() if set(cells) <= {r.cell for r in found.rows}}
        kept = {"rows": list(map(asdict, found.rows)), "tasks": list(map(asdict, found.tasks))}
        kept["notes"] = [{"cell": note.partition(": ")[0], "note": note} for note in found.notes]
        for stream, lines in kept.items():
            if self.path(stream).exists():
                with atomic_target(self.path(stream), overwrite=True) as part:
                    part.write_text("".join(map(_line, lines)), "utf-8")
        return whole


def journals_of(folder: Path) -> list[Journal]:
    """Return the journals that a folder holds, of a whole run and of parts."""
    found = []
    for path in sorted(folder.glob("rows*.jsonl")):
        index, of, count = path.stem.removeprefix("rows").removeprefix("-").partition("-of-")
        if not of:
            found.append(Journal(folder))
        elif index.isdigit() and count.isdigit():
            found.append(Journal(folder, Shard(int(index), int(count))))
    return found


def read_results(journals: Iterable[Journal], units: Mapping[str, Sequence[str]]) -> Results:
    """Return the results of all whole units in ``journals``, in the order of ``units``, each cell once."""
    rows: dict[str, Row] = {}
    tasks: dict[str, list[TaskRow]] = {}
    notes: dict[str, list[str]] = {}
    for journal in journals:
        new = {r.cell: r for r in _rows(journal.path("rows"), Row) if r.cell not in rows}
        rows |= new
        for task in _rows(journal.path("tasks"), TaskRow):
            if task.cell in new:
                tasks.setdefault(task.cell, []).append(task)
        for line in _lines(journal.path("notes")):
            if line.get("cell") in new:
                notes.setdefault(line["cell"], []).append(str(line["note"]))
    cells = [cell for members in units.values() if all(c in rows for c in members) for cell in members]
    return Results(
        tuple(rows[c] for c in cells),
        tuple(t for c in cells for t in tasks.get(c, ())),
        tuple(n for c in cells for n in dict.fromkeys(notes.get(c, ()))),
    )


def _append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(map(_line, lines))
    if not text:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps({k: _plain(v) for k, v in data.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)  # float("inf") reads it back


def _rows(path: Path, kind: type[Any]) -> Iterator[Any]:
    for line in _lines(path):
        try:
            yield from_json(kind, line)
        except (ValueError, TypeError):
            continue


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            data = json.loads(line)
        except ValueError:  # torn, or the end
            continue
        if isinstance(data, dict):
            yield data
