"""Greyscale TIFF of one or many pages: 8- and 16-bit integers and 32-bit floats, pages along z.

tifffile reads the tags and writes; the pixels are unpacked here, so that damaged data can neither inflate without
bound nor make a C library print. Written uncompressed where the source was, else with deflate.
"""

import logging
import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, MedfplError
from medfpl.io import common
from medfpl.io.derivation import Derivation
from medfpl.io.guard import Limits
from medfpl.io.raster import Channels, grey_of
from medfpl.io.tiff_codecs import unpack_lzw, unpack_packbits

MOST_PAGES = 16_384
_DTYPES = {(1, 8): "u1", (1, 16): "u2", (2, 8): "i1", (2, 16): "i2", (3, 32): "f4"}  # by sample format and bits
_UNPACKERS = {
    1: lambda raw, size: raw[:size],
    5: unpack_lzw,
    8: common.inflate_head,
    32946: common.inflate_head,
    32773: unpack_packbits,
}
_GREY, _RGB = (0, 1), 2
# Tags that a page keeps, with their types: description, orientation, colour profile.
_KEPT = {270: 2, 274: 3, 34675: 7}
_RESOLUTION, _RESOLUTION_UNIT = (282, 283), 296


@dataclass(frozen=True, eq=False)
class PageHead:
    """What a page says besides its pixels; ``tags`` are (code, type, count, value, once) as tifffile writes them."""

    channels: Channels
    photometric: int
    extrasamples: tuple[int, ...]
    tags: tuple[tuple[int, int, int, Any, bool], ...]
    resolution: tuple[Any, Any] | None
    resolution_unit: int | None


@dataclass(frozen=True, eq=False)
class TiffHead:
    """What a TIFF file says besides its pixels."""

    byteorder: Literal["<", ">"]
    big: bool
    compressed: bool
    pages: tuple[PageHead, ...]


def decode_tiff(raw: bytes, limits: Limits) -> tuple[npt.NDArray[Any], TiffHead]:
    """Return the pixels (page, y, x) and the rest of a TIFF; BadInput for damage and for what is not grey."""
    # tifffile logs what it dislikes; without a handler Python would print that.
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    try:
        return _decode(raw, limits)
    except MedfplError:
        raise
    except Exception:
        raise BadInput("its TIFF structure is damaged") from None


def _decode(raw: bytes, limits: Limits) -> tuple[npt.NDArray[Any], TiffHead]:
    import tifffile

    with tifffile.TiffFile(BytesIO(raw)) as file:
        pages: list[Any] = []
        seen = set()
        for page in file.pages:
            if page.offset in seen:
                raise BadInput("its pages follow one another in a circle")
            seen.add(page.offset)
            pages.append(page.aspage())
            if len(pages) > MOST_PAGES:
                raise BadInput(f"it has more than {MOST_PAGES} pages")
        for page in pages:
            _check(page)
        if any(p.shape != pages[0].shape or p.dtype != pages[0].dtype for p in pages):
            raise BadInput("its pages differ in size or type", "save one page alone")
        common.data_size((len(pages), *pages[0].shape), pages[0].dtype, limits.max_pixels)
        if math.prod(file.series[0].shape) > len(pages) * math.prod(pages[0].shape):
            raise BadInput("it keeps a stack in a single page", "save the stack as one page a slice")
        images, heads = [], []
        for page in pages:
            image, layout = grey_of(_pixels(raw, page, file.byteorder))
            images.append(image)
            heads.append(_head(page, layout))
        compressed = any(p.compression != 1 for p in pages)
        return np.stack(images), TiffHead(file.byteorder, file.is_bigtiff, compressed, tuple(heads))


def _check(page: Any) -> None:
    """Raise BadInput unless ``page`` is of a kind that is read and written without loss."""
    bits = page.bitspersample
    if page.photometric not in (*_GREY, _RGB):
        raise BadInput("its colours are neither grey nor RGB", "save it in greyscale")
    if not isinstance(bits, int) or (page.sampleformat, bits) not in _DTYPES or page.fillorder != 1:
        raise BadInput("its samples are not 8- or 16-bit integers or 32-bit floats")
    if page.compression not in _UNPACKERS or page.predictor not in (1, 2) or (page.predictor == 2 and bits == 32):
        raise BadInput("its TIFF compression is not treated", "save it uncompressed or with deflate")
    if page.imagedepth != 1 or (page.samplesperpixel > 1 and page.planarconfig != 1):
        raise BadInput("its samples lie in planes or depths, not in one page")
    if page.samplesperpixel != (3 if page.photometric == _RGB else 1) + len(page.extrasamples):
        raise BadInput("its channels are neither grey nor RGB")
    if len(page.extrasamples) > 1 or (page.extrasamples and bits == 32):
        raise BadInput("it has more channels than grey or RGB with alpha")


def _pixels(raw: bytes, page: Any, byteorder: str) -> npt.NDArray[Any]:
    """Return a page's array (y, x) or (y, x, channels), put together from its strips or tiles."""
    height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
    dtype = np.dtype(byteorder + _DTYPES[page.sampleformat, page.bitspersample])
    tiled = page.is_tiled
    rows, columns = (page.tilelength, page.tilewidth) if tiled else (min(page.rowsperstrip, height) or height, width)
    if rows < 1 or columns < 1 or rows * columns > 16 * max(height * width, 65_536):
        raise BadInput("its tiles are larger than the picture")
    across = math.ceil(width / columns)
    count = across * math.ceil(height / rows)
    if not len(page.dataoffsets) == len(page.databytecounts) == count:
        raise BadInput("parts of its pixel data are missing")
    image = np.empty((height, width, channels), dtype)
    unpack = _UNPACKERS[page.compression]
    for index, (start, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        top, left = index // across * rows, index % across * columns
        high = rows if tiled else min(rows, height - top)
        size = high * columns * channels * dtype.itemsize
        data = unpack(raw[start : start + length], size) if 0 < start < len(raw) and length > 0 else b""
        if len(data) < size:
            raise BadInput("its pixel data is shorter than its header says")
        part = np.frombuffer(data, dtype, size // dtype.itemsize).reshape(high, columns, channels)
        if page.predictor == 2:
            part = np.cumsum(part, axis=1, dtype=dtype.newbyteorder("="))
        image[top : top + rows, left : left + columns] = part[: height - top, : width - left]
    return image[..., 0] if channels == 1 else image


def _head(page: Any, layout: Channels) -> PageHead:
    kept = []
    for code, form in _KEPT.items():
        tag = page.tags.get(code)
        if tag is None or int(tag.dtype) != form:
            continue
        value = tag.value.encode("utf-8") + b"\0" if isinstance(tag.value, str) else tag.value
        kept.append((code, form, len(value) if isinstance(value, bytes) else 1, value, True))
    x, y = (page.tags.valueof(code) for code in _RESOLUTION)
    known = all(isinstance(r, tuple) and len(r) == 2 and r[1] for r in (x, y))
    unit = page.tags.valueof(_RESOLUTION_UNIT)
    return PageHead(
        channels=layout,
        photometric=int(page.photometric),
        extrasamples=tuple(map(int, page.extrasamples)),
        tags=tuple(kept),
        resolution=(x, y) if known else None,
        resolution_unit=int(unit) if unit in (1, 2, 3) else None,
    )


def encode_tiff(image: npt.NDArray[Any], head: TiffHead, place: Path, derivation: Derivation) -> None:
    """Write (page, y, x) pixels to ``place`` with the source's tags; Software says how they were made."""
    import tifffile

    made_by = (305, 2, 0, derivation.describe().encode("utf-8"), True)
    with tifffile.TiffWriter(place, bigtiff=head.big, byteorder=head.byteorder) as writer:
        for pixels, page in zip(image, head.pages, strict=True):
            writer.write(
                page.channels.expand(pixels),
                photometric=page.photometric,
                compression="zlib" if head.compressed else None,
                extrasamples=page.extrasamples or None,
                metadata=None,
                contiguous=False,
                software=False,
                resolution=page.resolution,
                resolutionunit=page.resolution_unit,
                extratags=[*page.tags, made_by],
            )
