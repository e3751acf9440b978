import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from saliency_tools import network
from torch import nn

from medfpl.errors import MedfplError
from medfpl.explain.guided import Rules, frozen
from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.nets.weights import save_net
from medfpl.saliency.maps import HIGH, LOW, explain, explain_pair, load_explainer


def pair(shape: tuple[int, int] = (61, 47), items: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.rand(items, 1, *shape, generator=generator)
    return noisy, noisy + 0.1 * torch.randn(items, 1, *shape, generator=generator)


class Energy(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.net(x).square().sum((1, 2, 3))


def captum_map(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    from captum.attr import GuidedBackprop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        return GuidedBackprop(Energy(net)).attribute(x.clone())[:, 0]


def test_maps_equal_captums_on_the_network_that_was_not_folded() -> None:
    net = network()
    noisy, denoised = pair()
    maps = explain_pair(frozen(net), noisy, denoised)
    for ours, image in ((maps.before, noisy), (maps.after, denoised)):
        theirs = captum_map(net, image)
        assert np.abs(ours - theirs.numpy()).max() <= 1e-5 * theirs.abs().max()
        assert np.abs(ours).max() > 0


def test_maps_of_the_shipped_network_equal_captums() -> None:
    from medfpl.nets.weights import find_model, load_net

    noisy, denoised = pair((64, 80), 1)
    shipped = load_explainer()
    maps = explain_pair(shipped.net, noisy, denoised, shipped.rules)
    if shipped.rules == Rules():
        theirs = captum_map(load_net(find_model(None, role="restoration")), denoised)
        assert np.abs(maps.after - theirs.numpy()).max() <= 1e-5 * theirs.abs().max()
    assert shipped.model.card.role == "restoration"
    assert np.abs(maps.before).max() > 0


def test_difference_and_distance() -> None:
    noisy, denoised = pair()
    maps = explain_pair(frozen(network()), noisy, denoised)
    np.testing.assert_array_equal(maps.difference, maps.after - maps.before)
    expected = [np.linalg.norm(d) / np.linalg.norm(b) for d, b in zip(maps.difference, maps.before, strict=True)]
    np.testing.assert_allclose(maps.distance, expected, rtol=1e-5)
    assert maps.before.shape == (2, 61, 47)
    assert maps.before.dtype == np.float32


def test_nothing_changed_is_no_distance() -> None:
    noisy, _ = pair()
    maps = explain_pair(frozen(network()), noisy, noisy.clone())
    assert not maps.difference.any()
    assert not maps.distance.any()


def test_an_item_does_not_depend_on_its_batch() -> None:
    net, (noisy, denoised) = frozen(network()), pair()
    whole = explain_pair(net, noisy, denoised)
    for i in range(2):
        alone = explain_pair(net, noisy[i : i + 1], denoised[i : i + 1])
        np.testing.assert_array_equal(alone.before[0], whole.before[i])
        assert alone.distance[0] == whole.distance[i]


@pytest.mark.parametrize("shape", [(150, 210), (133, 97)])
def test_tiles_give_the_map_of_the_whole(shape: tuple[int, int]) -> None:
    net = frozen(network(depth=2))
    x = pair(shape, 1)[0]
    whole = explain(net, x)
    tiled = explain(net, x, whole_pixels=1, tile=32)
    assert (whole - tiled).abs().max() <= 1e-5 * whole.abs().max()
    # The halo is needed: half of it does not reach.
    from functools import partial

    from medfpl.explain.guided import guided_map
    from medfpl.tiles import run_tiled

    short = run_tiled(partial(guided_map, net), x, halo=net.config.reach // 4, multiple=4, max_pixels=1, size=32)
    assert (whole - short).abs().max() > 1e-3 * whole.abs().max()


def test_the_network_sees_the_denoisers_range() -> None:
    net = frozen(network())
    noisy, _ = pair(items=1)
    wild = noisy.clone()
    wild[..., 3, 3], wild[..., 9, 9] = 50, -50
    tame = wild.clamp(LOW, HIGH)
    np.testing.assert_array_equal(explain_pair(net, wild, wild).before, explain_pair(net, tame, tame).before)


@pytest.mark.parametrize(("outputs", "scalar"), [(1, "energy"), (4, "evidence")])
def test_a_network_that_finds_features_is_asked_for_evidence(outputs: int, scalar: str, tmp_path: Path) -> None:
    net = build_unet(UNetConfig(width=4, depth=2, outputs=outputs), torch.Generator().manual_seed(0))
    save_net(net, tmp_path, {"name": "explained", "role": "restoration", "summary": ""})
    rules = load_explainer(str(tmp_path)).rules
    assert (rules.scalar, rules.layer) == (scalar, "")


def test_a_denoiser_is_no_explained_network() -> None:
    with pytest.raises(MedfplError, match="restoration"):
        load_explainer("medfpl-base")
