"""DICOM series: files that belong together, in the order in which they lie, told from their headers alone.

A series has a running number as its name; nothing here shows a UID or a patient.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, MedfplError
from medfpl.io.dicom_geometry import floats, read_geometry, slice_normal
from medfpl.io.dicom_header import kind_of, text, texts
from medfpl.io.dicom_read import checked_format, read_dicom, read_header
from medfpl.io.guard import DEFAULT_LIMITS, Limits
from medfpl.scan import Geometry, Kind, Scan, Stored, choose_intensity

_TURN = 1e-3  # of a direction cosine
_NEAR = 1e-2  # mm between slices at one place
_UNEVEN = 0.1  # of the usual distance


@dataclass(frozen=True)
class Series:
    """Files that make one volume (or one file of many frames): ``paths`` along the slice normal.

    ``shape`` and ``spacing`` (mm) are (z, y, x). ``gaps`` are (slice, n): after that slice of the series n are
    missing. ``notes`` tell what else is unusual.
    """

    number: int
    paths: tuple[Path, ...]
    kind: Kind
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    gaps: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people see."""
        return f"series {self.number}"


@dataclass(frozen=True)
class Grouped:
    """The series found, and the files that belong to none, each with the reason."""

    series: tuple[Series, ...]
    localizers: tuple[tuple[Path, str], ...] = ()
    odd: tuple[tuple[Path, str], ...] = ()

    def __iter__(self) -> Iterator[Series]:
        return iter(self.series)

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, eq=False)
class _Slice:
    path: Path
    key: tuple[Any, ...]
    uid: str
    kind: Kind
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    turn: npt.NDArray[np.float64] | None
    place: float | None  # mm along the normal
    order: tuple[float, ...]  # among slices at one place
    localizer: bool


def group_series(paths: Iterable[Path], *, limits: Limits = DEFAULT_LIMITS, allow_burned_in: bool = False) -> Grouped:
    """Group DICOM files by series, orientation, matrix, encoding and kind, and sort each group by position.

    Only headers are read. A file that read_dicom would refuse, or whose instance UID another one has, is ``odd``.
    Slices without a position are sorted by instance number. Several at one place (echoes, time points) are dealt
    out to as many series. The result does not depend on the order of ``paths``.
    """
    odd: list[tuple[Path, str]] = []
    localizers: list[tuple[Path, str]] = []
    groups: dict[tuple[Any, ...], list[list[_Slice]]] = {}
    seen: set[str] = set()
    for path in sorted(set(paths)):
        try:
            found = _read_slice(path, limits, allow_burned_in)
        except MedfplError as error:
            odd.append((path, error.message))
            continue
        if found.uid in seen:
            odd.append((path, "another file has the same instance UID"))
            continue
        seen.add(found.uid)
        if found.localizer:
            localizers.append((path, "it is a localizer"))
        elif found.shape[0] > 1:
            groups.setdefault((path,), []).append([found])
        else:
            _join(groups.setdefault(found.key, []), found)
    stacks = [stack for turned in groups.values() for slices in turned for stack in _stacks(slices)]
    stacks.sort(key=lambda stack: min(s.path for s in stack))
    together: dict[Any, int] = {}
    for stack in stacks:
        together[stack[0].key[0]] = together.get(stack[0].key[0], 0) + 1
    series = [_series(i, stack, together[stack[0].key[0]] > 1) for i, stack in enumerate(stacks, 1)]
    return Grouped(tuple(series), tuple(localizers), tuple(odd))


def read_series(series: Series, *, limits: Limits = DEFAULT_LIMITS, allow_burned_in: bool = False) -> Scan:
    """Read all files of a series as one scan (see read_files)."""
    scan = read_files(series.paths, kind=series.kind, limits=limits, allow_burned_in=allow_burned_in)
    return replace(scan, meta={**scan.meta, "series": series.number, "gaps": series.gaps})


def read_files(
    paths: Sequence[Path], *, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS, allow_burned_in: bool = False
) -> Scan:
    """Read DICOM slices and stack them along z in the order given.

    ``source.path`` is the first file, ``source.native`` a tuple of their data sets, ``source.sha256`` the hash of
    their hashes. The affine is None where slices are not parallel and evenly spaced. BadInput as read_dicom, and where
    the slices differ in matrix, encoding, kind or padding, or go beyond ``limits.max_pixels`` together.
    """
    if not paths:
        raise BadInput("the series has no files")
    scans = _Stack(len(paths), limits)
    for path in paths:
        scans.add(read_dicom(path, kind=kind, limits=limits, allow_burned_in=allow_burned_in))
    return scans.scan()


class _Stack:
    """Slices on their way into one scan; pixels are copied at once, so that one slice is held twice and no more."""

    def __init__(self, count: int, limits: Limits) -> None:
        self.count, self.limits, self.at = count, limits, 0
        self.slopes: list[Any] = []
        self.rest: list[Scan] = []

    def add(self, scan: Scan) -> None:
        stored, depth = scan.source.stored, len(scan.pixels)
        if not self.rest:
            shape = (self.count * depth, *scan.pixels.shape[1:])
            if np.prod(shape, dtype=np.int64) > self.limits.max_pixels:
                raise BadInput(f"the series has more than the limit of {self.limits.max_pixels} pixels")
            self.pixels = np.empty(shape, np.float32)
            self.values = np.empty(shape, stored.values.dtype)
            self.valid = np.ones(shape, bool)
            self.first = scan
        first, known = self.first, self.first.source.stored
        if scan.pixels.shape != first.pixels.shape or stored.values.dtype != known.values.dtype:
            raise BadInput("the slices of the series differ in size or type")
        if (stored.low, stored.high, stored.forbidden) != (known.low, known.high, known.forbidden):
            raise BadInput("the slices of the series differ in their encoding")
        if scan.intensity.kind != first.intensity.kind:
            raise BadInput("the slices of the series are of different kinds")
        here = slice(self.at, self.at + depth)
        self.pixels[here], self.values[here] = scan.pixels, stored.values
        if scan.valid is not None:
            self.valid[here] = scan.valid
        ones = np.ones((depth, 1, 1))
        self.slopes.append((stored.slope * ones, stored.intercept * ones))
        empty = replace(stored, values=stored.values[:0].copy())
        self.rest.append(
            replace(scan, pixels=scan.pixels[:0].copy(), source=replace(scan.source, stored=empty), valid=None)
        )
        self.at += depth

    def scan(self) -> Scan:
        sources = [s.source for s in self.rest]
        slope, intercept = (_uniform(np.concatenate(parts)) for parts in zip(*self.slopes, strict=True))
        first = sources[0].stored
        stored = Stored(self.values, slope, intercept, first.low, first.high, first.forbidden)
        valid = None if self.valid.all() else self.valid
        intensity = self.first.intensity
        if any(s.intensity != intensity for s in self.rest):
            intensity = choose_intensity(intensity.kind, self.pixels if valid is None else self.pixels[valid])
        digest = hashlib.sha256("".join(s.sha256 for s in sources).encode()).hexdigest()
        source = replace(
            sources[0],
            stored=stored,
            shape=self.values.shape,
            sha256=digest,
            native=tuple(s.native for s in sources),
            notes=tuple(dict.fromkeys(note for s in sources for note in s.notes)),
        )
        meta = {**self.first.meta, "lossy": any(s.meta["lossy"] for s in self.rest)}
        geometry = self.first.geometry if self.count == 1 else _stack_geometry([s.geometry for s in self.rest])
        return Scan(self.pixels, intensity, geometry, source, valid, meta)


def _uniform(values: npt.NDArray[np.float64]) -> Any:
    return float(values[0, 0, 0]) if (values == values[0]).all() else values


def _stack_geometry(each: Sequence[Geometry]) -> Geometry:
    first = each[0]
    if first.spacing is None or first.affine is None or any(g.affine is None for g in each):
        return Geometry(first.spacing)
    affines = np.stack([g.affine for g in each if g.affine is not None])
    corners = affines[:, :3, 3]
    step = (corners[-1] - corners[0]) / (len(each) - 1)
    distance = float(np.linalg.norm(step))
    spacing = (distance or first.spacing[0], *first.spacing[1:])
    line = corners[0] + np.arange(len(each))[:, None] * step
    parallel = np.allclose(affines[:, :3, 1:3], affines[0, :3, 1:3], rtol=0, atol=_NEAR)
    if not distance or not parallel or not np.allclose(corners, line, rtol=0, atol=_UNEVEN * distance):
        return Geometry(spacing)
    affine = affines[0].copy()
    affine[:3, 0] = step
    return Geometry(spacing, affine)


def _read_slice(path: Path, limits: Limits, allow_burned_in: bool) -> _Slice:
    dataset, layout = read_header(path, limits)
    pixels = checked_format(dataset, layout, limits, allow_burned_in)
    spacing = read_geometry(dataset, pixels.shape[0]).spacing
    kind = kind_of(dataset, pixels.stored)
    turn = floats(dataset.get("ImageOrientationPatient"), 6)
    position, normal = floats(dataset.get("ImagePositionPatient"), 3), slice_normal(turn)
    place = float(position @ normal) if position is not None and normal is not None else None
    # Files of a series without a UID, as some de-identification leaves them, lie in one folder.
    uid = dataset.get("SeriesInstanceUID") or (str(path.parent), str(dataset.get("FrameOfReferenceUID")))
    encoding = pixels.allocated, pixels.stored, pixels.signed, text(dataset, "PhotometricInterpretation")
    keywords = ("EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber")
    return _Slice(
        path,
        (uid, pixels.shape, spacing and spacing[1:], kind, encoding, turn is None, place is None),
        str(dataset.SOPInstanceUID),
        kind,
        pixels.shape,
        spacing,
        turn,
        place,
        tuple(_order(dataset, keyword) for keyword in keywords),
        "LOCALIZER" in texts(dataset, "ImageType"),
    )


def _order(dataset: Any, keyword: str) -> float:
    found = floats([dataset.get(keyword)], 1)
    return float(found[0]) if found is not None else 0.0


def _join(turned: list[list[_Slice]], found: _Slice) -> None:
    """Put a slice with those of its orientation."""
    for slices in turned:
        known = slices[0].turn
        if known is None or found.turn is None or np.allclose(known, found.turn, rtol=0, atol=_TURN):
            slices.append(found)
            return
    turned.append([found])


def _stacks(slices: list[_Slice]) -> list[list[_Slice]]:
    """Return the slices as stacks with one slice a place, each in order."""
    if slices[0].place is None:
        return [sorted(slices, key=lambda s: (s.order[-1], s.path))]
    stacks: list[list[_Slice]] = []
    previous = -np.inf
    near: list[_Slice] = []
    for found in sorted(slices, key=lambda s: (s.place, s.path)):
        assert found.place is not None
        if found.place - previous > _NEAR:
            _deal(near, stacks)
            near, previous = [], found.place
        near.append(found)
    _deal(near, stacks)
    return stacks


def _deal(near: list[_Slice], stacks: list[list[_Slice]]) -> None:
    for i, found in enumerate(sorted(near, key=lambda s: (s.order, s.path))):
        if i == len(stacks):
            stacks.append([])
        stacks[i].append(found)


def _series(number: int, stack: list[_Slice], shares: bool) -> Series:
    first = stack[0]
    notes = ["its series holds images of another orientation, size, encoding or time"] if shares else []
    shape, spacing = (len(stack) * first.shape[0], *first.shape[1:]), first.spacing
    gaps: tuple[tuple[int, int], ...] = ()
    places = [s.place for s in stack if s.place is not None]
    if len(stack) > 1 and len(places) < len(stack):
        notes.append("its slices have no position and were sorted by number")
    elif len(stack) > 1:
        steps = np.diff(places)
        usual = float(np.median(steps))
        counts = np.rint(steps / usual).astype(int)
        gaps = tuple((int(i), int(counts[i]) - 1) for i in np.flatnonzero(counts > 1))
        if gaps:
            notes.append(f"{sum(n for _, n in gaps)} of its slices are missing")
        if (np.abs(steps - counts * usual) > _UNEVEN * usual).any():
            notes.append("its slices are not evenly spaced")
        spacing = (usual, *first.spacing[1:]) if first.spacing else None
    return Series(number, tuple(s.path for s in stack), first.kind, shape, spacing, gaps, tuple(notes))
