"""One corrupted image, every method on it: what a worker process does."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from medfpl.bench import metrics
from medfpl.bench.cases import Case
from medfpl.bench.plan import Entry, PsnrKind, Unit
from medfpl.bench.rows import Row, TaskRow
from medfpl.bench.tasks import TASKS
from medfpl.bench.tasks.base import Trial
from medfpl.bench.tuning import Tuned
from medfpl.denoisers import METHODS, Denoiser
from medfpl.denoisers.sigma import estimate_noise
from medfpl.errors import MedfplError
from medfpl.noises import NOISES
from medfpl.noises.base import Record, draw_records, replay
from medfpl.scan import FloatArray
from medfpl.seeds import stable_seed

if TYPE_CHECKING:
    from torch import nn

# Random noise has a standard deviation, and methods that take one are told it. What an artifact does has none.
NOISE_LIKE = frozenset(
    ("gaussian", "noncentral-chi", "poisson", "rayleigh", "rician", "salt-pepper", "speckle", "thermal")
)


@dataclass(frozen=True)
class Run:
    """A method as it is to run on one corrupted image; ``tuning`` says where its settings are from."""

    cell: str
    entry: Entry
    tuned: Tuned
    tuning: str


@dataclass(frozen=True, eq=False)
class Work:
    """All that one unit needs, so that it can be done by another process or machine."""

    unit: Unit
    case: Case
    runs: tuple[Run, ...]
    psnr: PsnrKind = "true"
    tasks: tuple[str, ...] = ()
    features: str | None = None
    device: str = "cpu"
    keep_images: bool = False


@dataclass(frozen=True, eq=False)
class Done:
    """A unit's results; ``images`` (H, W) in working units are kept where the work asked for them."""

    unit: Unit
    rows: tuple[Row, ...]
    tasks: tuple[TaskRow, ...] = ()
    notes: tuple[str, ...] = ()
    images: dict[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class UnitCorruption:
    """The corruption of a unit, for its clean image and for others beside it (bench.tasks.base.Corrupt)."""

    unit: Unit
    case: Case

    def __call__(self, x: torch.Tensor, realisation: int = 0) -> torch.Tensor:
        """Return ``x`` (B, 1, H, W) corrupted; further realisations draw parameters and noise anew."""
        with torch.no_grad():
            return replay(x, NOISES.get(self.unit.noise), [self.record(realisation)] * len(x))

    def record(self, realisation: int = 0) -> Record:
        """Return what replays the corruption."""
        seed = stable_seed(self.unit.seed, "realisation", realisation) if realisation else self.unit.seed
        with torch.no_grad():
            (record,) = draw_records(
                self.case.image,
                NOISES.get(self.unit.noise),
                seeds=[seed],
                strength=self.unit.strength,
                given={"mode": self.unit.mode},
                contexts=[self.case.context],
                standing=self.case.image,
            )
        return record


@dataclass(frozen=True, eq=False)
class LoadedMethod:
    """A method with its settings and noise level, as the tasks run it on further images."""

    denoiser: Denoiser
    level: float | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the denoised batch; a plain tensor, which gradients can be taken of."""
        with torch.no_grad():
            y = self.denoiser.denoise(x, noise_level=self.level)
        return y.clone()


def run_unit(work: Work) -> Done:
    """Corrupt the case, run every method on it and score the results.

    Raises:
        MedfplError: if the noise itself cannot be made; a method that fails has a row that says so.
    """
    case, unit = work.case, work.unit
    noise = UnitCorruption(unit, case)
    noisy = noise(case.image)
    level, known = level_of(unit.noise, case.image, noisy)
    before = _scores(case, noisy, work.psnr)
    rows, tasks, notes, images = [], [], [], {"clean": case.image, "noisy": noisy}
    for run in work.runs:
        row, denoised, method = _one(work, run, noisy, level, known, before)
        rows.append(row)
        if denoised is None or method is None:
            continue
        images[run.entry.label] = denoised
        trial = Trial(case, case.image, noisy, denoised, noise, method, unit.seed, _features(work.features))
        for name in work.tasks:
            measured, note = _task(name, trial, row)
            tasks += measured
            notes += [f"{run.cell}: {note}"] * bool(note)
    kept = {name: x[0, 0].numpy() for name, x in images.items()} if work.keep_images else {}
    return Done(unit, tuple(rows), tuple(tasks), tuple(notes), kept)


def level_of(noise: str, clean: torch.Tensor, noisy: torch.Tensor) -> tuple[float, bool]:
    """Return the noise level in working units, the same for all methods, and whether it is the true one.

    For random noise it is the standard deviation of noisy minus clean over the image; for an artifact the estimate
    from the noisy image (denoisers.sigma.estimate_noise).
    """
    if noise in NOISE_LIKE:
        return float((noisy.double() - clean.double()).std(correction=0)), True
    return float(estimate_noise(noisy)), False


def _one(
    work: Work, run: Run, noisy: torch.Tensor, level: float, known: bool, before: dict[str, Any]
) -> tuple[Row, torch.Tensor | None, Callable[[torch.Tensor], torch.Tensor] | None]:
    case, unit, method = work.case, work.unit, METHODS.get(run.entry.method)
    told = run.tuned.told(level) if method.uses_noise_level else None
    row = Row(
        cell=run.cell,
        case=case.id,
        patient=case.patient,
        kind=case.intensity.kind,
        group=case.group,
        unit=case.intensity.unit,
        height=noisy.shape[-2],
        width=noisy.shape[-1],
        noise=unit.noise,
        mode=unit.mode,
        strength=unit.strength,
        seed=unit.seed,
        method=run.entry.method,
        prior="",
        tuning=run.tuning,
        settings=run.tuned.to_json(),
        noise_level=math.nan if told is None else told,
        level_known=known and told is not None and run.tuned.level is None,
        psnr_kind=work.psnr,
        data_range=1.0,
        **{f"{name}_in": value for name, value in before.items()},
        **dict.fromkeys(before, math.nan),
        seconds=math.nan,
        threads=torch.get_num_threads(),
        error="",
    )
    try:
        denoiser = _load(run.entry, run.tuned.settings, work.device)
        model = getattr(denoiser, "model", None)
        row = replace(row, prior="" if model is None else model.card.name)
        loaded = LoadedMethod(denoiser, told)
        _warm_up(run.entry, work.device, tuple(noisy.shape))
        started = time.perf_counter()
        denoised = loaded(noisy)
        seconds = time.perf_counter() - started
        if not bool(torch.isfinite(denoised).all()):
            raise MedfplError("it gave values that are not finite")
        return replace(row, seconds=seconds, **_scores(case, denoised, work.psnr)), denoised, loaded
    except Exception as error:  # one method's fault is its own
        return replace(row, error=_reason(error)), None, None


def _scores(case: Case, other: torch.Tensor, psnr: PsnrKind) -> dict[str, Any]:
    clean = case.image
    return {
        "psnr": metrics.psnr(clean, other, kind=psnr),
        "ssim": metrics.ssim(clean, other),
        "rmse": metrics.rmse(clean, other, case.intensity.scale),
        "gmsd": metrics.gmsd(clean, other),
    }


def _task(name: str, trial: Trial, row: Row) -> tuple[list[TaskRow], str]:
    """Return the values of one task, and why there are none."""
    task = TASKS.get(name)
    if task.kinds and row.kind not in task.kinds:
        return [], ""
    try:
        values: Sequence[Any] = task.run(trial)
    except Exception as error:
        return [], f"{name}: {_reason(error)}"
    same = ("cell", "case", "patient", "kind", "noise", "mode", "strength", "seed", "method", "prior")
    about = {key: getattr(row, key) for key in same}
    found = [
        TaskRow(
            **about, task=name, measure=v.measure, detail=v.detail, unit=task.measures[v.measure].unit, value=v.value
        )
        for v in values
    ]
    return found, ""


def _reason(error: Exception) -> str:
    # The text of an unexpected error may hold what was in the file.
    return error.message if isinstance(error, MedfplError) else type(error).__name__


# A process keeps what it loaded: the same method is used on one image after the other.
@lru_cache(maxsize=32)
def _load(entry: Entry, settings: tuple[tuple[str, Any], ...], device: str) -> Denoiser:
    method = METHODS.get(entry.method)
    given = dict(settings)
    if entry.model is not None:
        given["model"] = entry.model
    if "device" in method.settings:
        given["device"] = device
    return method.make(**given)


@lru_cache(maxsize=256)
def _warm_up(entry: Entry, device: str, shape: tuple[int, ...]) -> None:
    """Run a method once before it is timed: its first call in a process allocates, compiles and fills caches."""
    LoadedMethod(_load(entry, (), device), 0.05)(torch.full(shape, 0.5))


@lru_cache(maxsize=1)
def _features(name: str | None) -> "nn.Module | None":
    if name is None:
        return None
    from medfpl.explain.guided import frozen
    from medfpl.nets.weights import find_model, load_net

    return frozen(load_net(find_model(name, role="restoration")))
