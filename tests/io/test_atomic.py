import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from medfpl.errors import MedfplError, TargetExists, UsageError
from medfpl.io import atomic
from medfpl.io.atomic import atomic_target, check_target, sweep


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_target_appears_whole_and_alone(tmp_path, overwrite):
    target = tmp_path / "new" / "deeper" / "scan.nii.gz"
    with atomic_target(target, overwrite=overwrite) as part:
        assert part.parent == target.parent
        assert part.name.startswith(".")
        assert part.name.endswith(".nii.gz")
        part.write_bytes(b"all of it")
        assert not target.exists()
    assert target.read_bytes() == b"all of it"
    assert entries(target.parent) == ["scan.nii.gz"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_target(tmp_path / "x") as part:
            part.write_bytes(b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MedfplError])
def test_any_exception_leaves_nothing(tmp_path, error):
    def interrupted():
        with atomic_target(tmp_path / "x.png") as part:
            part.write_bytes(b"half")
            raise error("stop")

    with pytest.raises(error):
        interrupted()
    assert entries(tmp_path) == []


def test_a_failed_overwrite_keeps_the_old_file(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(ValueError), atomic_target(target, overwrite=True) as part:
        int(part.write_bytes(b"new") * "no number")
    assert target.read_bytes() == b"old"
    with atomic_target(target, overwrite=True) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert entries(tmp_path) == ["x"]


def test_an_existing_target_is_refused_before_any_work(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    worked = False
    with pytest.raises(TargetExists), atomic_target(target):
        worked = True
    assert not worked
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("hard_links", [True, False])
def test_of_two_writers_the_first_wins(tmp_path, monkeypatch, hard_links):
    if not hard_links:
        monkeypatch.setattr(atomic.os, "link", without_hard_links)
    target = tmp_path / "x"

    def write(text, meanwhile=lambda: None):
        with atomic_target(target) as part:
            part.write_bytes(text)
            meanwhile()

    with pytest.raises(TargetExists):
        write(b"late", meanwhile=lambda: write(b"early"))
    assert target.read_bytes() == b"early"
    assert entries(tmp_path) == ["x"]


def without_hard_links(*_):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_without_hard_links_an_interrupt_leaves_no_empty_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.os, "link", without_hard_links)
    replace = Path.replace

    def interrupted(self, target):
        assert Path(target).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_target(tmp_path / "x") as part:
        part.write_bytes(b"1")
    assert entries(tmp_path) == []
    monkeypatch.setattr(Path, "replace", replace)
    with atomic_target(tmp_path / "x") as part:
        part.write_bytes(b"1")
    assert (tmp_path / "x").read_bytes() == b"1"


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(MedfplError, match="disk is full"), atomic_target(tmp_path / "x"):
        Path("/dev/full").write_bytes(b"1")
    assert entries(tmp_path) == []


def test_a_disk_that_is_full_at_the_sync_is_noticed(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(MedfplError, match="disk is full"), atomic_target(tmp_path / "x") as part:
        part.write_bytes(b"1")
    assert entries(tmp_path) == []


def test_a_closed_folder_is_one_line_without_its_path(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for target in (closed / "x", closed / "below" / "x"):
        with pytest.raises(MedfplError, match="no permission") as caught, atomic_target(target):
            pass
        assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("number", "line"), [(errno.EROFS, "read-only"), (errno.EACCES, "no permission"), (errno.EDQUOT, "quota")]
)
def test_what_the_system_refuses_is_one_line(tmp_path, monkeypatch, number, line):
    def refuse(path, *_):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(atomic.os, "open", refuse)
    with pytest.raises(MedfplError, match=line) as caught, atomic_target(tmp_path / "x"):
        pass
    assert "\n" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "file" / "x", tmp_path / "file" / "y" / "x"):
        with pytest.raises(MedfplError, match="a file stands"), atomic_target(target):
            pass


def test_a_callers_own_read_error_is_not_taken_for_ours(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_target(tmp_path / "x"):
        (tmp_path / "absent").read_bytes()
    assert entries(tmp_path) == []


def test_long_and_odd_names(tmp_path):
    for name in ("x" * 255, "." + "y" * 200 + ".dcm", "a b\n;$(z).1.2.840.113619", "å" * 127):
        with atomic_target(tmp_path / name) as part:
            part.write_bytes(b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(MedfplError, match="too long"), atomic_target(tmp_path / ("x" * 256)) as part:
        pass
    assert len(entries(tmp_path)) == 4


def test_check_target_knows_the_input_through_links(tmp_path):
    source = tmp_path / "in.dcm"
    source.write_bytes(b"1")
    check_target(tmp_path / "out.dcm", source)
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    same = [
        source,
        tmp_path / "hard",
        tmp_path / "soft",
        tmp_path / "folder" / "in.dcm",
        tmp_path / ".." / tmp_path.name / "in.dcm",
    ]
    for target in same:
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="input itself"):
                check_target(target, [tmp_path / "gone", source], overwrite)


def test_check_target_and_what_is_there(tmp_path):
    source, other, dangling = tmp_path / "in", tmp_path / "other", tmp_path / "dangling"
    source.write_bytes(b"1")
    other.write_bytes(b"1")
    dangling.symlink_to(tmp_path / "nowhere")
    for target in (other, dangling):
        with pytest.raises(TargetExists):
            check_target(target, source)
        check_target(target, source, overwrite=True)
    with pytest.raises(UsageError, match="folder"):
        check_target(tmp_path, source, overwrite=True)


WRITER = """
import sys, time
from pathlib import Path
from medfpl.io.atomic import atomic_target
with atomic_target(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    print(part.name, flush=True)
    time.sleep(600)
"""


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "x.dcm"], stdout=subprocess.PIPE, text=True)
    left = tmp_path / writer.stdout.readline().strip()
    try:
        assert sweep(tmp_path) == []
        assert left.exists()
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    assert entries(tmp_path) == [left.name]
    # What another machine left, what looks alike, and what this process is writing stay.
    foreign = left.name.replace(atomic._host(), "elsewhere", 1)
    for name in (foreign, ".medfpl-part.notes", "scan.dcm"):
        (tmp_path / name).write_bytes(b"1")
    with atomic_target(tmp_path / "mine") as part:
        assert sweep(tmp_path) == [left]
        assert part.exists()
    assert entries(tmp_path) == sorted([foreign, ".medfpl-part.notes", "scan.dcm", "mine"])


def test_sweep_leaves_a_file_that_is_held_though_its_process_number_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_alive", lambda pid: False)
    with atomic_target(tmp_path / "x") as part:
        assert sweep(tmp_path) == []
        assert part.exists()
