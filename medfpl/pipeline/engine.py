"""One method, loaded once, applied to scans: working range in, padding kept, noise measured, real units out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from medfpl.denoisers import METHODS
from medfpl.denoisers.base import Restored, Undoing
from medfpl.errors import MedfplError, UsageError
from medfpl.io.derivation import Derivation
from medfpl.pipeline.devices import choose_device
from medfpl.scan import FloatArray, Intensity, Scan

if TYPE_CHECKING:
    from torch import Tensor

    from medfpl.denoisers import Denoiser

# Pixels of one batch: memory stays that of a few slices however long the volume is, and a CPU gains nothing from more.
CPU_BATCH, GPU_BATCH = 1 << 18, 1 << 22
MEASURED_SLICES = 16
DEFAULT_METHOD = "medfpl"
T = TypeVar("T")


@dataclass(frozen=True)
class NoiseLevel:
    """A given standard deviation of the noise: in real units (HU, grey levels), or in percent of the working range."""

    value: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> "NoiseLevel | None":
        """Return the level written as ``20`` or ``2.5%``; None for ``auto``. Raise UsageError otherwise."""
        if text == "auto":
            return None
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = -1.0
        if not (np.isfinite(value) and value >= 0):
            raise UsageError(f"--noise-level {text} is no level", "auto, a number in HU or grey levels, or 2.5%")
        return cls(value, text.endswith("%"))

    def working(self, intensity: Intensity) -> float:
        """Return the level in working units."""
        return self.value / 100 if self.percent else self.value / intensity.scale

    def __str__(self) -> str:
        return f"{self.value:g}{'%' if self.percent else ''}"


@dataclass(frozen=True)
class Recipe:
    """What to do, without where: plain values, the same from the command line and from Python."""

    method: str = DEFAULT_METHOD
    model: str | None = None
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise_level: NoiseLevel | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        METHODS.resolve(self.method)
        if not 0 <= self.strength <= 1:
            raise UsageError(f"the strength goes from 0 to 1, not {self.strength:g}")

    def arguments(self) -> dict[str, Any]:
        """Return this recipe for a record: plain values, and of a model's path its last part only."""
        return {
            "method": self.method,
            "model": Path(self.model).name if self.model else None,
            "device": self.device,
            "settings": dict(self.settings),
            "noise_level": "auto" if self.noise_level is None else str(self.noise_level),
            "strength": self.strength,
        }


@dataclass(frozen=True)
class Denoised:
    """A denoised scan and its noise before and after (standard deviation in real units, see ``measure_noise``).

    ``undone`` counts the slices in which an artifact was found and undone by its physics, by its name; ``corrected``
    those in which a network corrected one.
    """

    scan: Scan
    noise_before: float
    noise_after: float
    undone: Mapping[str, int] = field(default_factory=dict)
    corrected: Mapping[str, int] = field(default_factory=dict)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was undone and corrected, in words."""
        depth = len(self.scan.pixels)
        where = "" if depth == 1 else " in {} of " + f"{depth} slices"
        told = ((self.undone, "found and undone"), (self.corrected, "corrected"))
        return tuple(
            f"{name} {what}" + where.format(count) for counts, what in told for name, count in sorted(counts.items())
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of the scan and of what was done to it."""
        return (*self.scan.source.notes, *self.remarks)


@dataclass(frozen=True)
class Engine:
    """A loaded method and the device it computes on; ``needs_level`` where the method uses the noise level.

    ``mean_drifts`` where it may move a region's mean.
    """

    recipe: Recipe
    denoiser: "Denoiser"
    device: str
    needs_level: bool
    mean_drifts: bool
    derivation: Derivation

    def run(self, scan: Scan, watch: Callable[[int, int], None] = lambda done, total: None) -> Denoised:
        """Denoise every slice of ``scan``; pixels that are not valid stay as they are.

        ``watch(done, total)`` is told the slices before each batch and at the end; what it raises ends the run.

        Raises:
            MedfplError: if the method gives NaN or Inf, or runs out of memory.
        """
        depth, height, width = scan.pixels.shape
        step = max(1, (CPU_BATCH if self.device == "cpu" else GPU_BATCH) // (height * width))
        pixels = np.empty_like(scan.pixels)
        undone: Counter[str] = Counter()
        corrected: Counter[str] = Counter()
        for start in range(0, depth, step):
            watch(start, depth)
            part = slice(start, min(start + step, depth))
            valid = None if scan.valid is None else scan.valid[part]
            pixels[part], done = self._batch(scan.pixels[part], valid, scan.intensity)
            if self.recipe.strength > 0:  # at 0 the artifacts are still there
                undone.update(name for here in done.found for name in here)
                corrected.update(name for here in done.corrected for name in here)
        watch(depth, depth)
        result = scan.with_pixels(pixels)
        before, after = measure_noise(scan, result)
        return Denoised(result, before, after, dict(undone), dict(corrected))

    def _batch(
        self, real: FloatArray, valid: npt.NDArray[np.bool_] | None, intensity: Intensity
    ) -> tuple[FloatArray, Restored]:
        import torch

        working = fill_invalid(intensity.to_working(real), valid)
        with torch.inference_mode():
            x = torch.from_numpy(working).unsqueeze(1)
            done = self._restore(x, intensity, valid)
            change = self.recipe.strength * (done.result - x).squeeze(1).numpy()
        if valid is not None:
            change = np.where(valid, change, 0)
        if not np.isfinite(change).all():
            raise MedfplError(f"{self.recipe.method} gave values that are not finite")
        # The change is mapped back, not the value: where the filter did nothing, nothing is rounded.
        return np.where(change == 0, real, real + change * np.float32(intensity.scale)), done

    def denoise(self, x: "Tensor", intensity: Intensity, valid: npt.NDArray[np.bool_] | None = None) -> "Tensor":
        """Return ``x`` (B, 1, H, W), working units of ``intensity``, denoised at full strength.

        ``valid`` (B, H, W) is False at pixels whose noise says nothing.
        """
        return self._restore(x, intensity, valid).result

    def _restore(self, x: "Tensor", intensity: Intensity, valid: npt.NDArray[np.bool_] | None) -> Restored:
        level = self._level(x, valid, intensity)
        if isinstance(self.denoiser, Undoing):
            done = self._within_memory(partial(self.denoiser.restore, kind=intensity.kind), x)
        else:
            y = self._within_memory(partial(self.denoiser.denoise, noise_level=level), x)
            done = Restored(y, x, [], [])
        if self.mean_drifts and intensity.kind == "ct":
            from medfpl.denoisers.local_mean import restore_mean

            known = _estimate(done.undone, valid) if level is None else level
            done = replace(done, result=restore_mean(done.undone, done.result, known))
        return done

    def _level(self, x: "Tensor", valid: npt.NDArray[np.bool_] | None, intensity: Intensity) -> "Tensor | float | None":
        if self.recipe.noise_level is not None:
            return self.recipe.noise_level.working(intensity)
        if not self.needs_level:
            return None
        return _estimate(x, valid)

    def _within_memory(self, act: "Callable[[Tensor], T]", x: "Tensor") -> T:
        import torch

        try:
            return act(x)
        except torch.OutOfMemoryError:
            raise MedfplError(f"not enough memory on {self.device}", "try --device cpu") from None


def load(recipe: Recipe) -> Engine:
    """Load the method of ``recipe`` on its device.

    Raises:
        UsageError: for a setting, model or device that the method does not take.
        MedfplError: if the model or the device is not there.
    """
    method = METHODS.get(recipe.method)
    settings = dict(recipe.settings)
    device = choose_device(recipe.device)
    if "device" in method.settings:
        settings["device"] = device
    elif recipe.device == "auto":
        device = "cpu"
    elif device != "cpu":
        raise UsageError(f"{method.name} runs on the CPU only", "leave --device away")
    if recipe.model is not None:
        if "model" not in method.settings:
            raise UsageError(f"{method.name} has no models", "--model is for medfpl and dpir")
        settings["model"] = recipe.model
    denoiser = method.make(**settings)
    model = getattr(denoiser, "model", None)  # methods with weights say which
    told = {k: v for k, v in settings.items() if k not in ("device", "model")}
    if recipe.strength != 1:
        told["strength"] = recipe.strength
    if recipe.noise_level is not None:
        told["noise_level"] = str(recipe.noise_level)
    derivation = Derivation(
        verb="denoised",
        method=method.name,
        model=model.card.name if model else "",
        weights_sha256=model.card.sha256 if model else "",
        parameters=told,
    )
    return Engine(recipe, denoiser, device, method.uses_noise_level, method.mean_drifts, derivation)


def measure_noise(before: Scan, after: Scan) -> tuple[float, float]:
    """Return the noise of both (same shape): the median over at most MEASURED_SLICES slices, in real units.

    On a CT slice it is the standard deviation that its soft tissue has most often, which does not depend on how
    the noise is correlated; elsewhere, and where there is no soft tissue, that of white noise.
    """
    depth = len(before.pixels)
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, MEASURED_SLICES)).round().astype(int))
    pairs = noise_of_slices(before, after, chosen.tolist())
    first, second = np.median(np.array(pairs, dtype=np.float64), axis=0)
    return float(first), float(second)


def noise_of_slices(before: Scan, after: Scan, slices: Sequence[int] | None = None) -> list[tuple[float, float]]:
    """Return the noise of both in each slice, or in those named: standard deviation in real units."""
    return [_noise_of_slice(before, after, z) for z in (range(len(before.pixels)) if slices is None else slices)]


def white_noise(scan: Scan, z: int) -> float:
    """Return the standard deviation, real units, that white noise in slice ``z`` would have."""
    import torch

    valid = None if scan.valid is None else scan.valid[z : z + 1]
    image = fill_invalid(scan.pixels[z : z + 1], valid)
    with torch.inference_mode():
        return float(_estimate(torch.from_numpy(image).unsqueeze(1), valid))


def _noise_of_slice(before: Scan, after: Scan, z: int) -> tuple[float, float]:
    import torch

    from medfpl.denoisers.sigma import soft_tissue_noise

    valid = None if before.valid is None else before.valid[z : z + 1]
    images = [fill_invalid(s.pixels[z : z + 1], valid) for s in (before, after)]
    if before.intensity.kind == "ct":
        # The denoised slice shows where soft tissue is flat.
        first, second = (soft_tissue_noise(image[0], images[1][0]) for image in images)
        if first is not None and second is not None:
            return first, second
    with torch.inference_mode():
        first, second = (float(_estimate(torch.from_numpy(image).unsqueeze(1), valid)) for image in images)
    return first, second


def _estimate(x: "Tensor", valid: npt.NDArray[np.bool_] | None) -> "Tensor":
    import torch

    from medfpl.denoisers.sigma import estimate_noise

    return estimate_noise(x, None if valid is None else torch.from_numpy(valid).unsqueeze(1))


def fill_invalid(working: FloatArray, valid: npt.NDArray[np.bool_] | None) -> FloatArray:
    """Return (z, y, x) pixels with every pixel that is not valid replaced by the nearest valid one of its slice.

    A slice without valid pixels becomes 0 (black).
    """
    if valid is None or valid.all():
        return working
    from scipy.ndimage import distance_transform_edt

    filled = working.copy()
    for image, ok in zip(filled, valid, strict=True):
        if not ok.any():
            image[:] = 0
        elif not ok.all():
            nearest = distance_transform_edt(~ok, return_distances=False, return_indices=True)
            image[:] = image[tuple(nearest)]
    return filled
