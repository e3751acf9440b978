"""Adding noise to scans: every slice corrupted, padding kept, and a record that makes the same noise again.

``medfpl.noise(path, scan or array, "rician")`` gives what the command line writes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from medfpl.errors import MedfplError, UsageError
from medfpl.io.derivation import Derivation
from medfpl.noises import NOISES
from medfpl.pipeline.engine import fill_invalid
from medfpl.pipeline.noise_record import batches, check_values, derivation_of, describe, fingerprint, read_record
from medfpl.scan import Intensity, Kind, Scan
from medfpl.seeds import stable_seed

if TYPE_CHECKING:
    from medfpl.noises.base import Context, Record

DEFAULT_STRENGTH = 0.5
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

    def asked(self) -> dict[str, Any]:
        """Return this recipe for a record."""
        return {"strength": self.strength, "settings": dict(self.settings), "seed": self.seed}


@dataclass(frozen=True)
class Noisy:
    """A scan with noise, and the record that makes it again from the clean one: plain JSON-able values."""

    scan: Scan
    record: dict[str, Any]

    @property
    def derivation(self) -> Derivation:
        """What the written file says of its making."""
        return derivation_of(self.record)


@dataclass(frozen=True)
class Place:
    """Which volume a scan's slices belong to, and the number of its first slice in it.

    ``standing`` is the scan whose middle slice stands for the volume where its slices must agree; None: this scan.
    """

    volume: str
    first: int = 0
    standing: Scan | None = None


def add_noise(scan: Scan, recipe: NoiseRecipe, place: Place | None = None) -> Noisy:
    """Return ``scan`` with noise in every slice; pixels that are not valid stay as they are.

    A slice's noise depends on the seed, the volume (by default this scan's values) and the slice's number in it;
    slices of one volume share what the noise draws ``per_volume``.

    Raises:
        UsageError: for a mode or parameter that the noise does not have.
    """
    from medfpl.noises.base import corrupt

    noise, context, own = NOISES.get(recipe.type), context_of(scan), fingerprint(scan)
    place = place or Place(own)
    numbers = range(place.first, place.first + len(scan.pixels))
    seeds = [stable_seed(recipe.seed, place.volume, "slice", number) for number in numbers]
    shared = stable_seed(recipe.seed, place.volume, "volume")
    standing = _standing_slice(place.standing or scan, scan.intensity) if noise.survey else None

    def make(x: Any, part: slice) -> tuple[Any, list["Record"]]:
        return corrupt(
            x,
            noise,
            seeds=seeds[part],
            scalar_seeds=[shared] * len(x) if noise.per_volume else None,
            strength=recipe.strength,
            given=recipe.settings,
            contexts=[context] * len(x),
            standing=standing,
        )

    result, records = _in_batches(scan, make)
    return Noisy(result, describe(scan, result, noise, recipe.asked(), records, own))


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
    if len(records) != len(scan.pixels):
        raise MedfplError("the record does not fit its noise")
    check_values(noise, records)

    def make(x: Any, part: slice) -> tuple[Any, list[Record]]:
        try:
            return replay(x, noise, records[part]), records[part]
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise MedfplError("the record does not fit its noise") from error

    result, _ = _in_batches(replace(scan, intensity=intensity), make)
    again = {**record, "result_sha256": fingerprint(result), "notes": list(record["notes"])}
    if again["result_sha256"] != record["result_sha256"]:
        again["notes"].append(
            "it is not bit for bit the recorded result: other versions, another processor or a changed record"
        )
    return Noisy(result, again)


def _standing_slice(scan: Scan, intensity: Intensity) -> Any:
    import torch

    middle = slice(len(scan.pixels) // 2, len(scan.pixels) // 2 + 1)
    valid = None if scan.valid is None else scan.valid[middle]
    return torch.from_numpy(fill_invalid(intensity.to_working(scan.pixels[middle]), valid)).unsqueeze(1)


def context_of(scan: Scan) -> "Context":
    """Return what a noise must know of a scan; a CT without pixel size is taken to be 350 mm wide."""
    from medfpl.noises.base import Context

    spacing, intensity = scan.geometry.spacing, scan.intensity
    pixel = sqrt(spacing[1] * spacing[2]) if spacing else FIELD_OF_VIEW_MM / max(scan.pixels.shape[1:])
    return Context(intensity.kind, intensity.black, intensity.white, pixel)


def _in_batches(scan: Scan, make: Callable[[Any, slice], tuple[Any, list["Record"]]]) -> tuple[Scan, list["Record"]]:
    import torch

    pixels, records = np.empty_like(scan.pixels), []
    for part, real in batches(scan):
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
