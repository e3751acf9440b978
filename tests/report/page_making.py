"""Scans and pages for tests of the report, and an independent reader of a page's blocks."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medfpl.pipeline.engine import Denoised
from medfpl.report import About, Collector, write_page
from medfpl.scan import FloatArray, Geometry, Intensity, Kind, Scan, Source, Stored, choose_intensity

ABOUT = About(method="mean", summary="a mean filter", limits=("Only for tests.",))


def scan_of(pixels: FloatArray, path: Path, *, kind: Kind = "ct", affine: Any = None, **meta: Any) -> Scan:
    """Return a scan of real values (z, y, x) that seems to come from ``path``, which is made."""
    path.write_bytes(b"\0" * 2 * pixels.size)
    stored = Stored(np.rint(pixels).astype(np.int16))
    intensity: Intensity = choose_intensity(kind, pixels)
    spacing = None if affine is None else tuple(float(np.linalg.norm(affine[:3, i])) for i in range(3))
    source = Source(path, "npy", stored, pixels.shape, "0" * 64)
    return Scan(pixels.astype(np.float32), intensity, Geometry(spacing, affine), source, meta=meta)  # type: ignore[arg-type]


def chest(depth: int, size: int, *, noise: float = 20.0, grain: int = 1, seed: int = 0) -> FloatArray:
    """Return HU (z, y, x): a body with two lungs in air, with noise in squares of ``grain`` pixels."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.full((size, size), -1000.0)
    image[(x / 0.9) ** 2 + (y / 0.65) ** 2 < 1] = 40
    for side in (-0.42, 0.42):
        image[((x - side) / 0.3) ** 2 + (y / 0.45) ** 2 < 1] = -800
    image[x**2 + (y - 0.4) ** 2 < 0.01] = 700
    rng = np.random.default_rng(seed)
    coarse = [noise * rng.standard_normal((size // grain, size // grain)) for _ in range(depth)]
    slices = [image + 5 * z + np.kron(grains, np.ones((grain, grain))) for z, grains in enumerate(coarse)]
    return np.stack(slices).astype(np.float32)


def halved(scan: Scan) -> Denoised:
    """Return ``scan`` with each value nearer to its neighbours, as a filter would."""
    near = sum(np.roll(scan.pixels, shift, axis) for axis in (1, 2) for shift in (-1, 1)) / 4
    return Denoised(scan.with_pixels((0.3 * scan.pixels + 0.7 * near).astype(np.float32)), 20.0, 8.0)


def lowered(scan: Scan) -> Denoised:
    """Return ``scan`` less 30."""
    return Denoised(scan.with_pixels(scan.pixels - np.float32(30)), 20.0, 8.0)


def page_of(
    scans: list[Scan],
    target: Path,
    *,
    about: About = ABOUT,
    result_of: Callable[[Scan], Denoised] = halved,
    **more: Any,
) -> str:
    """Write the page of ``scans`` and ``result_of`` each, ``more`` being given of each, and return its text."""
    with Collector([scan.source.path for scan in scans]) as collector:
        for scan in scans:
            collector.add(scan.source.path, scan, result_of(scan), **more)
        write_page(collector, about, target, overwrite=True)
    return target.read_text("utf-8")


def data_of(page: str) -> Any:
    """Return what the viewer is told."""
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def block_of(page: str, name: str) -> bytes:
    """Return the inflated bytes of a block."""
    found = re.search(rf'<script type="application/octet-stream" id="{name}">(.*?)</script>', page, re.S)
    assert found
    return zlib.decompress(base64.b64decode(found[1], validate=True))


def unpack(data: bytes, height: int, width: int, planes: int) -> list[list[list[int]]]:
    """Return the planes of a block, number by number as the format says: slow, and made of nothing but its words."""
    count = height * width
    long = count * planes
    found = []
    for plane in range(planes):
        numbers = []
        for i in range(count):
            folded = data[plane * count + i]
            if folded == 255:
                folded = int.from_bytes(data[long : long + 2], "little")
                long += 2
            numbers.append(folded // 2 if folded % 2 == 0 else -(folded + 1) // 2)
        found.append([numbers[y * width : (y + 1) * width] for y in range(height)])
    assert long == len(data)
    return found


def predicted(rows: list[list[int]]) -> list[list[int]]:
    """Return the codes of residuals: the median of left, above and left + above - corner is added to each."""
    out: list[list[int]] = []
    for y, row in enumerate(rows):
        out.append([])
        for x, residual in enumerate(row):
            if y and x:
                left, above, corner = out[y][x - 1], out[y - 1][x], out[y - 1][x - 1]
                guess = sorted((left, above, left + above - corner))[1]
            else:
                guess = out[y][x - 1] if x else out[y - 1][x] if y else 0
            out[y].append(guess + residual)
    return out


def pair_of(page: str, item: dict[str, Any]) -> tuple[FloatArray, FloatArray]:
    """Return before and after of a slice of the page, in real units."""
    after, removed = unpack(block_of(page, item["pair"]), *item["size"], 2)
    zero, step = item["grid"]
    codes = np.array(predicted(after))
    return zero + step * (codes + np.array(removed)), zero + step * codes
