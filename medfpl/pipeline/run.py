"""Denoising files: each is read, denoised and written on its own, and a failure stays its own."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from medfpl.errors import BadInput, MedfplError, TargetExists
from medfpl.io import check_suffix, read, sniff, write
from medfpl.io.atomic import check_target
from medfpl.pipeline.batch import Slots, Stopped, run_batch
from medfpl.pipeline.devices import choose_device
from medfpl.pipeline.engine import Denoised, Engine, Recipe, load, measure_noise, noise_of_slices
from medfpl.pipeline.extras import (
    noise_map_target,
    preview_target,
    residual_target,
    saliency_targets,
    write_noise_map,
    write_preview,
    write_residual,
)
from medfpl.pipeline.jobs import Job
from medfpl.pipeline.scale import SeriesScale
from medfpl.scan import Kind, Scan

if TYPE_CHECKING:
    from medfpl.saliency.maps import Explainer, Maps
    from medfpl.saliency.scans import Explained
    from medfpl.saliency.trust import Assessment


@dataclass(frozen=True)
class Wishes:
    """How to read, what to write, and what to do with outputs that exist.

    ``saliency`` writes feature maps, by the network ``explain`` (a name, run or card; None: the default one).
    ``transfer_syntax``, ``drop_private`` and the time ``when`` to state are for DICOM alone.
    """

    kind: Kind | None = None
    residual: bool = False
    noise_map: bool = False
    preview: bool = False
    saliency: bool = False
    explain: str | None = None
    overwrite: bool = False
    resume: bool = False
    allow_burned_in: bool = False
    transfer_syntax: str | None = None
    drop_private: bool = False
    when: datetime | None = None

    def for_format(self, format: str) -> dict[str, Any]:
        """Return the options of medfpl.io.write that files of ``format`` take."""
        names = ("transfer_syntax", "drop_private", "when") if format == "dicom" else ()
        return {name: getattr(self, name) for name in names}

    def by_products(self, target: Path) -> list[Path]:
        """Return the further files wished for beside ``target``."""
        wanted = ((self.residual, residual_target), (self.noise_map, noise_map_target), (self.preview, preview_target))
        maps = saliency_targets(target) if self.saliency else ()
        return [*(place(target) for wished, place in wanted if wished), *maps]


@dataclass(frozen=True)
class Outcome:
    """What became of one job; noise in ``unit`` (HU or grey levels), ``seconds`` are those spent on it.

    ``slice_noise`` is the noise before and after of each slice, where a noise map or saliency was wished for;
    ``feature_distance`` and the ``flagged`` slices come with saliency.
    """

    job: Job
    status: Literal["done", "kept", "failed", "stopped"]
    outputs: tuple[Path, ...] = ()
    kind: str = ""
    slices: int = 0
    unit: str = ""
    noise_before: float | None = None
    noise_after: float | None = None
    sha256: str = ""
    slice_noise: tuple[tuple[float, float], ...] = ()
    feature_distance: float | None = None
    flagged: tuple[int, ...] | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: Exception | None = None


class Collect(Protocol):
    """What is given each scan, its result and, with saliency, its maps and what can be trusted."""

    def __call__(
        self,
        job: Job,
        before: Scan,
        result: Denoised,
        maps: "Maps | None" = None,
        assessment: "Assessment | None" = None,
    ) -> None: ...


class FailedToLoad(Exception):
    """The method itself cannot be had, so that no file can be denoised; ``cause`` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class EngineOnDemand:
    """Loads the method when the first good file asks for it: refusals alone never import torch.

    ``tell`` is called once with the loaded engine, from whichever thread loads it.
    """

    def __init__(self, recipe: Recipe, tell: Callable[[Engine], None] = lambda engine: None) -> None:
        self.recipe = recipe
        self._tell = tell
        self._lock = threading.Lock()
        self.engine: Engine | None = None

    def get(self) -> Engine:
        """Return the engine, loaded once; raise FailedToLoad from what prevents it."""
        with self._lock:
            if self.engine is None:
                try:
                    self.engine = load(self.recipe)
                except Exception as error:
                    raise FailedToLoad(error) from error
                self._tell(self.engine)
            return self.engine


class ExplainerOnDemand:
    """Loads the explained network when the first good file asks for it, once."""

    def __init__(self, name: str | None, device: str) -> None:
        self._name, self._device = name, device
        self._lock = threading.Lock()
        self._explainer: Explainer | None = None

    def explain(
        self, before: Scan, after: Scan, watch: Callable[[int, int], None] = lambda done, total: None
    ) -> "Explained":
        """Return the maps and the trust of a pair; raise FailedToLoad from what prevents it."""
        from medfpl.saliency.scans import explain_scans

        return explain_scans(before, after, self.get(), watch)

    def get(self) -> "Explainer":
        """Return the explained network."""
        from medfpl.saliency.maps import load_explainer

        with self._lock:
            if self._explainer is None:
                try:
                    self._explainer = load_explainer(self._name, choose_device(self._device))
                except Exception as error:
                    raise FailedToLoad(error) from error
            return self._explainer


def denoise_files(
    jobs: Sequence[Job],
    engine: EngineOnDemand,
    wishes: Wishes,
    scale: SeriesScale,
    *,
    at_once: int = 1,
    watch: Callable[[Job, float], None] = lambda job, share: None,
    collect: Collect | None = None,
) -> Generator[tuple[int, Outcome]]:
    """Yield (position in ``jobs``, outcome) as each file is finished.

    ``watch(job, share)`` is told from the working threads how much of a file is denoised, 0 to 1. ``collect`` is
    given each scan and its result, also those of files kept from before, which are then read again.

    Raises:
        FailedToLoad: when the method cannot be loaded.
    """

    explainer = ExplainerOnDemand(wishes.explain, engine.recipe.device) if wishes.saliency else None

    def work(job: Job, slots: Slots) -> Outcome:
        started = time.monotonic()
        try:
            return _denoise_file(job, engine, explainer, wishes, scale, slots, watch, collect, started)
        except FailedToLoad:
            raise
        except Stopped:
            return Outcome(job, "stopped")
        except Exception as error:
            return Outcome(job, "failed", seconds=time.monotonic() - started, error=error)

    return run_batch(jobs, work, jobs=at_once)


def _denoise_file(
    job: Job,
    on_demand: EngineOnDemand,
    explainer: ExplainerOnDemand | None,
    wishes: Wishes,
    scale: SeriesScale,
    slots: Slots,
    watch: Callable[[Job, float], None],
    collect: Collect | None,
    started: float,
) -> Outcome:
    beside = wishes.by_products(job.target)
    outputs = (job.target, *beside)
    there = [path.exists() for path in outputs]
    if wishes.resume and all(there):
        if collect is not None:
            with slots.compute():
                slots.check()
                before, again = _read_again(job, wishes, scale)
                collect(job, before, again, *_seen(explainer.explain(before, again.scan) if explainer else None))
        return Outcome(job, "kept", outputs)
    # A resumed run makes a by-product that is missing together with its image, and gets the same bytes again.
    overwrite = wishes.overwrite or wishes.resume
    if any(there) and not overwrite:
        raise TargetExists("its output exists", "--overwrite replaces outputs, --resume keeps those that are complete")
    for path in outputs:
        check_target(path, job.path, overwrite=overwrite)
    scan = scale.apply(_read(job.path, wishes))
    check_suffix(scan, job.target)  # now, and not after minutes of denoising
    waiting = time.monotonic()
    with slots.compute():
        started += time.monotonic() - waiting  # its turn, not its cost
        slots.check()
        engine = on_demand.get()
        first = 0.3 if explainer else 1.0  # explaining costs more than denoising
        result = engine.run(scan, lambda done, total: _step(slots, watch, job, first * done / total))
        found = None
        if explainer:
            found = explainer.explain(
                scan, result.scan, lambda done, total: _step(slots, watch, job, first + (1 - first) * done / total)
            )
        noise = found.noise if found else tuple(noise_of_slices(scan, result.scan)) if wishes.noise_map else ()
    # The image comes last: where it exists, everything else of it does.
    if wishes.residual:
        write_residual(scan, result.scan, residual_target(job.target), overwrite=overwrite)
    if wishes.noise_map:
        write_noise_map(scan, noise_map_target(job.target), overwrite=overwrite)
    if explainer and found:
        from medfpl.saliency.files import write_beside

        text = engine.derivation.describe()
        write_beside(scan, result.scan, found, explainer.get(), text, job.target, overwrite=overwrite)
    if wishes.preview:
        write_preview(scan, result.scan, preview_target(job.target), overwrite=overwrite)
    options = wishes.for_format(scan.source.format)
    derivation = replace(engine.derivation, remarks=result.remarks)
    written = write(result.scan, job.target, derivation, overwrite=overwrite, **options)
    seconds = time.monotonic() - started
    if collect is not None:
        collect(job, scan, result, *_seen(found))
    outcome = _outcome(job, scan, result, (*written, *beside), seconds)
    if found:
        outcome = replace(outcome, feature_distance=found.distance, flagged=tuple(found.trust.flagged))
    return replace(outcome, slice_noise=noise)


def _seen(found: "Explained | None") -> "tuple[Maps | None, Assessment | None]":
    return (found.maps, found.trust) if found else (None, None)


def _read_again(job: Job, wishes: Wishes, scale: SeriesScale) -> tuple[Scan, Denoised]:
    """Return the scan of a file and its result of an earlier run."""
    before = scale.apply(_read(job.path, wishes))
    try:
        after = before.with_pixels(_read(job.target, wishes).pixels)
    except (MedfplError, ValueError) as error:
        raise BadInput("its result of an earlier run cannot be read", "remove it, or use --overwrite") from error
    return before, Denoised(after, *measure_noise(before, after))


def _read(path: Path, wishes: Wishes) -> Scan:
    if wishes.allow_burned_in and sniff(path) == "dicom":
        from medfpl.io.dicom_read import read_dicom

        return read_dicom(path, kind=wishes.kind, allow_burned_in=True)
    return read(path, kind=wishes.kind)


def _step(slots: Slots, watch: Callable[[Job, float], None], job: Job, share: float) -> None:
    slots.check()
    watch(job, share)


def _outcome(job: Job, scan: Scan, result: Denoised, outputs: tuple[Path, ...], seconds: float) -> Outcome:
    return Outcome(
        job,
        "done",
        outputs,
        kind=scan.intensity.kind,
        slices=len(scan.pixels),
        unit=scan.intensity.unit,
        noise_before=result.noise_before,
        noise_after=result.noise_after,
        sha256=scan.source.sha256,
        seconds=seconds,
        notes=result.notes,
    )
