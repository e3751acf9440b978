"""Training the router of experts: from runs to a run, the experts unchanged, and what cannot be joined."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_tools import SMALL, state

from medfpl.errors import UsageError
from medfpl.nets.experts import Experts
from medfpl.nets.weights import find_model, load_net, save_net
from medfpl.training.config import DataConfig, load_config, read_config
from medfpl.training.data import TrainingBatches
from medfpl.training.networks import build_network
from medfpl.training.run import train

NET = {"net.type": "drunet", "net.width": 4, "net.blocks": 1, "net.context": True}
SETTINGS = {**{k: v for k, v in SMALL.items() if not k.startswith("net.")}, "fpl.weight": 0.0, "init": "none"}


def small(store, folder, report=lambda event: None, **changes):
    return train(store.path, folder, settings={**SETTINGS, **changes}, device="cpu", precision="32", report=report)[-1]


@pytest.fixture(scope="module")
def runs(tiny_store, tmp_path_factory):
    """Two specialists of one step."""
    place = tmp_path_factory.mktemp("specialists")
    for name in ("gaussian", "salt-pepper"):
        small(tiny_store, place / name, **NET, **{"data.noises": [name], "steps": 1})
    return [str(place / "gaussian"), str(place / "salt-pepper")]


def test_the_router_learns_which_noise_it_is(tiny_store, tmp_path, runs):
    settings = {
        "net.type": "experts",
        "net.experts": runs,
        "net.router": 8,
        "data.noises": ["gaussian", "salt-pepper"],
        "data.even": 1.0,
    }
    losses = []

    def note(event):
        if event["event"] == "step":
            losses.append(event["loss"])

    model = small(tiny_store, tmp_path / "run", steps=120, learning_rate=3e-3, ema=0.9, report=note, **settings)
    net = load_net(find_model(tmp_path / "run"))
    assert isinstance(net, Experts)
    assert net.config.families == (("gaussian",), ("salt-pepper",))
    for own, run in zip(net.experts, runs, strict=True):
        assert torch.equal(state(own), state(load_net(find_model(run))))
    assert [e["name"] for e in model.card.training["experts"]] == ["gaussian", "salt-pepper"]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])


def test_the_router_learns_which_expert_errs_least(tiny_store, tmp_path, runs):
    """One expert leaves the image alone and one removes it: by the error the first is right, whatever the noise."""
    nothing, everything = (load_net(find_model(run)) for run in runs)
    for net, gain in ((nothing, 1.0), (everything, 0.0)):
        for weight in net.parameters():
            weight.zero_()
        net.m_head.weight[0, 0, 1, 1] = net.m_tail.weight[0, 0, 1, 1] = gain**0.5
    folders = [str(tmp_path / name) for name in ("nothing", "everything")]
    for folder, run, net in zip(folders, runs, (nothing, everything), strict=True):
        save_net(net, Path(folder), find_model(run).card.to_json())
    report = []
    settings = {
        "net.type": "experts",
        "net.experts": folders[::-1],
        "net.router": 8,
        "net.route": "error",
        "net.certain": 0.5,
        "data.noises": ["gaussian", "salt-pepper"],
        "data.pool": 8,
    }
    small(
        tiny_store,
        tmp_path / "run",
        steps=60,
        learning_rate=1e-2,
        ema=0.5,
        loss="rmse",
        report=report.append,
        **settings,
    )
    losses = [event["loss"] for event in report if event["event"] == "step"]
    assert losses[-1] < 0.5 * losses[0]
    net = load_net(find_model(tmp_path / "run"))
    assert net.config.certain == 0.5
    unseen = TrainingBatches(tiny_store, DataConfig(frame=40, patch=32, noises=["gaussian"]), 9, 1)[0].noisy
    assert net.shares(unseen).argmax(1).tolist() == [1] * len(unseen)
    with pytest.raises(UsageError, match="l1 cannot train a router"):
        small(tiny_store, tmp_path / "other", steps=1, loss="l1", **settings)


def test_a_router_may_go_on_with_other_experts(tiny_store, tmp_path, runs):
    settings = {"net.type": "experts", "net.router": 8, "data.noises": ["gaussian", "salt-pepper"], "steps": 1}
    small(tiny_store, tmp_path / "first", **settings, **{"net.experts": runs})
    begun = {"init": str(tmp_path / "first"), "learning_rate": 1e-12, "weight_decay": 0}
    small(tiny_store, tmp_path / "second", **settings, **{"net.experts": runs[::-1], **begun})
    first, second = (load_net(find_model(tmp_path / name)) for name in ("first", "second"))
    assert torch.allclose(state(first.router), state(second.router), atol=1e-6)
    assert torch.equal(state(first.experts[0]), state(second.experts[1]))
    with pytest.raises(UsageError, match="no such router"):
        small(tiny_store, tmp_path / "third", **settings, **{"net.experts": runs, "init": runs[0]})


def test_by_error_a_noise_without_an_expert_can_be_trained(tiny_store, tmp_path, runs):
    settings = {"net.type": "experts", "net.experts": runs, "net.route": "error", "data.noises": ["motion"]}
    small(tiny_store, tmp_path / "run", steps=1, **settings)
    assert load_net(find_model(tmp_path / "run")).config.noises == ["gaussian", "salt-pepper"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"net.experts": []}, "names no expert"),
        ({"data.noises": ["motion"]}, "no expert knows motion"),
        ({"net.experts": ["medfpl-base"]}, "medfpl-base cannot be one"),
        ({"net.experts": ["nobody"]}, "no denoiser model is called 'nobody'"),
    ],
)
def test_what_cannot_be_joined_is_told_before_the_run(tiny_store, tmp_path, runs, changes, reason):
    settings = {"net.type": "experts", "net.experts": runs, "data.noises": ["gaussian"], "steps": 1, **changes}
    with pytest.raises(UsageError, match=reason):
        small(tiny_store, tmp_path / "run", **settings)


def test_a_router_has_no_use_for_the_feature_preserving_loss():
    config = read_config(None, None, {"steps": 1, "net.type": "experts", "net.experts": ["medfpl-blind"]})
    assert config.fpl.weight > 0
    assert config.stages() == ("denoiser",)
    assert config.for_stage("denoiser").fpl.weight == 0


def test_with_context_a_denoiser_begins_as_the_prior_that_is_told_the_level_it_shows():
    prior = load_net(find_model(None, "prior"))
    net = build_network(load_config(None, {"net.context": True}), prior).eval()
    clean = torch.full((1, 1, 128, 128), 0.5)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    told = prior(torch.cat([noisy, torch.full_like(noisy, 0.1)], 1))
    with torch.inference_mode():
        denoised = noisy - net(noisy)
    assert (denoised - clean).std() < 0.02
    assert (denoised - told).abs().max() < 0.1 * (noisy - told).abs().max()
