"""NRRD (.nrrd, .nhdr with its data) and MetaImage (.mha, .mhd with its data): scalar images of two to four dimensions.

``Scan.pixels`` is the data as it lies in the file, slowest axis first; the time points of a 4-D image follow one
another along z. An output has its source's header byte for byte, but for the name and compressed size of the data.
"""

import hashlib
import math
from io import BytesIO
from pathlib import Path

import numpy as np

from medfpl.errors import BadInput, UsageError
from medfpl.io import common
from medfpl.io.atomic import atomic_target, check_target
from medfpl.io.derivation import Derivation
from medfpl.io.guard import DEFAULT_LIMITS, Limits, read_bytes
from medfpl.io.itk_header import ItkHead, parse
from medfpl.scan import Kind, Scan, Stored

_HEADERS = (".mhd", ".nhdr")  # suffixes of headers whose data lies in a file of its own


def read_itk(path: Path, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS) -> Scan:
    """Read an NRRD or MetaImage file; ``kind`` None means CT where the values look like Hounsfield units, else MR.

    BadInput: damage, vectors, colours, complex numbers, encodings other than raw and gzip/zlib, data outside the
    header's folder or in several files, a singular orientation, and more pixels than ``limits`` allow.
    """
    raw, sha256 = read_bytes(path, limits)
    head = parse(raw)
    size = common.data_size(head.shape, head.dtype, limits.max_pixels)
    if head.data_file:
        try:
            data, _ = read_bytes(path.with_name(head.data_file), limits)
        except BadInput as error:
            raise BadInput(f"its data file: {error.message}") from None
        sha256 = hashlib.sha256(raw + data).hexdigest()
    else:
        data = raw[len(head.raw) :]
    voxels = common.inflate(data, size) if head.wrapping else data
    folded = (math.prod(head.shape[:-2]), *head.shape[-2:])
    return common.assemble(
        path,
        "itk",
        Stored(common.pixels_of(voxels, folded, head.dtype)),
        head.shape,
        sha256,
        kind=kind,
        otherwise="mr",
        geometry=head.geometry,
        native=head,
    )


def write_itk(scan: Scan, target: Path, derivation: Derivation, *, overwrite: bool = False) -> list[Path]:
    """Write ``scan`` as ``target``, with a data file beside it where its source had one; return what was written.

    These headers have no field for how an image was made; ``derivation`` is not stored.
    """
    head: ItkHead = scan.source.native
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = np.ascontiguousarray(scan.new_stored(), dtype=head.dtype)
    payload: bytes | memoryview = voxels.data.cast("B")
    if head.wrapping:
        packed = BytesIO()
        common.deflate((payload,), head.wrapping, packed)
        payload = packed.getvalue()
    if not head.data_file:
        with atomic_target(target, overwrite=overwrite) as image, image.open("wb") as stream:
            stream.write(head.renamed("", len(payload)))
            stream.write(payload)
        return [target]
    data_path = _data_path(target, head)
    check_target(data_path, (scan.source.path, scan.source.path.with_name(head.data_file)), overwrite)
    with atomic_target(target, overwrite=overwrite) as image, atomic_target(data_path, overwrite=overwrite) as data:
        data.write_bytes(payload)
        image.write_bytes(head.renamed(data_path.name, len(payload)))
    return [target, data_path]


def _data_path(target: Path, head: ItkHead) -> Path:
    name = target.name
    if not name.isprintable() or "\\" in name or "%" in name:
        raise UsageError("the header names its data file, which allows no control characters, \\ and %")
    if name.lower().endswith(_HEADERS):
        name = name[: name.rindex(".")]
    return target.with_name(name + {0: ".raw", common.GZIP: ".raw.gz", common.ZLIB: ".zraw"}[head.wrapping])
