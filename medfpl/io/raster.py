"""Grey pictures: PNG and JPEG here, TIFF in medfpl.io.tiff.

Colour pictures are taken if all pixels are grey (R = G = B) and go out in colour again; an alpha channel is taken
if it is the same everywhere. JPEG loses detail with each writing, so what comes from a JPEG goes out as PNG.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, MedfplError
from medfpl.io import common
from medfpl.io.atomic import atomic_target
from medfpl.io.derivation import Derivation
from medfpl.io.guard import DEFAULT_LIMITS, Limits, read_bytes
from medfpl.scan import Geometry, Kind, Scan, Stored

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of PNG's colour types but palettes
_PALETTE = 3
_JPEG_PIXELS_PER_BYTE = 2048  # each block of 64 takes a bit or more for its mean, so 512 in truth
# Chunks that say how to show the pixels; of others, those are kept that call themselves safe to copy.
_COLOUR_CHUNKS = {b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}
Chunk = tuple[bytes, bytes]


@dataclass(frozen=True, eq=False)
class Channels:
    """How grey pixels become the file's channels again: ``grey`` equal ones, then a constant ``alpha`` or None."""

    grey: int
    alpha: int | None

    def expand(self, grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return (y, x) pixels as (y, x) or (y, x, channels)."""
        if self.grey == 1 and self.alpha is None:
            return grey
        planes = [grey] * self.grey
        if self.alpha is not None:
            planes.append(np.full_like(grey, self.alpha))
        return np.stack(planes, axis=-1)


@dataclass(frozen=True, eq=False)
class PngHead:
    """What a PNG says besides its pixels."""

    channels: Channels
    chunks: tuple[Chunk, ...]


def grey_of(image: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Channels]:
    """Return the grey pixels (y, x) of an image (y, x) or (y, x, 1 to 4 channels); BadInput for colour."""
    if image.ndim == 2:
        return image, Channels(1, None)
    colours = image.shape[-1] - (image.shape[-1] in (2, 4))
    alpha = None
    if colours < image.shape[-1]:
        alpha = int(image[0, 0, -1])
        if (image[..., -1] != alpha).any():
            raise BadInput("it has transparent parts (an alpha channel that varies)", "remove the alpha channel")
    if (image[..., :1] != image[..., 1:colours]).any():
        raise BadInput("it is a colour picture", "convert it to greyscale")
    return np.ascontiguousarray(image[..., 0]), Channels(colours, alpha)


def read_picture(path: Path, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS) -> Scan:
    """Read a PNG, JPEG or TIFF; ``kind`` None means "other". The working range of 8-bit pixels is 0 to 255.

    BadInput: damage, colour, varying transparency, animation, fewer than 8 bits, 16-bit colour, TIFF pages that
    differ, and more pixels than ``limits`` allow.
    """
    raw, sha256 = read_bytes(path, limits)
    native: Any
    if raw.startswith(PNG_MAGIC):
        image, native = _read_png(raw, limits)
    elif raw.startswith(JPEG_MAGIC):
        image, native = _read_jpeg(raw, limits)
    elif raw.startswith(TIFF_MAGICS):
        from medfpl.io.tiff import decode_tiff

        image, native = decode_tiff(raw, limits)
    else:
        raise BadInput("it is no PNG, JPEG or TIFF picture")
    return common.assemble(
        path,
        "picture",
        Stored(image),
        image.shape if image.shape[0] > 1 else image.shape[1:],
        sha256,
        kind=kind or "other",
        otherwise="other",
        geometry=Geometry(),
        native=native,
        full_range=(0.0, 255.0) if image.dtype == np.uint8 else None,
    )


def write_picture(scan: Scan, target: Path, derivation: Derivation, *, overwrite: bool = False) -> list[Path]:
    """Write ``scan`` as PNG (from PNG and JPEG) or TIFF, in its source's depth and channels; return [target]."""
    with np.errstate(over="ignore", invalid="ignore"):
        image = scan.new_stored()
    native = scan.source.native
    with atomic_target(target, overwrite=overwrite) as place:
        if isinstance(native, PngHead):
            place.write_bytes(_encode_png(image[0], native, derivation))
        else:
            from medfpl.io.tiff import encode_tiff

            encode_tiff(image, native, place, derivation)
    return [target]


def _read_png(raw: bytes, limits: Limits) -> tuple[npt.NDArray[Any], PngHead]:
    chunks = list(_chunks(raw))
    names = [name for name, _ in chunks]
    if not names or names[0] != b"IHDR" or len(chunks[0][1]) != 13 or b"IDAT" not in names or names[-1] != b"IEND":
        raise BadInput("it is cut short or its PNG chunks are out of order")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    channels = 1 if colour == _PALETTE else _CHANNELS.get(colour, 0)
    if not channels or (depth == 16 and channels > 1):
        raise BadInput("it is a 16-bit picture with colour or alpha" if channels else "its PNG colour type is unknown")
    if depth not in (8, 16) or (depth == 16 and colour == _PALETTE):
        raise BadInput(f"it has {depth} bits a pixel, not 8 or 16")
    if b"acTL" in names:
        raise BadInput("it is an animation")
    if b"tRNS" in names:
        raise BadInput("it has transparent parts", "remove the transparency")
    size = common.data_size((height, width, channels), np.dtype(f"u{depth // 8}"), limits.max_pixels)
    packed = b"".join(data for name, data in chunks if name == b"IDAT")
    # A picture that ends early would come out with black rows and no error.
    if not interlace and len(common.inflate_head(packed, size + height)) < size + height:
        raise BadInput("its pixel data is shorter than its header says")
    # Pillow sees nothing but pixels: no profile or text to unpack, nothing to warn of.
    bare = [(name, data) for name, data in chunks if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND")]
    image = _pixels(PNG_MAGIC + b"".join(map(_packed, bare)))
    if colour == _PALETTE:
        image = _palette_to_grey(image, dict(chunks).get(b"PLTE", b""))
    image, layout = grey_of(image)
    kept = tuple(c for c in chunks if c[0] in _COLOUR_CHUNKS or (c[0][0] & 32 and c[0][3] & 32))
    return image.astype(f"u{depth // 8}")[None], PngHead(layout, kept if colour != _PALETTE else _no_profile(kept))


def _no_profile(chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    # Profile and significant bits of a palette do not fit the grey picture it becomes.
    return tuple(c for c in chunks if c[0] not in (b"iCCP", b"sBIT"))


def _palette_to_grey(index: npt.NDArray[Any], palette: bytes) -> npt.NDArray[Any]:
    entries = np.frombuffer(palette, np.uint8).reshape(-1, 3) if len(palette) % 3 == 0 else np.zeros((0, 3), np.uint8)
    if index.max() >= len(entries):
        raise BadInput("its pixels point outside its palette")
    grey, _ = grey_of(entries[None])
    return grey[0][index]


def _read_jpeg(raw: bytes, limits: Limits) -> tuple[npt.NDArray[Any], PngHead]:
    from PIL.JpegImagePlugin import JpegImageFile

    with _pillow_errors(), JpegImageFile(BytesIO(raw)) as opened:
        size, mode, info = opened.size, opened.mode, {str(k): v for k, v in opened.info.items()}
    if mode not in ("L", "RGB"):
        raise BadInput("it is a colour picture", "convert it to greyscale")
    common.data_size((*size, len(mode)), np.dtype("u1"), limits.max_pixels)
    if size[0] * size[1] > _JPEG_PIXELS_PER_BYTE * len(raw):
        raise BadInput("its pixel data is shorter than its header says")
    image, layout = grey_of(_pixels(raw))
    return image[None], PngHead(layout, tuple(_jpeg_chunks(info)))


def _jpeg_chunks(info: dict[str, Any]) -> Iterator[Chunk]:
    """Yield a JPEG's resolution, colour profile and EXIF (with its orientation) as PNG chunks."""
    if isinstance(profile := info.get("icc_profile"), bytes):
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)
    unit, density = info.get("jfif_unit"), info.get("jfif_density", (0, 0))
    if unit in (1, 2):
        metre = 1 / 0.0254 if unit == 1 else 100.0
        yield b"pHYs", struct.pack(">IIB", round(density[0] * metre), round(density[1] * metre), 1)
    if isinstance(exif := info.get("exif"), bytes):
        yield b"eXIf", exif.removeprefix(b"Exif\0\0")


def _pixels(raw: bytes) -> npt.NDArray[Any]:
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    # Not Image.open, which has a size limit of its own, for the whole process.
    decoder = PngImageFile if raw.startswith(PNG_MAGIC) else JpegImageFile
    with _pillow_errors(), decoder(BytesIO(raw)) as image:
        return np.asarray(image)


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Turn whatever Pillow raises on damaged data into BadInput, and drop its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MedfplError:
        raise
    except Exception:
        raise BadInput("its picture data is damaged") from None


def _chunks(raw: bytes) -> Iterator[Chunk]:
    """Yield a PNG's chunks up to IEND, each with its checksum verified."""
    at = len(PNG_MAGIC)
    while at + 12 <= len(raw):
        length, name = struct.unpack_from(">I4s", raw, at)
        end = at + 8 + length
        if end + 4 > len(raw):
            break
        if zlib.crc32(raw[at + 4 : end]) != int.from_bytes(raw[end : end + 4], "big"):
            raise BadInput("a PNG checksum is wrong: the file is damaged")
        yield name, raw[at + 8 : end]
        if name == b"IEND":
            return
        at = end + 4
    raise BadInput("it is cut short")


def _packed(chunk: Chunk) -> bytes:
    body = chunk[0] + chunk[1]
    return struct.pack(">I", len(chunk[1])) + body + struct.pack(">I", zlib.crc32(body))


def _encode_png(grey: npt.NDArray[Any], head: PngHead, derivation: Derivation) -> bytes:
    """Return a PNG with the source's chunks and one more text that says how it was made."""
    from PIL import Image

    encoded = BytesIO()
    Image.fromarray(head.channels.expand(grey)).save(encoded, "PNG")
    header, *rest = [c for c in _chunks(encoded.getvalue()) if c[0] in (b"IHDR", b"IDAT", b"IEND")]
    text = b"Software\0" + derivation.describe().encode("latin-1", "replace")
    return PNG_MAGIC + b"".join(map(_packed, [header, *head.chunks, (b"tEXt", text), *rest]))
