import math

import pytest
import torch
from lightning_fabric import Fabric

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.training.checkpoint import Progress, load_checkpoint
from medfpl.training.config import TrainConfig, load_config
from medfpl.training.loop import rate_at, train
from medfpl.training.losses import FLOOR, residual_loss
from medfpl.training.validate import psnr

SMALL = {
    "net.width": 4, "net.depth": 2, "data.frame": 40, "data.patch": 32, "data.batch": 4, "data.workers": 0,
    "data.noises": ["gaussian"], "warmup": 2, "validation_images": 2, "validate_every": 1000, "save_every": 1000,
    "log_every": 1,
}  # fmt: skip


def run(store, folder, resume=False, report=lambda row: None, **changes):
    folder.mkdir(exist_ok=True)
    config = load_config(None, {**SMALL, **changes})
    return train(Fabric(accelerator="cpu", devices=1), store, config, folder, resume=resume, report=report)


def state(result):
    return torch.cat([v.flatten() for v in result.net.state_dict().values()])


def test_stopping_and_going_on_is_the_same_trajectory(tiny_store, tmp_path):
    straight = run(tiny_store, tmp_path / "a", steps=8)

    def interrupt(row):
        if row["event"] == "step" and row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_store, tmp_path / "b", report=interrupt, steps=8)
    assert load_checkpoint(tmp_path / "b" / "denoiser.ckpt")["progress"]["step"] == 3
    resumed = run(tiny_store, tmp_path / "b", resume=True, steps=8)
    assert resumed.progress.step == 8
    assert torch.equal(state(resumed), state(straight))


@pytest.mark.parametrize(("stage", "gain"), [("denoiser", 0.7), ("restoration", None)])
def test_training_learns(tiny_store, tmp_path, stage, gain):
    changes = {"stage": stage, "steps": 250, "learning_rate": 5e-3, "ema": 0.9, "net.width": 8, "data.clean": 0}
    table = run(tiny_store, tmp_path / stage, **changes).table["mean"]
    if gain is None:  # the restoration network starts from an empty picture, near 6 dB here
        assert table["psnr"] > 15
    else:
        assert table["psnr"] > table["input_psnr"] + gain


def test_the_rate_warms_up_holds_and_falls_to_nothing():
    config = TrainConfig(steps=100, learning_rate=1.0, warmup=10, decay=0.5)
    rates = [rate_at(config, Progress(step=s)) for s in (0, 9, 50, 75, 100)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])
    by_time = TrainConfig(minutes=10, learning_rate=1.0, warmup=0, decay=0.5)
    assert rate_at(by_time, Progress(step=5, seconds=450)) == pytest.approx(0.5)


def test_the_losses_are_their_definitions():
    a, b = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    assert residual_loss(a, b, "mse") == pytest.approx(float(((a - b) ** 2).mean()))
    assert residual_loss(a, b, "l1") == pytest.approx(float((a - b).abs().mean()))
    assert residual_loss(a, b, "psnr") == pytest.approx(-float(psnr(a, b).mean()) / 10, abs=1e-3)
    assert residual_loss(a, a, "psnr") == pytest.approx(math.log10(FLOOR))


def test_a_loss_that_is_not_finite_ends_the_run(tiny_store, tmp_path):
    with pytest.raises(MedfplError, match="not finite at step"):
        run(tiny_store, tmp_path / "nan", steps=50, learning_rate=1e30, clip=1e30, loss="mse", warmup=0)


def test_a_budget_of_minutes_ends_the_run(tiny_store, tmp_path):
    result = run(tiny_store, tmp_path / "m", minutes=0.02)
    assert 1 <= result.progress.step < 1000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"net.widht": 4}, "net.widht"), ({"data.batch": 0}, "data.batch"), ({"loss": "l7"}, "loss")],
)
def test_a_wrong_configuration_is_one_line(changes, reason):
    with pytest.raises(UsageError, match=reason):
        load_config(None, changes)


def test_configuration_files(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("seed = 5\n[net]\nwidth = 16\n")
    config = load_config(path, {"net.depth": 2})
    assert (config.seed, config.net.width, config.net.depth) == (5, 16, 2)
    path.write_text("seed = = 5")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(path)


def test_a_damaged_checkpoint_is_refused(tiny_store, tmp_path):
    (tmp_path / "denoiser.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(BadInput, match="damaged"):
        run(tiny_store, tmp_path, resume=True, steps=2)


def test_a_run_without_a_budget_is_refused(tiny_store, tmp_path):
    with pytest.raises(MedfplError, match="budget"):
        run(tiny_store, tmp_path)
