"""The benchmark from start to end: plan, work, results on disk, tables."""

import csv
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfpl.bench.cases import Case
from medfpl.bench.data import Cases, Chosen, DataSettings, find_cases
from medfpl.bench.executors import open_executor
from medfpl.bench.journal import STREAMS, Journal, Results, journals_of, read_results
from medfpl.bench.plan import (
    BenchSettings,
    Plan,
    Unit,
    default_corruptions,
    default_entries,
    describe,
    explained_network,
    make_plan,
)
from medfpl.bench.rows import Row, TaskRow, columns
from medfpl.bench.tuning import tuned_for
from medfpl.bench.unit import Done, Run, Work, run_unit
from medfpl.errors import MedfplError, TargetExists, UsageError
from medfpl.io.atomic import atomic_target
from medfpl.manifest import describe_run, finish_run, load_runs, manifest_bytes, run_name
from medfpl.pipeline.devices import choose_device
from medfpl.pipeline.jobs import Shard

if TYPE_CHECKING:
    from medfpl.bench.outputs import Printed

OWN = ("rows*.jsonl", "tasks*.jsonl", "notes*.jsonl", "run*.json", "results.*", "tasks.*", "examples")
OUTPUTS = ("table.md", "table.tex", "report.html", "figures")


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark gave; ``printed`` is None for a part of a sharded run, whose tables come with the joining."""

    plan: Plan
    results: Results
    printed: "Printed | None"
    cases: Cases
    done: int
    kept: int
    seconds: float


def run_bench(
    output: Path | str,
    data: Path | str | None = None,
    *,
    settings: BenchSettings | None = None,
    choice: DataSettings | None = None,
    shard: Shard | None = None,
    executor: str = "processes",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    compare_paper: bool = False,
    planned: Callable[[Plan, int], None] = lambda plan, units: None,
    report: Callable[[int], None] = lambda done: None,
) -> BenchResult:
    """Run the benchmark on ``data`` (None: the sample data) and leave rows, tables, figures and a page in ``output``.

    Args:
        output: a folder; what a run needs to be continued is in it.
        data: a file, a folder or a prepared store.
        settings: methods, noises, strengths, seed and so on; None: all methods on the noises of the paper's Table I.
        choice: how cases are chosen; None: four a kind of the sample data, all of other data.
        shard: the part of the units to do; the tables are made by a last run with ``resume`` and without a shard.
        executor: see ``medfpl.bench.executors``; rows are the same with any, and with any number of ``workers``.
        resume: go on with the run in ``output``; overwrite: replace it.
        planned: called once with the plan and the number of this part's units.
        report: called with the number of units that are done.

    Raises:
        TargetExists: if ``output`` holds a benchmark and neither ``resume`` nor ``overwrite`` is given.
        MedfplError: for data, settings, a model or a device that will not do; on ``resume``, if they are others.
    """
    output, source = Path(output), None if data is None else Path(data)
    shard = shard or Shard()
    settings = settings or BenchSettings(default_entries(), default_corruptions())
    choice = choice or DataSettings(limit=4 if source is None else None)
    device = choose_device(settings.device)
    workers = workers or default_workers(device)
    journal = Journal(output, shard)
    _check_folder(output, journal, resume=resume, overwrite=overwrite)
    started, clock = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    cases = find_cases(source, choice)
    plan = make_plan(cases.chosen, settings)
    mine, cells = plan.shard(shard), plan.cells_by_unit()
    if overwrite:
        _clear(output, journal)
    _check_same(output, plan)
    with open_executor(executor, workers) as mapped:
        run = _begin(output, plan, choice, shard, started)
        whole = journal.begin({u.key: cells[u.key] for u in mine})
        if shard.count == 1:  # what parts of this run have done is done
            whole = {c.rpartition("/")[0] for c in (r.cell for r in read_results(journals_of(output), cells).rows)}
        todo = [u for u in mine if u.key not in whole]
        planned(plan, len(mine))
        report(len(mine) - len(todo))
        for count, done in enumerate(mapped(run_unit, _works(plan, todo, device)), start=1):
            keep_example(output / "examples", plan, done)
            journal.add(done)
            report(len(mine) - len(todo) + count)
    results = read_results(journals_of(output) if shard.count == 1 else [journal], cells)
    printed = None
    if shard.count == 1:
        write_tables(output, results, with_tasks=bool(settings.tasks))
        from medfpl.bench.outputs import write_outputs

        notes = [*cases.notes, *_counted(results.notes)]
        if "features" in settings.tasks and explained_network(settings.features) is None:
            notes.append("features: there is no restoration network to take them from (--features)")
        printed = write_outputs(results.rows, results.tasks, output, compare_paper=compare_paper, notes=notes)
    seconds = time.monotonic() - clock
    _end(output, shard, run, seconds)
    return BenchResult(plan, results, printed, cases, len(todo), len(mine) - len(todo), seconds)


def default_workers(device: str) -> int:
    """Return how many processes to use: one a core, but one on a GPU, which they would share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if device == "cpu" else 1


def write_tables(folder: Path, results: Results, *, with_tasks: bool) -> None:
    """Write results.parquet and results.csv, and the same for the tasks where there are any."""
    _table(folder, "results", Row, results.rows)
    if with_tasks:
        _table(folder, "tasks", TaskRow, results.tasks)


def keep_example(folder: Path, plan: Plan, done: Done) -> None:
    """Write the images of a unit that was to keep them; before its rows, so that a whole unit has them."""
    if not done.images:
        return
    name = example_name(plan, done.unit)
    with atomic_target(folder / f"{name}.npz", overwrite=True) as part:
        np.savez_compressed(part, **done.images)  # type: ignore[arg-type]


def example_name(plan: Plan, unit: Unit) -> str:
    """Return CASE-NOISE, with the mode where it is not the kind's default."""
    from medfpl.noises import NOISES

    usual = NOISES.get(unit.noise).mode_for(plan.cases[unit.case].intensity.kind)
    return f"{unit.case}-{unit.noise}" + ("" if unit.mode == usual else f"-{unit.mode}")


def _works(plan: Plan, units: Sequence[Unit], device: str) -> Iterator[Work]:
    """Yield the work of each unit; a case is read once, when the first of its units is due."""
    loaded: Case | None = None
    chosen = plan.settings
    features = explained_network(chosen.features) if chosen.tasks else None
    for unit in units:
        if loaded is None or loaded.id != unit.case:
            loaded = _load(plan.cases[unit.case])
        runs = []
        for entry in chosen.entries:
            tuned = entry.tuned(tuned_for(plan.tuned, entry.method, unit.noise, loaded.intensity.kind))
            known = any(method == entry.method for method, _, _ in plan.tuned)
            runs.append(Run(plan.cell(unit, entry), entry, tuned, "tuned" if known else "defaults"))
        strength = 0.5 if 0.5 in chosen.strengths else chosen.strengths[0]
        keep = unit.case in plan.examples and unit.strength == strength
        yield Work(unit, loaded, tuple(runs), chosen.psnr, chosen.tasks, features, device, keep)


def _load(chosen: Chosen) -> Case:
    case = chosen.load()
    if case.id != chosen.id:
        raise MedfplError("an image changed while the benchmark ran", "start again")
    return case


def _check_folder(folder: Path, journal: Journal, *, resume: bool, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError("the output is a file, and a folder is needed")
    if resume and overwrite:
        raise UsageError("--resume keeps what --overwrite replaces", "give one of them")
    if not (resume or overwrite) and _found(folder, journal):
        raise TargetExists("the folder holds a benchmark", "--resume goes on with it, --overwrite replaces it")


def _found(folder: Path, journal: Journal) -> list[Path]:
    """Return what a run, or the part of one, would replace."""
    if journal.shard.count > 1:
        own = [*(journal.path(stream) for stream in STREAMS), _manifest(folder, journal.shard)]
        return [path for path in own if path.exists()]
    return sorted(path for pattern in (*OWN, *OUTPUTS) for path in folder.glob(pattern))


def _clear(folder: Path, journal: Journal) -> None:
    for path in _found(folder, journal):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_same(folder: Path, plan: Plan) -> None:
    for path in sorted(folder.glob("run*.json")):
        for run in load_runs(path):
            if run.get("arguments", {}).get("plan") != plan.fingerprint():
                raise MedfplError(
                    "the folder holds a benchmark of other data or settings",
                    "give the same options, another -o, or --overwrite",
                )


def _begin(folder: Path, plan: Plan, choice: DataSettings, shard: Shard, started: datetime) -> dict[str, Any]:
    """Write the record of a run that begins, and what its example images are, and return the record."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {**describe(plan.settings), **asdict(choice), "plan": plan.fingerprint()}
    run = describe_run("bench", arguments, seed=plan.settings.seed, started=started, stated=started)
    manifest = _manifest(folder, shard)
    _write(manifest, manifest_bytes([*load_runs(manifest), run]))
    shown = {c.id: c.intensity for c in plan.cases.values() if c.id in plan.examples}
    _write(folder / "examples" / "meta.json", json.dumps({k: asdict(v) for k, v in shown.items()}, indent=2).encode())
    return run


def _end(folder: Path, shard: Shard, run: Mapping[str, Any], seconds: float) -> None:
    manifest = _manifest(folder, shard)
    made = sorted({p for pattern in (*OWN, *OUTPUTS) for p in folder.glob(pattern)} - {manifest})
    earlier = load_runs(manifest)[:-1]
    ended = finish_run(run, seconds=seconds, files=[{"path": p.relative_to(folder).as_posix()} for p in made])
    _write(manifest, manifest_bytes([*earlier, ended]))


def _manifest(folder: Path, shard: Shard) -> Path:
    return folder / run_name(shard.index, shard.count)


def _write(path: Path, data: bytes) -> None:
    with atomic_target(path, overwrite=True) as part:
        part.write_bytes(data)


def _counted(notes: Sequence[str]) -> list[str]:
    """Return each note once, without its cell, and how often it was made."""
    counts = Counter(note.partition(": ")[2] for note in notes)
    return [f"{text} ({count} results)" for text, count in sorted(counts.items())]


def _table(folder: Path, name: str, kind: type[Row] | type[TaskRow], rows: Sequence[Row | TaskRow]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(column, types[t]) for column, t in columns(kind).items()])
    data = [asdict(row) for row in rows]
    with atomic_target(folder / f"{name}.parquet", overwrite=True) as part:
        pq.write_table(pa.Table.from_pylist(data, schema=schema), part)
    with (
        atomic_target(folder / f"{name}.csv", overwrite=True) as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(schema.names))
        writer.writeheader()
        writer.writerows({k: "" if v != v else v for k, v in row.items()} for row in data)
