"""The first door for every file: only regular files, only so many bytes, and what else may be spent on one file."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medfpl.errors import BadInput

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one file may cost before it is refused.

    ``max_bytes`` of the file itself; ``max_pixels`` over all frames. Of DICOM structure: sequences nested
    ``max_depth`` deep, ``max_elements`` elements and ``max_items`` sequence items (each an object in memory),
    ``max_header`` bytes beside the pixels, and ``max_inflated`` bytes of a deflated data set. The process that
    decodes compressed frames gets ``child_bytes`` of address space at most and ``child_seconds`` of CPU time a
    frame.
    """

    max_bytes: int = 4096 * _MIB
    max_pixels: int = 1 << 30
    max_depth: int = 16
    max_elements: int = 250_000
    max_items: int = 100_000
    max_header: int = 64 * _MIB
    max_inflated: int = 192 * _MIB
    child_bytes: int = 6144 * _MIB
    child_seconds: float = 20.0


DEFAULT_LIMITS = Limits()

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.ELOOP: "it is a loop of links",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENXIO: "it is not a regular file",
    errno.EIO: "its disk cannot be read",
    errno.EMFILE: "too many files are open",
}


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open ``path`` for reading and yield the stream and its size in bytes.

    Links are followed. BadInput for whatever is no regular file, is absent or may not be read, and for errors
    of the disk while it is read. Never waits for the other end of a pipe or for a device.
    """
    try:
        descriptor = _open(path)
        with os.fdopen(descriptor, "rb") as stream:
            yield stream, os.fstat(descriptor).st_size
    except OSError as error:
        if error.errno == errno.ENOENT and path.is_symlink():
            raise BadInput("it is a link to a file that is not there") from None
        raise BadInput(_REASONS.get(error.errno or 0, "it cannot be read")) from None


def _open(path: Path) -> int:
    try:
        # A FIFO that is opened to be read waits for a writer, but for this flag.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise BadInput("its name holds a NUL character") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise BadInput("it is a folder, not a file" if stat.S_ISDIR(mode) else "it is not a regular file")
    return descriptor


def read_bytes(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, str]:
    """Return all bytes of a regular file and their sha256; BadInput beyond ``limits.max_bytes`` (see open_regular)."""
    with open_regular(path) as (stream, size):
        if size > limits.max_bytes:
            raise BadInput(f"it has {size} bytes, more than the limit of {limits.max_bytes}")
        raw = stream.read(size)
        # A file that is being written, or one of /proc, which tells no size.
        if len(raw) != size or stream.read(1):
            raise BadInput("its size changed while it was read")
    return raw, hashlib.sha256(raw).hexdigest()


def read_head(path: Path, size: int) -> bytes:
    """Return the first ``size`` bytes of a regular file, or all if it is shorter (see open_regular)."""
    with open_regular(path) as (stream, _):
        return stream.read(size)
