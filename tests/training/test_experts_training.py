"""Training the router of experts: from runs to a run, the experts unchanged, and what cannot be joined."""

import pytest
import torch
from training_tools import SMALL, state

from medfpl.errors import UsageError
from medfpl.nets.experts import Experts
from medfpl.nets.weights import find_model, load_net
from medfpl.training.networks import build_network
from medfpl.training.run import train

NET = {"net.type": "drunet", "net.width": 4, "net.blocks": 1, "net.context": True}
SETTINGS = {**{k: v for k, v in SMALL.items() if not k.startswith("net.")}, "fpl.weight": 0.0, "init": "none"}


def small(store, folder, **changes):
    return train(store.path, folder, settings={**SETTINGS, **changes}, device="cpu", precision="32")[-1]


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
        "net.router": 4,
        "data.noises": ["gaussian", "salt-pepper"],
        "data.even": 1.0,
    }
    model = small(tiny_store, tmp_path / "run", steps=100, learning_rate=1e-2, ema=0.9, **settings)
    net = load_net(find_model(tmp_path / "run"))
    assert isinstance(net, Experts)
    assert net.config.families == (("gaussian",), ("salt-pepper",))
    for own, run in zip(net.experts, runs, strict=True):
        assert torch.equal(state(own), state(load_net(find_model(run))))
    assert [e["name"] for e in model.card.training["experts"]] == ["gaussian", "salt-pepper"]
    generator = torch.Generator().manual_seed(0)
    x = torch.full((8, 1, 40, 40), 0.5)
    white = x + 0.1 * torch.randn(x.shape, generator=generator)
    impulses = torch.where(torch.rand(x.shape, generator=generator) < 0.1, 1.0, x)
    assert (net.router(white).argmax(1) == 0).all()
    assert (net.router(impulses).argmax(1) == 1).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"net.experts": []}, "names no expert"),
        ({"data.noises": ["motion"]}, "no expert knows motion"),
        ({"net.experts": ["medfpl-base"]}, "medfpl-base cannot be one"),
    ],
)
def test_what_cannot_be_joined_is_told_before_the_run(tiny_store, tmp_path, runs, changes, reason):
    settings = {"net.type": "experts", "net.experts": runs, "data.noises": ["gaussian"], "steps": 1, **changes}
    with pytest.raises(UsageError, match=reason):
        small(tiny_store, tmp_path / "run", **settings)


def test_with_context_a_denoiser_begins_as_the_prior_that_is_told_the_level_it_shows():
    from medfpl.training.config import load_config

    prior = load_net(find_model(None, "prior"))
    net = build_network(load_config(None, {"net.context": True}), prior).eval()
    clean = torch.full((1, 1, 128, 128), 0.5)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    told = prior(torch.cat([noisy, torch.full_like(noisy, 0.1)], 1))
    with torch.inference_mode():
        denoised = noisy - net(noisy)
    assert (denoised - clean).std() < 0.02
    assert (denoised - told).abs().max() < 0.1 * (noisy - told).abs().max()
