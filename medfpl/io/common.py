"""What the readers of NIfTI, ITK, picture and NPY files share: bounded inflating, the kind guess, the finished scan."""

import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput
from medfpl.scan import Geometry, Kind, Scan, Source, Stored, choose_intensity

GZIP_MAGIC = b"\x1f\x8b"
GZIP, ZLIB = 31, 15  # zlib's window codes of the two wrappings
_EITHER = 47
_BLOCK = 1 << 16  # fed at a time: a file may have thousands of members, and the rest is copied after each

Format = Literal["dicom", "nifti", "itk", "picture", "npy"]


def inflate_head(raw: bytes, size: int) -> bytes:
    """Return at most the first ``size`` bytes of a gzip or zlib stream; BadInput if it is damaged there."""
    return bytes(_inflate(raw, size)[0])


def inflate(raw: bytes, size: int) -> bytearray:
    """Return the ``size`` bytes that a gzip (also of several members) or zlib stream must hold.

    Never inflates more than one byte past ``size``, however much the stream would give; BadInput if it
    holds less or more, ends early, or fails its checksum.
    """
    out, ended = _inflate(raw, size + 1)
    if len(out) > size:
        raise BadInput("its compressed data is longer than its header says")
    if not ended:
        raise BadInput("its compressed data is cut short")
    if len(out) < size:
        raise BadInput("its pixel data is shorter than its header says")
    return out


def _inflate(raw: bytes, most: int) -> tuple[bytearray, bool]:
    """Return up to ``most`` bytes, and whether the stream ended there, its checksum verified."""
    out, at, view = bytearray(), 0, memoryview(raw)
    stream = zlib.decompressobj(_EITHER)
    while at < len(view) and len(out) < most:
        if stream.eof:  # another member, or the zeros that fill up a block of tape
            if view[at] == 0 and not any(view[at:]):
                break
            stream = zlib.decompressobj(_EITHER)
        block = view[at : at + _BLOCK]
        try:
            out += stream.decompress(block, most - len(out))
        except zlib.error:
            raise BadInput("its compressed data is damaged") from None
        at += len(block) - len(stream.unused_data)
    return out, stream.eof


def deflate(parts: Iterable[bytes | memoryview], wrapping: int, stream: IO[bytes]) -> int:
    """Write ``parts`` to ``stream`` compressed, without time or name (equal input, equal bytes); return the size."""
    packer = zlib.compressobj(6, zlib.DEFLATED, wrapping)
    written = 0
    for part in parts:
        written += stream.write(packer.compress(part))
    return written + stream.write(packer.flush())


def data_size(shape: Sequence[int], dtype: np.dtype[Any], max_pixels: int) -> int:
    """Return the bytes that ``shape`` takes; BadInput for a side below 1 or more than ``max_pixels``."""
    if any(n < 1 for n in shape):
        raise BadInput("one of its dimensions is below 1")
    pixels = math.prod(shape)
    if pixels > max_pixels:
        raise BadInput(f"its header declares {pixels} pixels, more than the limit of {max_pixels}")
    return pixels * dtype.itemsize


def pixels_of(
    data: bytes | bytearray, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int = 0
) -> npt.NDArray[Any]:
    """Return ``data`` from ``offset`` on as a read-only array; BadInput unless it has exactly the size."""
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - offset != expected:
        word = "shorter" if len(data) - offset < expected else "longer"
        raise BadInput(f"its pixel data is {word} than its header says")
    values = np.frombuffer(data, dtype, offset=offset).reshape(shape)
    values.flags.writeable = False
    return values


def guess_kind(real: npt.NDArray[Any], otherwise: Kind) -> Kind:
    """Return "ct" where the values look like Hounsfield units, else ``otherwise``.

    Air is what tells: CT goes to -500 and below, and hardly any value but one padding value lies under
    -1200, where a phase map or a normalised MR has either much or nothing.
    """
    flat = real.reshape(-1)
    flat = flat[:: max(1, flat.size // 500_000)]
    flat = flat[np.isfinite(flat)]
    if not flat.size or flat.min() > -500 or flat.max() > 70_000:
        return otherwise
    inside = flat[flat > flat.min()]
    under = np.count_nonzero(inside < -1200)
    return "ct" if inside.size and inside.max() > -500 and under <= 0.01 * inside.size else otherwise


def assemble(
    path: Path,
    format: Format,
    stored: Stored,
    shape: tuple[int, ...],
    sha256: str,
    *,
    kind: Kind | None,
    otherwise: Kind,
    geometry: Geometry,
    native: Any,
    full_range: tuple[float, float] | None = None,
    notes: tuple[str, ...] = (),
) -> Scan:
    """Return the finished scan: real values, the mask of NaN and Inf, the working range.

    Without ``kind`` it is guessed from the values (CT or ``otherwise``). NaN and Inf stay in ``pixels``, with
    ``valid`` False. BadInput if no value is finite or the values span more than float32 holds.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = stored.real()
    valid: npt.NDArray[np.bool_] | None = np.isfinite(pixels)
    assert valid is not None
    if not valid.any():
        raise BadInput("none of its values is a finite number")
    if valid.all():
        valid = None
    kind = kind or guess_kind(pixels, otherwise)
    intensity = choose_intensity(kind, pixels, full_range)
    if not intensity.scale < float(np.finfo(np.float32).max):
        raise BadInput("its values span more than 32-bit numbers hold")
    source = Source(path, format, stored, shape, sha256, native, notes)
    return Scan(pixels, intensity, geometry, source, valid)


def spacing_of(affine: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the voxel sides (z, y, x) of an affine from index (z, y, x, 1)."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def check_affine(affine: npt.NDArray[np.float64]) -> None:
    """Raise BadInput unless the three axes of a 4 x 4 affine are finite and span space."""
    with np.errstate(all="ignore"):
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        fine = np.isfinite(affine).all() and np.isfinite(axes).all() and abs(np.linalg.det(axes)) > 1e-6
    if not fine:
        raise BadInput("its orientation matrix is singular")
