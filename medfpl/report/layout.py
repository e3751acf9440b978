"""Which files make one scrolling series, in which order, and how many bytes of the page each may have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medfpl.errors import MedfplError
from medfpl.io import sniff
from medfpl.report.display import display_size

# Of a page of less than 30 MB, bytes before base64 that are for images and maps; thumbnails and text take the rest.
BUDGET = 20_500_000
# Measured on chest and abdominal CT of 10 to 20 HU of noise: before and after together, in steps of 1 to 2 HU.
BITS_PER_PIXEL = 7.0
SMALLEST, LARGEST, SIDES = 192, 1024, 32


@dataclass(frozen=True)
class Place:
    """Where a file is shown: its ``group``, its ``position`` in it, and the ``budget`` of its images in bytes.

    ``of`` is the number of files in the group.
    """

    group: int
    position: int
    of: int
    budget: float


@dataclass(frozen=True)
class Fit:
    """How the slices of a file are shown: every ``stride``-th, the longer side at most ``side``, in ``bytes`` each."""

    side: int
    stride: int
    bytes: float

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a slice of that size on the page."""
        return display_size(height, width, self.side)


def arrange(paths: Sequence[Path], *, allow_burned_in: bool = False, budget: float = BUDGET) -> dict[Path, Place]:
    """Return the place of each file: the slices of a DICOM series are one group, in the order in which they lie.

    Every other file is a group of its own; groups follow the order of ``paths``. Only headers are read. A group has
    its share of the budget by its size on disk, and divides it evenly: all slices of a series look alike.
    """
    groups = _groups(paths, allow_burned_in)
    sizes = {path: _size(path) for path in paths}
    total = sum(sizes.values())
    places: dict[Path, Place] = {}
    for number, group in enumerate(groups):
        share = budget * sum(sizes[path] for path in group) / total / len(group)
        for position, path in enumerate(group):
            places[path] = Place(number, position, len(group), share)
    return places


def _groups(paths: Sequence[Path], allow_burned_in: bool) -> list[tuple[Path, ...]]:
    dicom = [path for path in paths if _format(path) == "dicom"]
    together: dict[Path, tuple[Path, ...]] = {}
    if len(dicom) > 1:
        from medfpl.io.series import group_series  # pydicom is slow to import

        for series in group_series(dicom, allow_burned_in=allow_burned_in):
            together.update(dict.fromkeys(series.paths, series.paths))
    return list(dict.fromkeys(together.get(path, (path,)) for path in paths))


def _format(path: Path) -> str:
    try:
        return sniff(path)
    except MedfplError:
        return ""  # refused when its turn comes


def _size(path: Path) -> int:
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1


def fit(place: Place, depth: int, height: int, width: int) -> Fit:
    """Return how a file of ``depth`` slices (height, width) is shown within its budget."""
    bytes_each = place.budget / depth
    smallest = _bytes(height, width, min(SMALLEST, max(height, width)))
    stride = max(1, -int(-smallest // bytes_each))
    bytes_each *= stride
    sides = [s for s in range(LARGEST, SMALLEST - 1, -SIDES) if _bytes(height, width, s) <= bytes_each]
    return Fit(sides[0] if sides else SMALLEST, stride, bytes_each)


def _bytes(height: int, width: int, side: int) -> float:
    rows, columns = display_size(height, width, side)
    return rows * columns * BITS_PER_PIXEL / 8
