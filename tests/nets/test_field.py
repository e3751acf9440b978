"""The network for coil shading: a smooth gain of no mean, the same at every size, nothing at first."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medfpl.nets.field import Field, FieldConfig, build_field
from medfpl.noises.polynomial import draw_coefficients, polynomial_field

CONFIG = FieldConfig(width=4, depth=2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int) -> Tensor:
    return 0.5 + torch.rand(*shape, generator=seeded(1))


def field(random: bool = False) -> Field:
    net = build_field(CONFIG, seeded(0))
    if random:
        nn.init.normal_(net.unet.out.weight, std=0.3, generator=seeded(2))
    return net.eval()


class Oracle(nn.Module):
    """Says the logarithm of the true gain, and an offset that no field has; the second time that nothing is left."""

    def __init__(self, log_gain: Tensor) -> None:
        super().__init__()
        self.log_gain, self.asked = log_gain, 0

    def forward(self, seen: Tensor) -> Tensor:
        self.asked += 1
        height, width = (round(64 * side / max(self.log_gain.shape)) for side in self.log_gain.shape[-2:])
        left = F.interpolate(self.log_gain, size=(height, width), mode="area")
        left = F.pad(left, (0, 64 - width, 0, 64 - height), value=9.0)  # beyond the image, where nothing counts
        return (left if self.asked == 1 else 0 * left) + 3


@pytest.mark.parametrize("shape", [(64, 64), (37, 150), (1, 1), (1, 90)])
def test_it_begins_by_finding_nothing_at_any_size(shape):
    noise = field()(rand(2, 1, *shape))
    assert noise.shape == (2, 1, *shape)
    assert not noise.any()


@pytest.mark.parametrize("shape", [(256, 256), (200, 256), (512, 320)])
def test_a_cubic_field_that_is_seen_is_undone(shape):
    x = rand(2, 1, *shape)
    log_gain = 0.5 * polynomial_field([draw_coefficients(seeded(k)) for k in range(2)], x)
    shaded = x * log_gain.exp()
    net = field()
    net.unet = Oracle(log_gain)
    left = (shaded - net(shaded) - x).square().mean().sqrt()
    assert left < 0.01 * (shaded - x).square().mean().sqrt()


def test_what_it_finds_is_a_smooth_gain_of_no_mean_however_rough_the_image():
    x = rand(2, 1, 128, 96)
    log_gain = -torch.log1p(-field(random=True)(x) / x)
    assert log_gain.std() > 0.01
    assert log_gain.mean((-2, -1)).abs().max() < 1e-4 * log_gain.abs().max()
    # The fourth differences of a cubic are zero.
    for axis in (-2, -1):
        assert log_gain.double().diff(n=4, dim=axis).abs().max() < 1e-3 * log_gain.abs().max()


def test_an_image_twice_as_large_has_the_same_field():
    x, net = rand(1, 1, 64, 64), field(random=True)
    large = F.interpolate(x, scale_factor=2)
    with torch.no_grad():
        gain, found = net(large) / large, net(x) / x
    torch.testing.assert_close(F.avg_pool2d(gain, 2), found, rtol=0, atol=0.01 * float(found.abs().max()))


def test_an_item_does_not_depend_on_its_batch():
    x, net = rand(3, 1, 64, 64), field(random=True)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-4, atol=1e-6)


def test_a_copy_is_of_means_and_its_cells_need_not_be_whole_pixels():
    from medfpl.nets.field import _shrinking

    assert torch.equal(_shrinking(torch.ones(8), torch.tensor(4.0), 2) @ torch.arange(8.0), torch.tensor([1.5, 5.5]))
    uneven = _shrinking(torch.ones(5), torch.tensor(2.5), 3)
    torch.testing.assert_close(uneven @ torch.arange(5.0), torch.tensor([0.8, 3.2, 0.0]))
    torch.testing.assert_close(uneven.sum(1), torch.tensor([1.0, 1.0, 0.0]))
