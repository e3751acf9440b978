"""The cases of the sample data: the clean phantoms with their known lesions, and a real CT slice."""

import json
from collections.abc import Iterator
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

from medfpl.bench.cases import Case
from medfpl.bench.data import CUTS, DataSettings, Origin, case_of_scan
from medfpl.io import read
from medfpl.sample import real_ct_path, sample_path
from medfpl.scan import Kind, Scan
from medfpl.store.find import patient_hash

IMAGES: dict[str, tuple[str, Kind]] = {
    "chest_ct": ("chest_ct/clean", "ct"),
    "abdomen_ct": ("abdomen_ct_clean.nii.gz", "ct"),
    "chest_xray": ("chest_xray_clean.dcm", "xray"),
    "brain_mr": ("brain_mr_clean.nii.gz", "mr"),
}
REAL = "ct_small"


def sample_origins(settings: DataSettings) -> list[Origin]:
    """Return the sample images; each phantom is a patient of its own."""
    lesions = json.loads((sample_path() / "lesions.json").read_text("utf-8"))
    origins = [
        Origin(name, patient_hash(name), kind, partial(_cases, sample_path() / place, name, lesions[name], settings))
        for name, (place, kind) in IMAGES.items()
    ]
    real = partial(_cases, real_ct_path(), REAL, [], settings)
    return [*origins, Origin(REAL, patient_hash(REAL), "ct", real)]


def visible(lesions: list[dict[str, Any]], scan: Scan, z: int) -> list[tuple[float, float, float]]:
    """Return (row, column, radius) in pixels of the balls that slice ``z`` cuts; in a projection every one is seen."""
    spacing = scan.geometry.spacing or (1.0, 1.0, 1.0)
    found = []
    for ball in lesions:
        radius = ball["diameter_mm"] / 2
        if "centre_pixel" in ball:
            row, column = ball["centre_pixel"]
            found.append((row, column, radius / spacing[1]))
            continue
        slice_at, row, column = ball["centre_voxel"]
        off = abs(slice_at - z) * spacing[0]
        if off < radius:
            found.append((row, column, sqrt(radius**2 - off**2) / spacing[1]))
    return found


def _cases(path: Path, name: str, lesions: list[dict[str, Any]], settings: DataSettings) -> Iterator[Case]:
    """Yield the slices with the most lesions first, then those nearest to the middle."""
    scan = _read(path)
    depth = len(scan.pixels)
    order = sorted(range(depth), key=lambda z: (-len(visible(lesions, scan, z)), abs(z - depth / 2)))
    for z in order[: len(CUTS)]:
        yield case_of_scan(scan, z, patient_hash(name), settings.size, lesions=visible(lesions, scan, z))


def _read(path: Path) -> Scan:
    if not path.is_dir():
        return read(path)
    from medfpl.io.series import group_series, read_series

    return read_series(group_series(path.glob("*.dcm")).series[0])
