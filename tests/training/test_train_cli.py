"""``medfpl train`` and ``medfpl.train``, in this process and on the CPU."""

import csv
import errno
import io
import json
import os
import shutil
import signal
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

import medfpl
from medfpl.cli import _train_view
from medfpl.cli.app import main
from medfpl.cli.output import Output
from medfpl.nets.weights import find_model
from medfpl.training.config import RunConfig, read_config
from medfpl.training.log import RunLog, read_log
from medfpl.training.step import Step

TINY = {
    "net.type": "unet", "net.width": 8, "net.depth": 2, "restoration.net.width": 4, "restoration.net.depth": 2,
    "data.frame": 40, "data.patch": 32, "data.batch": 4, "data.copies": 2, "data.workers": 0,
    "data.noises": ["gaussian", "motion"], "warmup": 2, "validation_images": 3, "validate_every": 4, "log_every": 2,
    "fpl.norms_every": 2, "steps": 10, "restoration.share": 0.4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _alone_and_quick(tmp_path, monkeypatch, request):
    monkeypatch.setenv("MEDFPL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MEDFPL_DEBUG", raising=False)
    if request.node.name != "test_a_whole_run":  # they take ten times as long as the training
        monkeypatch.setattr(RunLog, "draw", lambda self: None)


@pytest.fixture
def train(tiny_store, tmp_path, capsys):
    """Run ``medfpl train -o TMP/run --data STORE``; returns code, out, err."""

    def run(*arguments, folder="run", **changes):
        settings = [f"--set={k}={json.dumps(v)}" for k, v in {**TINY, **changes}.items() if v is not None]
        whole = ["train", "-o", tmp_path / folder, "--data", tiny_store.path, "--device", "cpu", *settings, *arguments]
        capsys.readouterr()
        code = main([str(a) for a in whole])
        return code, *capsys.readouterr()

    return run


def sha256(folder):
    return json.loads((folder / "denoiser" / "card.json").read_text())["sha256"]


def test_a_whole_run(train, tiny_store, tmp_path, capsys):
    # After three steps R finds nothing yet, and its evidence has no gradient: its image has.
    published = {"fpl.scalar": "energy", "fpl.layer": "image"}
    code, out, err = train(**published)
    assert (code, out) == (0, "")
    assert "restoration and denoiser on cpu" in err
    assert "PSNR" in err
    run = tmp_path / "run"
    assert {p.name for p in run.iterdir()} >= {
        "config.toml", "curves.png", "denoiser", "denoiser.best.ckpt", "denoiser.ckpt", "log.csv", "restoration",
        "restoration.best.ckpt", "restoration.ckpt",
    }  # fmt: skip
    assert Image.open(run / "curves.png").size[0] > 1000
    assert RunConfig(**tomllib.loads((run / "config.toml").read_text())) == read_config(
        None, None, {**TINY, **published}
    )
    rows = read_log(run / "log.csv")
    assert [int(r["step"]) for r in rows if (r["stage"], r["event"]) == ("denoiser", "step")] == [2, 4, 6]
    assert {r["noise"] for r in rows if r["stage"] == "denoiser"} == {"", "clean", "gaussian", "motion", "mean"}
    measured = [r for r in rows if r["feature"]]
    assert {r["stage"] for r in measured} == {"restoration", "denoiser"}
    assert all(float(r["feature"]) > 0 for r in measured)
    assert all(float(r["feature_norm"]) > 0 for r in measured if r["stage"] == "denoiser")
    card = find_model(run).card
    assert (card.name, card.role, card.noises) == ("run", "denoiser", ["gaussian", "motion"])
    assert set(card.metrics) == {"ct", "mr", "xray"}
    assert set(card.metrics["ct"]["motion"]) == {"psnr", "ssim", "input_psnr", "input_ssim"}
    assert card.training["store"] == tiny_store.fingerprint()
    assert card.training["images"]["ct"] == {"patients": 1, "slices": 2}
    assert card.training["explained_network"]["sha256"] == find_model(run, "restoration").card.sha256
    assert str(tmp_path) not in (run / "denoiser" / "card.json").read_text()
    assert card.limits
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(tmp_path / "x.png")
    assert main(["denoise", str(tmp_path / "x.png"), "-o", str(tmp_path / "y.png"), "--model", str(run)]) == 0


def test_the_same_from_python(train, tiny_store, tmp_path):
    train("--precision", "32")
    events = []
    settings = {k: v for k, v in TINY.items() if k != "steps"}
    models = medfpl.train(
        tiny_store.path, tmp_path / "python", settings=settings, steps=10, device="cpu", precision="32",
        report=lambda event: events.append(event["event"]),
    )  # fmt: skip
    assert [m.card.role for m in models] == ["restoration", "denoiser"]
    assert models[-1].card.sha256 == sha256(tmp_path / "run")
    assert events[0] == "run"
    assert events[-1] == "model"
    assert events.count("stage") == 2


def test_json_lines(train):
    code, out, err = train("--json", "--stage", "restoration")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [e["event"] for e in events] == [
        "run",
        "stage",
        *["step"] * 2,
        "validation",
        *["step"] * 2,
        "validation",
        "step",
        "validation",
        "model",
    ]
    assert events[2]["images_per_s"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_same_weights(train, tmp_path, monkeypatch, number):
    assert train("-q", folder="straight")[0] == 0
    original, calls = Step.__call__, []

    def interrupted(self, batch, step, rate):
        calls.append(step)
        if len(calls) in (3, 7):  # once in each stage
            os.kill(os.getpid(), number)
        return original(self, batch, step, rate)

    monkeypatch.setattr(Step, "__call__", interrupted)
    code, out, err = train()
    assert (code, out, err.splitlines()[-1]) == (130, "", "stopped; go on with --resume")
    assert train("-q")[0] == 1  # not without being asked
    assert train("-q", "--resume")[0] == 130
    assert train("-q", "--resume")[0] == 0
    assert len(calls) == 10
    assert sha256(tmp_path / "run") == sha256(tmp_path / "straight")
    assert (tmp_path / "run" / "config.toml").read_text() == (tmp_path / "straight" / "config.toml").read_text()

    def steps(folder):
        rows = read_log(tmp_path / folder / "log.csv")
        return {(r["stage"], r["step"], r["noise"]): r["psnr"] for r in rows if r["event"] == "validation"}

    assert steps("run") == steps("straight")


def test_a_finished_run_may_be_made_longer(train, tmp_path):
    train("-q")
    restored = find_model(tmp_path / "run", "restoration").card.sha256
    assert train("-q", "--resume", steps=15) == (0, "", "")
    assert find_model(tmp_path / "run").card.training["steps"] == 9
    assert find_model(tmp_path / "run", "restoration").card.sha256 == restored


def test_a_run_may_be_trained_stage_by_stage_or_explain_another(train, tmp_path):
    assert train("-q", "--stage", "restoration", steps=4)[0] == 0
    assert not (tmp_path / "run" / "denoiser").exists()
    assert train("-q", "--stage", "denoiser", steps=6)[0] == 0
    another = {"fpl.network": str(tmp_path / "run")}
    assert train("-q", folder="other", steps=6, **another)[0] == 0
    assert not (tmp_path / "other" / "restoration").exists()
    assert sha256(tmp_path / "other") == sha256(tmp_path / "run")


def test_a_specialist_without_the_loss_has_no_restoration_network(train, tmp_path):
    assert train("-q", "--fpl-weight", "0", "--noises", "rician, impulse", **{"data.noises": None})[0] == 0
    card = find_model(tmp_path / "run").card
    assert card.noises == ["rician", "salt-pepper"]
    assert card.summary == "Specialist for rician, salt-pepper; residual U-Net, without the feature preserving loss"
    assert card.training["steps"] == 10
    assert not (tmp_path / "run" / "restoration").exists()


def test_sum_with_relu_gates_is_warned_of(train, tiny_store, tmp_path):
    code, _, err = train(**{"fpl.scalar": "sum"})
    assert code == 0
    assert err.count("warning: fpl.scalar=sum with fpl.gate=relu has no gradient") == 1
    with pytest.warns(UserWarning, match="has no gradient"):
        medfpl.train(tiny_store.path, tmp_path / "p", settings={**TINY, "fpl.scalar": "sum"}, device="cpu")


def test_print_config(tmp_path, capsys):
    assert (
        main(["train", "--print-config", "--noises", "gaussian,impulse", "--set", "net.width=8", "--minutes", "5"]) == 0
    )
    printed = capsys.readouterr().out
    (tmp_path / "c.toml").write_text(printed)
    assert main(["train", "--print-config", "--config", str(tmp_path / "c.toml")]) == 0
    assert capsys.readouterr().out == printed
    config = RunConfig(**tomllib.loads(printed))
    assert (config.data.noises, config.net.width, config.minutes) == (["gaussian", "impulse"], 8, 5)


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "reason"),
    [
        (["--set", "data.worker=1"], {}, 2, "configuration: data.worker: there is no such setting"),
        (["--set", "fpl.weight=-1"], {}, 2, "configuration: fpl.weight"),
        (["--steps", "3"], {}, 2, "steps is given twice, as an option and with --set"),
        (["--config", "absent.toml"], {}, 2, "the configuration file does not exist"),
        (["--noises", "gausian"], {"data.noises": None}, 2, "no noise is called 'gausian'"),
        (["--stage", "oracle"], {}, 2, "configuration: stage"),
        (["--precision", "8"], {}, 2, "--precision 8 is unknown"),
        (["--precision", "16"], {}, 1, "a CPU does not train in half precision"),
        (["--data", "absent"], {}, 1, "this is not a medfpl store"),
        (["--stage", "denoiser"], {}, 2, "needs a restoration network"),
        ([], {"fpl.network": "absent"}, 2, "needs a restoration network"),
        ([], {"data.copies": 3}, 2, "does not divide"),
    ],
)
def test_what_will_not_do_is_one_line(train, arguments, changes, code, reason):
    found, out, err = train(*arguments, **changes)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (found, out, len(lines)) == (code, "", 1)
    assert reason in lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error(train, tmp_path):
    code, _, err = train("--device", "cuda")
    assert (code, err.splitlines()[0]) == (1, "error: the device cuda is not available")
    assert not (tmp_path / "run").exists()


def test_a_budget_is_needed(tiny_store, tmp_path, capsys):
    assert main(["train", "-o", str(tmp_path / "run"), "--data", str(tiny_store.path)]) == 2
    assert "a run needs a budget" in capsys.readouterr().err
    assert main(["train", "--data", str(tiny_store.path)]) == 2
    assert "needs -o RUN and --data STORE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: (s / "store.json").write_text('{"version": 99, "settings": {}}'), "version 99"),
        (lambda s: (s / "manifest.parquet").unlink(), "not finished"),
    ],
)
def test_a_store_that_will_not_do(tiny_store, tmp_path, capsys, spoil, reason):
    shutil.copytree(tiny_store.path, tmp_path / "store")
    spoil(tmp_path / "store")
    assert main(["train", "-o", str(tmp_path / "run"), "--data", str(tmp_path / "store"), "--steps", "1"]) == 1
    assert reason in capsys.readouterr().err.splitlines()[0]


def test_a_folder_that_holds_something_else(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("all of it")
    assert train()[2].startswith("error: the run folder holds something else")
    assert train("--resume")[0] == 1
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_resuming_with_other_settings_names_them_and_changes_nothing(train, tmp_path):
    train("-q")
    before = (tmp_path / "run" / "config.toml").read_text()
    code, _, err = train("-q", "--resume", learning_rate=1.0)
    assert code == 2
    assert "begun with learning_rate=0.0005, not 1.0" in err
    assert (tmp_path / "run" / "config.toml").read_text() == before


def test_a_full_disk_is_one_line(train, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    code, _, err = train("-q")
    assert code == 1
    assert err.splitlines()[0] == "error: the checkpoint cannot be written: the disk is full"


def test_the_log_of_a_killed_run_goes_on_without_repetition(train, tmp_path):
    train("-q")
    log = tmp_path / "run" / "log.csv"
    with log.open("a") as file:
        csv.writer(file).writerow(["denoiser", "step", "8", "1.0", *[""] * 14])
        file.write("denoiser,step,1")  # cut off in the middle of a row
    train("-q", "--resume", steps=20)
    rows = read_log(log)
    steps = [(r["stage"], int(r["step"])) for r in rows if r["event"] == "step"]
    assert steps == [("restoration", 2), ("restoration", 4), *(("denoiser", s) for s in (2, 4, 6, 8, 10, 12))]
    assert len({tuple(r.values()) for r in rows}) == len(rows)


def test_the_dashboard_says_it_all():
    shown = []
    view = _train_view.TrainView(Output(), shown.append)
    scores = {"input_psnr": 20.0, "psnr": 30.0, "input_ssim": 0.5, "ssim": 0.9}
    table = {"clean": {**scores, "input_psnr": 100.0}, "gaussian": scores, "chemical-shift": scores, "mean": scores}
    step = {
        "stage": "denoiser", "event": "step", "step": 50, "seconds": 60.0, "loss": 0.03, "residual": 0.02,
        "feature": 0.1, "gradient": 0.5, "rate": 1e-3, "images_per_s": 40.0,
    }  # fmt: skip
    view({"event": "run", "stages": ["denoiser"], "engine": "cpu", "config": {"data": {"batch": 8}}})
    view({"event": "stage", "stage": "denoiser", "steps": 100, "minutes": None})
    view(step)
    view({"stage": "denoiser", "event": "validation", "step": 50, "table": table})
    from rich.console import Console

    console = Console(width=80, height=24, record=True, file=io.StringIO())
    console.print(shown[-1])
    lines = console.export_text().splitlines()
    assert "denoiser step 50 of 100   1:00 of 1:10   40.0 images/s, 0:10 left" in lines[0]
    assert "loss 0.0300 (residual 0.0200, feature 0.100), gradient 0.500, rate 1.0e-03" in lines[2]
    assert "PSNR 20.00 -> 30.00 dB, SSIM 0.500 -> 0.900" in lines[3]
    assert any("gaussian" in line and "-> 30.0" in line for line in lines)
    assert max(map(len, lines)) <= 80
