"""What may be written beside a denoised file: the residual map and a picture of before and after."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfpl.errors import UsageError
from medfpl.io import suffix_of
from medfpl.io.atomic import atomic_target, check_target
from medfpl.scan import FloatArray, Scan

# LPS (DICOM) to RAS (NIfTI), and (z, y, x) to (x, y, z).
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TO_XYZ = np.eye(4)[[2, 1, 0, 3]]


def stem(target: Path) -> str:
    """Return the name of ``target`` without its image suffix (``scan.nii.gz`` -> ``scan``)."""
    suffix = suffix_of(target)
    return target.name[: len(target.name) - len(suffix)]


def residual_target(target: Path) -> Path:
    """Return where the residual of ``target`` goes: NIfTI for scans with a place in space, float TIFF for pictures."""
    suffix = suffix_of(target)
    if suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
        kind = ".tif"
    elif suffix == ".npy":
        kind = ".npy"
    else:
        kind = ".nii.gz"
    return target.with_name(f"{stem(target)}_residual{kind}")


def preview_target(target: Path) -> Path:
    """Return where the preview of ``target`` goes."""
    return target.with_name(f"{stem(target)}_preview.png")


def write_residual(before: Scan, after: Scan, target: Path, *, overwrite: bool) -> None:
    """Write what was removed, ``before - after``, as float32 in real units (HU for CT) with the scan's geometry."""
    removed = before.pixels - after.pixels
    if before.valid is not None:
        removed = np.where(before.valid, removed, np.float32(0))
    with atomic_target(target, overwrite=overwrite) as temporary:
        if target.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, removed, allow_pickle=False)
        elif target.suffix == ".tif":
            import tifffile

            tifffile.imwrite(temporary, removed[0] if len(removed) == 1 else removed, photometric="minisblack")
        else:
            temporary.write_bytes(_nifti(before, removed))


def _nifti(scan: Scan, removed: FloatArray) -> bytes:
    import gzip

    import nibabel

    if scan.source.format == "nifti" and len(scan.source.shape) > 3:
        # Time points lie along z in a scan: give them their own axis back.
        depth = scan.source.shape[2]
        data = removed.reshape(-1, depth, *removed.shape[1:]).transpose(3, 2, 1, 0)
    else:
        data = removed.transpose(2, 1, 0)
    affine = scan.geometry.affine
    image = nibabel.Nifti1Image(np.asarray(data), np.eye(4) if affine is None else TO_RAS @ affine @ TO_XYZ)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), 6, mtime=0)


def check_page(target: Path, inputs: Sequence[Path | str], *, overwrite: bool = False) -> None:
    """Refuse a name for a report: UsageError for no page's or an input's, TargetExists for a taken one."""
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError("the report is an HTML page", "name it ...html")
    check_target(target, [Path(path) for path in inputs], overwrite=overwrite)


def write_preview(before: Scan, after: Scan, target: Path, *, overwrite: bool) -> None:
    """Write a picture of the middle slice: before, after and what was removed."""
    from medfpl.views import save_panel

    with atomic_target(target, overwrite=overwrite) as temporary:
        save_panel(before, after, temporary)
