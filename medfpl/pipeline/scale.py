"""MR has no absolute scale: the slices of one series, each in its own file, share one working range."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medfpl.errors import MedfplError
from medfpl.io.dicom_read import read_dicom
from medfpl.io.series import group_series
from medfpl.scan import Intensity, Scan, choose_intensity

MIDDLE_SLICES = 5


class SeriesScale:
    """Gives single-slice MR files the range of their series' middle slices.

    ``files`` are all inputs, of whatever shard: each shard then finds the same range. Only the headers of
    files in the same folder are read, once, and only when an MR slice turns up. Safe to use from many threads.
    """

    def __init__(self, files: Sequence[Path], *, allow_burned_in: bool = False) -> None:
        self._allow_burned_in = allow_burned_in
        self._by_folder: dict[Path, list[Path]] = {}
        for path in files:
            self._by_folder.setdefault(path.parent, []).append(path)
        self._known: dict[Path, Intensity] = {}
        self._grouped: set[Path] = set()
        self._lock = threading.Lock()

    def apply(self, scan: Scan) -> Scan:
        """Return ``scan`` with its series' range; anything but a single MR slice of a DICOM series stays as it is."""
        path = scan.source.path
        if scan.source.format != "dicom" or scan.intensity.kind != "mr" or len(scan.pixels) > 1:
            return scan
        with self._lock:
            if path.parent not in self._grouped:
                self._group(path.parent)
            shared = self._known.get(path)
        return replace(scan, intensity=shared) if shared else scan

    def _group(self, folder: Path) -> None:
        self._grouped.add(folder)
        siblings = self._by_folder.get(folder, [])
        if len(siblings) < 2:
            return
        for series in group_series(siblings, allow_burned_in=self._allow_burned_in):
            paths = series.paths
            if series.kind != "mr" or len(paths) < 2:
                continue
            middle = [s for s in map(self._read, _middle(paths)) if s is not None]
            if not middle:
                continue
            values = [s.pixels[s.valid] if s.valid is not None else s.pixels.ravel() for s in middle]
            shared = choose_intensity("mr", np.concatenate(values))
            self._known.update(dict.fromkeys(paths, shared))

    def _read(self, path: Path) -> Scan | None:
        try:
            return read_dicom(path, kind="mr", allow_burned_in=self._allow_burned_in)
        except MedfplError:
            return None  # its own turn will tell


def _middle(paths: Sequence[Path]) -> Sequence[Path]:
    start = max(0, (len(paths) - MIDDLE_SLICES) // 2)
    return paths[start : start + MIDDLE_SLICES]
