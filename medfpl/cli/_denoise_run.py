"""What ``medfpl denoise`` shows while it works and at its end: a bar, a table, one JSON object, run.json."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from medfpl import __version__
from medfpl.cli._denoise_report import Report
from medfpl.cli.output import Output, as_known
from medfpl.errors import EXIT_NOTHING_DONE, EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, BadInput, UsageError, escape
from medfpl.io.atomic import atomic_target, sweep
from medfpl.manifest import describe_run, finish_run, load_runs, manifest_bytes, run_name, time_to_state
from medfpl.pipeline.engine import Engine, Recipe
from medfpl.pipeline.jobs import Job, Plan, Shard
from medfpl.pipeline.run import EngineOnDemand, FailedToLoad, Outcome, Wishes, denoise_files
from medfpl.pipeline.scale import SeriesScale

MAX_ROWS = 24


def run(
    out: Output,
    work: Plan,
    recipe: Recipe,
    wishes: Wishes,
    part: Shard,
    at_once: int,
    seed: int,
    report: Report | None = None,
) -> int:
    """Do the work of ``work`` and return the exit code."""
    clock, started = time.monotonic(), datetime.now(UTC).replace(microsecond=0)
    record = work.folder / run_name(part.index, part.count) if work.folder else None
    earlier = load_runs(record) if record else []
    stated = time_to_state(earlier, resume=wishes.resume)
    arguments = {**recipe.arguments(), **_plain(wishes), "shard": f"{part.index}/{part.count}"}
    this = describe_run("denoise", arguments, seed=seed, started=started, stated=stated)

    def on_load(engine: Engine) -> None:
        out.say(_greeting(engine))
        if record:  # before any output: what goes on with this run must know the time that it states
            _write(record, [*earlier, {**this, "device": engine.device}])

    for folder in {job.target.parent for job in work.jobs}:
        if folder.is_dir():
            sweep(folder)
    outcomes = [_refused(path, error) for path, error in work.refused]
    for outcome in outcomes:
        _tell(out, outcome)
    engine = EngineOnDemand(recipe, on_load)
    try:
        _all(out, work, engine, replace(wishes, when=stated), at_once, outcomes, report)
    except FailedToLoad as failure:
        raise failure.cause from None
    except KeyboardInterrupt:
        done = sum(job.target.exists() for job in work.jobs)
        out.say(f"interrupted: {done} of {len(work.jobs)} results are there; --resume goes on from there")
        raise
    seconds = time.monotonic() - clock
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "kept", "failed")}
    counts["skipped"] = len(work.skipped)
    device = engine.engine.device if engine.engine else ""
    page = report.write(out, recipe, engine.engine, outcomes, seed) if report else None
    numbers = report.collector.numbers() if report and page else {}
    if record and (engine.engine or numbers):
        files = [_row(o, o.job.relative, [_below(p, record.parent) for p in o.outputs], numbers) for o in outcomes]
        _close(
            record,
            earlier,
            finish_run({**this, "device": device}, seconds=seconds, files=files),
            counts["done"] or len(numbers),
        )
    out.result(
        {
            "command": "denoise",
            "version": __version__,
            "method": recipe.method,
            "model": engine.engine.derivation.model if engine.engine else "",
            "device": device,
            "seed": seed,
            "counts": counts,
            "seconds": round(seconds, 3),
            "files": [_row(o, o.job.path, o.outputs, numbers) for o in outcomes],
            **({"report": str(page)} if page else {}),
        }
    )
    _show_notes(out, outcomes)
    _show_table(out, outcomes)
    _show_counts(out, counts, seconds, record if counts["done"] else None)
    if page:
        out.say(f"report: {escape(page)}")
    code = _exit_code(out, outcomes, part)
    return EXIT_SOME_FAILED if code == EXIT_OK and report and outcomes and not page else code


def _exit_code(out: Output, outcomes: Sequence[Outcome], part: Shard) -> int:
    failed = [o.error for o in outcomes if o.status == "failed"]
    if failed:
        if len(failed) < len(outcomes):
            return EXIT_SOME_FAILED
        return EXIT_USAGE if all(isinstance(error, UsageError) for error in failed) else EXIT_NOTHING_DONE
    if not outcomes and part.count == 1:
        out.error(BadInput("no image found", "a folder's files are images by their suffix or their content"))
        return EXIT_NOTHING_DONE
    return EXIT_OK


def _write(record: Path, runs: Sequence[dict[str, Any]]) -> None:
    with atomic_target(record, overwrite=True) as temporary:
        temporary.write_bytes(manifest_bytes(runs))


def _close(record: Path, earlier: list[dict[str, Any]], this: dict[str, Any], made: int) -> None:
    """Write the run's end; one that made nothing leaves no trace."""
    if made:
        _write(record, [*earlier, this])
    elif earlier:
        _write(record, earlier)
    else:
        record.unlink(missing_ok=True)
        with suppress(OSError):  # the folder, if nothing else is in it
            record.parent.rmdir()


def show_plan(out: Output, work: Plan, wishes: Wishes) -> int:
    """Show what would be read and written; nothing is opened or made."""
    for path, error in work.refused:
        out.error(error, str(path))
    states = [_state(job, wishes) for job in work.jobs]
    pairs = list(zip(work.jobs, states, strict=True))
    out.result(
        {
            "command": "denoise",
            "version": __version__,
            "dry_run": True,
            "counts": {**Counter(states), "skipped": len(work.skipped)},
            "files": [
                {
                    "input": str(j.path),
                    "outputs": [str(p) for p in (j.target, *wishes.by_products(j.target))],
                    "state": s,
                }
                for j, s in pairs
            ],
        }
    )
    out.table(("input", "output", "state"), [(str(j.path), str(j.target), s) for j, s in pairs])
    out.say(f"{len(pairs)} images, {len(work.skipped)} other files; nothing was written")
    return EXIT_OK if pairs else EXIT_NOTHING_DONE


def _all(
    out: Output,
    work: Plan,
    engine: EngineOnDemand,
    wishes: Wishes,
    at_once: int,
    outcomes: list[Outcome],
    report: Report | None,
) -> None:
    found: dict[int, Outcome] = {}
    shares: dict[Path, float] = {}
    with out.progress(len(work.jobs), "denoising") as show:

        def watch(job: Job, share: float) -> None:
            shares[job.path] = share
            show(len(found) + sum(list(shares.values())))

        results = denoise_files(
            work.jobs,
            engine,
            wishes,
            SeriesScale(work.siblings, allow_burned_in=wishes.allow_burned_in),
            at_once=at_once,
            watch=watch,
            collect=report.collect if report else None,
        )
        try:
            # closing: a Ctrl-C that falls into this loop must end the worker threads first.
            with closing(results):
                for position, outcome in results:
                    shares.pop(outcome.job.path, None)
                    found[position] = outcome
                    show(len(found) + sum(list(shares.values())))
                    _tell(out, outcome)
        finally:
            outcomes += [found[i] for i in sorted(found)]


def _tell(out: Output, outcome: Outcome) -> None:
    if outcome.error is not None:
        out.error(outcome.error, str(outcome.job.path))


def _show_notes(out: Output, outcomes: Sequence[Outcome]) -> None:
    """One line a note, not one a slice of a long series."""
    noted: dict[str, list[Path]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            noted.setdefault(note, []).append(outcome.job.path)
    for note, paths in noted.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        out.warn(f"{escape(paths[0])}{more}: {escape(note)}")


def _refused(path: Path, error: Exception) -> Outcome:
    return Outcome(Job(path, Path(path.name), path), "failed", error=error)


def _greeting(engine: Engine) -> str:
    from medfpl.pipeline.devices import describe_device

    name = f"{engine.derivation.method} {engine.derivation.model}".strip()
    return f"{name} on {describe_device(engine.device)}"


def _row(
    outcome: Outcome, name: Path, outputs: Iterable[Path], numbers: Mapping[Path, dict[str, int]]
) -> dict[str, Any]:
    """Return what is recorded of one file; with a report, also by which numbers that calls it."""
    error = None if outcome.error is None else as_known(outcome.error)
    return {
        "input": name.as_posix(),
        "status": outcome.status,
        "outputs": [p.as_posix() for p in outputs],
        "kind": outcome.kind,
        "slices": outcome.slices,
        "unit": outcome.unit,
        "noise_before": outcome.noise_before,
        "noise_after": outcome.noise_after,
        "slice_noise": [{"before": before, "after": after} for before, after in outcome.slice_noise],
        "feature_distance": outcome.feature_distance,
        "flagged_slices": None if outcome.flagged is None else list(outcome.flagged),
        "sha256": outcome.sha256,
        "seconds": round(outcome.seconds, 3),
        "notes": list(outcome.notes),
        "error": None if error is None else error.message,
        "hint": None if error is None else error.hint,
        **({"report": numbers[outcome.job.path]} if outcome.job.path in numbers else {}),
    }


def _plain(wishes: Wishes) -> dict[str, Any]:
    return {name: value for name, value in vars(wishes).items() if name != "when"}


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)


def _state(job: Job, wishes: Wishes) -> str:
    if not job.path.exists():
        return "missing"
    there = [p.exists() for p in (job.target, *wishes.by_products(job.target))]
    if not any(there):
        return "new"
    if wishes.overwrite:
        return "replaces"
    if wishes.resume:
        return "kept" if all(there) else "completes"
    return "exists"


def _show_table(out: Output, outcomes: Sequence[Outcome]) -> None:
    """One row a file, or one a folder and kind where there are many files."""
    done = [o for o in outcomes if o.status == "done"]
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    alone = len(done) <= MAX_ROWS and len({o.job.target.parent for o in done}) == len(done)
    few = len(done) <= 6
    explained = any(o.feature_distance is not None for o in done)
    for outcome in done:
        where = outcome.job.target if few or alone else outcome.job.target.parent
        groups.setdefault((str(where), outcome.kind, outcome.unit), []).append(outcome)
    rows = [
        (
            kind,
            _amount(group),
            _noise(group),
            *([_features(group), _flags(group)] if explained else []),
            f"{sum(o.seconds for o in group):.1f} s",
            where + ("" if few or alone else "/"),
        )
        for (where, kind, _), group in groups.items()
    ]
    more = ("feature distance", "flagged slices") if explained else ()
    out.table(("kind", "amount", "noise", *more, "time", "written to"), rows[:MAX_ROWS], right=(3 + len(more),))
    if len(rows) > MAX_ROWS:
        out.text(f"and {len(rows) - MAX_ROWS} more folders")


def _amount(group: Sequence[Outcome]) -> str:
    slices = sum(o.slices for o in group)
    if len(group) == 1:
        return f"{slices} slice{'s' * (slices != 1)}"
    return f"{len(group)} files" + (f", {slices} slices" if slices != len(group) else "")


def _noise(group: Sequence[Outcome]) -> str:
    before = median(o.noise_before for o in group if o.noise_before is not None)
    after = median(o.noise_after for o in group if o.noise_after is not None)
    unit = group[0].unit
    return f"{before:.3g} -> {after:.3g}{' ' + unit if unit not in ('', '1') else ''}"


def _features(group: Sequence[Outcome]) -> str:
    found = [o.feature_distance for o in group if o.feature_distance is not None]
    return f"{median(found):.3f}" if found else ""


def _flags(group: Sequence[Outcome]) -> str:
    """Return how many slices are flagged; of one file, which."""
    found = [len(o.flagged) for o in group if o.flagged is not None]
    if not found:
        return ""
    if len(group) == 1 and group[0].flagged and len(group[0].flagged) <= 4 and group[0].slices > 1:
        return ", ".join(map(str, group[0].flagged))
    return f"{sum(found)} of {sum(o.slices for o in group)}"


def _show_counts(out: Output, counts: dict[str, int], seconds: float, record: Path | None) -> None:
    words = {"done": "denoised", "kept": "kept from before", "failed": "failed", "skipped": "other files skipped"}
    told = ", ".join(f"{counts[k]} {word}" for k, word in words.items() if counts[k] or k == "done")
    out.say(f"{told}, in {seconds:.1f} s" + (f"; record: {escape(record)}" if record else ""))
