"""What may be written beside a denoised file: the residual map and a picture of before and after."""

from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from medfpl.errors import TargetExists, UsageError
from medfpl.io import suffix_of
from medfpl.io.atomic import atomic_target, check_target
from medfpl.io.common import GZIP, deflate
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
    return target.with_name(f"{stem(target)}_residual{_map_suffix(target)}")


def noise_map_target(target: Path) -> Path:
    """Return where the noise map of ``target`` goes: a file like the residual's."""
    return target.with_name(f"{stem(target)}_noise{_map_suffix(target)}")


def saliency_targets(target: Path) -> tuple[Path, Path, Path]:
    """Return where the maps of ``target`` go: picture, values (NIfTI; NPZ of pictures and arrays) and record."""
    values = ".nii.gz" if _map_suffix(target) == ".nii.gz" else ".npz"
    png, maps, record = (target.with_name(f"{stem(target)}_saliency{end}") for end in (".png", values, ".json"))
    return png, maps, record


def _map_suffix(target: Path) -> str:
    suffix = suffix_of(target)
    if suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
        return ".tif"
    return ".npy" if suffix == ".npy" else ".nii.gz"


def preview_target(target: Path) -> Path:
    """Return where the preview of ``target`` goes."""
    return target.with_name(f"{stem(target)}_preview.png")


def write_residual(before: Scan, after: Scan, target: Path, *, overwrite: bool) -> None:
    """Write what was removed, ``before - after``, as float32 in real units (HU for CT) with the scan's geometry."""
    removed = before.pixels - after.pixels
    if before.valid is not None:
        removed = np.where(before.valid, removed, np.float32(0))
    with atomic_target(target, overwrite=overwrite) as temporary:
        _save(before, removed, target, temporary)


def write_noise_map(scan: Scan, target: Path, *, overwrite: bool) -> None:
    """Write the local standard deviation of the noise of ``scan``, float32 in real units, in the residual's formats."""
    local = np.stack([_local_noise(scan, z) for z in range(len(scan.pixels))])
    if scan.valid is not None:
        local = np.where(scan.valid, local, np.float32(0))
    with atomic_target(target, overwrite=overwrite) as temporary:
        _save(scan, local, target, temporary)


def _local_noise(scan: Scan, z: int) -> FloatArray:
    """Return the noise around each pixel of a slice (H, W), real units.

    Where it is strong and where weak is told by the highest frequencies (Immerkaer's second difference, averaged
    over 33 pixels without what exceeds thrice the average, which edges do); how strong, by the slice's noise as it is
    reported. So correlated noise of CT has its true level, as long as its correlation is alike everywhere.
    """
    from scipy.ndimage import convolve, uniform_filter

    from medfpl.pipeline.engine import fill_invalid, noise_of_slices, white_noise

    valid = None if scan.valid is None else scan.valid[z : z + 1]
    image = fill_invalid(scan.pixels[z : z + 1], valid)[0]
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    size = np.abs(convolve(image, kernel, mode="mirror"))
    local = uniform_filter(size, 33)
    for _ in range(3):
        usual = size <= 3 * local
        share = uniform_filter(usual.astype(np.float32), 33)
        local = uniform_filter(np.where(usual, size, 0), 33) / np.maximum(share, 1e-3)
    white = white_noise(scan, z)
    (level, _) = noise_of_slices(scan, scan, [z])[0]
    # 1 / 1.325 standard deviations is the mean of |n| below thrice itself.
    return (local * np.float32(1.325 * (level / white if white > 0 else 1.0))).astype(np.float32)


def _save(scan: Scan, values: FloatArray, target: Path, temporary: Path) -> None:
    if target.suffix == ".npy":
        with temporary.open("wb") as file:
            np.save(file, values, allow_pickle=False)
    elif target.suffix == ".tif":
        import tifffile

        tifffile.imwrite(temporary, values[0] if len(values) == 1 else values, photometric="minisblack")
    else:
        with temporary.open("wb") as file:
            save_volume(scan, values, file)


def save_volume(scan: Scan, values: FloatArray | Sequence[FloatArray], stream: IO[bytes]) -> None:
    """Write ``values`` (z, y, x), or several such volumes, as float32 .nii.gz with the scan's affine.

    Slices go out one by one, so that a mapped array never has to fit into memory. Equal values give equal bytes.
    """
    import nibabel

    volumes = [values] if isinstance(values, np.ndarray) else values
    depth, height, width = scan.pixels.shape
    shape: tuple[int, ...] = (width, height, depth)
    if scan.source.format == "nifti" and len(scan.source.shape) > 3:
        # Time points lie along z in a scan: give them their own axis back.
        shape = (width, height, scan.source.shape[2], depth // scan.source.shape[2])
    if len(volumes) > 1:
        shape = (*shape, len(volumes))
    affine = scan.geometry.affine
    empty = np.broadcast_to(np.float32(0), shape)
    image = nibabel.Nifti1Image(empty, np.eye(4) if affine is None else TO_RAS @ affine @ TO_XYZ)
    image.header.set_xyzt_units("mm")
    image.header.set_data_offset(352)
    head = BytesIO()
    image.header.write_to(head)
    slices = (np.ascontiguousarray(one, "<f4").tobytes() for volume in volumes for one in volume)
    deflate(chain([head.getvalue().ljust(352, b"\0")], slices), GZIP, stream)


def check_page(target: Path, inputs: Sequence[Path | str], *, overwrite: bool = False) -> None:
    """Refuse a name for a report: UsageError for no page's or an input's, TargetExists for a taken one."""
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError("the report is an HTML page", "name it ...html")
    try:
        check_target(target, [Path(path) for path in inputs], overwrite=overwrite)
    except TargetExists as error:
        raise TargetExists("the report's page exists", error.hint) from None


def write_preview(before: Scan, after: Scan, target: Path, *, overwrite: bool) -> None:
    """Write a picture of the middle slice: before, after and what was removed."""
    from medfpl.views import save_panel

    with atomic_target(target, overwrite=overwrite) as temporary:
        save_panel(before, after, temporary)
