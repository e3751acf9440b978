import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from dicom_making import CAPTURE, ON_DISK, make_dicom, save
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medfpl.errors import BadInput, MissingDependency
from medfpl.io import frames
from medfpl.io.dicom_read import read_dicom
from medfpl.io.dicom_tags import scan_tags
from medfpl.io.frames import FrameHead, decode_frame, read_frame_head
from medfpl.io.guard import Limits

GENERATOR = np.random.default_rng(0)
SHAPE = (48, 40)


def smooth(dtype: str, bits: int) -> np.ndarray:
    """Values over the whole range of ``bits``, without the noise that a lossless coder could not pack."""
    low = -(1 << bits - 1) if dtype.startswith("i") else 0
    values = np.linspace(low, low + (1 << bits) - 1, SHAPE[0] * SHAPE[1])
    return np.rint(values).astype(dtype).reshape(SHAPE)


def j2k(values: np.ndarray, bits: int) -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(values, bits_stored=bits, photometric_interpretation=2))


def jls(values: np.ndarray, bits: int) -> bytes:
    import jpeg_ls

    return bytes(jpeg_ls.encode_array(values.view(f"u{values.itemsize}")))


def rle(values: np.ndarray, bits: int) -> bytes:
    ds = make_dicom(values, sop_class=CAPTURE)
    ds.compress(RLELossless, encoding_plugin="pydicom")
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def lossless(values: np.ndarray, bits: int) -> bytes:
    """Encode with GDCM, in a process of its own, as it is used elsewhere."""
    code = (
        "import sys, gdcm\n"
        "reader = gdcm.ImageReader(); reader.SetFileName(sys.argv[1]); assert reader.Read()\n"
        "change = gdcm.ImageChangeTransferSyntax()\n"
        "change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))\n"
        "change.SetInput(reader.GetImage()); assert change.Change()\n"
        "writer = gdcm.ImageWriter(); writer.SetFileName(sys.argv[2]); writer.SetFile(reader.GetFile())\n"
        "writer.SetImage(change.GetOutput()); assert writer.Write()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.dcm", Path(folder) / "b.dcm"
        save(make_dicom(values, sop_class=CAPTURE, stored=bits), source)
        subprocess.run([sys.executable, "-c", code, str(source), str(target)], check=True)
        return next(generate_frames(dcmread(target).PixelData, number_of_frames=1))


def baseline(values: np.ndarray, bits: int) -> bytes:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(values).save(stream, "JPEG", quality=95)
    return stream.getvalue()


ENCODERS = {JPEG2000Lossless: j2k, JPEGLSLossless: jls, RLELossless: rle, JPEGLosslessSV1: lossless}
CASES = [
    (syntax, dtype, bits)
    for syntax in ENCODERS
    for dtype, bits in (("u1", 8), ("u2", 12), ("u2", 16), ("i2", 16), ("i1", 8))
]


@pytest.mark.parametrize(("syntax", "dtype", "bits"), CASES, ids=lambda v: getattr(v, "keyword", str(v)))
def test_lossless_codings_give_back_the_values(syntax, dtype, bits):
    values = smooth(dtype, bits)
    frame = ENCODERS[syntax](values, bits)
    found = decode_frame(frame, syntax, SHAPE, (8 * values.itemsize, bits), dtype.startswith("i"))
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_baseline_jpeg_is_near():
    values = smooth("u1", 8)
    found = decode_frame(baseline(values, 8), JPEGBaseline8Bit, SHAPE, (8, 8), False)
    assert np.abs(found.astype(int) - values).max() <= 4


@pytest.mark.parametrize(("stored_as", "wanted"), [("u2", "i2"), ("i2", "u2")])
def test_a_sign_that_the_codestream_gets_wrong(stored_as, wanted):
    values = smooth(wanted, 12)
    bits = values.view("u2") & 0x0FFF
    coded = bits if stored_as == "u2" else (bits.astype("i2") << 4) >> 4
    found = decode_frame(j2k(coded.astype(stored_as), 12), JPEG2000Lossless, SHAPE, (16, 12), wanted == "i2")
    assert np.array_equal(found, values)


def test_a_signed_image_of_few_bits_in_jpeg_ls():
    values = smooth("i2", 12)
    frame = jls((values.view("u2") & 0x0FFF).astype("u2"), 12)
    assert read_frame_head(frame, "jls").precision == 12
    assert np.array_equal(decode_frame(frame, JPEGLSLossless, SHAPE, (16, 12), True), values)


def test_heads():
    for syntax, coding in ((JPEG2000Lossless, "j2k"), (JPEGLSLossless, "jls"), (JPEGLosslessSV1, "lossless")):
        assert read_frame_head(ENCODERS[syntax](smooth("u1", 8), 8), coding) == FrameHead(*SHAPE, 1, 8)
    assert read_frame_head(baseline(smooth("u1", 8), 8), "jpeg") == FrameHead(*SHAPE, 1, 8)
    assert read_frame_head(j2k(smooth("i2", 16), 16), "j2k").signed


@pytest.mark.parametrize("coding", ["jpeg", "lossless", "jls", "j2k"])
def test_heads_of_damaged_frames(coding):
    whole = {"jpeg": baseline, "lossless": lossless, "jls": jls, "j2k": j2k}[coding](smooth("u1", 8), 8)
    for cut in range(60):
        try:
            assert read_frame_head(whole[:cut], coding).samples == 1
        except BadInput as error:
            assert "damaged" in error.message  # noqa: PT017
    for other in (b"", b"\xff" * 100, b"\xff\xd8" + b"\xff" * 100, b"\xff\xd8\xff\xe0\0\0" * 50, b"text" * 50):
        with pytest.raises(BadInput):
            read_frame_head(other, coding)


@pytest.mark.parametrize("syntax", [*ENCODERS, JPEGBaseline8Bit], ids=lambda s: s.keyword)
def test_damage_is_a_refusal_or_pixels_of_the_right_size(syntax):
    frame = {**ENCODERS, JPEGBaseline8Bit: baseline}[syntax](smooth("u1", 8), 8)
    refused = 0
    for _ in range(25):
        raw = bytearray(frame)
        for at in GENERATOR.integers(2, len(raw) - 2, 8):
            raw[at] = GENERATOR.integers(0, 256)
        try:
            assert decode_frame(bytes(raw), syntax, SHAPE, (8, 8), False).shape == SHAPE
        except BadInput:
            refused += 1
    assert refused
    for cut in (len(frame) // 2, 20, 3, 0):
        with pytest.raises(BadInput):
            decode_frame(frame[:cut], syntax, SHAPE, (8, 8), False)
    assert decode_frame(frame, syntax, SHAPE, (8, 8), False).shape == SHAPE


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1], ids=lambda s: s.keyword)
def test_what_a_writer_leaves_after_a_frame_is_ignored(syntax):
    values = smooth("u2", 12)
    frame = ENCODERS[syntax](values, 12)
    frame = frame[: frame.rindex(b"\xff\xd9") + 2]  # without what pads it to an even length
    for rest in (b"\xbb", b"\x00\xd3\x0c\x99\xfa", b"\xee" * 60):
        assert np.array_equal(decode_frame(frame + rest, syntax, SHAPE, (16, 12), False), values)
    for cut in (frame[:-2], frame[:-1], frame[:-40] + b"\xbb"):
        with pytest.raises(BadInput, match="cut short"):
            decode_frame(cut, syntax, SHAPE, (16, 12), False)


def test_the_frame_must_be_what_the_data_set_says():
    grey = j2k(smooth("u2", 16), 16)
    for shape, bits, reason in (((48, 41), (16, 16), "another size"), (SHAPE, (8, 8), "more bits")):
        with pytest.raises(BadInput, match=reason):
            decode_frame(grey, JPEG2000Lossless, shape, bits, False)
    from openjpeg.utils import encode_array

    colour = bytes(encode_array(np.zeros((*SHAPE, 3), "u1"), bits_stored=8, photometric_interpretation=1))
    with pytest.raises(BadInput, match="colour"):
        decode_frame(colour, JPEG2000Lossless, SHAPE, (8, 8), False)
    with pytest.raises(BadInput, match="not JPEG-LS"):
        decode_frame(grey, JPEGLSLossless, SHAPE, (16, 16), False)
    with pytest.raises(BadInput, match="more bits"):
        decode_frame(j2k(smooth("u2", 12), 12), JPEG2000Lossless, SHAPE, (16, 10), False)


def test_twelve_bit_jpeg_names_its_package():
    if find_spec("libjpeg"):
        assert read_dicom(ON_DISK["JPGExtended.dcm"]).pixels.max() in range(255, 275)
    else:
        with pytest.raises(MissingDependency) as caught:
            read_dicom(ON_DISK["JPGExtended.dcm"])
        assert "jpeg12" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "damaged"),
        ("import sys; sys.stdin.buffer.readline(); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "damaged"),
        ("import time; time.sleep(60)", "too long"),
        (
            "import sys; sys.stdin.buffer.readline(); import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",
            "too long",
        ),
        (
            "import sys; sys.stdin.buffer.readline(); sys.stdout.buffer.write(b'+' + b'\\xff' * 8); sys.stdout.flush()",
            "damaged",
        ),
        (
            "import sys; sys.stdin.buffer.readline(); sys.stdout.buffer.write(b'+' + b'\\1' + bytes(7) + b'x')",
            "damaged",
        ),
        ("raise SystemExit(0)", "damaged"),
    ],
    ids=["abort", "segfault", "hang", "out of CPU time", "absurd length", "too few pixels", "gone"],
)
def test_whatever_becomes_of_the_child_is_a_refusal(monkeypatch, tmp_path, code, reason):
    script = tmp_path / "worker.py"
    script.write_text(code)
    monkeypatch.setattr(frames, "_WORKER", script)
    monkeypatch.setattr(frames, "_WORKERS", frames._Workers())
    monkeypatch.setattr(frames, "_PATIENCE", 1)
    with pytest.raises(BadInput, match=reason):
        decode_frame(j2k(smooth("u1", 8), 8), JPEG2000Lossless, SHAPE, (8, 8), False, Limits(child_seconds=1.0))
    frames._WORKERS.close()


def test_a_child_that_died_is_replaced():
    frame = j2k(smooth("u1", 8), 8)
    decode_frame(frame, JPEG2000Lossless, SHAPE, (8, 8), False)
    (worker, *_) = frames._WORKERS._idle
    for idle in list(frames._WORKERS._idle):
        os.kill(idle.process.pid, signal.SIGKILL)
        idle.process.wait()
    assert decode_frame(frame, JPEG2000Lossless, SHAPE, (8, 8), False).shape == SHAPE
    assert worker not in frames._WORKERS._idle


def test_one_child_serves_many_frames():
    frame = j2k(smooth("u1", 8), 8)
    seen = set()
    for _ in range(5):
        decode_frame(frame, JPEG2000Lossless, SHAPE, (8, 8), False)
        seen.add(frames._WORKERS._idle[-1].process.pid)
    assert len(seen) == 1


def blown_up(side: int) -> bytes:
    """A frame of some hundred bytes that declares ``side`` x ``side`` pixels in one tile."""
    frame = bytearray(j2k(np.zeros(SHAPE, "u1"), 8))
    for at in (8, 12, 24, 28):
        frame[at : at + 4] = side.to_bytes(4, "big")
    return bytes(frame)


def test_frames_that_are_too_short_for_their_size():
    with pytest.raises(BadInput, match="too short"):
        decode_frame(blown_up(20_000), JPEG2000Lossless, (20_000, 20_000), (8, 8), False)
    run = bytes((1, 0, 0, 0, 64, 0, 0, 0)) + bytes(56)
    for frame in (run + b"\x81\0", run + b"\x81\0" * 100_000, b""):
        with pytest.raises(BadInput):
            decode_frame(frame, RLELossless, SHAPE, (8, 8), False)


def test_the_child_has_a_memory_limit():
    with pytest.raises(BadInput):
        decode_frame(blown_up(5000), JPEG2000Lossless, (5000, 5000), (8, 8), False, Limits(child_bytes=1 << 26))
    blank = np.zeros((2000, 2000), "u2")
    assert not decode_frame(j2k(blank, 16), JPEG2000Lossless, blank.shape, (16, 16), False).any()


def test_from_many_daemon_threads():
    values = [np.full(SHAPE, i, "u1") for i in range(8)]
    coded = [j2k(v, 8) for v in values]  # here: the encoder is for one thread
    found: list[np.ndarray | None] = [None] * 8

    def work(i: int) -> None:
        for _ in range(3):
            found[i] = decode_frame(coded[i], JPEG2000Lossless, SHAPE, (8, 8), False)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.array_equal(a, b) for a, b in zip(found, values, strict=True))


def _decode_in_fork(frame: bytes) -> int:
    return int(decode_frame(frame, JPEG2000Lossless, SHAPE, (8, 8), False).sum())


def test_a_fork_does_not_share_the_child():
    values = smooth("u1", 8)
    frame = j2k(values, 8)
    decode_frame(frame, JPEG2000Lossless, SHAPE, (8, 8), False)
    with get_context("fork").Pool(2) as pool:
        sums = pool.map_async(_decode_in_fork, [frame] * 6)
        here = [_decode_in_fork(frame) for _ in range(6)]
        assert sums.get(60) == here == [int(values.sum())] * 6


def test_the_child_ends_with_its_parent(tmp_path):
    code = (
        "import sys, time, numpy as np\n"
        "from medfpl.io import frames\n"
        "frame = open(sys.argv[1], 'rb').read()\n"
        "frames.decode_frame(frame, '1.2.840.10008.1.2.4.90', (48, 40), (8, 8), False)\n"
        "assert 'torch' not in sys.modules\n"
        "print(frames._WORKERS._idle[0].process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "frame").write_bytes(j2k(smooth("u1", 8), 8))
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "frame")], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_imported_from_the_folder_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "openjpeg.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frames, "_WORKERS", frames._Workers())
    assert decode_frame(j2k(smooth("u1", 8), 8), JPEG2000Lossless, SHAPE, (8, 8), False).shape == SHAPE
    frames._WORKERS.close()


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
@pytest.mark.parametrize("split", [False, True])
def test_frames_of_many_frame_files(tmp_path, table, split):
    values = np.stack([smooth("u2", 12) // (i + 1) for i in range(3)])
    coded = [j2k(v, 12) for v in values]
    ds = make_dicom(values, sop_class=CAPTURE + ".3", stored=12, syntax=JPEG2000Lossless, frames=coded)
    if table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(coded)
    else:
        fragments = 3 if split else 1
        ds.PixelData = encapsulate(coded, fragments_per_frame=fragments, has_bot=table == "basic")
    assert np.array_equal(read_dicom(save(ds, tmp_path / "x.dcm")).source.stored.values, values)
    ds.NumberOfFrames = 4
    with pytest.raises(BadInput, match="as many frames"):
        read_dicom(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm"]
)
def test_corrupt_compressed_files_are_refused(tmp_path, name):
    raw = bytearray(ON_DISK[name].read_bytes())
    start = scan_tags(bytes(raw)).pixels.fragments[0][0]
    raw[start + 4 : start + 64] = b"\xa5" * 60
    (tmp_path / "x.dcm").write_bytes(raw)
    with pytest.raises(BadInput):
        read_dicom(tmp_path / "x.dcm")
