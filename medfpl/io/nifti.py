"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped, either byte order.

``Scan.pixels`` (z, y, x) is the file's (i, j, k) transposed: a slice is one k, shown with j down and i to the
right. The time points of a 4-D file follow one another along z. On writing, header and extensions go out byte for
byte as they came in, so scaling, orientation, units and codes cannot change.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput
from medfpl.io import common
from medfpl.io.atomic import atomic_target
from medfpl.io.derivation import Derivation
from medfpl.io.guard import DEFAULT_LIMITS, Limits, read_bytes
from medfpl.scan import Geometry, Kind, Scan, Stored

HEAD_SIZE = 540  # the longer of the two headers
_INTEGERS = {2: "u1", 4: "i2", 8: "i4", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_TYPES = _INTEGERS | {16: "f4", 64: "f8"}
_REFUSED = {128: "colour (RGB)", 2304: "colour (RGBA)", 32: "complex", 1792: "complex", 2048: "complex"}
_LABELS = 1002  # NIFTI_INTENT_LABEL
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: metre, millimetre, micrometre


@dataclass(frozen=True, eq=False)
class NiftiHead:
    """All bytes before the voxels, and how to read them."""

    raw: bytes
    version: int
    order: str
    zipped: bool


def version_of(head: bytes) -> int:
    """Return 1 or 2 if ``head`` begins a NIfTI file (or the header of a pair), else 0."""
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return 1
    return 2 if head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n") else 0


def read_nifti(path: Path, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS) -> Scan:
    """Read a NIfTI file; ``kind`` None means CT where the values look like Hounsfield units, else MR.

    BadInput: damage, .hdr/.img pairs, complex or colour data, label maps, more than four dimensions, a
    singular orientation, and more pixels than ``limits`` allow.
    """
    raw, sha256 = read_bytes(path, limits)
    zipped = raw.startswith(common.GZIP_MAGIC)
    head = common.inflate_head(raw, HEAD_SIZE) if zipped else raw[:HEAD_SIZE]
    fields, version, order = _fields(head)
    shape, dtype = _shape(fields), _dtype(fields, order)
    offset = float(fields["vox_offset"])
    least = 352 if version == 1 else 544
    size = common.data_size(shape, dtype, limits.max_pixels)
    if not (least <= offset <= limits.max_bytes and offset == int(offset)):
        raise BadInput("its voxel offset is out of range")
    data: bytes | bytearray = common.inflate(raw, int(offset) + size) if zipped else raw
    # Fortran order of (i, j, k, t) is C order of (t, k, j, i): nothing is copied.
    folded = (math.prod(shape[2:]), shape[1], shape[0])
    values = common.pixels_of(data, folded, dtype, int(offset))
    slope, intercept = _scaling(fields)
    native = NiftiHead(bytes(data[: int(offset)]), version, order, zipped)
    return common.assemble(
        path,
        "nifti",
        Stored(values, slope, intercept),
        shape,
        sha256,
        kind=kind,
        otherwise="mr",
        geometry=_geometry(fields, shape),
        native=native,
    )


def write_nifti(
    scan: Scan, target: Path, derivation: Derivation, *, overwrite: bool = False, as_float: bool = False
) -> list[Path]:
    """Write ``scan`` as ``target`` with a side-car ``<name>.json`` and return both paths.

    Gzipped if the name ends in .gz, plain if in .nii, else as the source was. ``as_float`` makes float32 of an
    integer source, without its rounding; the header then changes in datatype, bitpix and scaling only.
    """
    native: NiftiHead = scan.source.native
    stored = scan.source.stored
    head, dtype = native.raw, stored.values.dtype
    if as_float and dtype.kind in "iu":
        head, dtype = _float_head(native), np.dtype(native.order + "f4")
        voxels = scan.pixels.astype(dtype)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            voxels = np.ascontiguousarray(scan.new_stored(), dtype=dtype)
    name = target.name.lower()
    zipped = name.endswith(".gz") or (native.zipped and not name.endswith(".nii"))
    notes = side_car_path(target)
    # The side-car lands first: an image that exists is complete.
    with atomic_target(target, overwrite=overwrite) as image, atomic_target(notes, overwrite=overwrite) as text:
        text.write_text(json.dumps(side_car(scan, derivation), indent=2) + "\n", encoding="utf-8")
        with image.open("wb") as stream:
            if zipped:
                common.deflate((head, voxels.data.cast("B")), common.GZIP, stream)
            else:
                stream.write(head)
                stream.write(voxels.data.cast("B"))
    return [target, notes]


def side_car_path(target: Path) -> Path:
    """Return the path of the JSON file beside a NIfTI file."""
    name = target.name
    for suffix in (".nii.gz", ".nii", ".gz"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return target.with_name(name + ".json")


def side_car(scan: Scan, derivation: Derivation) -> dict[str, Any]:
    """Return what the side-car says, in the names of BIDS derivatives; sources by hash, never by path."""
    made_by = {
        "Name": "medfpl",
        "Version": derivation.version,
        "Description": derivation.describe(),
        "Method": derivation.method,
        "Model": derivation.model,
        "WeightsSHA256": derivation.weights_sha256,
        "Parameters": derivation.parameters,
    }
    return {
        "Description": derivation.verb,
        "Sources": [f"sha256:{scan.source.sha256}"],
        "GeneratedBy": [made_by],
    }


def _fields(head: bytes) -> tuple[Any, int, str]:
    """Return the header's fields (NumPy record), its version and its byte order."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    version = version_of(head)
    if not version or len(head) < (348 if version == 1 else 540):
        raise BadInput("its NIfTI header is missing or cut short")
    if b"ni" in (head[344:346] if version == 1 else head[4:6]):
        raise BadInput("it is one half of a NIfTI .hdr/.img pair", "convert the pair to one .nii file")
    layout = (Nifti1Header if version == 1 else Nifti2Header).template_dtype
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        fields = np.frombuffer(head, layout.newbyteorder(order), count=1)[0]
        if fields["sizeof_hdr"] == layout.itemsize:
            return fields, version, order
    raise BadInput("its NIfTI header has the wrong size")


def _shape(fields: Any) -> tuple[int, ...]:
    rank = int(fields["dim"][0])
    if not 2 <= rank <= 7:
        raise BadInput("it has fewer than two dimensions" if rank in (0, 1) else "its number of dimensions is wrong")
    shape = tuple(int(n) for n in fields["dim"][1 : rank + 1])
    if any(n > 1 for n in shape[4:]):
        raise BadInput("it has more than four dimensions")
    if int(fields["intent_code"]) == _LABELS:
        raise BadInput("it is a label map, not an image")
    return shape


def _dtype(fields: Any, order: str) -> np.dtype[Any]:
    code = int(fields["datatype"])
    if code not in _TYPES:
        raise BadInput(f"{_REFUSED.get(code, f'NIfTI data of type {code}')} is not treated")
    return np.dtype(order + _TYPES[code])


def _scaling(fields: Any) -> tuple[float, float]:
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0  # the standard's way to say "not scaled"
    if not np.isfinite(intercept):
        raise BadInput("its intensity scaling is not finite")
    return slope, intercept


def _geometry(fields: Any, shape: tuple[int, ...]) -> Geometry:
    """Return voxel sides and the affine in mm, from RAS (i, j, k) to LPS (z, y, x)."""
    scale = _MILLIMETRES.get(int(fields["xyzt_units"]) & 7, 1.0)
    ras = _ras(fields)
    if ras is None:  # neither code set: the file says how large voxels are, not where
        sides = np.abs(fields["pixdim"][1:4].astype(np.float64)) * scale
        known = np.isfinite(sides).all() and (sides[:2] > 0).all()
        x, y, z = (float(s) for s in sides)
        return Geometry((z or 1.0, y, x) if known else None)
    if len(shape) == 2 and not ras[:3, 2].any():
        ras[:3, 2] = np.cross(*ras[:3, :2].T / np.linalg.norm(ras[:3, :2], axis=0).max())
    common.check_affine(ras)
    lps = np.diag([-scale, -scale, scale, 1.0]) @ ras
    affine = np.ascontiguousarray(lps[:, [2, 1, 0, 3]])
    return Geometry(common.spacing_of(affine), affine)


def _ras(fields: Any) -> npt.NDArray[np.float64] | None:
    from nibabel.quaternions import fillpositive, quat2mat

    affine = np.eye(4)
    if fields["sform_code"] != 0:
        affine[:3] = [fields["srow_x"], fields["srow_y"], fields["srow_z"]]
        return affine
    if fields["qform_code"] == 0:
        return None
    sides = fields["pixdim"][1:4].astype(np.float64)
    quaternion = np.array([fields[f"quatern_{c}"] for c in "bcd"], np.float64)
    if not (np.isfinite(sides).all() and np.isfinite(quaternion).all() and (sides >= 0).all()):
        raise BadInput("its orientation is not made of finite numbers")
    try:
        turn = quat2mat(fillpositive(quaternion, w2_thresh=-1e-5))
    except ValueError:
        raise BadInput("its orientation quaternion is no rotation") from None
    if fields["pixdim"][0] < 0:  # qfac; 0 means 1
        sides[2] = -sides[2]
    affine[:3, :3] = turn * sides
    affine[:3, 3] = [fields["qoffset_x"], fields["qoffset_y"], fields["qoffset_z"]]
    return affine


def _float_head(native: NiftiHead) -> bytes:
    """Return the header with float32 voxels in real units: datatype, bitpix and, where it scaled, the scaling."""
    fields, _, _ = _fields(native.raw)
    patched = bytearray(native.raw)
    record = np.frombuffer(patched, fields.dtype, count=1)
    record["datatype"], record["bitpix"] = 16, 32
    if _scaling(fields) != (1.0, 0.0):
        record["scl_slope"], record["scl_inter"] = 1, 0
    return bytes(patched)
