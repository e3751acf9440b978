"""Which clean images the benchmark corrupts: from the sample data, from files and folders, or from a prepared store.

Images are chosen from what their pixels tell once, and read again when their turn comes: memory stays that of one
volume however many there are.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfpl.bench.cases import Case
from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.pipeline.engine import fill_invalid
from medfpl.scan import FloatArray, Intensity, Kind, Scan
from medfpl.store.find import Candidate, Settings, Source, find_candidates
from medfpl.store.store import Item, Split, Store, open_store

if TYPE_CHECKING:
    import torch

# Where a volume is cut, as a share of its depth: the middle first, the ends (often mostly air) never.
CUTS = (0.5, 0.375, 0.625)
# Padding below the air of a CT, and its metal, are no anatomy; other kinds have no negative values.
CLEAN_RANGE = {"ct": (-0.012, 2.04)}
OTHER_RANGE = (0.0, 2.0)


@dataclass(frozen=True)
class DataSettings:
    """How cases are chosen. ``limit`` is the most cases a kind (None: all), ``size`` the longer side (0: native).

    ``split`` is of a store; ``kind`` is what files are that do not say. A CT case whose white noise is above
    ``max_noise_hu`` after resizing is no clean reference and is left out.
    """

    limit: int | None = None
    size: int = 256
    split: Split = "test"
    kind: Kind | None = None
    max_noise_hu: float = 12.0


@dataclass(frozen=True, eq=False)
class Chosen:
    """A case before it is loaded. ``load()`` reads it, the same every time."""

    id: str
    patient: str
    intensity: Intensity
    load: Callable[[], Case]


@dataclass(frozen=True)
class Cases:
    """The chosen cases, kind by kind; ``refused`` holds (name, reason) of files, ``notes`` what was left out."""

    chosen: tuple[Chosen, ...]
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Origin:
    """A file, series or item that gives cases: ``cases()`` yields its slices, best first."""

    name: str
    patient: str
    kind: Kind | None
    cases: Callable[[], Iterator[Case]]


def find_cases(data: Path | None, settings: DataSettings) -> Cases:
    """Choose the cases of ``data``: a store, a file, a folder, or None for the sample data.

    Patients come in turn and each gives its middle slices first, so that a limit spreads over patients.

    Raises:
        UsageError: if there is nothing at ``data``.
        MedfplError: if no case is left.
    """
    if settings.kind is not None and (data is None or (data / "store.json").is_file()):
        raise UsageError("the sample data and a store say of what kind their images are", "leave --kind away")
    refused: list[tuple[str, str]] = []
    if data is None:
        from medfpl.bench.samples import sample_origins

        origins = sample_origins(settings)
    elif (data / "store.json").is_file():
        store = open_store(data)
        items = store.of(settings.split)
        origins = [Origin(i.id, i.patient, i.kind, partial(_of_item, store, i, settings)) for i in items]
    else:
        origins, refused = _of_files(data, settings)
    found = _choose(origins, settings, refused)
    if not found.chosen:
        reasons = found.notes or tuple(dict.fromkeys(reason for _, reason in found.refused))
        raise MedfplError("no image is left to benchmark" + (f": {reasons[0]}" if reasons else ""))
    return found


def make_case(
    pixels: FloatArray,
    intensity: Intensity,
    *,
    sha256: str,
    index: int,
    patient: str,
    pixel_mm: float,
    size: int,
    lesions: Sequence[tuple[float, float, float]] = (),
    group: str = "",
) -> Case:
    """Return the slice ``pixels`` (H, W), real units, as a case whose longer side is at most ``size``.

    It is shrunk with anti-aliasing, never enlarged. ``lesions`` are centre (row, column) and radius in its pixels.
    ``sha256`` is of the file and ``index`` the slice in it: the case's name comes from them alone.
    """
    import torch

    low, high = CLEAN_RANGE.get(intensity.kind, OTHER_RANGE)
    x = torch.from_numpy(np.ascontiguousarray(intensity.to_working(pixels)))[None, None]
    x, scale = shrink(x, size)
    moved = tuple(((r + 0.5) * scale - 0.5, (c + 0.5) * scale - 0.5, radius * scale) for r, c, radius in lesions)
    name = hashlib.sha256(f"{sha256}:{index}".encode()).hexdigest()[:12]
    return Case(name, patient, x.clamp(low, high), intensity, pixel_mm / scale, moved, group)


def shrink(x: "torch.Tensor", size: int) -> tuple["torch.Tensor", float]:
    """Return (1, 1, H, W) with its longer side at most ``size`` pixels (0: as it is), and the scale."""
    import torch.nn.functional as F

    longest = max(x.shape[-2:])
    if not size or longest <= size:
        return x, 1.0
    scale = size / longest
    shape = [max(1, round(side * scale)) for side in x.shape[-2:]]
    return F.interpolate(x, size=shape, mode="bilinear", align_corners=False, antialias=True), scale


def slices_to_take(depth: int) -> list[int]:
    """Return the slices of a volume that become cases, the middle one first."""
    return list(dict.fromkeys(min(depth - 1, int(depth * share)) for share in CUTS))


def _choose(origins: Sequence[Origin], settings: DataSettings, refused: list[tuple[str, str]]) -> Cases:
    taken: dict[str, list[Chosen]] = defaultdict(list)
    left_out: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    known: dict[str, list[tuple[Chosen, str]]] = {}
    for origin, rank in _in_turn(origins):
        if _full(origin.kind, taken, settings):
            continue
        if origin.name not in known:
            try:
                known[origin.name] = _look(origin, settings)
            except BadInput as error:
                refused.append((origin.name, error.message))
                known[origin.name] = []
        if rank >= len(known[origin.name]):
            continue
        chosen, reason = known[origin.name][rank]
        if chosen.id in seen or _full(chosen.intensity.kind, taken, settings):
            continue
        seen.add(chosen.id)
        if reason:
            left_out[reason] += 1
        else:
            taken[chosen.intensity.kind].append(chosen)
    cases = tuple(c for kind in sorted(taken) for c in taken[kind])
    notes = tuple(f"{count} slices left out: {reason}" for reason, count in sorted(left_out.items()))
    return Cases(cases, tuple(refused), notes)


def _full(kind: str | None, taken: dict[str, list[Chosen]], settings: DataSettings) -> bool:
    return kind is not None and settings.limit is not None and len(taken[kind]) >= settings.limit


def _in_turn(origins: Sequence[Origin]) -> Iterator[tuple[Origin, int]]:
    """Yield (origin, rank of its slice): patients in turn, within a patient every image's best slice first."""
    by_patient: dict[str, list[Origin]] = defaultdict(list)
    for origin in sorted(origins, key=lambda o: (o.patient, o.name)):
        by_patient[origin.patient].append(origin)
    queues = ([(o, rank) for rank in range(len(CUTS)) for o in members] for members in by_patient.values())
    for turn in zip_longest(*queues):
        yield from (pick for pick in turn if pick is not None)


def _look(origin: Origin, settings: DataSettings) -> list[tuple[Chosen, str]]:
    """Return the cases of an origin, and why each is left out ("": it is not)."""
    found = []
    for rank, case in enumerate(origin.cases()):
        chosen = Chosen(case.id, case.patient, case.intensity, partial(_load, origin, rank))
        found.append((chosen, _unfit(case, settings)))
    return found


def _load(origin: Origin, rank: int) -> Case:
    for n, case in enumerate(origin.cases()):
        if n == rank:
            return case
    raise BadInput("an image changed while it was in use")


def _unfit(case: Case, settings: DataSettings) -> str:
    from medfpl.denoisers.sigma import estimate_noise

    if min(case.image.shape[-2:]) < 32:
        return "smaller than 32 pixels"
    if float(case.image.std()) < 1e-3:
        return "nothing is in them"
    noise = float(estimate_noise(case.image)) * case.intensity.scale
    if case.intensity.kind == "ct" and noise > settings.max_noise_hu:
        return f"a CT noisier than {settings.max_noise_hu:g} HU is no clean reference (--max-noise)"
    return ""


def _of_item(store: Store, item: Item, settings: DataSettings) -> Iterator[Case]:
    for index in slices_to_take(item.slices):
        try:
            pixels = store.real(item, slice(index, index + 1))[0]
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise BadInput(f"image {item.id} of the store cannot be read", "prepare the store again") from error
        pixels = np.nan_to_num(pixels, nan=item.black, posinf=item.white, neginf=item.black)
        yield make_case(
            pixels,
            item.intensity,
            sha256=item.sha256,
            index=index,
            patient=item.patient,
            pixel_mm=item.pixel_mm,
            size=settings.size,
            group=item.group,
        )


def _of_files(data: Path, settings: DataSettings) -> tuple[list[Origin], list[tuple[str, str]]]:
    if not data.exists():
        raise UsageError(f"{data.name}: no such file or folder")
    found = find_candidates([Source(data, settings.kind)], Settings(kind=settings.kind))
    origins = []
    for candidate in found.candidates:
        told = candidate.kind or (candidate.stratum if candidate.stratum in ("ct", "xray", "mr", "other") else None)
        cases = partial(_of_candidate, candidate, settings)
        origins.append(Origin(candidate.relative, candidate.patient, told, cases))  # type: ignore[arg-type]
    return origins, list(found.odd)


def _of_candidate(candidate: Candidate, settings: DataSettings) -> Iterator[Case]:
    """Yield the cases of a file, or of the files of a series: of a long one only those that are taken are read."""
    from medfpl.io import read
    from medfpl.io.series import read_files

    paths = candidate.paths
    if len(paths) == 1:
        scan = read(paths[0], kind=candidate.kind)
        wanted = [(z, z, scan.source.sha256) for z in slices_to_take(len(scan.pixels))]
    else:
        chosen = [paths[z] for z in slices_to_take(len(paths))]
        scan = read_files(chosen, kind=candidate.kind)
        wanted = [(n, 0, hashlib.sha256(path.read_bytes()).hexdigest()) for n, path in enumerate(chosen)]
    for at, index, sha256 in wanted:
        yield case_of_scan(scan, at, candidate.patient, settings.size, sha256=sha256, index=index)


def case_of_scan(
    scan: Scan,
    at: int,
    patient: str,
    size: int,
    *,
    sha256: str = "",
    index: int | None = None,
    lesions: Sequence[tuple[float, float, float]] = (),
) -> Case:
    """Return slice ``at`` of ``scan`` as a case, named by its file and its number in it (``index``, if not ``at``)."""
    from medfpl.pipeline.noise import context_of

    valid = None if scan.valid is None else scan.valid[at : at + 1]
    return make_case(
        fill_invalid(scan.pixels[at : at + 1], valid)[0],
        scan.intensity,
        sha256=sha256 or scan.source.sha256,
        index=at if index is None else index,
        patient=patient,
        pixel_mm=context_of(scan).pixel_mm,
        size=size,
        lesions=lesions,
    )
