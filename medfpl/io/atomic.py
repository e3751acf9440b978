"""Outputs that are whole or absent: written under a hidden name beside the target, then given its name in one step."""

import errno
import fcntl
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medfpl.errors import MedfplError, TargetExists, UsageError

_PREFIX = ".medfpl-part"
_NAME = re.compile(re.escape(_PREFIX) + r"\.(?P<host>[\w-]+)\.(?P<pid>\d+)\.[0-9a-f]{16}(\.|$)")
_HINT = "--overwrite replaces outputs"

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the output is larger than its disk or limit allows",
    errno.EROFS: "the output's disk is read-only",
    errno.EIO: "the output's disk failed",
    errno.EACCES: "no permission to write the output",
    errno.EPERM: "no permission to write the output",
    errno.ENOTDIR: "a file stands where the output's folder should be",
    errno.EEXIST: "a file stands where the output's folder should be",
    errno.EISDIR: "the output's name is that of a folder",
    errno.ENAMETOOLONG: "the output's name is too long",
    errno.ELOOP: "the output's path is a loop of links",
    errno.EMFILE: "too many files are open",
}
# What a write itself may meet; permission and names also occur where a caller reads something else.
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV}


def check_target(target: Path, inputs: Path | Iterable[Path], overwrite: bool = False) -> None:
    """Refuse a target that must not be written.

    UsageError if it is one of ``inputs`` (also through links) or a folder, whatever ``overwrite`` says;
    TargetExists if there is anything by that name and ``overwrite`` is False.
    """
    if not os.path.lexists(target):
        return
    for source in (inputs,) if isinstance(inputs, Path) else inputs:
        with suppress(OSError):
            if target.samefile(source):
                raise UsageError("the output is the input itself", "choose another output")
    if target.is_dir():
        raise UsageError("the output's name is that of a folder", "choose another output")
    if not overwrite:
        raise TargetExists("its output exists", _HINT)


@contextmanager
def atomic_target(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty file to fill; at the end it becomes ``target``, complete and synced to disk, in one step.

    The file lies in the target's folder (made if need be), has the target's suffixes and the mode that the
    umask gives. On any exception it is removed and the target is untouched. TargetExists if the target
    exists, or is made by someone else meanwhile, unless ``overwrite``. MedfplError where the disk is full,
    read-only or closed to us.
    """
    if not overwrite and os.path.lexists(target):
        raise TargetExists("its output exists", _HINT)
    part = target.with_name(_part_name(target))
    held = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp, whose files only the owner may read.
        held = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _hold(held)
        yield part
        _sync(part)
        _name(part, target, overwrite)
        _sync(target.parent)
    except OSError as error:
        raise _readable(error, part, target) from error
    finally:
        with suppress(OSError):
            part.unlink()
        if held is not None:
            os.close(held)


def sweep(folder: Path) -> list[Path]:
    """Remove what killed processes of this machine left unfinished in ``folder`` (not below); return what went.

    Files of a process that lives, of another machine, or still held by anyone are left alone.
    """
    gone = []
    for path in sorted(folder.glob(_PREFIX + ".*")):
        match = _NAME.match(path.name)
        if match and match["host"] == _host() and not _alive(int(match["pid"])) and _remove_unheld(path):
            gone.append(path)
    return gone


def _part_name(target: Path) -> str:
    # Libraries choose a format by suffix; a long one is no suffix but part of a name.
    suffixes = "".join(target.suffixes[-2:])
    end = suffixes if re.fullmatch(r"(\.[A-Za-z0-9]{1,8})*", suffixes) else ""
    return f"{_PREFIX}.{_host()}.{os.getpid()}.{secrets.token_hex(8)}{end}"


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)[:64] or "-"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _hold(descriptor: int) -> None:
    # Containers may share a host name but not process numbers: the lock tells what the number cannot.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_unheld(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; a full disk must not pass.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def _name(part: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        part.replace(target)
        return
    try:
        os.link(part, target)
    except FileExistsError:
        raise TargetExists("its output exists", _HINT) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _claim(part, target)


def _claim(part: Path, target: Path) -> None:
    """Name ``part`` where the file system has no hard links: the name is made first, which only one can do."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        raise TargetExists("its output exists", _HINT) from None
    try:
        part.replace(target)
    except BaseException:
        # Only ours to remove while the file under the other name is still there.
        if part.exists():
            target.unlink()
        raise


def _readable(error: OSError, part: Path, target: Path) -> Exception:
    ours = {os.fspath(path) for path in (part, target, *target.parents)}
    named = {os.fspath(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)}
    if error.errno not in _REASONS or not (error.errno in _OF_WRITING or named & ours):
        return error
    return MedfplError(_REASONS[error.errno], "choose another output folder" if error.errno != errno.EMFILE else "")
