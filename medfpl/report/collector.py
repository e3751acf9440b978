"""Slices on their way into the page: encoded as each file is finished, and held in a file without a name until then."""

import math
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medfpl.report import display, layout
from medfpl.report.codes import Codes, Grid, pack_map, pack_pair
from medfpl.scan import FloatArray, Scan
from medfpl.views import Window

if TYPE_CHECKING:
    from medfpl.pipeline.engine import Denoised

# Multiples of the finest step that are tried until a slice fits into its bytes.
COARSER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
MAP_SIDE, MAP_LEVELS = 128, 63


@dataclass(frozen=True)
class Flag:
    """Something to look at.

    ``text`` says what; ``slice`` (from 0, in its file) and ``box`` (top, bottom, left, right in pixels of the file)
    say where, None for all of it. Flags of a higher ``score`` are shown first.
    """

    text: str
    slice: int | None = None
    box: tuple[int, int, int, int] | None = None
    score: float = 0.0


@dataclass(frozen=True)
class Block:
    """Bytes on their way into the page: where they lie in the spool."""

    start: int
    length: int


@dataclass(frozen=True)
class Picture:
    """One slice on the page. ``index`` is its number in its file from 0; ``maps`` are by name."""

    index: int
    size: tuple[int, int]
    grid: Grid
    pair: Block
    maps: Mapping[str, tuple[tuple[int, int], Block]]
    window: Window
    removed: float


@dataclass(frozen=True)
class Shown:
    """One file on the page: plain facts about its scan, and its pictures."""

    place: layout.Place
    kind: str
    unit: str
    depth: int
    native: tuple[int, int]
    view: display.View
    inverted: bool
    noise: tuple[float, float]
    pictures: tuple[Picture, ...]
    thumbnail: str
    flags: tuple[Flag, ...]
    notes: tuple[str, ...]


class Collector:
    """Takes the scans of a run one by one, from any thread, and keeps what the page needs of them.

    ``paths`` are all files of the run. Use it as a context: at its end the encoded pixels are gone. They lie in a
    temporary file that has no name, so that nothing is left of them even if the process is killed; in memory are
    a few hundred bytes a slice.
    """

    def __init__(self, paths: Sequence[Path], *, allow_burned_in: bool = False, budget: float = layout.BUDGET) -> None:
        self._places = layout.arrange(paths, allow_burned_in=allow_burned_in, budget=budget)
        self._shown: dict[Path, Shown] = {}
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._end = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Collector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add(
        self,
        path: Path,
        before: Scan,
        result: "Denoised",
        *,
        maps: Mapping[str, FloatArray] | None = None,
        flags: Sequence[Flag] = (),
    ) -> None:
        """Keep what is shown of one file.

        Args:
            path: one of those the collector was made with.
            before: the scan as it was read.
            result: the denoised scan and its noise.
            maps: feature maps by name, each (z, y, x) from 0 (nothing) to 1, or from -1 (lost) to 1 (gained).
            flags: what a doctor should look at first.
        """
        place, after = self._places[path], result.scan
        fit = layout.fit(place, *before.pixels.shape)
        view = display.choose_view(before)
        wanted = {flag.slice for flag in flags if flag.slice is not None}
        depth = len(before.pixels)
        # A slice of a series that is a file of its own is left out by its place in the series.
        first = place.position if depth == 1 and place.of > 1 else 0
        chosen = [z for z in range(depth) if (first + z) % fit.stride == 0 or z in wanted]
        pictures = tuple(self._picture(before, after, z, fit, view, maps or {}) for z in chosen)
        middle = depth // 2
        self._shown[path] = Shown(
            place=place,
            kind=before.intensity.kind,
            unit=before.intensity.unit,
            depth=depth,
            native=before.pixels.shape[1:],
            view=view,
            inverted=bool(before.meta.get("inverted", False)),
            noise=(result.noise_before, result.noise_after),
            pictures=pictures,
            thumbnail=display.thumbnail(
                display.usable(after, middle),
                view,
                display.first_window(before, middle),
                inverted=bool(before.meta.get("inverted", False)),
            ),
            flags=(*flags, *_noise_flags(result)),
            notes=result.notes,
        )

    def _picture(
        self, before: Scan, after: Scan, z: int, fit: layout.Fit, view: display.View, maps: Mapping[str, FloatArray]
    ) -> Picture:
        images = [np.ascontiguousarray(view.turned(display.usable(scan, z))) for scan in (before, after)]
        size = fit.size(*images[0].shape)
        first, second = (display.shrink(image, size) for image in images)
        packed = {name: _map(view.turned(values[z])) for name, values in maps.items()}
        # Maps come out of the same bytes; images keep half of them at least.
        limit = max(fit.bytes / 2, fit.bytes - sum(len(data) for _, data in packed.values()))
        grid, pair, codes = _encode(first, second, display.finest_grid(before), limit)
        return Picture(
            index=z,
            size=size,
            grid=grid,
            pair=self._keep(pair),
            maps={name: (size, self._keep(data)) for name, (size, data) in packed.items()},
            window=display.first_window(before, z),
            removed=display.removed_limit(*codes, grid.step),
        )

    def _keep(self, data: bytes) -> Block:
        with self._lock:
            block = Block(self._end, len(data))
            self._spool.seek(block.start)
            self._spool.write(data)
            self._end += len(data)
        return block

    def read(self, block: Block) -> bytes:
        """Return the bytes of ``block``."""
        with self._lock:
            self._spool.seek(block.start)
            return self._spool.read(block.length)

    def series(self) -> "list[Series]":
        """Return what was added, in the order of the page."""
        groups: dict[int, list[tuple[Path, Shown]]] = {}
        for path, shown in self._shown.items():
            groups.setdefault(shown.place.group, []).append((path, shown))
        ordered = [sorted(groups[key], key=lambda item: item[1].place.position) for key in sorted(groups)]
        return [
            Series(number, tuple(path for path, _ in group), tuple(shown for _, shown in group))
            for number, group in enumerate(ordered, 1)
        ]

    def numbers(self) -> dict[Path, dict[str, int]]:
        """Return the numbers by which the page calls each file: of its series, and of the image where it is one."""
        found: dict[Path, dict[str, int]] = {}
        for series in self.series():
            for image, path in enumerate(series.paths, 1):
                found[path] = {"series": series.number} | ({"image": image} if len(series.paths) > 1 else {})
        return found


@dataclass(frozen=True)
class Series:
    """What is scrolled through as one: the slices of one file, or files of one slice each."""

    number: int
    paths: tuple[Path, ...]
    files: tuple[Shown, ...]

    @property
    def noise(self) -> tuple[float, float] | None:
        """The median noise of its files before and after; None where it could not be measured."""
        known = [file.noise for file in self.files if all(map(math.isfinite, file.noise))]
        return (median(n[0] for n in known), median(n[1] for n in known)) if known else None

    @property
    def slices(self) -> int:
        """The number of slices, also of those not shown."""
        return sum(file.depth for file in self.files)

    def pictures(self) -> Iterator[tuple[int, Shown, Picture]]:
        """Yield each picture with its number in the series, from 1, and its file."""
        before = 0
        for file in self.files:
            for picture in file.pictures:
                yield before + picture.index + 1, file, picture
            before += file.depth


def _encode(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], finest: Grid, limit: float
) -> tuple[Grid, bytes, tuple[Codes, Codes]]:
    """Return the finest steps with which both fit into ``limit`` bytes, and the bytes; at worst the coarsest."""
    for factor in COARSER:
        grid = Grid(finest.zero, finest.step * factor)
        codes = grid.codes(before), grid.codes(after)
        data = pack_pair(*codes)
        if len(data) <= limit:
            break
    return grid, data, codes


def _map(values: npt.NDArray[np.float32]) -> tuple[tuple[int, int], bytes]:
    height, width = values.shape
    size = display.display_size(height, width, MAP_SIDE)
    share = np.clip(np.nan_to_num(values.astype(np.float32), nan=0.0), -1, 1)
    return size, pack_map(np.rint(MAP_LEVELS * display.shrink(share, size)).astype(np.int32))


def _noise_flags(result: "Denoised") -> tuple[Flag, ...]:
    before, after = result.noise_before, result.noise_after
    if math.isfinite(before) and math.isfinite(after) and after > before > 0:
        return (Flag("its noise was not reduced"),)
    return ()
