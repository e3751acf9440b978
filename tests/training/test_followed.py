"""Correctors behind a denoiser: whose, for which noises, in which runs, and that they follow what is learned."""

import pytest
import torch
from training_tools import SMALL, state

from medfpl.errors import UsageError
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import Experts
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import find_model, load_net
from medfpl.training.networks import alone, build_network, followed
from medfpl.training.run import train

NET = {"net.type": "drunet", "net.width": 4, "net.blocks": 1, "net.context": True}
SETTINGS = {**{k: v for k, v in SMALL.items() if not k.startswith("net.")}, "fpl.weight": 0.0, "init": "none", **NET}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def shipped() -> Experts:
    net = load_net(find_model(None))
    assert isinstance(net, Experts)
    return net


@pytest.fixture
def denoiser():
    return build_drunet(DRUNetConfig(4, 1, blind=True, context=True), seeded(0)).requires_grad_(False)


def run(store, folder, **changes):
    return train(store.path, folder, settings={**SETTINGS, "steps": 1, **changes}, device="cpu", precision="32")[-1]


def test_the_correctors_of_its_noises_follow_it(shipped, denoiser):
    whole = followed(denoiser, ["gaussian", "motion"], shipped)
    assert isinstance(whole, Experts)
    assert [c.noise for c in whole.config.correctors] == ["motion"]
    at = [c.noise for c in shipped.config.correctors].index("motion")
    assert torch.equal(state(whole.correctors[0]), state(shipped.correctors[at]))
    assert whole.config.noises == ["gaussian", "motion"]


def test_it_is_followed_as_it_learns(shipped, denoiser):
    whole = followed(denoiser, ["gaussian", "motion"], shipped).eval()
    assert alone(whole) is denoiser
    x = torch.rand(1, 1, 32, 32, generator=seeded(1))
    torch.testing.assert_close(whole.blend(x, lambda net, part: net(part), artifacts=False)[0], denoiser(x))
    denoiser.m_tail.weight *= 2
    torch.testing.assert_close(whole.blend(x, lambda net, part: net(part), artifacts=False)[0], denoiser(x))


def test_where_none_knows_its_noises_it_stays_alone(shipped, denoiser):
    assert followed(denoiser, ["gaussian", "rician"], shipped) is denoiser
    assert followed(denoiser, ["motion"], None) is denoiser
    unet = build_unet(UNetConfig(4, 2))
    assert followed(unet, ["motion"], shipped) is unet
    assert alone(shipped) is shipped  # several experts


def test_a_run_on_all_noises_has_the_default_models(tiny_store, tmp_path, shipped):
    model = run(tiny_store, tmp_path / "all", **{"data.noises": []})
    net = load_net(model)
    assert isinstance(net, Experts)
    assert [c.noise for c in net.config.correctors] == [c.noise for c in shipped.config.correctors]
    assert model.card.training["correctors_of"] == {"name": "medfpl-experts", "sha256": find_model(None).card.sha256}
    assert model.card.noises[0] == "chemical-shift"
    # It can be gone on with, and be an expert, as if nothing followed it.
    again = run(tiny_store, tmp_path / "again", init=str(tmp_path / "all"), learning_rate=1e-12, weight_decay=0, ema=0)
    torch.testing.assert_close(state(alone(load_net(again))), state(alone(net)))


@pytest.mark.parametrize(
    "changes",
    [{"data.noises": ["gaussian"]}, {"data.noises": ["motion"]}, {"data.noises": [], "net.correctors": "none"}],
)
def test_a_specialist_has_none_and_who_wants_none_neither(tiny_store, tmp_path, changes):
    assert not isinstance(load_net(run(tiny_store, tmp_path / "run", **changes)), Experts)


def test_a_specialist_may_ask_for_some(tiny_store, tmp_path):
    changes = {"data.noises": ["gaussian", "motion"], "net.correctors": "medfpl-experts"}
    net = load_net(run(tiny_store, tmp_path / "run", **changes))
    assert isinstance(net, Experts)
    assert [c.noise for c in net.config.correctors] == ["motion"]


@pytest.mark.parametrize(("name", "reason"), [("medfpl-blind", "has none"), ("nobody", "is called .nobody")])
def test_what_has_no_correctors_is_told_before_the_run(tiny_store, tmp_path, name, reason):
    with pytest.raises(UsageError, match=reason):
        run(tiny_store, tmp_path / "run", **{"net.correctors": name})
    assert not (tmp_path / "run").exists()


def test_a_network_to_begin_from_is_not_taken_for_a_choice_of_experts(shipped, denoiser):
    from medfpl.training.config import load_config

    config = load_config(None, {**NET, "steps": 1})
    net = build_network(config, followed(denoiser, ["motion"], shipped))
    assert torch.equal(state(net), state(denoiser))


def test_a_default_model_of_the_users_own_may_have_none(tiny_store, tmp_path, monkeypatch):
    plain = find_model("medfpl-blind")
    monkeypatch.setattr("medfpl.training.run.find_model", lambda *_: plain)
    model = run(tiny_store, tmp_path / "run", **{"data.noises": []})
    assert "correctors_of" not in model.card.training
    assert not isinstance(load_net(model), Experts)
