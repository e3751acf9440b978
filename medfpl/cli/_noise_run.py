"""What ``medfpl noise`` does and shows: files with noise, a list of noises, a picture of them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medfpl import __version__
from medfpl.cli.output import Output, as_known
from medfpl.errors import EXIT_NOTHING_DONE, EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, BadInput, UsageError, escape
from medfpl.io.atomic import atomic_target, check_target, sweep
from medfpl.manifest import time_to_state
from medfpl.noises import NOISES
from medfpl.pipeline.jobs import Job, plan
from medfpl.pipeline.noise import DEFAULT_STRENGTH, NoiseRecipe
from medfpl.pipeline.noise_files import (
    NoiseOutcome,
    NoiseWishes,
    load_record,
    noise_files,
    record_target,
    replay_file,
)
from medfpl.scan import CT_BLACK, CT_WHITE, Kind

MAX_ROWS = 24


def recipe(type: str, strength: float | None, given: Mapping[str, str], seed: int) -> NoiseRecipe:
    """Return what is asked for; numbers among the settings as numbers."""
    settings = {k: _number(v) for k, v in given.items()}
    return NoiseRecipe(NOISES.resolve(type), DEFAULT_STRENGTH if strength is None else strength, settings, seed)


def wishes(kind: Kind | None, overwrite: bool, allow_burned_in: bool) -> NoiseWishes:
    """Return how to read and write."""
    return NoiseWishes(time_to_state([], resume=False), kind, overwrite, allow_burned_in)


def run(out: Output, files: Sequence[Path], output: Path | None, recipe: NoiseRecipe, wishes: NoiseWishes) -> int:
    """Add the noise of ``recipe`` to ``files`` and return the exit code."""
    work = plan(files, output, "noisy", lambda target: [record_target(target)])
    for folder in {job.target.parent for job in work.jobs}:
        if folder.is_dir():
            sweep(folder)
    started = time.monotonic()
    outcomes = [NoiseOutcome(Job(p, Path(p.name), p), "failed", error=e) for p, e in work.refused]
    told: set[str] = set()
    for outcome in outcomes:
        _tell(out, outcome, told)
    with out.progress(len(work.jobs), "adding noise") as bar:
        for outcome in noise_files(work.jobs, work.siblings, recipe, wishes, bar):
            outcomes.append(outcome)
            _tell(out, outcome, told)
    facts = {"noise": recipe.type, "strength": recipe.strength, "settings": dict(recipe.settings), "seed": recipe.seed}
    return _report(out, outcomes, facts, len(work.skipped), time.monotonic() - started)


def replay(out: Output, files: Sequence[Path], output: Path | None, record: Path, wishes: NoiseWishes) -> int:
    """Make the noise of ``record`` again and return the exit code."""
    if len(files) != 1 or files[0].is_dir():
        raise UsageError("a record belongs to one file", "medfpl noise IN -o OUT --replay RECORD.json")
    try:
        found = load_record(record)
    except Exception as error:
        out.error(error, str(record))
        return EXIT_NOTHING_DONE
    started = time.monotonic()
    (job,) = plan(files, output, "noisy", lambda target: [record_target(target)]).jobs
    outcome = replay_file(job, found, wishes)
    _tell(out, outcome, set())
    facts = {"noise": found["noise"], **found["asked"]}
    return _report(out, [outcome], facts, 0, time.monotonic() - started)


def show_list(out: Output, name: str | None) -> int:
    """List the noises, or the modes and parameters of one."""
    noises = [NOISES.get(name)] if name else list(NOISES)
    facts = [describe(noise) for noise in noises]
    out.result({"command": "noise", "version": __version__, "noises": facts})
    if not name:
        rows = [
            (f["name"], ", ".join(m["name"] for m in f["modes"]), ", ".join(f["modalities"]), f["summary"])
            for f in facts
        ]
        out.table(("noise", "modes", "physics of", ""), rows)
        return EXIT_OK
    (found,) = facts
    out.text(f"{found['name']}: {found['summary']}\n{found['formula']}\n{found['source']}\n")
    modes = [m["name"] for m in found["modes"]]
    rows = [
        (
            p["name"],
            *(_shown(m["defaults"].get(p["name"])) for m in found["modes"]),
            p["unit"],
            p["range"],
            p["meaning"],
        )
        for p in found["parameters"]
    ]
    columns = [f"{m}, at 0.5" if m != "default" else "at 0.5" for m in modes]
    out.table(("parameter", *columns, "unit", "range", "meaning"), rows)
    return EXIT_OK


def describe(noise: Any) -> dict[str, Any]:
    """Return a noise's declaration as plain values; ``defaults`` are a mode's at strength 0.5, where it belongs."""
    from medfpl.noises.base import Context

    def defaults(mode: str) -> dict[str, Any]:
        kind = noise.mode_modalities.get(mode, noise.modalities)[0]
        return dict(noise.at_strength(0.5, mode, Context("ct", CT_BLACK, CT_WHITE) if kind == "ct" else Context(kind)))

    kinds = ("ct", "xray", "mr", "other")
    return {
        "name": noise.name,
        "summary": noise.summary,
        "modalities": list(noise.modalities),
        "modes": [
            {
                "name": mode,
                "modalities": list(noise.mode_modalities.get(mode, noise.modalities)),
                "default_for": [k for k in kinds if noise.mode_for(k) == mode],
                "defaults": defaults(mode),
            }
            for mode in noise.modes
        ],
        "parameters": [
            {"name": k, "unit": p.unit, "range": p.range_text(), "meaning": p.meaning}
            for k, p in noise.parameters.items()
        ],
        "per_volume": noise.per_volume,
        "formula": noise.formula,
        "source": noise.source,
    }


def show_preview(
    out: Output,
    files: Sequence[Path],
    target: Path,
    type: str | None,
    seed: int,
    kind: Kind | None,
    overwrite: bool,
    allow_burned_in: bool,
) -> int:
    """Draw noises on one image and return the exit code."""
    from medfpl.io import read
    from medfpl.pipeline.noise_preview import Sample, all_noises, every_mode, preview, sample_scan

    if len(files) > 1 or (files and files[0].is_dir()):
        raise UsageError("a preview is drawn on one image")
    if target.suffix.lower() != ".png":
        raise UsageError("a preview is a PNG", "medfpl noise --preview FILE.png")
    if type:
        NOISES.resolve(type)
    check_target(target, files, overwrite)
    if files:
        try:
            scan = read(files[0], kind=kind, allow_burned_in=allow_burned_in)
        except Exception as error:
            out.error(error, str(files[0]))
            return EXIT_NOTHING_DONE
    else:
        scan = sample_scan(kind or "ct")
    sample = Sample.of(scan)
    picture = preview(every_mode(sample, type) if type else all_noises(sample), seed=seed)
    with atomic_target(target, overwrite=overwrite) as part:
        picture.save(part, format="PNG", optimize=True)
    out.result({"command": "noise", "version": __version__, "preview": str(target), "seed": seed})
    out.text(f"drawn: {escape(target)}")
    return EXIT_OK


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _tell(out: Output, outcome: NoiseOutcome, told: set[str]) -> None:
    """Print what a file met; the same note of further files is in their records."""
    name = str(outcome.job.path)
    if outcome.error is not None:
        out.error(outcome.error, name)
    for note in outcome.notes:
        if note not in told:
            told.add(note)
            out.warn(f"{escape(name)}: {escape(note)}")


def _report(
    out: Output, outcomes: Sequence[NoiseOutcome], facts: Mapping[str, Any], skipped: int, seconds: float
) -> int:
    done = [o for o in outcomes if o.status == "done"]
    failed = [o.error for o in outcomes if o.status == "failed"]
    counts = {"done": len(done), "failed": len(failed), "skipped": skipped}
    out.result(
        {
            "command": "noise",
            "version": __version__,
            **facts,
            "counts": counts,
            "seconds": round(seconds, 3),
            "files": [_row(o) for o in outcomes],
        }
    )
    rows = [
        (o.kind, _mode(o), f"{len(o.record['slices'])}", _psnr(o), f"{o.record['clipped_pixels']}", str(o.outputs[0]))
        for o in done
        if o.record is not None
    ]
    out.table(("kind", "noise", "slices", "PSNR", "clipped px", "written to"), rows[:MAX_ROWS], right=(2, 3, 4))
    if len(rows) > MAX_ROWS:
        out.text(f"and {len(rows) - MAX_ROWS} more files")
    told = [f"{len(done)} files made"] + [f"{len(failed)} failed"] * bool(failed)
    out.say(", ".join(told + [f"{skipped} other files skipped"] * bool(skipped)) + f", {seconds:.1f} s")
    if failed:
        if done:
            return EXIT_SOME_FAILED
        return EXIT_USAGE if all(isinstance(error, UsageError) for error in failed) else EXIT_NOTHING_DONE
    if not outcomes:
        out.error(BadInput("no image found", "a folder's files are images by their suffix or their content"))
        return EXIT_NOTHING_DONE
    return EXIT_OK


def _mode(outcome: NoiseOutcome) -> str:
    record = outcome.record or {}
    mode = record["values"]["mode"]
    return record["noise"] + ("" if mode == "default" else f" ({mode})")


def _psnr(outcome: NoiseOutcome) -> str:
    value = (outcome.record or {})["psnr"]
    return "inf" if value is None else f"{value:.1f} dB"


def _row(outcome: NoiseOutcome) -> dict[str, Any]:
    error, record = (None if outcome.error is None else as_known(outcome.error)), outcome.record or {}
    return {
        "input": outcome.job.path.as_posix(),
        "status": outcome.status,
        "outputs": [p.as_posix() for p in outcome.outputs],
        "kind": outcome.kind,
        "slices": len(record.get("slices", ())),
        "mode": record.get("values", {}).get("mode", ""),
        "surrogate": record.get("surrogate"),
        "psnr": record.get("psnr"),
        "clipped_pixels": record.get("clipped_pixels"),
        "sha256": record.get("source", {}).get("sha256", ""),
        "seconds": round(outcome.seconds, 3),
        "notes": list(outcome.notes),
        "error": None if error is None else error.message,
        "hint": None if error is None else error.hint,
    }
