"""The planes across the acquired slices of a volume: other views of the same anatomy, for training."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from medfpl.scan import FloatArray, Geometry, Scan, Stored

LEAST = 32  # slices: fewer make no picture of their own
CUBIC = 1.5  # longest over shortest side of a voxel, above which resampling would invent too much


def across(scan: Scan) -> Iterator[tuple[str, Scan]]:
    """Yield ("y", rows become slices) and ("x", columns do) of a volume, with square pixels; nothing of another image.

    A volume has at least ``LEAST`` slices, rows and columns, no time, and a voxel no longer than ``CUBIC`` times its
    shortest side. Pixels are real units, resampled along the acquired slices (linear, anti-aliased where there are more
    than there will be pixels); what is no pixel is black. The geometry keeps the spacing alone.
    """
    spacing = scan.geometry.spacing
    if spacing is None or min(scan.pixels.shape) < LEAST or sum(side > 1 for side in scan.source.shape) != 3:
        return
    if min(spacing) <= 0 or max(spacing) / min(spacing) > CUBIC:
        return
    usable = np.isfinite(scan.pixels) if scan.valid is None else scan.valid & np.isfinite(scan.pixels)
    pixels = np.where(usable, scan.pixels, np.float32(scan.intensity.black))
    for name, axes in (("y", (1, 0, 2)), ("x", (2, 0, 1))):
        slices, along, pixel = (spacing[axis] for axis in axes)
        turned = np.ascontiguousarray(pixels.transpose(axes))
        volume = resize_slices(turned, (max(1, round(turned.shape[1] * along / pixel)), turned.shape[2]))
        # What the file stores are other numbers: these are stored as they are.
        source = replace(scan.source, stored=Stored(volume), shape=volume.shape)
        yield (
            name,
            replace(scan, pixels=volume, geometry=Geometry((slices, pixel, pixel)), source=source, valid=None, meta={}),
        )


def resize_slices(volume: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return (z, y, x) with slices of ``shape`` (y, x): linear, and anti-aliased where they shrink."""
    from skimage.transform import resize

    if shape == volume.shape[1:]:
        return volume
    shrinks = any(new < old for new, old in zip(shape, volume.shape[1:], strict=True))
    return np.stack([resize(p, shape, order=1, anti_aliasing=shrinks, preserve_range=True) for p in volume])
