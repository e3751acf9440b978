"""Denoising from Python, with the same results as the command line: ``medfpl.denoise(path, scan or array)``."""

from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, UsageError
from medfpl.pipeline.engine import DEFAULT_METHOD, Denoised, Engine, NoiseLevel, Recipe, load
from medfpl.pipeline.extras import check_page
from medfpl.scan import Geometry, Intensity, Kind, Scan, Stored

__all__ = ["Denoised", "Engine", "NoiseLevel", "Recipe", "denoise", "load"]


@overload
def denoise(source: str | Path | Scan, **options: Any) -> Scan: ...
@overload
def denoise(source: npt.NDArray[Any], **options: Any) -> npt.NDArray[np.float32]: ...
def denoise(
    source: str | Path | Scan | npt.NDArray[Any],
    *,
    method: str = DEFAULT_METHOD,
    model: str | Path | None = None,
    device: str = "auto",
    kind: Kind | None = None,
    noise_level: float | str = "auto",
    strength: float = 1.0,
    intensity: Intensity | None = None,
    report: str | Path | None = None,
    **settings: Any,
) -> Scan | npt.NDArray[np.float32]:
    """Return a denoised copy of an image file, a Scan or an array.

    Args:
        source: a file that ``medfpl.read`` reads, a scan, or real values (H, W) or (Z, H, W) of any number type.
        method: a name of ``medfpl info``'s methods; ``settings`` are its settings.
        model: name or run folder of the network's weights.
        device: "auto", "cpu", "cuda", ...
        kind: "ct" (values are HU), "xray", "mr" or "other", where a file does not say; an array is guessed without it.
        noise_level: "auto", a standard deviation in HU or grey levels, or "2.5%" of the working range.
        strength: share of the change that is kept, 0 to 1.
        intensity: the working range to use instead of the chosen one.
        report: a new file for one self-contained HTML page of before and after.

    Returns:
        A Scan for a file or a scan; for an array, float32 of the same shape in the same units. NaN and Inf stay.

    Raises:
        MedfplError: for a file, method, setting, model or device that will not do. To load a method once for many
            images, use ``medfpl.pipeline.load(Recipe(...)).run(scan)``.
    """
    level = NoiseLevel.parse(str(noise_level))
    recipe = Recipe(method, None if model is None else str(model), device, settings, level, strength)
    if report is not None:
        check_page(Path(report), [source] if isinstance(source, str | Path) else [])
    scan = as_scan(source, kind, intensity)
    engine = load(recipe)
    denoised = engine.run(scan)
    result = denoised.scan
    if report is not None:
        from medfpl.report import Collector, about_engine, write_page

        with Collector([scan.source.path]) as collector:
            collector.add(scan.source.path, scan, denoised)
            write_page(collector, about_engine(recipe, engine), Path(report))
    if isinstance(source, np.ndarray):
        return result.pixels.reshape(source.shape)
    return result


def as_scan(source: str | Path | Scan | npt.NDArray[Any], kind: Kind | None, intensity: Intensity | None) -> Scan:
    """Return a file, a scan or an array of real values as a scan, with ``intensity`` if one is given."""
    if isinstance(source, np.ndarray):
        scan = scan_of_array(source, kind)
    elif isinstance(source, Scan):
        scan = source
    else:
        from medfpl.io import read

        if Path(source).is_dir():
            raise UsageError("a folder holds many scans", "use the command line, or read its files one by one")
        scan = read(Path(source), kind=kind)
    return scan if intensity is None else replace(scan, intensity=intensity)


def scan_of_array(array: npt.NDArray[Any], kind: Kind | None) -> Scan:
    """Return real values (H, W) or (Z, H, W) as the scan that their .npy file would be; NaN and Inf are not valid."""
    from medfpl.io.common import assemble

    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "iuf":
        raise BadInput(f"an image is a non-empty array of numbers (H, W) or (Z, H, W), not {array.dtype} {array.shape}")
    stored = Stored(array.reshape((-1, *array.shape[-2:])))
    nowhere = Path()
    return assemble(
        nowhere, "npy", stored, array.shape, "", kind=kind, otherwise="other", geometry=Geometry(), native=None
    )
