import hashlib
import os
from pathlib import Path

import pytest

from medfpl.errors import BadInput
from medfpl.io.guard import Limits, open_regular, read_bytes, read_head


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_bytes(path)
    assert "\n" not in caught.value.message
    assert path.name not in caught.value.message
    return caught.value.message


def test_a_regular_file_is_read_whole_with_its_hash(tmp_path):
    data = os.urandom(70_000)
    path = tmp_path / "scan.dcm"
    path.write_bytes(data)
    assert read_bytes(path) == (data, hashlib.sha256(data).hexdigest())
    assert read_head(path, 10) == data[:10]
    with open_regular(path) as (stream, size):
        assert (stream.read(), size) == (data, 70_000)


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"there")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link")[0] == b"there"


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    (tmp_path / "folder.dcm").mkdir()
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop.dcm").symlink_to("loop.dcm")
    (tmp_path / "broken.dcm").symlink_to("nowhere")
    (tmp_path / "file").write_bytes(b"")
    assert "folder" in refusal(tmp_path / "folder.dcm")
    assert "not a regular file" in refusal(tmp_path / "pipe.dcm")
    assert "not a regular file" in refusal(Path("/dev/zero"))
    assert "loop" in refusal(tmp_path / "loop.dcm")
    assert "link to a file that is not there" in refusal(tmp_path / "broken.dcm")
    assert "no such file" in refusal(tmp_path / "absent.dcm")
    assert "no such file" in refusal(tmp_path / "file" / "below.dcm")
    assert "too long" in refusal(tmp_path / ("x" * 300))
    with pytest.raises(BadInput, match="NUL"):
        read_bytes(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = tmp_path / "mine.dcm"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "permission" in refusal(path)


def test_permission_is_named_whoever_runs_this(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "permission" in refusal(tmp_path / "mine.dcm")


def test_the_size_limit_holds_before_anything_is_read(tmp_path):
    path = tmp_path / "big"
    path.touch()
    os.truncate(path, 1 << 40)  # holds no blocks
    with pytest.raises(BadInput, match="more than the limit"):
        read_bytes(path)
    path.write_bytes(b"12345")
    assert read_bytes(path, Limits(max_bytes=5))[0] == b"12345"
    with pytest.raises(BadInput, match="limit of 4"):
        read_bytes(path, Limits(max_bytes=4))


def test_a_file_that_tells_no_size_is_refused():
    with pytest.raises(BadInput, match="size changed"):
        read_bytes(Path("/proc/self/status"))


def test_no_descriptor_is_left_open(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for name in ("pipe", "absent"):
        for _ in range(20):
            refusal(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
