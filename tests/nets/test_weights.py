import json

import pytest
import torch

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import find_model, list_models, load_net, save_net

CONFIG = UNetConfig(width=4, depth=2, norm="none")


def experts(**changes):
    return {"type": "experts", "experts": [{"type": "shading"}], "families": [["motion"]], "router": 4, **changes}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with a small random denoiser, and no other user's models."""
    monkeypatch.setenv("MEDFPL_HOME", str(tmp_path / "home"))
    net = build_unet(CONFIG, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(1))
    save_net(net, tmp_path / "run", {"name": "tiny", "role": "denoiser", "summary": "a test"})
    return tmp_path / "run", net


def test_a_saved_network_comes_back(run):
    folder, net = run
    loaded = load_net(find_model(folder))
    x = torch.rand(1, 1, 16, 16)
    assert torch.equal(loaded(x), net(x))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_half_precision_weights_load_as_float32(tmp_path, run):
    _, net = run
    model = save_net(net, tmp_path / "half", {"name": "h", "role": "denoiser", "summary": ""}, half=True)
    loaded = load_net(model)
    assert loaded.out.weight.dtype == torch.float32
    assert torch.allclose(loaded.out.weight, net.out.weight, rtol=1e-3)
    assert model.card.bytes < 2.5 * model.card.parameters + 4000


def test_a_prior_comes_back_as_a_drunet(tmp_path):
    net = build_drunet(DRUNetConfig(4, 1), torch.Generator().manual_seed(0))
    model = save_net(net, tmp_path / "prior", {"name": "p", "role": "prior", "summary": ""})
    assert model.card.architecture == {"type": "drunet", "width": 4, "blocks": 1, "blind": False, "context": False}
    loaded = load_net(find_model(tmp_path / "prior", "prior"))
    x = torch.rand(1, 2, 20, 17)
    assert torch.equal(loaded(x), net(x))


def test_a_blind_drunet_is_a_denoiser_and_no_prior(tmp_path):
    net = build_drunet(DRUNetConfig(4, 1, blind=True), torch.Generator().manual_seed(0))
    save_net(net, tmp_path / "run", {"name": "p", "role": "denoiser", "summary": ""})
    x = torch.rand(1, 1, 20, 17)
    assert torch.equal(load_net(find_model(tmp_path / "run"))(x), net(x))
    save_net(net, tmp_path / "run", {"name": "p", "role": "prior", "summary": ""})
    with pytest.raises(BadInput, match="a prior is told"):
        load_net(find_model(tmp_path / "run", "prior"))
    save_net(net, tmp_path / "run", {"name": "p", "role": "restoration", "summary": ""})
    with pytest.raises(BadInput, match="a restoration model cannot be a drunet"):
        load_net(find_model(tmp_path / "run", "restoration"))


def test_changed_weights_are_refused(run):
    folder, _ = run
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(BadInput, match="sha256"):
        load_net(find_model(folder))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architecture": {"type": "unet", "width": 8, "depth": 2, "norm": "none"}}, "do not fit"),
        ({"architecture": {"type": "transformer"}}, "does not know"),
        ({"architecture": {"type": "unet", "colour": 3}}, "does not know"),
        ({"architecture": {"type": "drunet", "width": 4, "blocks": 1}}, "a denoiser is blind"),
        ({"architecture": {"type": "drunet", "width": 4, "blocks": 1, "blind": "yes"}}, "does not know"),
        ({"architecture": {"type": "drunet", "width": 4, "blocks": 1, "blind": True}}, "do not fit"),
        ({"architecture": {"type": "drunet", "width": 4, "blocks": 1, "blind": False, "context": True}}, "is blind"),
        ({"architecture": {"type": "drunet", "width": 4, "blocks": 1, "blind": True, "context": 1}}, "does not know"),
        ({"architecture": {"type": "experts"}}, "does not know"),
        ({"architecture": experts(families=[["gaussian"], ["rician"]])}, "does not know"),
        ({"architecture": experts(families=[[3]])}, "does not know"),
        ({"architecture": experts(experts=[{"type": "unet"}])}, "does not know"),
        ({"architecture": experts(experts=[{"type": "shading", "width": 1 << 20}])}, "does not know"),
        ({"architecture": experts(experts=[{"type": "drunet", "width": 4, "blocks": 1}])}, "an expert is blind"),
        ({"architecture": experts(more=1)}, "does not know"),
        ({"architecture": experts(certain=1.5)}, "does not know"),
        ({"architecture": experts(back=[{}, {}])}, "does not know"),
        ({"architecture": experts(back=[{"narrowest": 0.5}])}, "does not know"),
        ({"architecture": experts(back=[{"least": -0.1}])}, "does not know"),
        ({"architecture": experts(back=[{"more": 1.0}])}, "does not know"),
        ({"architecture": experts(back=[1.5])}, "does not know"),
        ({"architecture": experts(certain=True)}, "does not know"),
        ({"architecture": experts()}, "do not fit"),
        ({"architecture": {"type": "shading"}}, "do not fit"),
        ({"file": "../weights.safetensors"}, "outside"),
        ({"surprise": 1}, "not a model card"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(run, change, reason):
    folder, _ = run
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(BadInput, match=reason):
        load_net(find_model(folder))


def test_a_pickle_as_weights_is_refused(run):
    import hashlib
    import pickle

    folder, _ = run
    data = pickle.dumps({"out.weight": [1.0]})
    (folder / "weights.safetensors").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    card["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(BadInput, match="damaged"):
        load_net(find_model(folder))


def test_names_that_are_no_model(run):
    folder, _ = run
    with pytest.raises(UsageError, match="no denoiser model is called 'nothing'"):
        find_model("nothing")
    with pytest.raises(UsageError, match="without its card"):
        find_model(folder / "weights.safetensors")
    with pytest.raises(UsageError, match="is a denoiser model"):
        find_model(folder, role="restoration")


@pytest.mark.parametrize("role", ["denoiser", "prior"])
def test_one_shipped_model_of_a_role_is_the_default(role):
    shipped = [m for m in list_models() if m.origin == "shipped" and m.card.role == role]
    assert [m.card.default for m in shipped].count(True) == 1


def test_every_shipped_model_loads():
    shipped = [m for m in list_models() if m.origin == "shipped"]
    for model in shipped:
        assert sum(p.numel() for p in load_net(model).parameters()) == model.card.parameters
        assert model.card.data, "a card lists the data its weights were trained on"
        assert model.card.limits


def test_no_default_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDFPL_HOME", str(tmp_path))
    monkeypatch.setattr("medfpl.nets.weights.SHIPPED", tmp_path)
    with pytest.raises(MedfplError, match="no prior model is installed"):
        find_model(role="prior")
