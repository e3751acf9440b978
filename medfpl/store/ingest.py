"""From a tree of scans to a store: find, group, name the patient, split, convert."""

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.scan import Kind, Scan
from medfpl.seeds import numpy_generator
from medfpl.store.split import split_patients
from medfpl.store.store import Item, Split, Store, create_store, finish_store, write_item, written

SALT = "medfpl"


@dataclass(frozen=True)
class Preset:
    """What is known of a public collection: its kind, and files that are no images (segmentations)."""

    kind: Kind
    skip: str = ""


PRESETS = {
    "lidc": Preset("ct"),
    "rsna": Preset("xray"),
    "lits": Preset("ct", skip=r"(^|[\\/])segmentation-"),
}


@dataclass(frozen=True)
class Settings:
    """How a store is made; written into it. ``size`` is the longer side of a slice in pixels, 0 for native.

    ``train`` and ``test`` cap the number of slices in those splits (None: all); whole patients are left out, then
    slices of the last one. ``split_by`` "image" splits by file, for collections without patients.
    """

    size: int = 256
    kind: Kind | None = None
    split_by: str = "patient"
    seed: int = 0
    train: int | None = None
    test: int | None = None
    val_share: float = 0.1
    test_share: float = 0.15
    skip: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Candidate:
    """One image or series found: its files in slice order, and its patient (a salted hash)."""

    paths: tuple[Path, ...]
    relative: str
    patient: str
    kind: str
    split: Split = "train"

    @property
    def id(self) -> str:
        """A stable name in the store, from the relative path."""
        return hashlib.sha256(f"{SALT}:{self.relative}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass
class Outcome:
    """What an ingestion did: ``refused`` holds (relative path, reason), ``skipped`` counts files that are no images."""

    store: Store | None = None
    done: int = 0
    kept: int = 0
    skipped: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def patient_hash(name: str) -> str:
    """Return the salted hash that stands for a patient's name or ID, here and in the committed split."""
    return hashlib.sha256(f"{SALT}:{name}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def patient_from_path(relative: str) -> str:
    """Return the patient that a file's name tells of, for formats without a patient element.

    BIDS ``sub-01``; ``00000013_005.png`` (NIH and others: digits, underscore, running number); LiTS
    ``volume-12.nii``; otherwise the whole name, so that two files are never one patient by mistake.
    """
    bids = re.search(r"(?:^|[\\/])(sub-[0-9A-Za-z]+)", relative)
    if bids:
        return bids[1]
    stem = Path(relative).name.split(".")[0]
    numbered = re.fullmatch(r"(\d{4,})_\d{1,4}", stem)
    return numbered[1] if numbered else stem


def read_patient_table(path: Path) -> dict[str, str]:
    """Return {relative path: patient} from a CSV file with columns ``path`` and ``patient``.

    Raises:
        UsageError: if it cannot be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["path"]: row["patient"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        raise UsageError("the patient table needs to be a CSV file with columns path and patient") from None


def find_candidates(
    sources: Sequence[Path], settings: Settings, patients: dict[str, str] | None = None
) -> tuple[list[Candidate], Outcome]:
    """Walk ``sources`` and return what could go into a store, without decoding a pixel."""
    from medfpl.io import sniff
    from medfpl.io.series import group_series

    outcome, dicom, found = Outcome(), {}, []
    skip = re.compile(settings.skip) if settings.skip else None
    for path, relative in _walk(sources):
        if skip and skip.search(relative):
            outcome.skipped += 1
            continue
        try:
            kind_of_file = sniff(path)
        except MedfplError:
            outcome.skipped += 1
            continue
        if kind_of_file == "dicom":
            dicom[path] = relative
        else:
            patient = (patients or {}).get(relative) or patient_from_path(relative)
            found.append(Candidate((path,), relative, patient_hash(patient), settings.kind or kind_of_file))
    grouped = group_series(list(dicom))
    for path, reason in grouped.odd:
        outcome.refused.append((dicom[path], reason))
    for series in grouped.series:
        relative = dicom[series.paths[0]]
        patient = (patients or {}).get(relative) or dicom_patient(series.paths[0]) or patient_from_path(relative)
        found.append(Candidate(tuple(series.paths), relative, patient_hash(patient), settings.kind or series.kind))
    return sorted(found, key=lambda c: c.relative), outcome


def dicom_patient(path: Path) -> str:
    """Return the PatientID of a DICOM file, "" if it has none. For hashing only: never shown."""
    from pydicom import dcmread

    try:
        return str(dcmread(path, specific_tags=["PatientID"], stop_before_pixels=True).get("PatientID", "") or "")
    except Exception:  # group_series has read this header: what fails now is a file that vanished
        return ""


def assign_splits(candidates: Sequence[Candidate], settings: Settings) -> list[Candidate]:
    """Return the candidates with their splits, no patient in two of them."""
    by = {c.relative: c.relative if settings.split_by == "image" else c.patient for c in candidates}
    kinds: dict[str, set[str]] = defaultdict(set)
    for candidate in candidates:
        kinds[by[candidate.relative]].add(candidate.kind)
    splits = split_patients(kinds, val=settings.val_share, test=settings.test_share, seed=settings.seed)
    placed = [Candidate(c.paths, c.relative, c.patient, c.kind, splits[by[c.relative]]) for c in candidates]
    return _capped(placed, settings)


def plan_store(
    sources: Sequence[Path],
    target: Path,
    settings: Settings,
    *,
    patients: dict[str, str] | None = None,
    resume: bool = False,
) -> tuple[list[Candidate], Outcome]:
    """Find and split the images, begin the store, and return what is still to be converted.

    With ``resume`` a store that was begun with the same settings goes on, and images that are whole stay.

    Raises:
        MedfplError: if the target holds something else, or no image was found.
    """
    if (target / "store.json").exists() and not resume:
        raise MedfplError("the store exists", "go on with --resume, or choose another folder")
    candidates, outcome = find_candidates(sources, settings, patients)
    if not candidates:
        raise MedfplError("no image was found", "medfpl reads DICOM, NIfTI, NRRD, MHA, PNG, JPEG, TIFF and NPY")
    candidates = assign_splits(candidates, settings)
    create_store(target, settings.to_json())
    done = written(target)
    todo = [c for c in candidates if c.id not in done]
    outcome.kept = len(candidates) - len(todo)
    return todo, outcome


def fill_store(
    todo: Sequence[Candidate],
    outcome: Outcome,
    target: Path,
    settings: Settings,
    *,
    workers: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Convert ``todo`` and finish the store; one bad file stops nothing. ``report(done)`` follows each image."""
    for count, (candidate, error) in enumerate(_convert_all(todo, target, settings, workers), start=1):
        if error is None:
            outcome.done += 1
        else:
            outcome.refused.append((candidate.relative, error))
        report(count)
    outcome.store = finish_store(target)
    return outcome


def convert(candidate: Candidate, target: Path, settings: Settings) -> None:
    """Read one candidate, resize it if asked, and write it into the store."""
    scan = _read(candidate, settings.kind)
    values, slope, intercept, scale = _stored(scan, settings.size)
    spacing = scan.geometry.spacing
    item = Item(
        id=candidate.id,
        kind=scan.intensity.kind,
        patient=candidate.patient,
        split=candidate.split,
        slices=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        unit=scan.intensity.unit,
        black=scan.intensity.black,
        white=scan.intensity.white,
        slope=slope,
        intercept=intercept,
        pixel_mm=(spacing[1] if spacing else 1.0) / scale,
        noise=_own_noise(scan),
        sha256=scan.source.sha256,
    )
    write_item(target, item, values)


def _walk(sources: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for source in sources:
        if source.is_dir():
            files: Iterable[Path] = sorted(p for p in source.rglob("*") if p.is_file())
            yield from ((p, str(p.relative_to(source))) for p in files)
        elif source.exists():
            yield source, source.name
        else:
            raise UsageError(f"{source.name}: no such file or folder")


def _capped(candidates: list[Candidate], settings: Settings) -> list[Candidate]:
    """Leave out patients, in an order that depends on the seed alone, once a split has its number of slices."""
    limits = {"train": settings.train, "test": settings.test}
    taken: dict[str, int] = defaultdict(int)
    kept = []
    order = numpy_generator(settings.seed, "cap").permutation(len(candidates))
    for index in order:
        candidate = candidates[index]
        limit = limits.get(candidate.split)
        room = None if limit is None else limit - taken[candidate.split]
        if room is not None and room <= 0:
            continue
        paths = candidate.paths if room is None else candidate.paths[:room]
        taken[candidate.split] += len(paths)
        kept.append(Candidate(paths, candidate.relative, candidate.patient, candidate.kind, candidate.split))
    return sorted(kept, key=lambda c: c.relative)


def _read(candidate: Candidate, kind: Kind | None) -> Scan:
    from medfpl.io import read
    from medfpl.io.series import read_files

    return read_files(candidate.paths, kind=kind) if len(candidate.paths) > 1 else read(candidate.paths[0], kind=kind)


def _stored(scan: Scan, size: int) -> tuple[np.ndarray, float, float, float]:
    """Return the values to store, their map to real units, and the scale that was applied."""
    stored = scan.source.stored
    uniform = np.unique(stored.slope).size == 1 and np.unique(stored.intercept).size == 1
    scale = size / max(scan.pixels.shape[1:]) if size else 1.0
    if scale == 1.0 and uniform and stored.values.dtype.kind in "iu" and stored.values.itemsize <= 2:
        return stored.values, float(np.ravel(stored.slope)[0]), float(np.ravel(stored.intercept)[0]), 1.0
    real = np.where(np.isfinite(scan.pixels), scan.pixels, scan.intensity.black).astype(np.float32)
    if scale != 1.0:
        real = _resize(real, scale)
    if scan.intensity.unit == "HU":  # a sixteenth of a HU is finer than any scanner stores, and packs well
        return np.clip(np.rint(real * 4), -32768, 32767).astype(np.int16), 0.25, 0.0, scale
    return real, 1.0, 0.0, scale


def _resize(pixels: np.ndarray, scale: float) -> np.ndarray:
    from skimage.transform import resize

    shape = tuple(max(1, round(side * scale)) for side in pixels.shape[1:])
    return np.stack([resize(p, shape, order=1, anti_aliasing=scale < 1, preserve_range=True) for p in pixels])


def _own_noise(scan: Scan) -> float:
    """The noise the image already has, in real units: the finest-scale estimate, median over some slices."""
    import torch

    from medfpl.denoisers.sigma import estimate_noise

    chosen = slice(None, None, max(1, len(scan.pixels) // 8))
    working = np.nan_to_num(scan.intensity.to_working(scan.pixels[chosen]), posinf=0, neginf=0)
    valid = None if scan.valid is None else torch.from_numpy(scan.valid[chosen])[:, None]
    return float(estimate_noise(torch.from_numpy(working)[:, None], valid).median()) * scan.intensity.scale


def _try(candidate: Candidate, target: Path, settings: Settings) -> str | None:
    try:
        convert(candidate, target, settings)
    except BadInput as error:
        return error.message
    return None


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _convert_all(
    todo: Sequence[Candidate], target: Path, settings: Settings, workers: int
) -> Iterator[tuple[Candidate, str | None]]:
    if workers <= 1:
        yield from ((c, _try(c, target, settings)) for c in todo)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting: dict[Future[str | None], Candidate] = {pool.submit(_try, c, target, settings): c for c in todo}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
