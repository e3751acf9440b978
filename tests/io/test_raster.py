"""Pictures: pixels as Pillow and tifffile give them, written back in the depth, channels and with the tags they had."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.io
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from medfpl.errors import BadInput
from medfpl.io.derivation import Derivation
from medfpl.io.guard import Limits
from medfpl.io.raster import PNG_MAGIC, read_picture, write_picture
from medfpl.io.tiff_codecs import unpack_lzw, unpack_packbits

MADE = Derivation("denoised", "medfpl", "net-1")


def grey(dtype="u1", shape=(24, 31)):
    y, x = np.indices(shape[-2:])
    rng = np.random.default_rng(0)
    top = 250 if np.dtype(dtype).itemsize == 1 else 30_000
    values = (x + y) / (sum(shape[-2:])) * top / 2 + rng.integers(0, top / 8, shape)
    return values.astype(dtype)


def colour(plane, alpha=None):
    planes = [plane] * 3 + ([] if alpha is None else [np.broadcast_to(np.asarray(alpha, plane.dtype), plane.shape)])
    return np.stack(planes, -1)


def png(array, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(width, height, depth, colour_type, packed: bytes, *others: bytes, interlace=0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace))
    return PNG_MAGIC + header + b"".join(others) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def saved(tmp_path: Path, raw: bytes, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(raw)
    return path


def round_trip(tmp_path, raw: bytes, name: str, change=0.0):
    """Read, change by a constant, write; return the scan and the output's path."""
    scan = read_picture(saved(tmp_path, raw, name))
    target = tmp_path / ("out.png" if name.endswith(("jpg", "png")) else "out.tif")
    assert write_picture(scan.with_pixels(scan.pixels + np.float32(change)), target, MADE) == [target]
    return scan, target


LAYOUTS = {
    "L": lambda: grey(),
    "I;16": lambda: grey("u2"),
    "LA": lambda: np.stack([grey(), np.full_like(grey(), 255)], -1),
    "RGB": lambda: colour(grey()),
    "RGBA": lambda: colour(grey(), 128),
}


@pytest.mark.parametrize("mode", LAYOUTS)
def test_png_comes_back_as_it_was(tmp_path, mode):
    array = LAYOUTS[mode]()
    plane = array if array.ndim == 2 else array[..., 0]
    scan, target = round_trip(tmp_path, png(array), "x.png")
    np.testing.assert_array_equal(scan.pixels, plane[None].astype(np.float32))
    assert scan.source.shape == plane.shape
    assert scan.intensity.kind == "other"
    assert ((scan.intensity.black, scan.intensity.white) == (0, 255)) == (plane.dtype == np.uint8)
    with Image.open(target) as after:
        assert after.mode == mode
        np.testing.assert_array_equal(np.asarray(after), array)
    np.testing.assert_array_equal(skimage.io.imread(target), array)


@pytest.mark.parametrize("mode", LAYOUTS)
def test_changed_pixels_keep_depth_and_channels(tmp_path, mode):
    array = LAYOUTS[mode]()
    scan, target = round_trip(tmp_path, png(array), "x.png", change=3.4)
    with Image.open(target) as after:
        assert after.mode == mode
        new = np.asarray(after)
    plane = np.rint(np.minimum(scan.pixels[0] + 3.4, np.iinfo(array.dtype).max)).astype(array.dtype)
    expected = plane if array.ndim == 2 else array.copy()
    if array.ndim == 3:
        expected[..., : 1 if mode == "LA" else 3] = plane[..., None]
    np.testing.assert_array_equal(new, expected)


def test_png_text_resolution_profile_and_orientation_stay(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "chest")
    text.add_itxt("Note", "größe", zip=True)
    exif = Image.Exif()
    exif[274] = 6
    raw = png(grey(), pnginfo=text, dpi=(300, 300), exif=exif, icc_profile=b"profile")
    raw = raw.replace(chunk(b"IEND", b""), chunk(b"tIME", bytes(7)) + chunk(b"IEND", b""))
    scan, target = round_trip(tmp_path, raw, "x.png")
    assert scan.pixels.shape == (1, 24, 31)  # not turned
    with Image.open(target) as after:
        assert after.text["Title"] == "chest"
        assert after.text["Note"] == "größe"
        assert "net-1" in after.text["Software"]
        assert round(after.info["dpi"][0]) == 300
        assert after.info["icc_profile"] == b"profile"
        assert after.getexif()[274] == 6
    assert b"tIME" not in target.read_bytes()  # it told when the old pixels were made


def adam7(array) -> bytes:
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in starts for row in array[y::dy, x::dx] if row.size]
    return raw_png(array.shape[1], array.shape[0], 8, 0, zlib.compress(b"".join(rows)), interlace=1)


def test_interlaced_png_is_read_and_written_plain(tmp_path):
    _, target = round_trip(tmp_path, adam7(grey()), "x.png")
    np.testing.assert_array_equal(skimage.io.imread(target), grey())
    assert target.read_bytes()[28] == 0


def test_a_grey_palette_becomes_greyscale(tmp_path):
    image = Image.fromarray(grey() // 64)
    image.putpalette([v for i in range(256) for v in (i * 80 % 256,) * 3])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    scan, target = round_trip(tmp_path, stream.getvalue(), "x.png")
    np.testing.assert_array_equal(scan.pixels[0], grey() // 64 * 80.0)
    with Image.open(target) as after:
        assert after.mode == "L"


def pal(*others):
    return raw_png(2, 1, 8, 3, zlib.compress(b"\0\0\1"), *others)


true_colour = colour(grey())
true_colour[3, 3, 1] ^= 1
half_clear = colour(grey(), 255)
half_clear[3, 3, 3] = 254


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (png(true_colour), "colour"),
        (png(half_clear), "transparent"),
        (png(grey(), transparency=3), "transparent"),
        (pal(chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6]))), "colour"),
        (pal(chunk(b"PLTE", bytes(3))), "palette"),
        (pal(), "damaged|palette"),
        (raw_png(8, 1, 1, 0, zlib.compress(bytes(2))), "1 bits"),
        (raw_png(1, 1, 16, 2, zlib.compress(bytes(7))), "16-bit"),
        (raw_png(1, 1, 16, 4, zlib.compress(bytes(5))), "16-bit"),
        (raw_png(1, 1, 8, 7, zlib.compress(bytes(5))), "unknown"),
        (raw_png(0, 5, 8, 0, zlib.compress(b"")), "below 1"),
        (raw_png(65_000, 65_000, 8, 0, zlib.compress(bytes(100))), "limit|shorter"),
        (raw_png(2**32 - 1, 2**32 - 1, 8, 0, zlib.compress(bytes(100))), "limit"),
        (raw_png(4, 4, 8, 0, zlib.compress(bytes(19))), "shorter"),
        (raw_png(4, 4, 8, 0, b"nonsense"), "damaged"),
        (raw_png(4, 4, 8, 0, zlib.compress(bytes(20)), chunk(b"acTL", bytes(8))), "animation"),
        (png(grey())[:-5], "cut short"),
        (png(grey())[:200], "cut short"),
        (png(grey())[:200] + b"!" + png(grey())[201:], "checksum"),
        (PNG_MAGIC, "cut short"),
        (PNG_MAGIC + chunk(b"IEND", b""), "order"),
    ],
)
def test_refuses_png(tmp_path, raw, reason):
    with pytest.raises(BadInput, match=reason):
        read_picture(saved(tmp_path, raw, "x.png"))


def test_a_png_bomb_costs_nothing(tmp_path):
    bomb = raw_png(100_000, 100_000, 8, 0, zlib.compress(bytes(30_000_000), 9))
    small = raw_png(8, 8, 8, 0, zlib.compress(bytes(100_000_000), 9))  # decodes as 8 x 8
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="limit"):
            read_picture(saved(tmp_path, bomb, "x.png"), limits=Limits(max_pixels=10**9))
        assert read_picture(saved(tmp_path, small, "y.png")).pixels.size == 64
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def jpeg(array, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("array", [grey(), colour(grey())], ids=["L", "RGB"])
def test_jpeg_goes_out_as_png(tmp_path, array):
    exif = Image.Exif()
    exif[274] = 8
    raw = jpeg(array, dpi=(200, 200), exif=exif)
    _, target = round_trip(tmp_path, raw, "x.jpg")
    with Image.open(io.BytesIO(raw)) as before, Image.open(target) as after:
        assert after.format == "PNG"
        assert after.mode == before.mode
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
        assert after.getexif()[274] == 8
        assert round(after.info["dpi"][0]) == 200


def test_a_jpeg_bomb_is_refused_before_it_is_unpacked(tmp_path):
    raw = bytearray(jpeg(grey()))
    start = raw.index(b"\xff\xc0")
    raw[start + 5 : start + 9] = struct.pack(">HH", 30_000, 30_000)
    with pytest.raises(BadInput, match="shorter"):
        read_picture(saved(tmp_path, bytes(raw), "x.jpg"))


def test_our_limits_hold_not_pillows(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name, raw in {"x.png": png(grey()), "x.jpg": jpeg(grey())}.items():
        assert read_picture(saved(tmp_path, raw, name)).pixels.size == 744


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (jpeg(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)), "colour"),
        (jpeg(np.zeros((16, 16, 4), np.uint8)[..., :3])[:100], "damaged"),
        (jpeg(grey())[:-200], "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"nothing at all", "no PNG"),
    ],
)
def test_refuses_jpeg(tmp_path, raw, reason):
    with pytest.raises(BadInput, match=reason):
        read_picture(saved(tmp_path, raw, "x.jpg"))


def tiff(array, **options) -> bytes:
    stream = io.BytesIO()
    options = {"photometric": "minisblack", "metadata": None} | options
    with tifffile.TiffWriter(
        stream, byteorder=options.pop("byteorder", "<"), bigtiff=options.pop("bigtiff", False)
    ) as w:
        for page in array if array.ndim == 3 and options["photometric"] != "rgb" else [array]:
            w.write(page, contiguous=False, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i1", "i2", "f4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": 2},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib", "predictor": 2},
        {"rowsperstrip": 5},
        {"photometric": "miniswhite"},
    ],
    ids=str,
)
def test_tiff_stacks_come_back_as_they_were(tmp_path, options, byteorder, dtype):
    if dtype == "f4":  # deltas of floats are refused, see below
        options = {k: v for k, v in options.items() if k != "predictor"}
    array = grey(dtype, (3, 24, 31))
    raw = tiff(array, byteorder=byteorder, **options)
    scan, target = round_trip(tmp_path, raw, "x.tif")
    np.testing.assert_array_equal(scan.pixels, array.astype(np.float32))
    assert scan.source.shape == array.shape
    with tifffile.TiffFile(target) as after:
        assert after.byteorder == byteorder
        assert after.is_bigtiff == options.get("bigtiff", False)
        assert after.pages[0].photometric == (options.get("photometric") != "miniswhite")
        assert (after.pages[0].compression == 1) == ("compression" not in options)
        found = np.stack([p.asarray() for p in after.pages])
    assert found.dtype.newbyteorder("=") == dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_tiff_written_by_libtiff(tmp_path, dtype, compression):
    array = grey(dtype, (70, 90))
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "TIFF", compression=compression)
    scan, target = round_trip(tmp_path, stream.getvalue(), "x.tif")
    np.testing.assert_array_equal(scan.pixels[0], array.astype(np.float32))
    np.testing.assert_array_equal(tifffile.imread(target), array)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 40), st.sampled_from(["tiff_lzw", "packbits"]))
@settings(max_examples=40, deadline=None)
def test_unpacks_what_libtiff_packed(pattern, repeats, compression):
    data = pattern * repeats
    stream = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(stream, "TIFF", compression=compression)
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        page = file.pages[0]
        packed = stream.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]]
    unpack = unpack_lzw if compression == "tiff_lzw" else unpack_packbits
    assert unpack(packed, len(data)) == data
    assert unpack(packed, len(data) // 2) == data[: len(data) // 2]


def test_lzw_long_enough_to_fill_its_table(tmp_path):
    array = np.random.default_rng(0).integers(0, 65_536, (200, 300), np.uint16)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "TIFF", compression="tiff_lzw")
    np.testing.assert_array_equal(read_picture(saved(tmp_path, stream.getvalue(), "x.tif")).pixels[0], array)


@pytest.mark.parametrize("alpha", [None, 200])
def test_grey_rgb_tiff_stays_rgb(tmp_path, alpha):
    array = colour(grey(), alpha)
    options = {"photometric": "rgb"} | ({} if alpha is None else {"extrasamples": ["unassalpha"]})
    scan, target = round_trip(tmp_path, tiff(array, **options), "x.tif")
    np.testing.assert_array_equal(scan.pixels[0], grey())
    with tifffile.TiffFile(target) as after:
        assert after.pages[0].photometric == 2
        np.testing.assert_array_equal(after.asarray(), array)


def test_tiff_tags_stay(tmp_path):
    options = {"resolution": (118.11, 59.5), "resolutionunit": 3, "iccprofile": b"profile"}
    extra = [(274, 3, 1, 6, True), (270, 2, 0, "größe <OME/>".encode(), True)]
    _, target = round_trip(tmp_path, tiff(grey(), extratags=extra, **options), "x.tif")
    with tifffile.TiffFile(target) as after, tifffile.TiffFile(tmp_path / "x.tif") as before:
        for code in (270, 274, 282, 283, 296, 34675):
            assert after.pages[0].tags[code].value == before.pages[0].tags[code].value
        assert after.pages[0].tags[274].value == 6
        assert "net-1" in after.pages[0].tags[305].value


def test_nan_in_a_float_tiff(tmp_path):
    array = grey("f4")
    array[2, 3] = np.nan
    scan, target = round_trip(tmp_path, tiff(array), "x.tif", change=1.0)
    assert not scan.valid[0, 2, 3]
    np.testing.assert_array_equal(tifffile.imread(target), array + 1)


def patched(raw: bytes, code: int, value: int) -> bytes:
    """Replace a one-value tag of the first page."""
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        tag = file.pages[0].tags[code]
        at, form = tag.valueoffset, "<H" if tag.dtype == 3 else "<I"
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def two_pages(*arrays) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for array in arrays:
            writer.write(array, contiguous=False, metadata=None, photometric="minisblack")
    return stream.getvalue()


def one_page_stack() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, grey("u1", (3, 24, 31)), photometric="minisblack", truncate=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (tiff(true_colour, photometric="rgb"), "colour"),
        (tiff(half_clear, photometric="rgb", extrasamples=["unassalpha"]), "transparent"),
        (two_pages(grey(), grey("u2")), "differ"),
        (two_pages(grey(), grey(shape=(5, 6))), "differ"),
        (one_page_stack(), "single page"),
        (tiff(grey("u4")), "samples"),
        (tiff(grey("f8")), "samples"),
        (tiff(grey("f4"), predictor=None)[:-30], "shorter"),
        (tiff(grey())[:60], "damaged|missing|samples|shorter"),
        (patched(tiff(grey()), 256, 60_000), "shorter|missing"),
        (patched(tiff(grey()), 256, 0), "below 1|damaged|differ|grey"),
        (patched(tiff(grey(), tile=(16, 16)), 257, 2**31), "limit|missing"),
        (patched(tiff(grey(), tile=(16, 16)), 322, 2**31), "tiles|missing|damaged"),
        (patched(tiff(grey(), compression="zlib"), 259, 7), "compression"),
        (patched(tiff(grey(), compression="zlib"), 259, 5), "LZW|shorter"),
        (patched(tiff(grey("u2"), compression="zlib", predictor=2), 317, 3), "compression"),
        (patched(tiff(grey()), 262, 3), "neither grey nor RGB"),
        (patched(tiff(grey()), 258, 12), "samples"),
        (b"II*\0" + struct.pack("<I", 8) + bytes(6), "damaged|samples"),
        (b"II*\0" + struct.pack("<I", 2**31), "damaged"),
        (b"II*\0", "damaged"),
    ],
)
def test_refuses_tiff(tmp_path, raw, reason, capfd):
    with pytest.raises(BadInput, match=reason):
        read_picture(saved(tmp_path, raw, "x.tif"))
    assert capfd.readouterr() == ("", "")


def test_a_tiff_whose_pages_go_round_in_circles(tmp_path):
    raw = bytearray(two_pages(grey(), grey()))
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        first, second = (p.offset for p in file.pages)
    at = second + 2 + 12 * struct.unpack_from("<H", raw, second)[0]
    raw[at : at + 4] = struct.pack("<I", first)
    with pytest.raises(BadInput, match="circle"):
        read_picture(saved(tmp_path, bytes(raw), "x.tif"))


def test_a_tiff_bomb_inflates_no_further_than_declared(tmp_path):
    raw = tiff(np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        offset, count = file.pages[0].tags[273].valueoffset, file.pages[0].tags[279].valueoffset
    packed = zlib.compress(bytes(100_000_000), 9)
    bomb = bytearray(raw) + packed
    bomb[offset : offset + 4] = struct.pack("<I", len(raw))
    bomb[count : count + 4] = struct.pack("<I", len(packed))
    path = saved(tmp_path, bytes(bomb), "x.tif")
    tracemalloc.start()
    try:
        assert not read_picture(path).pixels.any()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_the_pixel_limit_holds(tmp_path):
    for name, raw in {"x.png": png(grey()), "x.jpg": jpeg(grey()), "x.tif": tiff(grey())}.items():
        path = saved(tmp_path, raw, name)
        assert read_picture(path, "xray", Limits(max_pixels=744)).intensity.kind == "xray"
        with pytest.raises(BadInput, match="limit"):
            read_picture(path, limits=Limits(max_pixels=743))


@pytest.mark.real
def test_real_xrays_come_back_pixel_for_pixel(real_data, tmp_path):
    paths = sorted(real_data.glob("chest_xray/**/*.png"))
    assert paths
    for path in paths[:: max(1, len(paths) // 12)]:
        scan = read_picture(path, "xray")
        write_picture(scan, tmp_path / "out.png", MADE, overwrite=True)
        with Image.open(path) as before, Image.open(tmp_path / "out.png") as after:
            assert (after.mode, after.size) == (before.mode, before.size)
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
