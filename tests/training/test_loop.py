import dataclasses
import math

import pytest
import torch
from training_tools import SMALL, run, small_restoration, state

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.training import validate as validate_module
from medfpl.training.checkpoint import Progress, load_checkpoint
from medfpl.training.config import TrainConfig, load_config
from medfpl.training.loop import rate_at
from medfpl.training.losses import FLOOR, residual_loss
from medfpl.training.metrics import psnr
from medfpl.training.validate import UNCHANGED, build_validation, validate

VARIANTS = {
    "plain": {},
    "parts": {"accumulate": 2, "data.copies": 2, "ema": 0.9, "net.norm": "batch"},
    "feature": {"fpl.weight": 0.5, "fpl.norms_every": 2, "data.copies": 2, "save_every": 2, "data.workers": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopping_and_going_on_is_the_same_trajectory(tiny_store, tmp_path, variant):
    changes = {**VARIANTS[variant], "steps": 8, "validate_every": 3}
    explained = small_restoration("batch")
    rows = []
    straight = run(tiny_store, tmp_path / "a", report=rows.append, explained=explained, **changes)

    def interrupt(row):
        if row["event"] == "step" and row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_store, tmp_path / "b", report=interrupt, explained=explained, **changes)
    assert load_checkpoint(tmp_path / "b" / "denoiser.ckpt")["progress"]["step"] == 3
    again = []
    resumed = run(tiny_store, tmp_path / "b", resume=True, report=again.append, explained=explained, **changes)
    assert resumed.progress.step == 8
    assert torch.equal(state(resumed.net), state(straight.net))
    assert resumed.table == straight.table

    def losses(rows):
        return {r["step"]: r["loss"] for r in rows if r["event"] == "step" and r["step"] > 3}

    assert losses(again) == losses(rows)
    # The validation that was due when it stopped is made up for.
    assert [r["step"] for r in again if r["event"] == "validation"] == [3, 6, 8]


def test_the_budget_may_change_on_the_way(tiny_store, tmp_path):
    run(tiny_store, tmp_path, steps=2)
    assert run(tiny_store, tmp_path, resume=True, steps=5, log_every=2).progress.step == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"learning_rate": 1.0}, "learning_rate=0.0005, not 1.0"), ({"data.copies": 2}, "data.copies=1, not 2")],
)
def test_other_settings_may_not(tiny_store, tmp_path, changes, reason):
    run(tiny_store, tmp_path, steps=2)
    with pytest.raises(UsageError, match=f"begun with {reason}"):
        run(tiny_store, tmp_path, resume=True, steps=4, **changes)


def test_nor_may_the_images_or_the_explained_network(tiny_store, tmp_path):
    changes = {"steps": 2, "fpl.weight": 1.0}
    run(tiny_store, tmp_path, explained=small_restoration(), **changes)
    fewer = dataclasses.replace(tiny_store, items=tiny_store.items[:-1])
    with pytest.raises(UsageError, match="another store"):
        run(fewer, tmp_path, resume=True, explained=small_restoration(), **changes)
    with pytest.raises(UsageError, match="another explained network"):
        run(tiny_store, tmp_path, resume=True, explained=small_restoration("batch"), **changes)


def test_a_checkpoint_from_before_a_setting_was_there_loads(tiny_store, tmp_path):
    run(tiny_store, tmp_path, steps=2)
    old = load_checkpoint(tmp_path / "denoiser.ckpt")
    for name in ("fpl", "accumulate", "log_every"):
        del old["config"][name]
    old = {k: v for k, v in old.items() if k in ("net", "ema", "optimizer", "progress", "config")}
    del old["progress"]["validated"]
    torch.save(old, tmp_path / "denoiser.ckpt")
    assert run(tiny_store, tmp_path, resume=True, steps=4).progress.step == 4


def test_the_best_weights_are_the_result(tiny_store, tmp_path):
    found = []

    def keep(row):
        if row["event"] == "validation":
            found.append((row["table"]["mean"]["psnr"], row["step"]))

    # Without averaging, a rate that grows out of hand makes the last weights worse than earlier ones.
    changes = {"steps": 12, "ema": 0, "learning_rate": 0.3, "warmup": 12, "decay": 0, "validate_every": 2}
    result = run(tiny_store, tmp_path, report=keep, **changes)
    assert (result.table["mean"]["psnr"], result.best_step) == max(found)
    assert result.best_step < 12
    again = validate(
        result.net,
        build_validation(tiny_store, load_config(None, SMALL).data, 2, 0),
        torch.device("cpu"),
        residual=True,
    )
    assert again.table() == result.table


def test_a_frame_that_a_noise_leaves_as_it_is_is_drawn_anew_for_it(tiny_store, monkeypatch):
    config, plain = load_config(None, SMALL).data, validate_module._corrupted
    asked = []

    def fails_at_first(noise, drawn, seeds):
        clean, noisy = plain(noise, drawn, seeds)
        asked.append(len(drawn))
        if len(asked) == 1:
            noisy[1] = clean[1]
        return clean, noisy

    before = build_validation(tiny_store, config, 3, 0)
    monkeypatch.setattr(validate_module, "_corrupted", fails_at_first)
    after = build_validation(tiny_store, config, 3, 0)
    name = next(n for n in before.images if n != "clean")
    assert asked[:2] == [3, 1]
    (old, _, _), (clean, noisy, _) = before.images[name], after.images[name]
    assert torch.equal(old[[0, 2]], clean[[0, 2]])
    assert not torch.equal(old[1], clean[1])
    assert float(psnr(noisy, clean).max()) < UNCHANGED
    assert torch.equal(before.images["clean"][0], after.images["clean"][0])


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
    each = ((a - b) ** 2).mean((1, 2, 3))
    assert residual_loss(a, b, "rmse") == pytest.approx(float((each + FLOOR).sqrt().mean()))
    assert residual_loss(a, b, "root") == pytest.approx(float((each + FLOOR).sqrt().sqrt().mean()))
    assert residual_loss(a, b, "psnr") == pytest.approx(-float(psnr(a, b).mean()) / 10, abs=1e-3)
    assert residual_loss(a, a, "psnr") == pytest.approx(math.log10(FLOOR))


def test_a_loss_that_is_not_finite_ends_the_run(tiny_store, tmp_path):
    changes = {"steps": 50, "learning_rate": 1e30, "clip": 1e30, "loss": "mse", "warmup": 0, "save_every": 1}
    with pytest.raises(MedfplError, match="not finite at step 2"):
        run(tiny_store, tmp_path / "nan", log_every=10, **changes)
    kept = load_checkpoint(tmp_path / "nan" / "denoiser.ckpt")
    assert kept["progress"]["step"] == 1
    assert all(v.isfinite().all() for v in kept["net"].values())


def test_a_budget_of_minutes_ends_the_run(tiny_store, tmp_path):
    result = run(tiny_store, tmp_path / "m", minutes=0.02)
    assert 1 <= result.progress.step < 1000


def test_a_damaged_checkpoint_is_refused(tiny_store, tmp_path):
    (tmp_path / "denoiser.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(BadInput, match="damaged"):
        run(tiny_store, tmp_path, resume=True, steps=2)


def test_a_run_without_a_budget_is_refused(tiny_store, tmp_path):
    with pytest.raises(MedfplError, match="budget"):
        run(tiny_store, tmp_path)
