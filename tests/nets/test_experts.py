"""Experts: what is asked of whom, that the result is their weighted mean, and that only the router learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medfpl.denoisers import METHODS
from medfpl.nets.drunet import DRUNetConfig, build_drunet
from medfpl.nets.experts import FAINT, LEAST, Experts, ExpertsConfig, build_experts
from medfpl.nets.give_back import Back, without_local_mean
from medfpl.nets.shading import ShadingConfig, build_shading
from medfpl.nets.weights import find_model, load_net, save_net

FAMILIES = (("gaussian", "poisson"), ("rician", "gaussian"), ("motion",))
EXPERT = DRUNetConfig(width=4, blocks=1, blind=True, context=True)
SHADING = ShadingConfig(width=4, depth=2)
CONFIG = ExpertsConfig((EXPERT, EXPERT, SHADING), FAMILIES, router=4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def net() -> Experts:
    shading = build_shading(SHADING, seeded(2))
    torch.nn.init.normal_(shading.unet.out.weight, std=0.1, generator=seeded(3))
    made = build_experts([*(build_drunet(EXPERT, seeded(k)) for k in range(2)), shading], FAMILIES, 4, seeded(9))
    assert made.config == CONFIG
    return made.eval()


def decided(net: Experts, *logits: float) -> Experts:
    """Return ``net`` with a router that always gives these logits."""
    torch.nn.init.zeros_(net.router.head[2].weight)
    net.router.head[2].bias.data = torch.tensor(logits)
    return net


def test_a_noise_belongs_to_the_first_family_that_has_it():
    assert [CONFIG.family(n) for n in ("clean", "gaussian", "poisson", "rician", "motion")] == [0, 0, 0, 1, 2]
    with pytest.raises(ValueError, match="no expert knows rayleigh"):
        CONFIG.family("rayleigh")


def test_the_improbable_are_not_asked_and_the_others_are_weighted(net):
    x = torch.rand(2, 1, 24, 32, generator=seeded(1))
    asked = []
    decided(net, 0.0, 1.0, -3.0)
    probable = torch.tensor([0.0, 1.0, -3.0]).softmax(0)
    assert probable[2] < LEAST < probable[0]
    noise, _ = net.blend(x, lambda expert, part: asked.append(expert) or expert(part))
    assert asked == [net.experts[0], net.experts[1]]
    share = probable[1] / (probable[0] + probable[1])
    wanted = (1 - share) * net.experts[0](x) + share * net.experts[1](x)
    assert torch.allclose(noise, wanted, atol=1e-6)
    assert torch.allclose(net(x), wanted, atol=1e-6)


def test_experts_for_noise_give_the_local_mean_back_and_those_for_artifacts_do_not(net):
    found = 0.03 * torch.randn(1, 1, 64, 64, generator=seeded(4))
    image = 0.5 + found
    decided(net, -9.0, -9.0, 9.0)
    assert torch.equal(net.blend(image, lambda expert, part: found)[0], found)
    for logits, offset in (((9.0, -9.0, -9.0), False), ((-9.0, 9.0, -9.0), True)):
        decided(net, *logits)
        wanted = without_local_mean(found, image, offset=offset)
        assert not torch.equal(wanted, found)
        torch.testing.assert_close(net.blend(image, lambda expert, part: found)[0], wanted)


def test_of_what_each_expert_took_as_much_comes_back_as_its_card_says(net, tmp_path):
    found = torch.full((1, 1, 64, 64), 0.001)
    net.config = replace(CONFIG, back=(Back(least=0.002), Back(), Back()))
    save_net(net, tmp_path / "run", {"name": "three", "role": "denoiser", "summary": ""})
    loaded = load_net(find_model(tmp_path / "run"))
    assert loaded.config == net.config
    for logits, nothing in (((9.0, -9.0, -9.0), True), ((-9.0, 9.0, -9.0), False)):
        noise, _ = decided(loaded, *logits).blend(0.5 + found, lambda expert, part: found)
        assert (noise.abs().max() == 0) == nothing


def test_without_magnitudes_the_first_expert_takes_noise_that_is_faint_but_no_impulses(net):
    x = torch.rand(3, 1, 48, 48, generator=seeded(1))
    faint = 0.002 * torch.randn(1, 1, 48, 48, generator=seeded(5))
    strong, impulses = 10 * faint, torch.zeros_like(faint)
    impulses[..., 5, 7], impulses[..., 30, 31] = 0.1, -0.08
    assert impulses.square().mean().sqrt() < FAINT
    by_first = torch.full_like(faint, 0.001)
    places = {id(net.experts[0]): by_first, id(net.experts[1]): torch.cat([faint, strong, impulses])}

    def run(expert, part):
        return places[id(expert)][: len(part)].expand_as(part).clone()

    decided(net, -9.0, 9.0, -9.0)
    found, without = (net.blend(x, run, magnitudes=m)[0] for m in (True, False))
    assert torch.equal(found[1:], without[1:])
    torch.testing.assert_close(without[:1], without_local_mean(by_first, x[:1], offset=False))
    assert not torch.equal(found[0], without[0])


def test_rows_and_columns_in_which_nothing_was_measured_stay_as_they_are(net):
    x = torch.rand(2, 1, 24, 32, generator=seeded(1))
    x[0, 0, :5] = x[0, 0, :, 30:] = 0
    x[1, 0, 3, :31] = 0  # one pixel is not: the row was measured
    noise, _ = net.blend(x, lambda expert, part: expert(part))
    assert not noise[0, 0, :5].any()
    assert not noise[0, 0, :, 30:].any()
    assert noise[0, 0, 5:, :30].all()
    assert noise[1].all()


def test_an_artifact_needs_a_certainty_of_ones_own(net):
    x = torch.rand(1, 1, 24, 32, generator=seeded(1))
    decided(net, 0.0, 0.0, 1.5)  # 0.15, 0.15, 0.69
    assert net.shares(x)[0, 2] == 0
    net.config = replace(CONFIG, certain=0.5)
    assert net.shares(x)[0, 2].item() == pytest.approx(0.69, abs=0.01)


def test_where_no_artifact_can_be_none_is_asked_for(net):
    x = torch.rand(1, 1, 24, 32, generator=seeded(1))
    decided(net, 0.0, 1.0, 9.0)
    assert net.shares(x)[0].tolist() == [0, 0, 1]
    assert net.shares(x, artifacts=False)[0].tolist() == [1, 0, 0]  # nothing else is probable: the first
    decided(net, 0.0, 1.0, 0.5)
    shares = net.shares(x, artifacts=False)[0]
    assert shares[2] == 0
    assert (shares[1] / shares[0]).item() == pytest.approx(np.e, rel=1e-4)


def test_products_give_the_error_of_any_mean(net):
    clean = torch.rand(2, 1, 24, 32, generator=seeded(1))
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=seeded(2))
    shares = torch.tensor([0.2, 0.5, 0.3])
    mean = sum(share * expert(noisy) for share, expert in zip(shares, net.experts, strict=True))
    error = (noisy - mean - clean).square().mean((1, 2, 3))
    assert torch.allclose(shares @ net.products(noisy, clean) @ shares, error, rtol=1e-4)


def test_each_item_of_a_batch_goes_its_own_way(net):
    x = torch.stack([torch.rand(1, 40, 40, generator=seeded(1)), torch.eye(40)[None], torch.ones(1, 40, 40)])
    net.router.head[2].weight.data *= 50  # decided, and differently for each
    assert len({int(k) for k in net.shares(x).argmax(1)}) > 1
    assert torch.allclose(net.shares(x).sum(1), torch.ones(3))
    one_by_one = torch.cat([net(item[None]) for item in x])
    assert torch.allclose(net(x), one_by_one, atol=1e-5)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_router_does_not_see_the_images_scale(net, factor):
    x = torch.rand(1, 1, 48, 40, generator=seeded(2))
    assert torch.allclose(net.router(factor * x), net.router(x), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50)])
def test_any_size_is_routed(net, shape):
    assert torch.isfinite(net(torch.zeros(1, 1, *shape))).all()


def test_only_the_router_learns(net):
    x = torch.rand(2, 1, 32, 32, generator=seeded(3))
    logits = net.train()(x)
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all((p.grad is not None) == name.startswith("router.") for name, p in net.named_parameters())


def test_it_is_saved_with_its_families_and_denoises(net, tmp_path):
    save_net(net, tmp_path / "run", {"name": "three", "role": "denoiser", "summary": ""})
    loaded = load_net(find_model(tmp_path / "run"))
    assert isinstance(loaded, Experts)
    assert loaded.config == CONFIG
    x = torch.rand(2, 1, 30, 21, generator=seeded(4))
    assert torch.equal(loaded(x), net(x))
    made = METHODS.get("medfpl").make(model=str(tmp_path / "run"))
    assert torch.allclose(made.denoise(x), x - net(x), atol=1e-6)
