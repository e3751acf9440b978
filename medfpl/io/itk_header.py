"""The text headers of NRRD and MetaImage files: sizes, type, encoding, place in space.

Read here rather than by SimpleITK, so that a hostile header is refused before anything is allocated, and so that the
header of an output can be the source's own, byte for byte. Formats: teem.sourceforge.net/nrrd/format.html and
itk.org/Wiki/MetaIO/Documentation.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput
from medfpl.io import common
from medfpl.scan import Geometry

NRRD_MAGIC = b"NRRD000"
LONGEST = 1 << 20  # bytes of header text looked at

_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("signed long long int",), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # four bytes on every machine, says MetaIO
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Signs that bring a named space to LPS; a space without anatomical meaning is taken as it is, as ITK does.
_TO_LPS = {
    **dict.fromkeys(("right-anterior-superior", "ras", "right-anterior-superior-time", "rast"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las", "left-anterior-superior-time", "last"), (1, -1, 1)),
}
_NRRD_DATA = re.compile(rb"(?im)^(data ?file:(?!=)[ \t]*)[^\r\n]*")
_META_DATA = re.compile(rb"(?im)^(ElementDataFile[ \t]*=[ \t]*)[^\r\n]*")
_META_SIZE = re.compile(rb"(?im)^(CompressedDataSize[ \t]*=[ \t]*)[^\r\n]*")


@dataclass(frozen=True, eq=False)
class ItkHead:
    """A header: its bytes, the array they describe (``shape`` slowest axis first), and where its data lies.

    ``data_file`` is "" where the data follows the header; ``wrapping`` is 0 for raw data, else zlib's code.
    """

    raw: bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    geometry: Geometry
    data_file: str
    wrapping: int

    def renamed(self, data_file: str, size: int) -> bytes:
        """Return the bytes with another data file and compressed size, where they are named at all."""
        head = self.raw
        if self.data_file:
            name = rb"\1" + data_file.encode("utf-8", "surrogateescape").replace(b"\\", rb"\\")
            head = _META_DATA.sub(name, _NRRD_DATA.sub(name, head, count=1), count=1)
        return _META_SIZE.sub(rb"\g<1>%d" % size, head, count=1) if self.wrapping else head


def is_meta(head: bytes) -> bool:
    """Whether ``head`` begins a MetaImage: only known words before the first "="."""
    return re.match(rb"\s*(ObjectType|NDims|Comment|ObjectSubType|TransformType|Name|ID)\s*=", head) is not None


def parse(raw: bytes) -> ItkHead:
    """Return the header at the start of ``raw``; BadInput for damage and for what is not a scalar image."""
    try:
        head = _nrrd(raw) if raw.startswith(NRRD_MAGIC) else _meta(raw)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise BadInput("its header is damaged or incomplete") from None
    if head.geometry.affine is not None:
        common.check_affine(head.geometry.affine)
    return head


def _data_file(name: str) -> str:
    """Return the data file's name; BadInput unless it is that of one file in the header's own folder."""
    if name.upper().split()[:1] == ["LIST"] or "%" in name:
        raise BadInput("its data lies in several files", "convert it to one .nrrd or .mha file")
    path = PurePath(name)
    if len(path.parts) != 1 or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise BadInput("its data file is not named as a file of the same folder")
    return name


def _fields(text: str, separator: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        key, found, value = line.partition(separator)
        key = key.strip().lower()
        if not found or key.startswith("#"):
            continue
        if separator == ":" and value.startswith("="):  # a key/value pair, which describes nothing
            continue
        if fields.setdefault(key, value.strip()) != value.strip():
            raise BadInput("its header states one field twice")
    return fields


def _floats(text: str, count: int) -> npt.NDArray[np.float64]:
    numbers = np.array([float(n) for n in text.replace(",", " ").split()[:count]])
    if len(numbers) < count:
        raise ValueError
    return numbers


def _sides(x: float, y: float, z: float) -> tuple[float, float, float] | None:
    sides = (abs(z), abs(y), abs(x))
    return sides if np.isfinite(sides).all() and min(sides) > 0 else None


def _nrrd(raw: bytes) -> ItkHead:
    end = re.search(rb"\r?\n\r?\n", raw[:LONGEST])
    text = raw[: end.start() if end else LONGEST].decode("latin-1")
    fields = _fields(text.partition("\n")[2], ":")
    named = fields.get("data file", fields.get("datafile"))
    if not end and named is None:
        raise BadInput("its header has no end")
    if any(int(fields.get(k, 0)) for k in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise BadInput("its data begins behind bytes to skip", "convert it to one .nrrd file")
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise BadInput("its data is neither raw nor gzip encoded", "convert it with the encoding gzip")
    kind = fields["type"].lower()
    if kind not in _NRRD_TYPES:
        raise BadInput("its element type is not a plain number")
    order = "|" if _NRRD_TYPES[kind].endswith("1") else {"little": "<", "big": ">"}[fields["endian"].lower()]
    sizes = tuple(int(n) for n in fields["sizes"].split())
    _check_axes(sizes, int(fields["dimension"]), fields.get("kinds", "").lower().split())
    return ItkHead(
        raw=raw[: end.end()] if end else raw[:LONGEST],
        dtype=np.dtype(order + _NRRD_TYPES[kind]),
        shape=sizes[::-1],
        geometry=_nrrd_geometry(fields, len(sizes)),
        # NRRD headers are ASCII; UTF-8 names are what files have in practice.
        data_file="" if named is None else _data_file(named.encode("latin-1").decode("utf-8", "surrogateescape")),
        wrapping=0 if encoding == "raw" else common.GZIP,
    )


def _check_axes(sizes: tuple[int, ...], rank: int, kinds: list[str]) -> None:
    if len(sizes) != rank or (kinds and len(kinds) != rank):
        raise ValueError
    if not 2 <= rank <= 4:
        raise BadInput("it has fewer than two dimensions" if rank < 2 else "it has more than four dimensions")
    spatial, last = {"domain", "space", "???", "none"}, {"time", "list"}
    if any(k not in spatial and not (i == rank - 1 >= 2 and k in last) for i, k in enumerate(kinds)):
        raise BadInput("its elements are vectors, colours or complex numbers")


def _nrrd_geometry(fields: dict[str, str], rank: int) -> Geometry:
    directions = re.findall(r"none|\([^()]*\)", fields.get("space directions", ""))
    if not directions:
        if "spacings" not in fields:
            return Geometry()
        x, y, z = (*_floats(fields["spacings"], rank), 1.0)[:3]
        return Geometry(_sides(x, y, z))
    axes = [np.array([float(n) for n in d.strip("()").split(",")]) for d in directions[:3] if d != "none"]
    if len(directions) != rank or len({len(a) for a in axes}) > 1:
        raise ValueError
    if len(axes) < 3 or len(axes[0]) < 3:
        x, y, z = (*(float(np.linalg.norm(a)) for a in axes), 1.0, 1.0, 1.0)[:3]
        return Geometry(_sides(x, y, z) if len(axes) >= 2 else None)
    affine = np.eye(4)
    for column, axis in zip((2, 1, 0), axes, strict=True):
        affine[:3, column] = axis[:3]
    affine[:3, 3] = _floats(fields.get("space origin", "0,0,0").strip("()"), 3)
    affine[:3] *= np.array(_TO_LPS.get(fields.get("space", "").lower(), (1, 1, 1)))[:, None]
    return Geometry(common.spacing_of(affine), affine)


def _meta(raw: bytes) -> ItkHead:
    end = re.search(rb"(?im)^ElementDataFile[ \t]*=[^\n]*(\n|\Z)", raw[:LONGEST])
    if not end:
        raise BadInput("its header has no end")
    fields = _fields(raw[: end.end()].decode("latin-1"), "=")
    if fields.get("objecttype", "Image").lower() != "image":
        raise BadInput("it is a MetaIO object but no image")
    if fields.get("binarydata", "True").lower() != "true" or int(fields.get("headersize", 0)):
        raise BadInput("its data is not plain binary data after its header")
    if int(fields.get("elementnumberofchannels", 1)) != 1:
        raise BadInput("its elements are vectors, colours or complex numbers")
    if fields["elementtype"].upper() not in _META_TYPES:
        raise BadInput("its element type is not a plain number")
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")).lower() == "true"
    rank, sizes = int(fields["ndims"]), tuple(int(n) for n in fields["dimsize"].split())
    _check_axes(sizes, rank, [])
    data_file = raw[end.start() : end.end()].partition(b"=")[2].strip().decode("utf-8", "surrogateescape")
    return ItkHead(
        raw=raw[: end.end()],
        dtype=np.dtype((">" if big else "<") + _META_TYPES[fields["elementtype"].upper()]),
        shape=sizes[::-1],
        geometry=_meta_geometry(fields, rank),
        data_file="" if data_file.upper() == "LOCAL" else _data_file(data_file),
        wrapping=common.ZLIB if fields.get("compresseddata", "False").lower() == "true" else 0,
    )


def _meta_geometry(fields: dict[str, str], rank: int) -> Geometry:
    def first(*names: str) -> str:
        return next((fields[n] for n in names if n in fields), "")

    spacing, turn = first("elementspacing", "elementsize"), first("transformmatrix", "rotation", "orientation")
    offset = first("offset", "position", "origin")
    x, y, z = (*_floats(spacing, min(rank, 3)), 1.0)[:3] if spacing else (1.0, 1.0, 1.0)
    if rank < 3 or not (turn or offset):
        return Geometry(_sides(x, y, z) if spacing else None)
    # Each row of the matrix is the direction of one axis, fastest first.
    rows = _floats(turn, rank * rank).reshape(rank, rank)[:3, :3] if turn else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = (rows * np.array([[x], [y], [z]])).T[:, ::-1]
    affine[:3, 3] = _floats(offset, 3) if offset else 0.0
    return Geometry(common.spacing_of(affine), affine)
