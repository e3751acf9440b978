import errno

import pytest
import torch

from medfpl.errors import BadInput, MedfplError
from medfpl.training.checkpoint import Progress, check_same, load_checkpoint, restore, save_checkpoint, write_state
from medfpl.training.config import TrainConfig


def whole(path, value=1.0):
    net, ema = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    torch.nn.init.constant_(net.weight, value)
    optimizer = torch.optim.AdamW(net.parameters())
    save_checkpoint(path, net, ema, optimizer, Progress(step=3), TrainConfig().model_dump(), inputs={"store": "x"})
    return net, ema, optimizer


def test_what_is_saved_comes_back(tmp_path):
    net, ema, optimizer = whole(tmp_path / "a.ckpt")
    wanted = {k: v.clone() for k, v in net.state_dict().items()}
    torch.nn.init.zeros_(net.weight)
    state = load_checkpoint(tmp_path / "a.ckpt")
    assert restore(state, net, ema, optimizer) == Progress(step=3)
    assert all(torch.equal(v, wanted[k]) for k, v in net.state_dict().items())
    check_same(state, TrainConfig(steps=5), {"store": "x"})


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file data/0")],
)
def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, error):
    path = tmp_path / "a.ckpt"
    whole(path)
    before = path.read_bytes()

    def fail(state, target):
        target.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(MedfplError, match=r"checkpoint cannot be written.*disk.*full") as caught:
        write_state(path, {"x": 1})
    assert "last checkpoint is kept" in caught.value.hint
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no checkpoint", "damaged"), (b"", "damaged"), (None, "no checkpoint to resume")]
)
def test_a_file_that_is_no_checkpoint(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(BadInput, match=reason):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    torch.save({"net": Evil()}, tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match="damaged"):
        load_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "made").exists()


def test_another_versions_checkpoint_and_another_networks_are_refused(tmp_path):
    _, ema, optimizer = whole(tmp_path / "a.ckpt")
    state = load_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match="another version"):
        check_same({"config": {"colour": "red"}}, TrainConfig(), {})
    with pytest.raises(BadInput, match="does not fit"):
        restore(state, torch.nn.Linear(3, 1), ema, optimizer)
