import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from dicom_making import MR, make_dicom, save
from pictures import png, tree

from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import CARD_NAME, save_net

Run = Callable[..., Any]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a small random denoiser, which is also installed as the model ``tiny``."""
    home = tmp_path / "home"
    monkeypatch.setenv("MEDFPL_HOME", str(home))
    net = build_unet(UNetConfig(width=4, depth=2, norm="none"), torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.out.weight, std=0.01, generator=torch.Generator().manual_seed(1))
    metrics = {"ct": {"gaussian": {"psnr": 35.5, "ssim": 0.9, "input_psnr": 28.1}}}
    card = {"name": "tiny", "role": "denoiser", "summary": "for tests", "metrics": metrics, "limits": ["no use"]}
    run = tmp_path / "run"
    save_net(net, run, card)
    save_net(net, home / "models", card, stem="tiny")
    return run


def test_list(medfpl: Run, tiny: Path) -> None:
    models = json.loads(medfpl("models", "list", "--json").out)["models"]
    assert ("tiny", "imported") in {(m["name"], m["origin"]) for m in models}
    assert "for tests" in medfpl("models", "list").out


def test_show_and_where(medfpl: Run, tiny: Path) -> None:
    card = json.loads(medfpl("models", "show", "tiny", "--json").out)
    assert card["sha256"] == json.loads((tiny / CARD_NAME).read_text())["sha256"]
    shown = medfpl("models", "show", "tiny").out
    assert all(text in shown for text in ("for tests", "no use", card["sha256"], "35.50", "28.10"))
    assert medfpl("models", "show", tiny).code == 0
    where = medfpl("models", "where", "tiny").out.strip()
    assert Path(where).is_file()
    assert medfpl("models", "where", "nosuch").code == 2


def test_denoise_with_a_model(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    source = png(tmp_path / "a.png")
    by_name = medfpl("denoise", source, "-o", tmp_path / "x.png", "--model", "tiny", "--json")
    assert by_name.code == 0, by_name.err
    report = json.loads(by_name.out)
    assert (report["method"], report["model"], report["device"]) == ("medfpl", "tiny", "cpu")
    assert medfpl("denoise", source, "-o", tmp_path / "y.png", "--model", tiny).code == 0
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    assert (tmp_path / "x.png").read_bytes() != source.read_bytes()
    told = medfpl("denoise", source, "-o", tmp_path / "z.png", "--model", "tiny").err
    assert "medfpl tiny on cpu" in told


def test_a_derived_dicom_names_the_model_and_its_weights(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (40, 48)).astype(np.uint16)
    source = save(make_dicom(values, sop_class=MR, stored=12), tmp_path / "a.dcm")
    assert medfpl("denoise", source, "--model", tiny).code == 0
    text = pydicom.dcmread(tmp_path / "a_denoised.dcm").DerivationDescription
    assert "tiny" in text
    assert json.loads((tiny / CARD_NAME).read_text())["sha256"][:16] in text
    assert str(tmp_path) not in text


def test_files_at_the_same_time_give_the_same_bytes(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    for i in range(6):
        png(tmp_path / "in" / f"{i}.png", i)
    for jobs in (1, 3):
        assert (
            medfpl("denoise", tmp_path / "in", "-o", tmp_path / f"out{jobs}", "--model", "tiny", "-j", jobs).code == 0
        )
    for name in tree(tmp_path / "in"):
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out3" / name).read_bytes()


def test_changed_weights_stop_the_run(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    weights = tiny / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    result = medfpl("denoise", png(tmp_path / "a.png"), "--model", tiny)
    assert result.code == 1
    assert "sha256 differs" in result.err
    assert not (tmp_path / "a_denoised.png").exists()


def test_import_and_use(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    result = medfpl("models", "import", tiny, "--name", "mine", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert (report["command"], report["name"]) == ("models import", "mine")
    assert Path(report["path"]).is_file()
    assert medfpl("denoise", png(tmp_path / "a.png"), "--model", "mine").code == 0
    again = medfpl("models", "import", tiny, "--name", "mine")
    assert (again.code, again.err.splitlines()[0]) == (1, "error: there is a model called mine")
    assert medfpl("models", "import", tiny, "--name", "mine", "--overwrite").code == 0


def test_import_of_unknown_weights(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    bare = (tiny / "weights.safetensors").rename(tmp_path / "bare.safetensors")
    refused = medfpl("models", "import", bare)
    assert refused.code == 2
    assert "--architecture" in refused.err
    taken = medfpl("models", "import", bare, "--architecture", "width=4,depth=2,norm=none")
    assert taken.code == 0, taken.err
    assert "warning: Unknown weights" in taken.err
    assert "not known" in medfpl("models", "show", "bare").out
    assert medfpl("models", "import", bare, "--role", "oracle").code == 2


def test_export(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    result = medfpl("models", "export", "tiny", "--onnx", tmp_path / "net.onnx", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["sha256"] == json.loads((tiny / CARD_NAME).read_text())["sha256"]
    assert report["difference"] < 1e-4
    again = medfpl("models", "export", "tiny", "--onnx", tmp_path / "net.onnx")
    assert again.code == 1
    assert "--overwrite" in again.err
    told = medfpl("models", "export", "tiny", "--onnx", tmp_path / "net.onnx", "--overwrite")
    assert "denoised = image - noise" in told.out
    assert medfpl("models", "export", "tiny").code == 2


def test_a_restoration_run_can_be_shown(medfpl: Run, tiny: Path) -> None:
    card = json.loads((tiny / CARD_NAME).read_text())
    (tiny / CARD_NAME).write_text(json.dumps({**card, "role": "restoration"}))
    shown = medfpl("models", "show", tiny)
    assert shown.code == 0, shown.err
    assert "restoration" in shown.out


def test_a_run_that_holds_a_prior_alone_can_be_shown_imported_and_used(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    net = build_drunet(DRUNetConfig(4, 1), torch.Generator().manual_seed(0))
    save_net(net, tmp_path / "run2" / "prior", {"name": "own-prior", "role": "prior", "summary": "for tests"})
    shown = medfpl("models", "show", tmp_path / "run2")
    assert shown.code == 0, shown.err
    assert "type drunet" in shown.out
    assert medfpl("models", "import", tmp_path / "run2", "--role", "prior").code == 0
    source = png(tmp_path / "a.png")
    for name, model in (("x", "own-prior"), ("y", tmp_path / "run2")):
        result = medfpl("denoise", source, "-o", tmp_path / f"{name}.png", "--method", "dpir", "--model", model)
        assert result.code == 0, result.err
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes() != source.read_bytes()
    refused = medfpl("denoise", source, "--model", "own-prior")
    assert (refused.code, "a denoiser is needed" in refused.err) == (2, True)


def test_import_of_the_published_prior(medfpl: Run, tiny: Path, tmp_path: Path) -> None:
    net = build_drunet(DRUNetConfig(8, 4), torch.Generator().manual_seed(0))
    torch.save(net.state_dict(), tmp_path / "drunet_gray.pth")
    taken = medfpl("models", "import", tmp_path / "drunet_gray.pth")
    assert taken.code == 0, taken.err
    assert "drunet_gray: prior" in taken.out
    assert "warning: Whether these are the published weights was not checked" in taken.err
    given = ("--method", "dpir", "--model", "drunet_gray", "--set", "mode=hqs", "--noise-level", "5%", "--json")
    result = medfpl("denoise", png(tmp_path / "a.png"), *given)
    assert json.loads(result.out)["model"] == "drunet_gray"
    (tmp_path / "drunet_gray.pth").write_bytes(b"no weights")
    refused = medfpl("models", "import", tmp_path / "drunet_gray.pth", "--overwrite")
    assert (refused.code, refused.err.count("error: ")) == (1, 1)
