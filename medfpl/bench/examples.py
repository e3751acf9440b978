"""The example images that a run saved: read back, with the window that suits them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from medfpl.scan import FloatArray, Geometry, Intensity, Scan, Source, Stored
from medfpl.views import Window, choose_windows


@dataclass(frozen=True, eq=False)
class Example:
    """One corrupted image and what each method made of it, (H, W) in real units, seen through ``window``."""

    case: str
    noise: str
    intensity: Intensity
    clean: FloatArray
    noisy: FloatArray
    results: Mapping[str, FloatArray]
    window: Window


class Examples(Sequence[Example]):
    """Examples that are read when they are asked for: all at once may not fit in memory."""

    def __init__(self, found: Sequence[tuple[Path, str, str, Mapping[str, object]]]) -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Examples": ...
    def __getitem__(self, index: int | slice) -> "Example | Examples":
        if isinstance(index, slice):
            return Examples(self._found[index])
        return _load(*self._found[index])


def find_examples(folder: Path) -> Examples:
    """Return the examples saved in ``folder`` (``CASE-NOISE.npz`` and ``meta.json``), none if there is no folder."""
    if not (folder / "meta.json").is_file():
        return Examples([])
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    found = []
    for path in sorted(folder.glob("*.npz")):
        # Both names may hold hyphens: the longest known case that fits.
        case = max((c for c in meta if path.stem.startswith(f"{c}-")), key=len, default=None)
        if case is not None:
            found.append((path, case, path.stem[len(case) + 1 :], meta[case]))
    return Examples(found)


def _load(path: Path, case: str, noise: str, meta: Mapping[str, object]) -> Example:
    intensity = Intensity(meta["kind"], meta["unit"], meta["black"], meta["white"])  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as file:
        images = {name: intensity.to_real(file[name].astype(np.float32)) for name in file.files}
    clean, noisy = images.pop("clean"), images.pop("noisy")
    shown = Scan(clean[None], intensity, Geometry(), Source(path, "npy", Stored(clean[None]), clean.shape, ""))
    return Example(case, noise, intensity, clean, noisy, images, choose_windows(shown, 0)[0])
