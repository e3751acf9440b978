"""Reading and writing scans: ``read(path) -> Scan`` and ``write(scan, target, derivation)``.

A file's format is told by its content, then by its name. What is written has the format of what was read.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medfpl.errors import BadInput, UsageError
from medfpl.io import common, itk, nifti, npy, raster
from medfpl.io.atomic import check_target
from medfpl.io.common import Format
from medfpl.io.derivation import Derivation
from medfpl.io.guard import DEFAULT_LIMITS, Limits, read_head
from medfpl.io.itk_header import NRRD_MAGIC, ItkHead, is_meta
from medfpl.scan import Kind, Scan

__all__ = [
    "READABLE_SUFFIXES",
    "Derivation",
    "Format",
    "Limits",
    "check_suffix",
    "default_target",
    "read",
    "sniff",
    "suffix_of",
    "write",
]

_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "dicom"),
    **dict.fromkeys((".nii.gz", ".nii"), "nifti"),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), "itk"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff"), "picture"),
    ".npy": "npy",
}  # fmt: skip
READABLE_SUFFIXES = frozenset(_FORMATS)

_READERS: dict[str, Callable[..., Scan]] = {
    "nifti": nifti.read_nifti,
    "itk": itk.read_itk,
    "picture": raster.read_picture,
    "npy": npy.read_npy,
}
_WRITERS: dict[str, Callable[..., list[Path]]] = {
    "nifti": nifti.write_nifti,
    "itk": itk.write_itk,
    "picture": raster.write_picture,
    "npy": npy.write_npy,
}

_HEAD = 4096  # bytes that tell a format, also of a gzipped NIfTI with a long name in its gzip header
_KNOWN = "DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF and NPY are read"


def suffix_of(path: Path) -> str:
    """Return the suffix of a readable format in lower case (".nii.gz" whole), or "" where ``path`` has none."""
    name = path.name.lower()
    return next((s for s in _FORMATS if name.endswith(s) and name != s), "")


def sniff(path: Path) -> Format:
    """Return the format of a file by its first bytes, else by its suffix; BadInput where neither tells."""
    head = read_head(path, _HEAD)
    if not head:
        raise BadInput("it is empty")
    if head[128:132] == b"DICM":  # before TIFF, whose magic a DICOM preamble may hold
        return "dicom"
    if head.startswith((raster.PNG_MAGIC, raster.JPEG_MAGIC, *raster.TIFF_MAGICS)):
        return "picture"
    if head.startswith(npy.NPY_MAGIC):
        return "npy"
    if head.startswith(NRRD_MAGIC) or is_meta(head):
        return "itk"
    if head.startswith(common.GZIP_MAGIC):
        head = common.inflate_head(head, nifti.HEAD_SIZE)
    if nifti.version_of(head):
        return "nifti"
    if head.startswith(b"PK\3\4") and path.suffix.lower() == ".npz":
        raise BadInput("it is an archive of arrays (NPZ)", "save one array as .npy")
    if _looks_like_bare_dicom(head):
        return "dicom"
    if named := _FORMATS.get(suffix_of(path)):
        return named  # damaged at its start, which the format's reader will say
    raise BadInput("its format is not one that medfpl reads", _KNOWN)


def _looks_like_bare_dicom(head: bytes) -> bool:
    # Without preamble a data set begins with a low element of group 2 or 8, in either byte order.
    return len(head) > 8 and head[:2] in (b"\2\0", b"\x08\0", b"\0\2", b"\0\x08")


def read(
    path: Path | str, *, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS, allow_burned_in: bool = False
) -> Scan:
    """Read a file of any format medfpl knows.

    ``kind`` says what the numbers are; None takes it from the header (DICOM) or guesses it from the values.
    ``allow_burned_in`` takes a DICOM image that says it has text in its pixels; no other format can say so.
    BadInput for whatever is damaged, hostile, too large for ``limits`` or of a kind medfpl does not treat.
    """
    path = Path(path)
    format = sniff(path)
    if format != "dicom":
        return _READERS[format](path, kind=kind, limits=limits)
    from medfpl.io.dicom_read import read_dicom  # pydicom is slow to import

    return read_dicom(path, kind=kind, limits=limits, allow_burned_in=allow_burned_in)


def write(
    scan: Scan, target: Path | str, derivation: Derivation, *, overwrite: bool = False, **format_options: Any
) -> list[Path]:
    """Write ``scan`` in the format of its source and return the files written, the image first.

    ``format_options`` are those of the format's own writer (``as_float`` of NIfTI, for one). UsageError for a
    target whose suffix names another format, for the input itself and for an option the format does not have;
    TargetExists without ``overwrite``.
    """
    target = Path(target)
    check_suffix(scan, target)
    writer = _writer(scan.source.format)
    unknown = sorted(set(format_options) - set(inspect.signature(writer).parameters))
    if unknown:
        raise UsageError(f"{scan.source.format} files have no option {unknown[0]}")
    check_target(target, scan.source.path, overwrite)
    written = writer(scan, target, derivation, overwrite=overwrite, **format_options)
    return written if isinstance(written, list) else [written]


def check_suffix(scan: Scan, target: Path) -> None:
    """Raise UsageError if the suffix of ``target`` names a format that ``scan`` is not written in."""
    suffix, fitting = suffix_of(target), _suffixes(scan)
    if suffix and suffix not in fitting:
        raise UsageError(
            f"what is read from this input is written as {' or '.join(fitting)}, not as {suffix}",
            f"name the output ...{fitting[0]}",
        )


def default_target(path: Path | str, verb_suffix: str = "denoised") -> Path:
    """Return the name of an output beside its input: scan.dcm -> scan_denoised.dcm, x.nii.gz -> x_denoised.nii.gz.

    A JPEG's output is a PNG. What follows the last dot of other names is part of the name.
    """
    path = Path(path)
    length = len(suffix_of(path))
    stem, suffix = (path.name[:-length], path.name[-length:]) if length else (path.name, "")
    if suffix.lower() in (".jpg", ".jpeg"):
        suffix = ".png"
    return path.with_name(f"{stem}_{verb_suffix}{suffix}")


def _suffixes(scan: Scan) -> tuple[str, ...]:
    """Return the suffixes that an output of ``scan`` may have, the first one the best."""
    head = scan.source.native
    if scan.source.format == "picture":
        return (".png",) if isinstance(head, raster.PngHead) else (".tif", ".tiff")
    if isinstance(head, ItkHead):
        together, apart = (".nrrd", ".nhdr") if head.raw.startswith(NRRD_MAGIC) else (".mha", ".mhd")
        return (apart, together) if head.data_file else (together,)
    return tuple(s for s, f in _FORMATS.items() if f == scan.source.format)


def _writer(format: Format) -> Callable[..., list[Path] | Path]:
    if format != "dicom":
        return _WRITERS[format]
    from medfpl.io.dicom_write import write_dicom

    return write_dicom
