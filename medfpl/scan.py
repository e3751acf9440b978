"""What flows through medfpl: a scan, what its numbers mean, and where it lies in space."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medfpl.errors import MedfplError

Kind = Literal["ct", "xray", "mr", "other"]
FloatArray = npt.NDArray[np.float32]

# HU of air and of dense bone: 0 and 1 of the working range. Values outside pass through.
CT_BLACK, CT_WHITE = -1000.0, 1000.0


@dataclass(frozen=True)
class Intensity:
    """What the pixel values are, and the affine map to the working range.

    ``unit`` is "HU" for CT and "1" (arbitrary) otherwise. Working value 0 is ``black``
    and 1 is ``white``, both in real units; values outside map outside, nothing clips.
    """

    kind: Kind
    unit: str
    black: float
    white: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.black) and np.isfinite(self.white) and self.white > self.black):
            raise MedfplError(f"an intensity range needs finite black < white, not {self.black} and {self.white}")

    @property
    def scale(self) -> float:
        """Real units per working unit (2000 HU for CT)."""
        return self.white - self.black

    def to_working(self, real: FloatArray) -> FloatArray:
        """Map real units to working units, float32."""
        return ((real - np.float32(self.black)) / np.float32(self.scale)).astype(np.float32, copy=False)

    def to_real(self, working: FloatArray) -> FloatArray:
        """Map working units to real units, float32."""
        return (working * np.float32(self.scale) + np.float32(self.black)).astype(np.float32, copy=False)


def choose_intensity(kind: Kind, real: npt.NDArray[Any], full_range: tuple[float, float] | None = None) -> Intensity:
    """Return the Intensity for pixels of ``kind`` (any shape, real units; NaN and Inf ignored).

    CT has its fixed HU range. MR starts at 0 (Rician statistics need the scanner's zero)
    and ends at the 99.9th percentile. An X-ray or other picture uses ``full_range`` (that of
    its 8-bit format) where given, else its 0.1th to 99.9th percentile.
    """
    if kind == "ct":
        return Intensity("ct", "HU", CT_BLACK, CT_WHITE)
    if full_range is not None:
        return Intensity(kind, "1", *full_range)
    # A regular subset keeps the percentile cheap on a large volume and is the same every time.
    flat = real.reshape(-1)
    flat = flat[:: max(1, flat.size // 2_000_000)]
    flat = flat[np.isfinite(flat)].astype(np.float64)
    low, high = np.percentile(flat, [0.1, 99.9]) if flat.size else (0.0, 1.0)
    black = min(0.0, float(low)) if kind == "mr" else float(low)
    if not high > black:
        high = black + max(1.0, abs(black))
    return Intensity(kind, "1", black, float(high))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels lie: ``spacing`` in mm as (z, y, x), ``affine`` index (z, y, x, 1) -> LPS mm.

    Either is None where the file does not say. Compared, never recomputed.
    """

    spacing: tuple[float, float, float] | None = None
    affine: npt.NDArray[np.float64] | None = None

    def same_as(self, other: "Geometry", tolerance: float = 1e-4) -> bool:
        """Whether both lie at the same place, to ``tolerance`` mm."""
        return _close(self.spacing, other.spacing, tolerance) and _close(self.affine, other.affine, tolerance)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if a is None or b is None:
        return a is None and b is None
    return bool(np.allclose(a, b, rtol=0, atol=tolerance))


@dataclass(frozen=True, eq=False)
class Stored:
    """Pixel values as the file stores them, and the affine map to real units, one pair a frame or one for all.

    ``values`` is (z, y, x) in the file's own dtype; real = slope * stored + intercept with ``slope`` and
    ``intercept`` broadcastable to (z, 1, 1). ``low`` and ``high`` are the smallest and largest value the
    file's encoding can hold. ``forbidden`` are stored values that mean "no pixel here" (inclusive range).
    """

    values: npt.NDArray[Any]
    slope: npt.NDArray[np.float64] | float = 1.0
    intercept: npt.NDArray[np.float64] | float = 0.0
    low: float = -np.inf
    high: float = np.inf
    forbidden: tuple[int, int] | None = None

    def real(self) -> FloatArray:
        """Return the values in real units, float32 (computed in float64, so integers stay exact)."""
        if np.all(np.equal(self.slope, 1)) and np.all(np.equal(self.intercept, 0)):
            return self.values.astype(np.float32)
        return (self.values * np.float64(self.slope) + self.intercept).astype(np.float32)

    def moved(self, change: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[Any]:
        """Return new stored values: the old ones plus ``change`` (real units), rounded and clipped to the encoding.

        Where the change is 0, is not finite, or ``valid`` is False, the stored value stays bit for bit: an identity
        filter gives back the same file even where float32 could not hold the values. No changed
        pixel takes a value of ``forbidden``.
        """
        keep = ~np.isfinite(change) | (change == 0)
        if valid is not None:
            keep |= ~valid
        step = np.where(keep, 0.0, change / np.float64(self.slope))
        new = self.values.astype(np.float64) + step
        if self.values.dtype.kind in "iu":
            # rint of a step under half a stored unit is "unchanged", also for 64-bit integers.
            keep |= np.abs(step) < 0.5
            info = np.iinfo(self.values.dtype)
            new = np.clip(np.rint(new), max(self.low, info.min), min(self.high, info.max))
            if self.forbidden is not None:
                new = _avoid(new, self.forbidden, max(self.low, info.min))
        return np.where(keep, self.values, new.astype(self.values.dtype))


def _avoid(new: npt.NDArray[np.float64], forbidden: tuple[int, int], low: float) -> npt.NDArray[np.float64]:
    first, last = min(forbidden), max(forbidden)
    escape_to = last + 1 if first <= low else first - 1
    return np.where((new >= first) & (new <= last), escape_to, new)


@dataclass(frozen=True, eq=False)
class Source:
    """The file a scan came from: enough to write its derived copy without reading it again.

    ``native`` is what the format's own reader gave (a pydicom Dataset without pixels, a NIfTI header, ...);
    ``sha256`` is of the file's bytes. ``shape`` is the file's own array shape.
    """

    path: Path
    format: Literal["dicom", "nifti", "itk", "picture", "npy"]
    stored: Stored
    shape: tuple[int, ...]
    sha256: str
    native: Any = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Scan:
    """Pixels in real units with all that is needed to write them back.

    ``pixels`` is float32 (z, y, x); a single image has z = 1, a 4-D series has its time points along z.
    ``valid`` (bool, same shape) is False at padding, NaN and Inf, which no filter may use or change;
    None means all are valid. ``name`` is shown to people and never holds identity.
    """

    pixels: FloatArray
    intensity: Intensity
    geometry: Geometry
    source: Source
    valid: npt.NDArray[np.bool_] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.dtype != np.float32:
            raise ValueError(f"a scan holds float32 pixels (z, y, x), not {self.pixels.dtype} {self.pixels.shape}")

    def with_pixels(self, pixels: FloatArray) -> "Scan":
        """Return this scan with other pixels of the same shape."""
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"pixels of shape {pixels.shape} do not fit a scan of shape {self.pixels.shape}")
        return replace(self, pixels=np.ascontiguousarray(pixels, dtype=np.float32))

    def new_stored(self) -> npt.NDArray[Any]:
        """Return the stored values that hold these pixels (see Stored.moved)."""
        # float64 only where the difference is taken; equal float32 pixels give exactly 0.
        change = self.pixels.astype(np.float64) - self.source.stored.real()
        return self.source.stored.moved(change, self.valid)
