"""Explaining files and series: each is denoised (or comes with its result), explained, and gets a folder of its own."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, TargetExists, UsageError
from medfpl.io import read, sniff, suffix_of
from medfpl.pipeline import as_scan
from medfpl.pipeline.devices import choose_device
from medfpl.pipeline.engine import DEFAULT_METHOD, NoiseLevel, Recipe, load
from medfpl.pipeline.extras import stem
from medfpl.pipeline.jobs import Plan, plan
from medfpl.pipeline.run import EngineOnDemand, ExplainerOnDemand, FailedToLoad
from medfpl.scan import Intensity, Kind, Scan

if TYPE_CHECKING:
    from medfpl.saliency.scans import Explained

RECORD = "saliency.json"


@dataclass(frozen=True)
class Writing:
    """How to write: which slices get a picture ("all"; None: the middle one and the worst flagged), and over what."""

    overwrite: bool = False
    slices: tuple[int, ...] | Literal["all"] | None = None
    when: datetime | None = None


@dataclass(frozen=True)
class Item:
    """A file or a DICOM series: what people call it, its files in order, and the folder of its results."""

    name: str
    paths: tuple[Path, ...]
    folder: Path


@dataclass(frozen=True)
class Result:
    """What became of an item; noise in ``unit``, ``flagged`` slices from 0."""

    item: Item
    status: Literal["done", "kept", "failed"]
    outputs: tuple[Path, ...] = ()
    kind: str = ""
    unit: str = ""
    slices: int = 0
    noise: tuple[float, float] | None = None
    feature_distance: float | None = None
    flagged: tuple[int, ...] = ()
    seconds: float = 0.0
    error: Exception | None = None


def plan_items(inputs: Sequence[Path], output: Path, *, allow_burned_in: bool = False) -> tuple[list[Item], Plan]:
    """Return what to explain: DICOM files by series, others alone, each with a folder below ``output``.

    Raises:
        UsageError: if ``output`` is no folder, or two inputs would have one.
    """
    if suffix_of(output):
        raise UsageError("the maps need a folder", "give -o a name without an image suffix")
    work = plan(inputs, output, "saliency", lambda target: ())
    dicom = [job for job in work.jobs if _is_dicom(job.path)]
    alone = {job.path for job in work.jobs}
    items = []
    if len(dicom) > 1:
        from medfpl.io.series import group_series

        places = {job.path: job.target.parent for job in dicom}
        for series in group_series(places, allow_burned_in=allow_burned_in):
            if len(series.paths) > 1:
                items.append(Item(series.name, series.paths, places[series.paths[0]] / f"series_{series.number}"))
                alone -= set(series.paths)
    items += [Item(str(j.path), (j.path,), j.target.with_name(stem(j.target))) for j in work.jobs if j.path in alone]
    if len({item.folder for item in items}) < len(items):
        raise UsageError("two inputs would be written to one folder", "explain them into different folders")
    return items, work


def explain_items(
    items: Sequence[Item],
    engine: EngineOnDemand,
    explainer: ExplainerOnDemand,
    writing: Writing,
    *,
    kind: Kind | None = None,
    denoised: Path | None = None,
    resume: bool = False,
    allow_burned_in: bool = False,
    watch: Callable[[int, float], None] = lambda number, share: None,
) -> Iterator[Result]:
    """Yield what became of each item, in order; ``watch(number, share)`` is told how far an item is, 0 to 1.

    ``denoised`` is the result of the one item: a file or the folder of a series, which is then not denoised here.

    Raises:
        FailedToLoad: if the method or the explained network cannot be had.
    """
    if denoised is not None and len(items) != 1:
        raise UsageError(f"--denoised is the result of one file or series, not of {len(items)}")
    for number, item in enumerate(items):
        started = time.monotonic()
        try:
            if (item.folder / RECORD).exists() and not writing.overwrite:
                if resume:
                    yield Result(item, "kept")
                    continue
                raise TargetExists("its output exists", "--overwrite replaces outputs, --resume keeps them")

            def told(share: float, number: int = number) -> None:
                watch(number, share)

            before = _read(item.paths, kind, allow_burned_in)
            if denoised is not None:
                after, text = _given(before, denoised, allow_burned_in), "elsewhere, and given as a file"
            else:
                loaded = engine.get()
                after = loaded.run(before, lambda done, total: told(0.25 * done / total)).scan
                text = loaded.derivation.describe()
            found = explainer.explain(before, after, lambda done, total: told(0.25 + 0.7 * done / total))
            yield _written(item, before, after, found, explainer, text, writing, started)
        except FailedToLoad:
            raise
        except Exception as error:
            yield Result(item, "failed", seconds=time.monotonic() - started, error=error)


def explain_scan(
    source: str | Path | Scan | npt.NDArray[Any],
    denoised: str | Path | Scan | npt.NDArray[Any] | None = None,
    *,
    method: str = DEFAULT_METHOD,
    model: str | Path | None = None,
    explain: str | Path | None = None,
    device: str = "auto",
    kind: Kind | None = None,
    noise_level: float | str = "auto",
    strength: float = 1.0,
    intensity: Intensity | None = None,
    **settings: Any,
) -> "Explained":
    """Return the feature maps of an image before and after denoising, and what can be trusted of the change.

    Args:
        source: a file, a scan, or real values (H, W) or (Z, H, W).
        denoised: the same denoised, however that was done; None: by ``method`` (as ``medfpl.denoise``).
        explain: name, run folder or card of the explained network; None: the default one.

    Returns:
        ``maps`` (before, after, difference: (Z, H, W) arrays; distance: (Z,)) and ``trust``, slice by slice.

    Raises:
        MedfplError: for a file, method, setting or model that will not do, or shapes that differ.
    """
    from medfpl.saliency.maps import load_explainer
    from medfpl.saliency.scans import explain_scans

    before = as_scan(source, kind, intensity)
    recipe = Recipe(
        method, None if model is None else str(model), device, settings, NoiseLevel.parse(str(noise_level)), strength
    )
    if denoised is None:
        after = load(recipe).run(before).scan
    else:
        after = _like(before, as_scan(denoised, before.intensity.kind, before.intensity))
    return explain_scans(
        before, after, load_explainer(None if explain is None else str(explain), choose_device(device))
    )


def _written(
    item: Item,
    before: Scan,
    after: Scan,
    found: "Explained",
    explainer: ExplainerOnDemand,
    text: str,
    writing: Writing,
    started: float,
) -> Result:
    from medfpl.saliency.files import write_all

    outputs = write_all(before, after, found, explainer.get(), text, item.folder, writing)
    noise = np.median(np.array(found.noise, np.float64), axis=0)
    return Result(
        item,
        "done",
        tuple(outputs),
        kind=before.intensity.kind,
        unit=before.intensity.unit,
        slices=len(before.pixels),
        noise=(float(noise[0]), float(noise[1])),
        feature_distance=found.distance,
        flagged=tuple(found.trust.flagged),
        seconds=time.monotonic() - started,
    )


def _read(paths: Sequence[Path], kind: Kind | None, allow_burned_in: bool) -> Scan:
    if len(paths) > 1 or (allow_burned_in and _is_dicom(paths[0])):
        from medfpl.io.series import read_files

        return read_files(paths, kind=kind, allow_burned_in=allow_burned_in)
    return read(paths[0], kind=kind)


def _given(before: Scan, path: Path, allow_burned_in: bool) -> Scan:
    paths: tuple[Path, ...] = (path,)
    if path.is_dir():
        from medfpl.io.series import group_series

        found = group_series(sorted(p for p in path.iterdir() if p.is_file()), allow_burned_in=allow_burned_in)
        if len(found) != 1:
            raise BadInput(f"the denoised folder holds {len(found)} series, and one is needed")
        paths = found.series[0].paths
    return _like(before, _read(paths, before.intensity.kind, allow_burned_in))


def _like(before: Scan, after: Scan) -> Scan:
    if after.pixels.shape != before.pixels.shape:
        raise BadInput(f"the denoised image is {after.pixels.shape}, and not {before.pixels.shape} as its source")
    if not before.geometry.same_as(after.geometry, 1e-2):
        raise BadInput("the denoised image lies elsewhere in space than its source")
    return before.with_pixels(after.pixels)


def _is_dicom(path: Path) -> bool:
    try:
        return sniff(path) == "dicom"
    except Exception:  # what it is instead is told when it is read
        return False
