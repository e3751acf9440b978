"""Pixels as few bytes that a browser can undo exactly: whole steps, predicted from their neighbours, deflated.

A canvas would give 8 bits, and some browsers add noise to what is read back from one: the page decodes these bytes
itself, with the browser's own inflate (DecompressionStream).

A picture of h x w codes (whole numbers) is written as the residuals of the median edge detector of JPEG-LS
(Weinberger, Seroussi, Sapiro 2000), folded to 0, 1, 2, ... = 0, -1, 1, ...: one byte each, 255 for those that need
more, which follow as little-endian 16-bit numbers after the last plane.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]

ESCAPE = 255
# Residuals of codes within +-LARGEST are within +-2 LARGEST and fold into 16 bits.
LARGEST = 16000


@dataclass(frozen=True)
class Grid:
    """The values that can be shown: ``zero + step * code``, in real units."""

    zero: float
    step: float

    def codes(self, values: npt.NDArray[np.floating]) -> Codes:
        """Return the nearest code of each value; what lies beyond LARGEST is clipped."""
        codes = np.rint((values.astype(np.float64) - self.zero) / self.step)
        return np.clip(codes, -LARGEST, LARGEST).astype(np.int32)

    def values(self, codes: Codes) -> npt.NDArray[np.float64]:
        """Return the real values of ``codes``."""
        return self.zero + self.step * codes.astype(np.float64)


def pack_pair(before: Codes, after: Codes) -> bytes:
    """Return both pictures (h, w): the later one, then what was removed from the earlier.

    What was removed is mostly noise, which no neighbour predicts: it is written as it is.
    """
    return _pack([residuals(after), np.clip(before - after, -2 * LARGEST, 2 * LARGEST)])


def pack_map(levels: Codes) -> bytes:
    """Return one picture (h, w)."""
    return _pack([residuals(levels)])


def residuals(codes: Codes) -> Codes:
    """Return ``codes`` (h, w) less their prediction from the left, upper and upper left neighbours."""
    left, above, corner = np.zeros_like(codes), np.zeros_like(codes), np.zeros_like(codes)
    left[:, 1:], above[1:], corner[1:, 1:] = codes[:, :-1], codes[:-1], codes[:-1, :-1]
    # The first row is predicted from the left, the first column from above.
    above[0] = corner[0] = left[0]
    left[1:, 0] = corner[1:, 0] = above[1:, 0]
    low, high = np.minimum(left, above), np.maximum(left, above)
    plane = np.where(corner >= high, low, np.where(corner <= low, high, left + above - corner))
    return codes - plane


def _pack(planes: Sequence[Codes]) -> bytes:
    folded = [np.where(p >= 0, 2 * p, -2 * p - 1).ravel() for p in planes]
    short = [np.minimum(f, ESCAPE).astype(np.uint8).tobytes() for f in folded]
    long = [f[f >= ESCAPE].astype("<u2").tobytes() for f in folded]
    # Noise repeats nothing: of zlib's strategies that for runs alone is the smallest, and the fastest by far.
    deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return deflate.compress(b"".join((*short, *long))) + deflate.flush()
