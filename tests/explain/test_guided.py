import warnings

import pytest
import torch
from torch import nn

from medfpl.explain.guided import Rules, frozen, guided_map, rules_for
from medfpl.nets.unet import UNetConfig, build_unet


def network(norm="none", double=False, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    net = build_unet(UNetConfig(**{"width": 4, "depth": 2, "norm": norm, **changes}), generator)
    nn.init.normal_(net.out.weight, generator=generator)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    net.eval()
    return net.double() if double else net


def image(double=False, seed=1, size=24, batch=2):
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return x if double else x.float()


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("scalar", ["energy", "sum"])
def test_maps_equal_captums(norm, scalar):
    from captum.attr import GuidedBackprop

    class Scalar(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            out = self.net(x)
            return (out if scalar == "sum" else 0.5 * out.square()).sum((1, 2, 3))

    net, x = network(norm), image()
    ours = guided_map(net, x, Rules(scalar))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        theirs = GuidedBackprop(Scalar(net)).attribute(x.clone())
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert ours.abs().max() > 0


FORMS = [
    Rules("energy"),
    Rules("energy", "smooth", 5.0),
    Rules("sum", "smooth", 5.0),
    Rules("evidence"),
    Rules("evidence", layer="up.0"),
    Rules("evidence", "smooth", 5.0, layer="down.1"),
]


@pytest.mark.parametrize("rules", FORMS)
def test_the_gradient_of_a_loss_on_the_map_equals_finite_differences(rules):
    net, x = network(double=True, outputs=3), image(double=True)
    target = guided_map(net, image(double=True, seed=2), rules)

    def loss(at):
        return guided_map(net, at, rules, create_graph=True).sub(target).square().sum()

    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at)
    direction = torch.randn(x.shape, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    step = 1e-6
    with torch.no_grad():
        finite = (loss((x + step * direction).requires_grad_()) - loss((x - step * direction).requires_grad_())) / (
            2 * step
        )
    slope = (gradient * direction).sum()
    assert slope.abs() > 0
    assert slope == pytest.approx(float(finite), rel=2e-4)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_with_the_plain_sum_the_loss_has_no_gradient_at_all(norm):
    """The published form, taken literally: its map is piecewise constant, and the loss cannot train."""
    net, x = network(norm), image()
    at = x.clone().requires_grad_()
    guided = guided_map(net, at, Rules("sum"), create_graph=True)
    assert guided.abs().max() > 0
    if guided.requires_grad:
        (gradient,) = torch.autograd.grad(guided.square().sum(), at, allow_unused=True)
        assert gradient is None or torch.equal(gradient, torch.zeros_like(at))


def test_the_denoiser_learns_from_the_map_and_the_explained_network_does_not_change():
    explained, denoiser = frozen(network("batch")), network(seed=5)
    before = {k: v.clone() for k, v in explained.state_dict().items()}
    denoised = image() - denoiser(image())
    guided_map(explained, denoised, create_graph=True).square().mean().backward()
    assert all(p.grad is not None for p in denoiser.parameters())
    assert sum(float(p.grad.abs().sum()) for p in denoiser.parameters()) > 0
    assert all(p.grad is None for p in explained.parameters())
    assert all(torch.equal(v, before[k]) for k, v in explained.state_dict().items())


def test_folding_batch_norm_changes_no_value():
    net, x = network("batch"), image()
    folded = frozen(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert torch.allclose(folded(x), net(x), atol=1e-5)
    assert torch.allclose(guided_map(folded, x), guided_map(net, x), rtol=1e-3, atol=1e-4)
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_nothing_is_left_behind():
    net, x = network(), image()
    before = net(x)
    plain = torch.autograd.grad(0.5 * net(x.requires_grad_()).square().sum(), x)[0]
    guided = guided_map(net, x)
    again = torch.autograd.grad(0.5 * net(x).square().sum(), x)[0]
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, guided)
    assert torch.equal(net(x), before)
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())


def test_items_do_not_depend_on_their_batch():
    net, x = network(), image(batch=3)
    together = guided_map(net, x)
    for i in range(3):
        assert torch.allclose(guided_map(net, x[i : i + 1])[0], together[i], atol=1e-5)


def test_it_works_where_gradients_are_off():
    net, x = network(), image()
    with torch.no_grad():
        assert guided_map(net, x).abs().max() > 0


def test_a_layers_map_is_the_guided_gradient_there():
    net, x = network(outputs=3), image()
    given = {}
    handle = net.up[0].register_forward_hook(lambda _module, _inputs, output: given.update(shape=output.shape))
    net(x)
    handle.remove()
    found = guided_map(net, x, Rules("evidence", layer="up.0"))
    assert found.shape == given["shape"]
    assert not net.up[0]._forward_hooks
    # Behind the last layer there is nothing to guide: the gradient of the energy is the output itself.
    assert torch.allclose(guided_map(net, x, Rules("energy", layer="out"))[:, :1], net(x)[:, :1])
    with pytest.raises(ValueError, match="no layer 'nosuch'"):
        guided_map(net, x, Rules(layer="nosuch"))
    with pytest.raises(ValueError, match="no evidence"):
        guided_map(network(), x, Rules("evidence"))


def test_evidence_is_that_of_the_features_and_energy_that_of_the_image():
    net, x = network(outputs=3), image()
    with torch.no_grad():
        evidence, energy = (guided_map(net, x, Rules(scalar)) for scalar in ("evidence", "energy"))
        net.out.weight[0].mul_(2)
        assert torch.equal(guided_map(net, x, Rules("evidence")), evidence)
        assert not torch.equal(guided_map(net, x, Rules("energy")), energy)


def test_rules_suit_the_network():
    assert rules_for(1, 4) == Rules("energy")
    assert rules_for(4, 4) == Rules("evidence", layer="up.3")
    assert rules_for(4, 1).layer == "up.0"
