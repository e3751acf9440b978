"""A noise record: all that makes a noise again on its clean image, and what it did. No identity, no path."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from math import inf, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.io.derivation import Derivation
from medfpl.manifest import versions
from medfpl.noises import NOISES
from medfpl.scan import FloatArray, Intensity, Scan

if TYPE_CHECKING:
    from medfpl.noises.base import Noise, Record

FORMAT = "medfpl noise 1"
# Pixels of one batch, part of FORMAT: an FFT of several slices may round unlike that of one.
BATCH = 1 << 20


def fingerprint(scan: Scan) -> str:
    """Return a hash of a scan's real values: the same for a file, its copy in another format, and its array."""
    digest = sha256(repr(scan.pixels.shape).encode())
    for image in scan.pixels:
        digest.update(np.ascontiguousarray(image, "<f4").data)
    return digest.hexdigest()


def batches(scan: Scan) -> Iterator[tuple[slice, FloatArray]]:
    """Yield a scan's pixels in batches of slices, each with its place."""
    step = max(1, BATCH // int(np.prod(scan.pixels.shape[1:])))
    for start in range(0, len(scan.pixels), step):
        part = slice(start, min(start + step, len(scan.pixels)))
        yield part, scan.pixels[part]


def count_clipped(scan: Scan) -> int:
    """Return how many pixels of ``scan`` lie beyond what its file's encoding can hold."""
    stored = scan.source.stored
    if stored.values.dtype.kind not in "iu":
        return 0
    info = np.iinfo(stored.values.dtype)
    low, high = max(stored.low, info.min), min(stored.high, info.max)
    count = 0
    for part, image in batches(scan):
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
    for part, image in batches(clean):
        error = (noisy.pixels[part].astype(np.float64) - image)[... if clean.valid is None else clean.valid[part]]
        total, count = total + float(np.square(error).sum()), count + error.size
    return -10 * log10(total / count / clean.intensity.scale**2) if total else inf


def describe(
    scan: Scan, result: Scan, noise: "Noise", asked: Mapping[str, Any], records: Sequence["Record"], own: str
) -> dict[str, Any]:
    """Return the record of ``records``, one a slice, that made ``result``; ``asked`` and ``own`` as in the record."""
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
        "noise": noise.name,
        "asked": dict(asked),
        "strength": first.strength,
        "surrogate": first.surrogate,
        "context": asdict(first.context),
        "source": {"format": scan.source.format, "sha256": scan.source.sha256, "values_sha256": own},
        "result_sha256": fingerprint(result),
        "device": first.device,
        "versions": versions(),
        "psnr": round(quality, 3) if quality < inf else None,
        "clipped_pixels": count_clipped(result),
        "notes": _notes(scan, noise, records, changed=quality < inf),
        "values": common,
        "slices": slices,
    }


def _notes(scan: Scan, noise: "Noise", records: Sequence["Record"], *, changed: bool) -> list[str]:
    mode, intensity, notes = records[0].values["mode"], scan.intensity, []
    if records[0].surrogate:
        notes.append(f"{noise.name} ({mode}) is no noise of {intensity.kind} images; here it only stands in")
    if not changed:
        notes.append("the noise changed no pixel of it")
    if any(r.clamped for r in records):
        notes.append("values below the black level were raised to it, which this noise is not defined for")
    if noise.nonnegative(mode) and intensity.kind == "mr" and intensity.black < 0:
        notes.append(
            "the image has negative values, so its zero is not the scanner's; its lowest value was taken for 0"
        )
    if noise.name == "poisson" and mode == "detector" and intensity.kind in ("xray", "other"):
        # Showing bone white, a radiograph is the negative of its quanta's logarithm.
        notes.append("quanta are taken to be proportional to the values, as in a raw radiograph, not a displayed one")
    if intensity.kind == "ct" and scan.geometry.spacing is None and mode.startswith(("ct", "ring")):
        notes.append("its pixel size is not known; it was taken to be 350 mm wide")
    return notes


def check_values(noise: "Noise", records: Sequence["Record"]) -> None:
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
            and isinstance(data["result_sha256"], str)
            and all(isinstance(note, str) for note in data["notes"])
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


def derivation_of(record: Mapping[str, Any]) -> Derivation:
    """Return what a file made by ``record`` says of itself; equal for all files of one run."""
    asked = record["asked"]
    parameters = {"type": record["noise"], "seed": asked["seed"], "strength": asked["strength"], **asked["settings"]}
    return Derivation(verb="noise added", method="noise", parameters=parameters)
