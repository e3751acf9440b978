"""Adding noise to scans: every slice corrupted, padding kept, and a record that makes the same noise again.

``medfpl.noise(path, scan or array, "rician")`` gives what the command line writes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from math import inf, log10, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.io.derivation import Derivation
from medfpl.manifest import versions
from medfpl.noises import NOISES
from medfpl.pipeline.engine import fill_invalid
from medfpl.scan import FloatArray, Intensity, Kind, Scan
from medfpl.seeds import stable_seed

if TYPE_CHECKING:
    from medfpl.noises.base import Context, Noise, Record

FORMAT = "medfpl noise 1"
DEFAULT_STRENGTH = 0.5
# Pixels of one batch, part of FORMAT: an FFT of several slices may round unlike that of one.
BATCH = 1 << 20
FIELD_OF_VIEW_MM = 350.0  # of a CT whose file does not give the pixel size


@dataclass(frozen=True)
class NoiseRecipe:
    """Which noise to add: plain values, the same from the command line and from Python.

    ``settings`` are a noise's physical parameters and its ``mode``; they override what ``strength`` says.
    """

    type: str
    strength: float = DEFAULT_STRENGTH
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        NOISES.resolve(self.type)
        if not 0 <= self.strength <= 1:
            raise UsageError(f"the strength goes from 0 to 1, not {self.strength:g}")

    @property
    def noise(self) -> "Noise":
        """The noise itself (imports torch)."""
        return NOISES.get(self.type)


@dataclass(frozen=True)
class Noisy:
    """A scan with noise, and the record that makes it again from the clean one: plain JSON-able values."""

    scan: Scan
    record: dict[str, Any]

    @property
    def derivation(self) -> Derivation:
        """What the written file says of its making."""
        return derivation_of(self.record)


def derivation_of(record: Mapping[str, Any]) -> Derivation:
    """Return what a file made by ``record`` says of itself; equal for all files of one run."""
    asked = record["asked"]
    parameters = {"type": record["noise"], "seed": asked["seed"], "strength": asked["strength"], **asked["settings"]}
    return Derivation(verb="noise added", method="noise", parameters=parameters)


@dataclass(frozen=True)
class Place:
    """Which volume a scan's slices belong to, and the number of its first slice in it."""

    volume: str
    first: int = 0


def fingerprint(scan: Scan) -> str:
    """Return a hash of a scan's real values: the same for a file, its copy in another format, and its array."""
    digest = sha256(repr(scan.pixels.shape).encode())
    for image in scan.pixels:
        digest.update(np.ascontiguousarray(image, "<f4").data)
    return digest.hexdigest()


def add_noise(scan: Scan, recipe: NoiseRecipe, place: Place | None = None) -> Noisy:
    """Return ``scan`` with noise in every slice; pixels that are not valid stay as they are.

    A slice's noise depends on the seed, the volume (by default this scan's values) and the slice's number in it;
    slices of one volume share what the noise draws ``per_volume``.

    Raises:
        UsageError: for a mode or parameter that the noise does not have.
    """
    from medfpl.noises.base import corrupt

    noise, context, own = recipe.noise, context_of(scan), fingerprint(scan)
    place = place or Place(own)
    numbers = range(place.first, place.first + len(scan.pixels))
    seeds = [stable_seed(recipe.seed, place.volume, "slice", number) for number in numbers]
    shared = stable_seed(recipe.seed, place.volume, "volume")

    def make(x: Any, part: slice) -> tuple[Any, list["Record"]]:
        return corrupt(
            x,
            noise,
            seeds=seeds[part],
            scalar_seeds=[shared] * len(x) if noise.per_volume else None,
            strength=recipe.strength,
            given=recipe.settings,
            contexts=[context] * len(x),
        )

    result, records = _in_batches(scan, make)
    return Noisy(result, _describe(scan, result, recipe, records, own))


def replay_noise(scan: Scan, record: Mapping[str, Any]) -> Noisy:
    """Return ``scan`` with the noise of ``record`` (see ``read_record``), bit for bit on one platform.

    Raises:
        MedfplError: if the record was made from other values or does not fit its noise.
    """
    from medfpl.noises.base import Context, Record, replay

    own = fingerprint(scan)
    if record["source"]["values_sha256"] != own:
        raise MedfplError(
            "it is not the image that the record was made from", "use the record's --type, --set and --seed instead"
        )
    noise, context = NOISES.get(record["noise"]), Context(**record["context"])
    intensity = Intensity(scan.intensity.kind, scan.intensity.unit, context.black, context.white)
    records = [
        Record(
            noise=noise.name,
            strength=record["strength"],
            values={**record["values"], **each.get("values", {})},
            seed=each["seed"],
            context=context,
            surrogate=record["surrogate"],
            clamped=each.get("clamped", False),
            device=record["device"],
        )
        for each in record["slices"]
    ]
    _check_values(noise, records)

    def make(x: Any, part: slice) -> tuple[Any, list[Record]]:
        try:
            return replay(x, noise, records[part]), records[part]
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise MedfplError("the record does not fit its noise") from error

    result, _ = _in_batches(replace(scan, intensity=intensity), make)
    return Noisy(result, dict(record))


def context_of(scan: Scan) -> "Context":
    """Return what a noise must know of a scan; a CT without pixel size is taken to be 350 mm wide."""
    from medfpl.noises.base import Context

    spacing, intensity = scan.geometry.spacing, scan.intensity
    pixel = sqrt(spacing[1] * spacing[2]) if spacing else FIELD_OF_VIEW_MM / max(scan.pixels.shape[1:])
    return Context(intensity.kind, intensity.black, intensity.white, pixel)


def count_clipped(scan: Scan) -> int:
    """Return how many pixels of ``scan`` lie beyond what its file's encoding can hold."""
    stored = scan.source.stored
    if stored.values.dtype.kind not in "iu":
        return 0
    info = np.iinfo(stored.values.dtype)
    low, high = max(stored.low, info.min), min(stored.high, info.max)
    count = 0
    for part, image in _slices(scan):
        slope = np.broadcast_to(stored.slope, (len(scan.pixels), 1, 1))[part]
        intercept = np.broadcast_to(stored.intercept, (len(scan.pixels), 1, 1))[part]
        wanted = np.rint((image.astype(np.float64) - intercept) / slope)
        beyond = (wanted < low) | (wanted > high)
        count += int(np.count_nonzero(beyond if scan.valid is None else beyond & scan.valid[part]))
    return count


def psnr(clean: Scan, noisy: Scan) -> float:
    """Return the peak signal-to-noise ratio in dB of the valid pixels, for the working range; inf where all is equal.

    Nothing is clipped, rounded or wrapped.
    """
    total, count = 0.0, 0
    for part, image in _slices(clean):
        error = (noisy.pixels[part].astype(np.float64) - image)[... if clean.valid is None else clean.valid[part]]
        total, count = total + float(np.square(error).sum()), count + error.size
    return -10 * log10(total / count / clean.intensity.scale**2) if total else inf


def _slices(scan: Scan) -> Iterator[tuple[slice, FloatArray]]:
    step = max(1, BATCH // int(np.prod(scan.pixels.shape[1:])))
    for start in range(0, len(scan.pixels), step):
        part = slice(start, min(start + step, len(scan.pixels)))
        yield part, scan.pixels[part]


def _in_batches(scan: Scan, make: Callable[[Any, slice], tuple[Any, list["Record"]]]) -> tuple[Scan, list["Record"]]:
    import torch

    pixels, records = np.empty_like(scan.pixels), []
    for part, real in _slices(scan):
        valid = None if scan.valid is None else scan.valid[part]
        x = torch.from_numpy(fill_invalid(scan.intensity.to_working(real), valid)).unsqueeze(1)
        with torch.inference_mode():
            y, made = make(x, part)
            change = (y - x).squeeze(1).numpy() * np.float32(scan.intensity.scale)
        records += made
        if valid is not None:
            change = np.where(valid, change, 0)
        # The change is mapped back, not the value: where there is no noise, nothing is rounded.
        pixels[part] = np.where(change == 0, real, real + change)
    return scan.with_pixels(pixels), records


def _describe(scan: Scan, result: Scan, recipe: NoiseRecipe, records: Sequence["Record"], own: str) -> dict[str, Any]:
    first = records[0]
    common = {k: v for k, v in first.values.items() if all(r.values[k] == v for r in records)}
    slices = []
    for record in records:
        differing = {k: v for k, v in record.values.items() if k not in common}
        slices.append({"seed": record.seed} | ({"values": differing} if differing else {}))
        if record.clamped:
            slices[-1]["clamped"] = True
    quality = psnr(scan, result)
    return {
        "format": FORMAT,
        "noise": recipe.noise.name,
        "asked": {"strength": recipe.strength, "settings": dict(recipe.settings), "seed": recipe.seed},
        "strength": first.strength,
        "surrogate": first.surrogate,
        "context": asdict(first.context),
        "source": {"format": scan.source.format, "sha256": scan.source.sha256, "values_sha256": own},
        "device": first.device,
        "versions": versions(),
        "psnr": round(quality, 3) if quality < inf else None,
        "clipped_pixels": count_clipped(result),
        "notes": _notes(scan, recipe.noise, records),
        "values": common,
        "slices": slices,
    }


def _notes(scan: Scan, noise: "Noise", records: Sequence["Record"]) -> list[str]:
    mode, intensity, notes = records[0].values["mode"], scan.intensity, []
    if records[0].surrogate:
        notes.append(f"{noise.name} ({mode}) is no noise of {intensity.kind} images; here it only stands in")
    if any(r.clamped for r in records):
        notes.append("values below the black level were raised to it, which this noise is not defined for")
    if noise.nonnegative(mode) and intensity.kind == "mr" and intensity.black < 0:
        notes.append(
            "the image has negative values, so its zero is not the scanner's; its lowest value was taken for 0"
        )
    if noise.name == "poisson" and mode == "detector" and intensity.kind in ("xray", "other"):
        inverted = "; here bright means few quanta" if scan.meta.get("inverted") else ""
        notes.append(f"quanta are taken to be proportional to the stored values, as in a linear radiograph{inverted}")
    if intensity.kind == "ct" and scan.geometry.spacing is None and mode.startswith(("ct", "ring")):
        notes.append("its pixel size is not known; it was taken to be 350 mm wide")
    return notes


def _check_values(noise: "Noise", records: Sequence["Record"]) -> None:
    """Raise MedfplError unless the parameters that the noise declares are within their ranges."""
    for record in records:
        if record.values.get("mode") not in noise.modes:
            raise MedfplError("the record does not fit its noise")
        for name, parameter in noise.parameters.items():
            if name in record.values:
                parameter.check(name, record.values[name])


def read_record(data: Any) -> dict[str, Any]:
    """Return ``data`` (parsed JSON) if it is a record of this format, complete and of plain values.

    Raises:
        BadInput: if it is anything else.
    """
    try:
        if data["format"] != FORMAT:
            raise BadInput("it is not a noise record of this version")
        asked, context, source = data["asked"], data["context"], data["source"]
        plain = (
            isinstance(data["noise"], str)
            and isinstance(asked["settings"], dict)
            and isinstance(asked["seed"], int)
            and isinstance(source["values_sha256"], str)
            and data["device"] == "cpu"
            and isinstance(data["values"], dict)
            and isinstance(data["surrogate"], bool)
            and data["strength"] == (None if data["strength"] is None else float(data["strength"]))
            and float(asked["strength"]) >= 0
            and set(context) == {"kind", "black", "white", "pixel_mm"}
            and all(isinstance(s["seed"], int) and 0 <= s["seed"] < 1 << 63 for s in data["slices"])
            and all(isinstance(s.get("values", {}), dict) for s in data["slices"])
        )
        Intensity(context["kind"], "1", float(context["black"]), float(context["white"]))
        NOISES.resolve(data["noise"])
    except (KeyError, TypeError, ValueError, AttributeError, UsageError):
        plain = False
    if not plain:
        raise BadInput("it is not a noise record", "a record is the .noise.json beside an output of 'medfpl noise'")
    return dict(data)


@overload
def noise(source: str | Path | Scan, type: str = "", **options: Any) -> Scan: ...
@overload
def noise(source: npt.NDArray[Any], type: str = "", **options: Any) -> npt.NDArray[np.float32]: ...
def noise(
    source: str | Path | Scan | npt.NDArray[Any],
    type: str = "",
    *,
    strength: float = DEFAULT_STRENGTH,
    seed: int = 0,
    kind: Kind | None = None,
    intensity: Intensity | None = None,
    replay: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Scan | npt.NDArray[np.float32]:
    """Return a copy of an image file, a Scan or an array with noise or an artifact added.

    Args:
        source: a file that ``medfpl.read`` reads, a scan, or real values (H, W) or (Z, H, W) of any number type.
        type: a name of ``medfpl noise --list``; ``settings`` are its ``mode`` and physical parameters.
        strength: 0 (the image itself) to 1 (severe); 0.5 is near the level of published comparisons.
        seed: of everything random.
        kind: "ct" (values are HU), "xray", "mr" or "other", where a file does not say; an array is guessed without it.
        intensity: the working range to use instead of the chosen one.
        replay: the record of an earlier run, instead of a type.

    Returns:
        A Scan for a file or a scan; for an array, float32 of the same shape in the same units. NaN and Inf stay.
        Nothing is rounded or clipped: that is up to the file's encoding when it is written.

    Raises:
        MedfplError: for a file, type, mode, parameter or record that will not do. ``add_noise`` of
            medfpl.pipeline.noise also gives the record.
    """
    from medfpl.pipeline import as_scan

    if bool(type) == (replay is not None):
        raise UsageError("give a type of noise or a record to replay")
    scan = as_scan(source, kind, intensity)
    if replay is not None:
        result = replay_noise(scan, read_record(replay)).scan
    else:
        result = add_noise(scan, NoiseRecipe(type, strength, settings, seed)).scan
    return result.pixels.reshape(source.shape) if isinstance(source, np.ndarray) else result
