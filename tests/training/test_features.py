"""A restoration network that also learns to find planted features, and denoisers that begin from other weights."""

import pytest
import torch
from training_tools import run, state

import medfpl
from medfpl.errors import UsageError
from medfpl.explain.guided import Rules, frozen, guided_map
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import load_net, save_net
from medfpl.training.config import FINDING, RunConfig
from medfpl.training.data import DataConfig, TrainingBatches
from medfpl.training.losses import FEATURE_WEIGHTS, finding_loss
from medfpl.training.planting import FEATURES

RESTORATION = {"stage": "restoration", "features": 0.3, "decay": 0.0, **{f"data.{k}": v for k, v in FINDING.items()}}


def test_batches_tell_where_features_were_planted(tiny_store):
    config = DataConfig(frame=64, patch=48, batch=4, copies=2, plant=1.0, noises=["gaussian"])
    batch = TrainingBatches(tiny_store, config, 0, 3)[0]
    assert batch.features is not None
    assert batch.features.shape == (2, len(FEATURES), 48, 48)
    assert set(batch.features.unique().tolist()) <= {0.0, 1.0}
    first = next(batch.parts(2))
    assert torch.equal(first.features, batch.features[:1])
    plain = TrainingBatches(tiny_store, config.model_copy(update={"plant": 0.0}), 0, 3)[0]
    assert plain.features is None
    assert (plain.clean != batch.clean).any()


def test_the_loss_is_the_weighted_cross_entropy():
    logits = torch.tensor([[[[2.0]], [[-1.0]], [[0.5]]]])
    features = torch.tensor([[[[1.0]], [[0.0]], [[1.0]]]])
    p = logits.sigmoid().flatten()
    terms = [-FEATURE_WEIGHTS[0] * p[0].log(), -(1 - p[1]).log(), -FEATURE_WEIGHTS[2] * p[2].log()]
    assert float(finding_loss(logits, features)) == pytest.approx(float(sum(terms)) / 3, rel=1e-6)


def test_it_learns_both_and_resumes_to_the_same_weights(tiny_store, tmp_path):
    rows = []
    whole = run(tiny_store, tmp_path / "a", report=rows.append, steps=6, **RESTORATION)
    steps = [r for r in rows if r["event"] == "step"]
    assert all(r["loss"] == pytest.approx(r["residual"] + 0.3 * r["feature"], rel=1e-4) for r in steps)
    assert whole.net.config.outputs == 1 + len(FEATURES)
    run(tiny_store, tmp_path / "b", steps=3, **RESTORATION)
    again = run(tiny_store, tmp_path / "b", resume=True, steps=6, **RESTORATION)
    assert torch.equal(state(again.net), state(whole.net))
    assert guided_map(frozen(whole.net), torch.rand(1, 1, 32, 32), Rules("evidence", layer="up.0")).shape[1] > 1


def test_the_stage_is_set_up_for_finding():
    stage = RunConfig(steps=10).for_stage("restoration")
    assert stage.features > 0
    assert stage.data.plant == 1.0
    assert stage.data.noises == FINDING["noises"]
    plain = RunConfig(steps=10, restoration={"features": 0}).for_stage("restoration")
    assert (plain.features, plain.data) == (0, RunConfig().data)
    assert RunConfig(steps=10).for_stage("denoiser").features == 0


def test_a_denoiser_begins_from_other_weights(tiny_store, tmp_path):
    shape = {"width": 4, "depth": 2, "unshuffle": 2, "norm": "none"}
    begin = build_unet(UNetConfig(**shape), torch.Generator().manual_seed(3))
    torch.nn.init.normal_(begin.out.weight, std=0.1, generator=torch.Generator().manual_seed(4))
    made = run(tiny_store, tmp_path / "a", steps=1, learning_rate=1e-12, weight_decay=0, begin=begin)
    assert torch.allclose(state(made.net), state(begin), atol=1e-6)
    other = build_unet(UNetConfig(width=8, depth=2), torch.Generator().manual_seed(3))
    with pytest.raises(UsageError, match="another shape"):
        run(tiny_store, tmp_path / "b", steps=1, begin=other)


def test_a_drunet_denoiser_begins_from_a_prior(tiny_store, tmp_path):
    prior = build_drunet(DRUNetConfig(4, 1), torch.Generator().manual_seed(3))
    save_net(prior, tmp_path / "prior", {"name": "p", "role": "prior", "summary": ""})
    settings = {
        "net.type": "drunet", "net.width": 4, "net.blocks": 1, "net.context": False, "init": str(tmp_path / "prior"),
        "learning_rate": 1e-12, "weight_decay": 0, "data.frame": 40, "data.patch": 32, "data.workers": 0,
        "validation_images": 3, "fpl.weight": 0, "net.correctors": "none",
    }  # fmt: skip
    (model,) = medfpl.train(tiny_store.path, tmp_path / "run", steps=1, stage="denoiser", settings=settings)
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    told = torch.cat([x, torch.zeros_like(x)], 1)
    assert torch.allclose(x - load_net(model)(x), prior(told), atol=1e-5)
    assert model.card.training["began_from"]["name"] == "p"
    assert model.card.architecture == {"type": "drunet", "width": 4, "blocks": 1, "blind": True, "context": False}


def test_a_beginning_that_is_not_there_is_told_before_anything_is_trained(tiny_store, tmp_path):
    with pytest.raises(UsageError, match="no denoiser model is called 'nope'"):
        medfpl.train(tiny_store.path, tmp_path / "run", steps=10, settings={"init": "nope"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({}, "medfpl-prior"),
        ({"init": "none"}, None),
        ({"net.blocks": 1}, None),
        ({"net.type": "unet", "net.depth": 2}, None),
    ],
)
def test_a_denoiser_begins_by_itself_from_the_prior_of_its_shape(tiny_store, tmp_path, settings, first):
    small = {"data.frame": 32, "data.patch": 32, "data.batch": 1, "data.workers": 0, "validation_images": 1}
    settings = {**small, "data.noises": ["gaussian"], "fpl.weight": 0, **settings}
    (model,) = medfpl.train(tiny_store.path, tmp_path / "run", steps=1, stage="denoiser", settings=settings)
    assert model.card.training.get("began_from", {}).get("name") == first
