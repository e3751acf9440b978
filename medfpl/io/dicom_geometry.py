"""Where the pixels of a DICOM image lie, from its plane modules or its functional groups."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medfpl.errors import BadInput
from medfpl.io.dicom_header import items
from medfpl.scan import Geometry

_TOLERANCE = 0.01  # mm


def frame_groups(dataset: Dataset, frames: int) -> list[tuple[Dataset, ...]] | None:
    """Return for each frame where its attributes may stand, nearest first: its own groups, the shared ones.

    None for classic objects. BadInput if the number of per-frame groups is not that of the frames.
    """
    each = items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    if not each and not shared:
        return None
    if each and len(each) != frames:
        raise BadInput("its per-frame groups do not match its number of frames")
    common = tuple(shared[:1])
    return [(each[i], *common) if each else common for i in range(frames)]


def from_groups(groups: tuple[Dataset, ...], sequence: str, keyword: str) -> Any:
    """Return the value of ``keyword`` in the macro ``sequence`` of the nearest group that has it, else None."""
    for group in groups:
        for item in items(group, sequence)[:1]:
            if (value := item.get(keyword)) not in (None, ""):
                return value
    return None


def read_geometry(dataset: Dataset, frames: int) -> Geometry:
    """Return spacing and affine; None for what the file does not say, or says in a way that means nothing.

    The affine maps index (z, y, x, 1) to LPS mm. Frames that are not parallel and evenly spaced have none. The
    distance of single slices is that between slices, else their thickness, else 1.
    """
    groups = frame_groups(dataset, frames)
    if groups is None:
        return _classic(dataset, frames)
    spacing = [floats(from_groups(g, "PixelMeasuresSequence", "PixelSpacing"), 2) for g in groups]
    if spacing[0] is None or not _equal(spacing):
        return Geometry()
    gap = _positive(from_groups(groups[0], "PixelMeasuresSequence", "SpacingBetweenSlices"))
    thickness = _positive(from_groups(groups[0], "PixelMeasuresSequence", "SliceThickness"))
    positions = [floats(from_groups(g, "PlanePositionSequence", "ImagePositionPatient"), 3) for g in groups]
    turns = [floats(from_groups(g, "PlaneOrientationSequence", "ImageOrientationPatient"), 6) for g in groups]
    turn = turns[0] if _equal(turns) else None
    return _geometry(spacing[0], gap or thickness, positions, turn)


def _classic(dataset: Dataset, frames: int) -> Geometry:
    spacing = floats(dataset.get("PixelSpacing"), 2)
    if spacing is None:
        spacing = floats(dataset.get("ImagerPixelSpacing"), 2)
    if spacing is None:
        return Geometry()
    gap = _positive(dataset.get("SpacingBetweenSlices")) or _positive(dataset.get("SliceThickness"))
    position = floats(dataset.get("ImagePositionPatient"), 3)
    turn = floats(dataset.get("ImageOrientationPatient"), 6)
    # A classic object says where its first frame lies and not which way the others go.
    return _geometry(spacing, gap, [position if frames == 1 else None], turn)


def _geometry(
    spacing: npt.NDArray[np.float64],
    gap: float | None,
    positions: list[npt.NDArray[np.float64] | None],
    turn: npt.NDArray[np.float64] | None,
) -> Geometry:
    if not (spacing > 0).all():
        return Geometry()
    row, column = float(spacing[0]), float(spacing[1])
    normal = slice_normal(turn)
    known = [p for p in positions if p is not None]
    step = None if normal is None else normal * (gap or 1.0)
    if normal is not None and len(known) == len(positions) > 1:
        step = (known[-1] - known[0]) / (len(known) - 1)
        even = all(np.allclose(p, known[0] + i * step, rtol=0, atol=_TOLERANCE) for i, p in enumerate(known))
        distance = float(np.linalg.norm(step))
        if even and distance > 0:
            gap = distance
        if not even or abs(float(step @ normal)) < 0.5 * distance or distance == 0:
            step = None
    sides = (gap or 1.0, row, column)
    if turn is None or step is None or len(known) < len(positions):
        return Geometry(sides)
    return Geometry(sides, affine_of(turn, spacing, known[0], step))


def affine_of(
    turn: npt.NDArray[np.float64],
    spacing: npt.NDArray[np.float64],
    position: npt.NDArray[np.float64],
    step: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return index (z, y, x, 1) -> LPS mm from the orientation's 6 numbers, (row, column) spacing and the slice step.

    PS3.3 C.7.6.2.1.1: the first three cosines run along a row, where the column spacing holds.
    """
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = turn[3:] * spacing[0]
    affine[:3, 2] = turn[:3] * spacing[1]
    affine[:3, 3] = position
    return affine


def slice_normal(turn: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Return the unit normal of a plane with these direction cosines, None if they are no two axes."""
    if turn is None:
        return None
    normal = np.cross(turn[:3], turn[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if 0.9 < length < 1.1 else None


def floats(value: Any, count: int) -> npt.NDArray[np.float64] | None:
    """Return ``count`` finite numbers, or None if ``value`` is anything else."""
    try:
        if isinstance(value, str | bytes):
            return None
        found = np.array([float(v) for v in value], np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _positive(value: Any) -> float | None:
    found = floats([value], 1)
    return abs(float(found[0])) or None if found is not None else None


def _equal(values: list[npt.NDArray[np.float64] | None]) -> bool:
    first = values[0]
    return first is not None and all(v is not None and np.allclose(v, first, rtol=0, atol=1e-4) for v in values)
