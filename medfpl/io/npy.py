"""NumPy's .npy: real arrays of two or three dimensions, (y, x) or (z, y, x), in either memory order.

The header is read before the data, never with pickle; an output has its source's header byte for byte.
"""

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from medfpl.errors import BadInput
from medfpl.io import common
from medfpl.io.atomic import atomic_target
from medfpl.io.derivation import Derivation
from medfpl.io.guard import DEFAULT_LIMITS, Limits, read_bytes
from medfpl.scan import Geometry, Kind, Scan, Stored

NPY_MAGIC = b"\x93NUMPY"
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, eq=False)
class NpyHead:
    """All bytes before the values, and their order in memory."""

    raw: bytes
    fortran: bool


def read_npy(path: Path, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS) -> Scan:
    """Read a .npy file; ``kind`` None means CT where the values look like Hounsfield units, else "other".

    BadInput: damage, objects, records, booleans, complex and text, integers or floats of more than 64 bits,
    fewer than two or more than three dimensions, and more pixels than ``limits`` allow.
    """
    raw, sha256 = read_bytes(path, limits)
    stream = BytesIO(raw)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = _READERS[np.lib.format.read_magic(stream)](stream)
    except Exception:  # the header is a Python literal, which can be wrong in many ways
        raise BadInput("its NPY header is damaged or of an unknown version") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype.hasobject:
        raise BadInput("its elements are not plain real numbers")
    if len(shape) not in (2, 3):
        raise BadInput(f"it has {len(shape)} dimensions, not 2 or 3")
    common.data_size(shape, dtype, limits.max_pixels)
    head = NpyHead(raw[: stream.tell()], bool(fortran))
    if fortran:
        values = common.pixels_of(raw, shape[::-1], dtype, stream.tell()).transpose()
    else:
        values = common.pixels_of(raw, shape, dtype, stream.tell())
    return common.assemble(
        path,
        "npy",
        Stored(values.reshape((1, *shape)) if len(shape) == 2 else values),
        shape,
        sha256,
        kind=kind,
        otherwise="other",
        geometry=Geometry(),
        native=head,
        full_range=(0.0, 255.0) if dtype == np.uint8 else None,
    )


def write_npy(scan: Scan, target: Path, derivation: Derivation, *, overwrite: bool = False) -> list[Path]:
    """Write ``scan`` as ``target`` and return [target]; the format has no field for ``derivation``."""
    head: NpyHead = scan.source.native
    with np.errstate(over="ignore", invalid="ignore"):
        values = scan.new_stored().reshape(scan.source.shape)
    values = values.astype(scan.source.stored.values.dtype, copy=False)
    with atomic_target(target, overwrite=overwrite) as place, place.open("wb") as stream:
        stream.write(head.raw)
        stream.write(values.tobytes("F" if head.fortran else "C"))
    return [target]
