"""What goes into a store: the images of a tree, whose they are, and in which split."""

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from medfpl.errors import MedfplError, UsageError
from medfpl.scan import Kind
from medfpl.seeds import numpy_generator
from medfpl.store.split import split_patients
from medfpl.store.store import SPLITS, Split

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

    ``train`` and ``test`` cap the number of slices in those splits (None: all), spread over all images.
    ``split_by`` "image" splits by file, for collections without patients. ``planes`` "all" also takes a volume's
    slices across those acquired, where its voxels allow (store.planes).
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
    planes: str = "acquired"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Candidate:
    """One image or series found: its files in slice order, and its patient (a salted hash).

    ``kind`` is as told (None: as the file says when it is read), ``stratum`` what the split is stratified by.
    ``fixed`` is a split that a table gave, ``group`` a subgroup; ``limit`` caps its slices, taken at equal distances.
    """

    paths: tuple[Path, ...]
    relative: str
    patient: str
    kind: Kind | None
    stratum: str
    split: Split = "train"
    fixed: Split | None = None
    group: str = ""
    limit: int | None = None

    @property
    def id(self) -> str:
        """A stable name in the store, from the relative path."""
        return hashlib.sha256(f"{SALT}:{self.relative}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """A file or folder to walk, and the kind of all its images if that is told."""

    path: Path
    kind: Kind | None = None


@dataclass(frozen=True)
class Found:
    """The images of a tree in order; ``odd`` holds (relative path, reason), ``skipped`` counts what is no image."""

    candidates: tuple[Candidate, ...]
    odd: tuple[tuple[str, str], ...]
    skipped: int


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


@dataclass(frozen=True)
class Known:
    """What a table says of a file: its patient, and its kind, split and group (a region, a scanner) where it says."""

    patient: str
    kind: Kind | None = None
    split: Split | None = None
    group: str = ""


Table = Mapping[str, Known]


def read_table(path: Path) -> Table:
    """Return {relative path: Known} of a CSV file with columns ``path``, ``patient``, maybe ``kind, split, group``.

    Raises:
        UsageError: if it cannot be read, lacks a column, or names an unknown kind or split.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        table = {
            r["path"]: (r["patient"], r.get("kind") or None, r.get("split") or None, r.get("group") or "") for r in rows
        }
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        raise UsageError("the table needs to be a CSV file with columns path and patient") from None
    for _, kind, split, _ in table.values():
        if kind not in (None, *get_args(Kind)) or split not in (None, *SPLITS):
            raise UsageError(f"the table names an unknown kind or split: {kind or ''} {split or ''}".rstrip())
    return {name: Known(*values) for name, values in table.items()}  # type: ignore[arg-type]


def find_candidates(sources: Sequence[Source], settings: Settings, table: Table | None = None) -> Found:
    """Walk ``sources`` and return what could go into a store, without decoding a pixel.

    What ``table`` says of a file counts more than what the file or its name says.

    Raises:
        UsageError: if a source does not exist, or the table names none of the files.
    """
    from medfpl.io import sniff
    from medfpl.io.series import group_series

    table = table or {}
    dicom: dict[Path, tuple[str, Kind | None]] = {}
    found: list[Candidate] = []
    skipped = 0
    skip = re.compile(settings.skip) if settings.skip else None
    files = list(_walk(sources))
    if table and not any(relative in table for _, relative, _ in files):
        hint = (
            "paths in it begin with the source's own name"
            if len(sources) > 1
            else "paths in it are relative to the source"
        )
        raise UsageError("the table names none of these files", hint)
    for path, relative, told in files:
        if skip and skip.search(relative):
            skipped += 1
            continue
        try:
            kind_of_file = sniff(path)
        except MedfplError:
            skipped += 1
            continue
        if kind_of_file == "dicom":
            dicom[path] = (relative, told or settings.kind)
        else:
            known = table.get(relative) or Known(patient_from_path(relative))
            kind = known.kind or told or settings.kind
            found.append(_candidate((path,), relative, known, kind, kind_of_file))
    grouped = group_series(list(dicom))
    odd = tuple((dicom[path][0], reason) for path, reason in (*grouped.odd, *grouped.localizers))
    for series in grouped.series:
        relative, told = dicom[series.paths[0]]
        known = table.get(relative) or Known(dicom_patient(series.paths[0]) or patient_from_path(relative))
        found.append(_candidate(tuple(series.paths), relative, known, known.kind or told, series.kind))
    return Found(tuple(sorted(found, key=lambda c: c.relative)), odd, skipped)


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
    fixed: dict[str, Split] = {}
    for candidate in candidates:
        kinds[by[candidate.relative]].add(candidate.stratum)
        if candidate.fixed and fixed.setdefault(by[candidate.relative], candidate.fixed) != candidate.fixed:
            raise UsageError("the table puts one patient into two splits")
    free = {p: k for p, k in kinds.items() if p not in fixed}
    splits = fixed | split_patients(free, val=settings.val_share, test=settings.test_share, seed=settings.seed)
    return _capped([replace(c, split=splits[by[c.relative]]) for c in candidates], settings)


def parse_source(text: str) -> Source:
    """Return the source written as ``folder`` or ``kind=folder``."""
    kind, equals, place = text.partition("=")
    if equals and kind in get_args(Kind) and not Path(text).exists():
        return Source(Path(place), kind)  # type: ignore[arg-type]
    return Source(Path(text))


def _walk(sources: Sequence[Source]) -> Iterator[tuple[Path, str, Kind | None]]:
    """Yield (path, name relative to its source, kind as told); several sources get their own name in front."""
    names = [source.path.resolve().name for source in sources]
    for n, source in enumerate(sources):
        unique = names[n] if names.count(names[n]) == 1 else f"{names[n]}-{n + 1}"
        front = f"{unique}/" if len(sources) > 1 and source.path.is_dir() else ""
        if source.path.is_dir():
            files: Iterable[Path] = sorted(p for p in source.path.rglob("*") if p.is_file())
            yield from ((p, front + p.relative_to(source.path).as_posix(), source.kind) for p in files)
        elif source.path.exists():
            yield source.path, unique, source.kind
        else:
            raise UsageError(f"{source.path.name}: no such file or folder")


def _capped(candidates: list[Candidate], settings: Settings) -> list[Candidate]:
    """Spread a split's number of slices evenly over its images; where there are fewer slices than images, draw."""
    kept = [c for c in candidates if c.split == "val"]
    for split, most in (("train", settings.train), ("test", settings.test)):
        members = [c for c in candidates if c.split == split]
        if most is not None:
            order = numpy_generator(settings.seed, "cap", split).permutation(len(members))[:most]
            each, more = divmod(most, max(1, len(order)))
            members = [replace(members[n], limit=each + (place < more)) for place, n in enumerate(order)]
        kept += members
    return sorted(kept, key=lambda c: c.relative)


def _candidate(paths: tuple[Path, ...], relative: str, known: Known, kind: Kind | None, stratum: str) -> Candidate:
    return Candidate(
        paths, relative, patient_hash(known.patient), kind, kind or stratum, fixed=known.split, group=known.group
    )
