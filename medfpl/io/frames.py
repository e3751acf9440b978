"""Compressed DICOM frames: their own header is checked, then a process of its own decodes them."""

import atexit
import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medfpl.errors import BadInput, MissingDependency
from medfpl.io.guard import DEFAULT_LIMITS, Limits

_WORKER = Path(__file__).with_name("frame_worker.py")
_JPEG = "1.2.840.10008.1.2.4."
# Transfer syntax -> (coding, whether it loses, None where the syntax alone does not tell).
CODINGS: dict[str, tuple[str, bool | None]] = {
    "1.2.840.10008.1.2.5": ("rle", False),
    **{_JPEG + n: ("jpeg", True) for n in ("50", "51")},
    **{_JPEG + n: ("lossless", False) for n in ("57", "70")},
    _JPEG + "80": ("jls", False),
    _JPEG + "81": ("jls", True),
    _JPEG + "90": ("j2k", False),
    _JPEG + "91": ("j2k", None),
    **{_JPEG + n: ("j2k", False) for n in ("201", "202")},
    _JPEG + "203": ("j2k", None),
}
_NAMES = {"jpeg": "JPEG", "lossless": "lossless JPEG", "jls": "JPEG-LS", "j2k": "JPEG 2000", "rle": "RLE"}
_FRAME_TYPES = {"jpeg": (0xC0, 0xC1), "lossless": (0xC3,), "jls": (0xF7,)}
# A frame of more pixels than this is no blank one that packs into a few bytes, but a bomb.
_BLANK, _MOST_PACKED = 1 << 25, 4096
_CODESTREAM = b"\xff\x4f\xff\x51"
# The marker that ends every coding but RLE cannot occur within coded data; some writers leave a few bytes after it.
_END, _LEFT_OVER = b"\xff\xd9", 64


@dataclass(frozen=True)
class FrameHead:
    """What a compressed frame says of itself; ``signed`` is known to JPEG 2000 alone."""

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False


def read_frame_head(frame: bytes, coding: str) -> FrameHead:
    """Return the head of a JPEG, lossless JPEG, JPEG-LS or JPEG 2000 frame; BadInput if it has none of that kind."""
    head = _j2k_head(frame) if coding == "j2k" else _jpeg_head(frame, _FRAME_TYPES[coding])
    if head is None:
        raise BadInput(f"its compressed pixel data is not {_NAMES[coding]}, or is damaged")
    return head


def _j2k_head(frame: bytes) -> FrameHead | None:
    at = frame.find(_CODESTREAM, 0, 4096)
    if at < 0 or len(frame) < at + 45:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", frame, at + 8)
    tile_x, tile_y = struct.unpack_from(">2I", frame, at + 24)
    samples, depth, step_x, step_y = struct.unpack_from(">HBBB", frame, at + 40)
    if x1 <= x0 or y1 <= y0 or not tile_x or not tile_y or (samples == 1 and (step_x, step_y) != (1, 1)):
        return None
    return FrameHead(y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, bool(depth & 0x80))


def _jpeg_head(frame: bytes, types: tuple[int, ...]) -> FrameHead | None:
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker in types:
            if at + 10 > len(frame):
                return None
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return FrameHead(rows, columns, samples, precision)
        if marker == 0xDA or length < 2:  # the scan begins
            return None
        at += 2 + length
    return None


def decode_frame(
    frame: bytes,
    syntax: str,
    shape: tuple[int, int],
    bits: tuple[int, int],
    signed: bool,
    limits: Limits = DEFAULT_LIMITS,
) -> npt.NDArray[Any]:
    """Decode one compressed greyscale frame in the other process.

    ``shape`` is (rows, columns) and ``bits`` (allocated, stored) as the data set says; ``signed`` its pixel
    representation. The result has the dtype that these make. BadInput if the frame says otherwise of itself, is
    damaged, or brings its decoder down; MissingDependency for 12-bit JPEG without its optional package.
    """
    coding, _ = CODINGS[syntax]
    allocated, _ = bits
    # Padding to an even length, by whichever byte.
    frame = frame.rstrip(b"\0\xff") if coding != "rle" else frame
    if coding == "rle":
        head, decoder = FrameHead(*shape, 1, allocated), "rle"
        _check_run_lengths(len(frame), shape[0] * shape[1] * allocated // 8)
    else:
        head, decoder = read_frame_head(frame, coding), coding
        _check_head(head, frame, shape, allocated)
        frame = frame[frame.find(_CODESTREAM) if coding == "j2k" else 0 : frame.rindex(_END) + len(_END)]
        if coding == "jpeg":
            decoder = "jpeg8" if head.precision == 8 else "jpeg12"
    itemsize = 1 if head.precision <= 8 else 2
    wanted = {
        "decoder": decoder,
        "syntax": syntax,
        "rows": shape[0],
        "columns": shape[1],
        "precision": head.precision,
        "itemsize": itemsize,
    }
    size = shape[0] * shape[1] * itemsize
    pixels = _WORKERS.ask(wanted, frame, size, limits)
    raw = np.frombuffer(pixels, np.dtype(f"<{'i' if head.signed else 'u'}{itemsize}")).reshape(shape)
    return _as_stored(raw, head, bits, signed)


def _check_head(head: FrameHead, frame: bytes, shape: tuple[int, int], allocated: int) -> None:
    if head.samples != 1:
        raise BadInput("its compressed pixel data is in colour")
    if (head.rows, head.columns) != shape:
        raise BadInput("its compressed pixel data has another size than its header says")
    if not 2 <= head.precision <= allocated:
        raise BadInput("its compressed pixel data has more bits than its header says")
    if shape[0] * shape[1] > _BLANK and shape[0] * shape[1] > _MOST_PACKED * len(frame):
        raise BadInput("its compressed pixel data is too short for its size")
    # Decoders fill what is missing at the end, without a word.
    if _END not in frame[-_LEFT_OVER:]:
        raise BadInput("its compressed pixel data is cut short")


def _check_run_lengths(length: int, expected: int) -> None:
    # After a head of 64 bytes, two bytes make 128 at best, and one byte at worst.
    if (length - 64) * 64 < expected:
        raise BadInput("its compressed pixel data is cut short")
    if length - 64 > 2 * expected + 64:
        raise BadInput("its compressed pixel data is damaged")


def _as_stored(raw: npt.NDArray[Any], head: FrameHead, bits: tuple[int, int], signed: bool) -> npt.NDArray[Any]:
    """Return decoded values in the data set's dtype.

    Only JPEG 2000 knows signs, and some writers get them wrong: where codec and data set differ, the bits are
    those of the data set's representation, in the width that was coded.
    """
    allocated, stored = bits
    values = raw.astype(np.int32)
    if signed != head.signed:
        span = 1 << head.precision
        values &= span - 1
        if signed:
            values = np.where(values >= span >> 1, values - span, values)
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    # Run lengths and 16-bit codings keep the unused bits, which the caller clears.
    if head.precision < allocated and values.size and (values.min() < low or values.max() > high):
        raise BadInput("its compressed pixel data has more bits than its header says")
    return values.astype(np.dtype(f"{'i' if signed else 'u'}{allocated // 8}"))


# A decoding process bounds its own CPU time; on a busy machine that takes so many times as long by the clock.
_PATIENCE = 10


class _Worker:
    """One decoding process."""

    def __init__(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            # -P: a folder of images may hold a file that is called like a library.
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **threads},
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.replies = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.requests, False)

    def ask(self, wanted: dict[str, Any], frame: bytes, size: int, seconds: float) -> tuple[bytes, bytearray] | None:
        """Return (status, pixels), or None if the process died, hangs, or answers with more than ``size`` bytes."""
        deadline = time.monotonic() + seconds
        line = json.dumps({**wanted, "size": len(frame)}).encode() + b"\n"
        if not self._send(line + frame, deadline):
            return None
        head = self._receive(9, deadline)
        if head is None:
            return None
        length = int.from_bytes(head[1:], "little")
        pixels = self._receive(length, deadline) if length <= size else None
        return None if pixels is None else (bytes(head[:1]), pixels)

    def _send(self, data: bytes, deadline: float) -> bool:
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError):
            while view and _ready(self.requests, select.POLLOUT, deadline):
                view = view[os.write(self.requests, view) :]
        return not view

    def _receive(self, count: int, deadline: float) -> bytearray | None:
        data, at = bytearray(count), 0
        while at < count and _ready(self.replies, select.POLLIN, deadline):
            got = os.readv(self.replies, [memoryview(data)[at:]])
            if not got:
                break
            at += got
        return data if at == count else None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def _ready(descriptor: int, event: int, deadline: float) -> bool:
    # poll, because select knows no descriptor above 1023.
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


class _Workers:
    """The idle decoding processes; each thread that decodes takes one and gives it back."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._owner = 0

    def ask(self, wanted: dict[str, Any], frame: bytes, size: int, limits: Limits) -> bytearray:
        # What a good frame needs: openjpeg holds 4 bytes a pixel several times over, and libraries are loaded.
        memory = (128 << 20) + 32 * size
        asked = {**wanted, "seconds": limits.child_seconds, "memory": memory, "most_memory": limits.child_bytes}
        worker, patience = self._take(), _PATIENCE * limits.child_seconds
        started = time.monotonic()
        try:
            reply = worker.ask(asked, frame, size, patience)
        except BaseException:
            worker.stop()
            raise
        if reply is None:
            late = time.monotonic() - started >= patience
            worker.stop()
            if late or worker.process.returncode == -signal.SIGXCPU:
                raise BadInput("its compressed pixel data takes too long to decode")
            raise BadInput("its compressed pixel data is damaged")
        self._give(worker)
        status, pixels = reply
        if status == b"?":
            raise MissingDependency("12-bit JPEG needs an optional decoder", "pip install 'medfpl[jpeg12]'")
        if status != b"+" or len(pixels) != size:
            raise BadInput("its compressed pixel data is damaged")
        return pixels

    def _take(self) -> _Worker:
        with self._lock:
            if self._owner != os.getpid():
                # After a fork the idle ones are the parent's; two users of one pipe would read each other's frames.
                self._idle, self._owner = [], os.getpid()
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.stop()
        return _Worker()

    def _give(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def close(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                while self._idle:
                    self._idle.pop().stop()


# A process-wide resource, not state: results never depend on which worker answers.
_WORKERS = _Workers()
atexit.register(_WORKERS.close)
