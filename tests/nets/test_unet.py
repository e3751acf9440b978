import pytest
import torch

from medfpl.nets.unet import UNet, UNetConfig, build_unet


def small(**changes: object) -> UNetConfig:
    return UNetConfig(**{"width": 4, "depth": 3, "norm": "none", **changes})  # type: ignore[arg-type]


def test_the_default_is_the_papers_network():
    with torch.device("meta"):
        net = UNet(UNetConfig())
    assert sum(p.numel() for p in net.parameters()) == 17_261_825  # 17.26 M


def test_channels_are_those_of_the_paper():
    assert UNetConfig().channels == [64, 128, 256, 512, 512]


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (8, 129), (1, 1)])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_any_size_comes_back_as_it_went_in(shape, unshuffle):
    net = build_unet(small(unshuffle=unshuffle), torch.Generator().manual_seed(0))
    assert net(torch.rand(2, 1, *shape)).shape == (2, 1, *shape)


def test_a_new_network_predicts_no_noise():
    net = build_unet(small(), torch.Generator().manual_seed(0))
    assert torch.equal(net(torch.rand(1, 1, 32, 32)), torch.zeros(1, 1, 32, 32))


def test_initialisation_comes_from_the_generator():
    a, b, c = (build_unet(small(), torch.Generator().manual_seed(s)).stem[0].weight for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("config", [small(), small(unshuffle=2), small(depth=2)])
def test_no_pixel_reaches_further_than_reach(config):
    net = build_unet(config, torch.Generator().manual_seed(3)).double()
    torch.nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(4))
    centre = config.reach + 2 * config.multiple
    x = torch.rand(1, 1, 2 * centre, 2 * centre, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    x.requires_grad_()
    net(x)[0, 0, centre, centre].backward()
    touched = x.grad[0, 0].nonzero()
    assert (touched - centre).abs().max() <= config.reach
    assert (touched - centre).abs().max() > config.reach / 3  # the bound is no idle one


def test_fewer_skips_leave_out_the_top_ones():
    full, open_top = UNet(small()), UNet(small(skips=1))
    assert full.skipped == [True, True, True]
    assert open_top.skipped == [True, False, False]
    assert open_top(torch.rand(1, 1, 16, 16)).shape == (1, 1, 16, 16)


def test_each_relu_is_a_module_of_its_own_and_not_in_place():
    relus = [m for m in UNet(small()).modules() if isinstance(m, torch.nn.ReLU)]
    assert len(relus) == 2 * (1 + 3 + 3)
    assert len(set(map(id, relus))) == len(relus)
    assert not any(m.inplace for m in relus)


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_outputs_are_channels_of_the_same_size(unshuffle):
    net = build_unet(UNetConfig(width=4, depth=2, unshuffle=unshuffle, outputs=3), torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(1))
    assert net(torch.rand(2, 1, 33, 21)).shape == (2, 3, 33, 21)
