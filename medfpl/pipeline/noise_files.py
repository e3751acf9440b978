"""Adding noise to files: each is read, corrupted and written with its record; a failure stays its own."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.io import read, sniff, write
from medfpl.io.atomic import atomic_target, check_target
from medfpl.io.series import group_series
from medfpl.pipeline.extras import stem
from medfpl.pipeline.jobs import Job
from medfpl.pipeline.noise import NoiseRecipe, Noisy, Place, add_noise, replay_noise
from medfpl.pipeline.noise_record import fingerprint, read_record
from medfpl.pipeline.scale import SeriesScale
from medfpl.scan import Kind, Scan

MAX_RECORD = 1 << 28  # bytes


@dataclass(frozen=True)
class NoiseWishes:
    """How to read, what to do with outputs that exist, and the time that DICOM files state."""

    when: datetime
    kind: Kind | None = None
    overwrite: bool = False
    allow_burned_in: bool = False


@dataclass(frozen=True)
class NoiseOutcome:
    """What became of one job; ``record`` is what was written beside the output."""

    job: Job
    status: Literal["done", "failed"]
    outputs: tuple[Path, ...] = ()
    kind: str = ""
    unit: str = ""
    record: dict[str, Any] | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: Exception | None = None


class Volumes:
    """Tells which volume a file's slices belong to: its own, or a DICOM series of one file a slice.

    A volume's name is the fingerprint of its first file's values, so it holds no UID, and does not change with
    paths. Only headers are read, once, and the first file of each series.
    """

    def __init__(self, files: Sequence[Path], wishes: NoiseWishes) -> None:
        self._files, self._wishes = files, wishes
        self._series: dict[Path, tuple[tuple[Path, ...], int]] | None = None
        self._names: dict[Path, str] = {}
        self._middle: tuple[Path, Scan] | None = None

    def place(self, scan: Scan) -> Place:
        """Return the place of a scan that was read from one of the files."""
        own, path = fingerprint(scan), scan.source.path
        if scan.source.format != "dicom" or len(scan.pixels) > 1 or len(self._files) == 1:
            return Place(own)
        paths, number = self._grouped().get(path, ((path,), 0))
        return Place(own if paths[0] == path else self._name(paths), number, self._standing(paths))

    def _grouped(self) -> dict[Path, tuple[tuple[Path, ...], int]]:
        if self._series is None:
            dicom = [p for p in self._files if _is_dicom(p)]
            grouped = group_series(dicom, allow_burned_in=self._wishes.allow_burned_in)
            self._series = {p: (s.paths, i) for s in grouped for i, p in enumerate(s.paths)}
        return self._series

    def _standing(self, paths: tuple[Path, ...]) -> Scan:
        # The last series alone: the files of a series come one after the other.
        if self._middle is None or self._middle[0] != paths[0]:
            order = paths[len(paths) // 2 :] + paths[: len(paths) // 2]
            self._middle = (paths[0], _first_readable(order, self._wishes))
        return self._middle[1]

    def _name(self, paths: tuple[Path, ...]) -> str:
        if paths[0] not in self._names:
            self._names[paths[0]] = fingerprint(_first_readable(paths, self._wishes))
        return self._names[paths[0]]


def _is_dicom(path: Path) -> bool:
    try:
        return sniff(path) == "dicom"
    except MedfplError:
        return False


def _first_readable(paths: Sequence[Path], wishes: NoiseWishes) -> Scan:
    for path in paths[:-1]:
        try:
            return _read(path, wishes)
        except MedfplError:
            continue
    return _read(paths[-1], wishes)


def record_target(target: Path) -> Path:
    """Return where the record of ``target`` goes: scan.nii.gz -> scan.noise.json."""
    return target.with_name(f"{stem(target)}.noise.json")


def load_record(path: Path) -> dict[str, Any]:
    """Read a record; BadInput unless it is one."""
    try:
        if path.stat().st_size > MAX_RECORD:
            raise BadInput("it is too large for a noise record")
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise BadInput("it is not a noise record", "a record is the .noise.json beside an output") from None
    return read_record(data)


def noise_files(
    jobs: Sequence[Job],
    siblings: Sequence[Path],
    recipe: NoiseRecipe,
    wishes: NoiseWishes,
    watch: Callable[[int], None] = lambda done: None,
) -> Iterator[NoiseOutcome]:
    """Yield what becomes of each job, in order; ``siblings`` are all files of the run.

    Raises:
        UsageError: for settings that the noise does not have, whatever the file.
    """
    volumes, scale = Volumes(siblings, wishes), SeriesScale(siblings, allow_burned_in=wishes.allow_burned_in)

    def make(scan: Scan) -> Noisy:
        return add_noise(scan, recipe, volumes.place(scan))

    for done, job in enumerate(jobs):
        watch(done)
        yield _one(job, lambda path: scale.apply(_read(path, wishes)), make, wishes)
    watch(len(jobs))


def replay_file(job: Job, record: dict[str, Any], wishes: NoiseWishes) -> NoiseOutcome:
    """Make the file of ``record`` again from its clean source."""
    return _one(job, lambda path: _read(path, wishes), lambda scan: replay_noise(scan, record), wishes)


def _one(job: Job, load: Callable[[Path], Scan], make: Callable[[Scan], Noisy], wishes: NoiseWishes) -> NoiseOutcome:
    started = time.monotonic()
    try:
        for path in (job.target, record_target(job.target)):
            check_target(path, job.path, overwrite=wishes.overwrite)
        scan = load(job.path)
    except Exception as error:
        return NoiseOutcome(job, "failed", seconds=time.monotonic() - started, error=error)
    try:
        noisy = make(scan)
    except UsageError:
        raise  # of the settings, and so of every file
    except Exception as error:
        return NoiseOutcome(job, "failed", seconds=time.monotonic() - started, error=error)
    try:
        written = _write(noisy, job.target, wishes)
    except Exception as error:
        return NoiseOutcome(job, "failed", seconds=time.monotonic() - started, error=error)
    return NoiseOutcome(
        job,
        "done",
        written,
        kind=scan.intensity.kind,
        unit=scan.intensity.unit,
        record=noisy.record,
        seconds=time.monotonic() - started,
        notes=(*scan.source.notes, *noisy.record["notes"]),
    )


def _write(noisy: Noisy, target: Path, wishes: NoiseWishes) -> tuple[Path, ...]:
    is_dicom = noisy.scan.source.format == "dicom"
    # A record that is replayed keeps the time it states, so that a DICOM file comes out the same.
    stated = noisy.record.setdefault("stated", wishes.when.isoformat())
    options = {"when": datetime.fromisoformat(stated)} if is_dicom else {}
    beside = record_target(target)
    with atomic_target(beside, overwrite=wishes.overwrite) as part:
        part.write_text(json.dumps(noisy.record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        written = write(noisy.scan, target, noisy.derivation, overwrite=wishes.overwrite, **options)
    return (*written, beside)


def _read(path: Path, wishes: NoiseWishes) -> Scan:
    return read(path, kind=wishes.kind, allow_burned_in=wishes.allow_burned_in)
