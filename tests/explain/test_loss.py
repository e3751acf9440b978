import pytest
import torch
from torch import nn

from medfpl.explain.guided import Rules, frozen, guided_map
from medfpl.explain.loss import FeaturePreservingLoss, distance_between, feature_distance, quiet_level
from medfpl.nets.unet import UNetConfig, build_unet


def explained(width=4, seed=0):
    net = build_unet(UNetConfig(width=width, depth=2, norm="none"), torch.Generator().manual_seed(seed))
    nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(seed + 1))
    return frozen(net)


def images(n=3, size=24, seed=2):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_definition():
    net = explained()
    loss = FeaturePreservingLoss(net)
    clean, denoised = images(), images(seed=3)
    a, b = guided_map(net, denoised), guided_map(net, clean)
    per_item = [((a[i] - b[i]) ** 2).sum() / (b[i] ** 2).sum() for i in range(3)]
    terms = [(float(d.detach()) + 0.01) ** 0.5 - 0.1 for d in per_item]
    assert float(loss(denoised, loss.clean_map(clean)).detach()) == pytest.approx(sum(terms) / 3, rel=1e-5)
    assert float(loss(clean, loss.clean_map(clean)).detach()) == pytest.approx(0, abs=1e-6)
    assert float(distance_between(net, denoised, clean)[0]) == pytest.approx(float(per_item[0] ** 0.5), rel=1e-5)


def test_scaling_the_explained_network_does_not_change_it():
    net, louder = explained(), explained()
    with torch.no_grad():
        louder.out.weight.mul_(7)
    clean, denoised = images(), images(seed=3)
    distances = [distance_between(n, denoised, clean) for n in (net, louder)]
    assert torch.allclose(distances[0], distances[1], rtol=1e-4)


def test_its_gradient_is_not_zero_with_the_default_and_exactly_zero_with_the_sum():
    net, clean = explained(), images()
    for rules, alive in ((Rules(), True), (Rules("sum"), False), (Rules("sum", "smooth"), True)):
        loss = FeaturePreservingLoss(net, rules)
        denoised = images(seed=3).requires_grad_()
        value = loss(denoised, loss.clean_map(clean))
        assert value > 0
        gradient = torch.autograd.grad(value, denoised, allow_unused=True)[0] if value.requires_grad else None
        reached = gradient is not None and bool(gradient.abs().max() > 0)
        assert reached is alive


def test_an_image_without_features_gives_a_finite_loss():
    flat = torch.zeros(2, 1, 8, 8)
    assert torch.isfinite(feature_distance(torch.ones(2, 1, 8, 8), flat)).all()
    assert torch.equal(feature_distance(flat, flat), torch.zeros(2))


def test_a_network_that_could_still_learn_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        FeaturePreservingLoss(explained().requires_grad_())


def test_quiet_maps_do_not_weigh_endlessly():
    net, clean = explained(), images()
    level = quiet_level(net, clean)
    assert level == pytest.approx(float(guided_map(net, clean).square().mean((1, 2, 3)).median()))
    faint = 1e-3 * clean[:1]
    maps = guided_map(net, faint)
    changed = guided_map(net, faint + 1e-3 * images(1, seed=3))
    assert feature_distance(changed, maps, level) < 1e-3 * feature_distance(changed, maps)
