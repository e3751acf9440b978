"""The stage "prior": white noise of a known level in, a DRUNet out that ``denoise --method dpir`` takes."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from training_tools import SMALL, run, state

import medfpl
from medfpl.cli.app import main
from medfpl.errors import UsageError
from medfpl.nets.drunet import DRUNet
from medfpl.nets.weights import find_model
from medfpl.training.checkpoint import load_checkpoint
from medfpl.training.config import DataConfig, load_config, read_config
from medfpl.training.data import TrainingBatches
from medfpl.training.log import RunLog, read_log
from medfpl.training.validate import build_validation
from medfpl.training.white import MEASURED, draw_level, with_white_noise

PRIOR = {"stage": "prior", "prior.width": 4, "prior.blocks": 1}
NAMES = ["clean", *(f"white {level:g}" for level in MEASURED)]


def test_levels_reach_from_nearly_none_to_the_strongest():
    levels = np.array([draw_level(seed, 0.2) for seed in range(4000)])
    assert 0 <= levels.min() < 1e-4
    assert 0.199 < levels.max() <= 0.2
    assert np.mean(levels < 0.05) == pytest.approx(0.5, abs=0.03)
    assert np.mean(levels < 0.2 * 0.01) == pytest.approx(0.1, abs=0.02)


def test_white_noise_is_normal_of_the_level_that_is_told():
    clean = torch.rand(2, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    seen = with_white_noise(clean, [0.0, 0.1], [1, 2])
    assert torch.equal(seen[0, 0], clean[0, 0])
    assert torch.equal(seen[:, 1].amin((1, 2)), torch.tensor([0.0, 0.1]))
    assert torch.equal(seen[:, 1].amax((1, 2)), torch.tensor([0.0, 0.1]))
    noise = ((seen[1, 0] - clean[1, 0]) / 0.1).double()
    assert float(noise.mean()) == pytest.approx(0, abs=4 / 200)
    assert float(noise.std()) == pytest.approx(1, abs=0.015)
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.2)
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 4 / 200
    # An item's noise is its seed's, whatever its place.
    assert torch.equal(with_white_noise(clean.flip(0), [0.1, 0.0], [2, 1]).flip(0), seen)


def test_batches_hold_the_noisy_image_and_its_level(tiny_store):
    config = DataConfig(frame=40, patch=32, batch=4, copies=2)
    batches = TrainingBatches(tiny_store, config, 3, 4, white_level=0.2)
    batch = batches[1]
    assert (batch.clean.shape, batch.noisy.shape) == ((2, 1, 32, 32), (4, 2, 32, 32))
    levels = batch.noisy[:, 1, 0, 0]
    assert torch.equal(batch.noisy[:, 1], levels.view(-1, 1, 1).expand(4, 32, 32))
    assert len(set(levels.tolist())) == 4
    noise = batch.noisy[:, 0] - batch.clean.repeat_interleave(2, 0)[:, 0]
    assert torch.allclose(noise.std((1, 2)), levels, rtol=0.15)
    assert torch.equal(batches[1].noisy, batch.noisy)
    assert torch.equal(list(batch.parts(2))[1].noisy, batch.noisy[2:])


def test_validation_is_at_the_measured_levels(tiny_store):
    held_out = build_validation(tiny_store, load_config(None, SMALL).data, 3, 0, stage="prior")
    assert list(held_out.images) == NAMES
    for name, level in zip(NAMES, (0.0, *MEASURED), strict=True):
        clean, noisy, seen = held_out.images[name]
        assert torch.equal(noisy, seen[:, :1])
        assert seen.shape == (3, 2, 40, 40)
        assert float((seen[:, :1] - clean).std()) == pytest.approx(level, rel=0.05)


def test_it_learns_and_is_measured(tiny_store, tmp_path):
    rows = []
    changes = {**PRIOR, "prior.width": 8, "steps": 150, "learning_rate": 5e-3, "ema": 0.9}
    result = run(tiny_store, tmp_path, report=rows.append, **changes)
    assert isinstance(result.net, DRUNet)
    assert list(result.table) == [*NAMES, "mean"]
    for level in MEASURED:
        assert result.table[f"white {level:g}"]["input_psnr"] == pytest.approx(-20 * math.log10(level), abs=0.3)
    assert result.table["white 0.2"]["psnr"] > result.table["white 0.2"]["input_psnr"] + 4
    losses = [row["loss"] for row in rows if row["event"] == "step"]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "data.copies": 2, "loss": "l1", "data.workers": 1}])
def test_stopping_and_going_on_is_the_same_trajectory(tiny_store, tmp_path, changes):
    changes = {**PRIOR, **changes, "steps": 5, "validate_every": 2}
    straight = run(tiny_store, tmp_path / "a", **changes)

    def interrupt(row):
        if row["event"] == "step" and row["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_store, tmp_path / "b", report=interrupt, **changes)
    assert load_checkpoint(tmp_path / "b" / "prior.ckpt")["progress"]["step"] == 2
    resumed = run(tiny_store, tmp_path / "b", resume=True, **changes)
    assert torch.equal(state(resumed.net), state(straight.net))
    assert resumed.table == straight.table
    with pytest.raises(UsageError, match=r"begun with prior.max_level=0\.25, not 0\.1"):
        run(tiny_store, tmp_path / "b", resume=True, **{**changes, "steps": 6, "prior.max_level": 0.1})


def test_a_run_trains_it_only_when_it_is_asked_to():
    assert "prior" not in read_config(None, None, {"steps": 100}).stages()
    config = read_config(None, None, {"steps": 100, "stage": "prior", "prior.width": 8, "net.width": 64})
    assert config.stages() == ("prior",)
    own = config.for_stage("prior")
    assert (own.steps, own.prior.width, own.fpl.weight) == (100, 8, 0)
    # What a denoiser does not use may change between its start and its end.
    assert config.for_stage("denoiser").prior == read_config(None, None, {}).for_stage("denoiser").prior


def test_a_run_from_the_command_line_is_a_model_for_dpir(tiny_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(RunLog, "draw", lambda self: None)  # it takes longer than the training
    monkeypatch.setenv("MEDFPL_HOME", str(tmp_path / "home"))
    settings = {k: v for k, v in SMALL.items() if not k.startswith("net.")} | {k: PRIOR[k] for k in PRIOR if "." in k}
    arguments = [f"--set={k}={json.dumps(v)}" for k, v in settings.items()]
    place = tmp_path / "run"
    whole = ["train", "-o", str(place), "--data", str(tiny_store.path), "--device", "cpu", "--stage", "prior"]
    assert main([*whole, "--steps", "2", *arguments]) == 0
    assert "prior: PSNR" in capsys.readouterr().err
    card = find_model(place, "prior").card
    assert (card.name, card.role, card.noises) == ("run-prior", "prior", ["gaussian"])
    assert card.architecture == {"type": "drunet", "width": 4, "blocks": 1, "blind": False, "context": False}
    assert "up to 0.25 of the range" in card.summary
    assert "Knows gaussian alone." in card.limits
    assert set(card.metrics["ct"]) == {*NAMES, "mean"}
    assert {r["noise"] for r in read_log(place / "log.csv")} == {"", *NAMES, "mean"}
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(tmp_path / "x.png")
    given = ["--method", "dpir", "--model", str(place), "--noise-level", "5%"]
    assert main(["denoise", str(tmp_path / "x.png"), "-o", str(tmp_path / "y.png"), *given]) == 0
    y = medfpl.denoise(medfpl.read(tmp_path / "x.png"), method="dpir", model=str(place))
    assert y.pixels.shape == (1, 40, 40)
