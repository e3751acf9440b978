"""What ``medfpl info FILE...`` tells of files: what each is, which series there are, what would be done with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medfpl.cli.output import Output, as_known
from medfpl.errors import EXIT_NOTHING_DONE, EXIT_OK, EXIT_SOME_FAILED, BadInput, MedfplError, escape
from medfpl.io import default_target, read, sniff
from medfpl.io.dicom_read import describe_dicom
from medfpl.io.series import Series, group_series
from medfpl.pipeline.jobs import plan

MAX_FILES = 24


def show_files(out: Output, files: Sequence[Path]) -> int:
    """Describe ``files``: one file in full, several and folders as tables of series and files."""
    work = plan(files, None, "denoised", lambda target: ())
    for path, error in work.refused:
        out.error(error, str(path))
    if not work.jobs:
        out.error(BadInput("no image found"))
        return EXIT_NOTHING_DONE
    if len(work.jobs) == 1:
        return _show_one(out, work.jobs[0].path)
    dicom = [job.path for job in work.jobs if _format(job.path) == "dicom"]
    others = [job.path for job in work.jobs if job.path not in set(dicom)]
    grouped = group_series(dicom)
    rows = []
    failed = [(path, reason) for path, reason in grouped.odd]
    for path in others:
        try:
            rows.append({"file": str(path), **_describe(path)})
        except MedfplError as error:
            failed.append((path, error.message))
    for path, reason in failed:
        out.error(BadInput(reason), str(path))
    out.result(
        {
            "command": "info",
            "series": [_series_facts(s) for s in grouped],
            "files": rows,
            "localizers": [str(path) for path, _ in grouped.localizers],
            "refused": [{"file": str(path), "reason": reason} for path, reason in failed],
            "skipped": len(work.skipped),
        }
    )
    out.table(
        ("series", "kind", "size", "voxel in mm", "notes"),
        [(s.name, s.kind, _by(s.shape), _by(s.spacing), "; ".join(s.notes)) for s in grouped],
    )
    out.table(
        ("file", "kind", "size", "format"),
        [(r["file"], r["kind"], _by(r["shape"]), r["format"]) for r in rows[:MAX_FILES]],
    )
    told = [f"{len(grouped)} series of {sum(len(s.paths) for s in grouped)} DICOM files", f"{len(rows)} other images"]
    told += [f"{len(grouped.localizers)} localizers"] * bool(grouped.localizers)
    told += [f"{len(work.skipped)} other files"] * bool(work.skipped)
    out.say(", ".join(told))
    if not (grouped or rows or grouped.localizers):
        return EXIT_NOTHING_DONE
    return EXIT_SOME_FAILED if failed or work.refused else EXIT_OK


def _show_one(out: Output, path: Path) -> int:
    try:
        facts = _describe(path)
    except (MedfplError, OSError) as error:
        out.error(error, str(path))
        return as_known(error).exit_code
    would = f"denoise writes {default_target(path, 'denoised').name}" if facts["treated"] else facts["reason"]
    out.result({"command": "info", "file": str(path), **facts, "would": would})
    rows = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    out.table(("", ""), [row for row in rows if row[1] and row[0] not in ("treated", "reason")])
    out.text(f"{'treated' if facts['treated'] else 'refused'}: {escape(would)}")
    return EXIT_OK if facts["treated"] else EXIT_NOTHING_DONE


def _describe(path: Path) -> dict[str, Any]:
    if sniff(path) == "dicom":
        return describe_dicom(path)
    scan = read(path)
    return {
        "format": scan.source.format,
        "kind": scan.intensity.kind,
        "shape": list(scan.source.shape),
        "spacing": None if scan.geometry.spacing is None else list(scan.geometry.spacing),
        "stored_as": str(scan.source.stored.values.dtype),
        "unit": scan.intensity.unit,
        "working_range": [scan.intensity.black, scan.intensity.white],
        "not_valid": 0 if scan.valid is None else int(scan.valid.size - scan.valid.sum()),
        "notes": list(scan.source.notes),
        "treated": True,
        "reason": "",
    }


def _format(path: Path) -> str:
    try:
        return sniff(path)
    except MedfplError:
        return ""


def _series_facts(series: Series) -> dict[str, Any]:
    return {
        "name": series.name,
        "kind": series.kind,
        "files": len(series.paths),
        "shape": list(series.shape),
        "spacing": None if series.spacing is None else list(series.spacing),
        "gaps": [list(gap) for gap in series.gaps],
        "notes": list(series.notes),
    }


def _by(numbers: Sequence[float] | None) -> str:
    return "" if numbers is None else " x ".join(f"{n:.4g}" for n in numbers)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        numbers = all(isinstance(v, int | float) for v in value)
        return _by(value) if numbers else "; ".join(map(str, value))
    return "" if value is None else str(value)
