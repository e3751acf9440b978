"""The shading network: smooth gains and offsets, found on a small copy, nothing wrong at first."""

import pytest
import torch

from medfpl.nets.shading import Shading, ShadingConfig, build_shading

CONFIG = ShadingConfig(width=4, depth=2)


def shading(gain: float = 0.0, offset: float = 0.0) -> Shading:
    """Return a network that always finds this gain and offset."""
    net = build_shading(CONFIG, torch.Generator().manual_seed(0))
    net.unet.out.bias.data = torch.tensor([gain, offset])
    return net.eval()


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (1, 1)])
def test_it_begins_by_finding_nothing_wrong_at_any_size(shape):
    noise = shading()(rand(2, 1, *shape))
    assert noise.shape == (2, 1, *shape)
    assert not noise.any()


def test_what_is_wrong_is_a_gain_and_an_offset():
    x = rand(2, 1, 30, 41)
    torch.testing.assert_close(shading(0.25, -0.1)(x), 0.25 * x - 0.1)


def test_what_it_finds_is_smooth_however_rough_the_image():
    net = shading()
    torch.nn.init.normal_(net.unet.out.weight[1:], generator=torch.Generator().manual_seed(2))  # the offset alone
    offset = net(rand(1, 1, 64, 64))[0, 0]
    span = offset.max() - offset.min()
    assert span > 0
    for axis in (0, 1):  # between neighbours on the small copy it rises over four pixels
        assert offset.diff(dim=axis).abs().max() <= span / CONFIG.factor + 1e-6


def test_no_pixel_reaches_further_than_reach():
    net = shading().double()
    torch.nn.init.normal_(net.unet.out.weight, generator=torch.Generator().manual_seed(2))
    centre = CONFIG.reach + 20
    x = rand(1, 1, 2 * centre, 2 * centre).double().requires_grad_()
    net(x)[0, 0, centre, centre].backward()
    touched = (x.grad[0, 0].nonzero() - centre).abs().max()
    assert CONFIG.reach / 3 < touched <= CONFIG.reach
