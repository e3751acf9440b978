"""The network for folded images: where the window is, what may have been folded, and a sum that stays as measured."""

import pytest
import torch
from torch import Tensor, nn

from medfpl.nets.unfold import Unfold, UnfoldConfig, abruptness, build_unfold, window
from medfpl.noises import NOISES, corrupt
from medfpl.noises.base import Context
from medfpl.noises.kinds.wrap_around import fold

CONFIG = UnfoldConfig(width=4, depth=2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def anatomy(height: int = 64, width: int = 64) -> Tensor:
    """Two images: an object in air, and one that fills its rows but for three at either end."""
    x = torch.zeros(2, 1, height, width)
    for item, rows, columns in ((x[0], slice(6, 60), slice(5, 60)), (x[1], slice(3, height - 3), slice(0, width))):
        part = item[:, rows, columns]
        part += 0.5 + torch.rand(part.shape, generator=seeded(1))
    return x


def folded(x: Tensor, strength: float) -> Tensor:
    seeds, contexts = list(range(len(x))), [Context("mr", 0, 1, 1)] * len(x)
    return corrupt(x, NOISES.get("wrap-around"), seeds=seeds, strength=strength, contexts=contexts)[0]


def unfold(random: bool = False) -> Unfold:
    net = build_unfold(CONFIG, seeded(0))
    if random:
        nn.init.normal_(net.unet.out.weight, generator=seeded(2))
    return net.eval()


class Oracle(nn.Module):
    """Says outside of the window what was there, in the units in which the network sees the image."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.truth = 2 * x / y.mean((1, 2, 3), keepdim=True)

    def forward(self, seen: Tensor) -> Tensor:
        return torch.where(seen[:, 2:3] > 0, 0, self.truth)


def test_the_window_is_what_is_not_empty():
    x = anatomy()
    assert [v.tolist() for v in window(x)] == [[6, 3], [54, 58]]
    assert [v.tolist() for v in window(x + 0.001)] == [[6, 3], [54, 58]]  # what is left of noise is no object
    assert [v.tolist() for v in window(torch.zeros(1, 1, 9, 9))] == [[0], [9]]


def test_a_cut_is_abrupt_and_an_object_ends_softly():
    ball = (1 - torch.linspace(-1.5, 1.5, 64).square()[:, None] - torch.linspace(-1.5, 1.5, 64).square()).clamp_min(0)
    ball = ball[None, None]
    assert abruptness(ball) < 0.3 < 0.7 < abruptness(folded(ball, 0.5))
    assert abruptness(torch.ones(1, 1, 8, 8)) == 0  # nothing is empty


def test_an_image_that_ends_softly_is_left_alone_and_costs_no_network():
    ball = (1 - torch.linspace(-1.5, 1.5, 64).square()[:, None] - torch.linspace(-1.5, 1.5, 64).square()).clamp_min(0)
    net, seen = unfold(random=True), []
    net.unet.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    found = net(torch.cat([ball[None, None], folded(ball[None, None], 0.5)]))
    assert not found[0].any()
    assert found[1].any()
    assert seen == [1]
    assert not net(ball[None, None]).any()
    assert seen == [1]


def test_the_window_is_found_where_a_denoiser_has_blurred_its_ends():
    y = folded(anatomy(), 0.5)
    kernel = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).view(1, 1, 5, 1)
    blurred = torch.nn.functional.conv2d(y, kernel, padding=(2, 0))
    assert blurred[0, 0, int(window(y)[0][0]) - 2].mean() > 0.02 * blurred[0, 0].mean(-1).max()
    for found, true in zip(window(blurred), window(y), strict=True):
        assert torch.equal(found, true)


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("training", [False, True])
def test_an_image_whose_other_part_is_known_is_unfolded_exactly(strength, training):
    x = anatomy()
    y = folded(x, strength)
    assert (y - x).abs().max() > 0.5
    net = unfold().train(training)
    net.unet = Oracle(x, y)
    torch.testing.assert_close(y - net(y), x, rtol=0, atol=2e-6)
    torch.testing.assert_close(y.mT - net(y.mT), x.mT, rtol=0, atol=2e-6)  # along columns as along rows


def test_images_that_are_not_square_are_unfolded_along_either_axis():
    x = anatomy(64, 50)
    y = folded(x, 0.5)
    net = unfold()
    net.unet = Oracle(x[:1], y[:1])
    torch.testing.assert_close(y[:1] - net(y[:1]), x[:1], rtol=0, atol=2e-6)
    torch.testing.assert_close(y[:1].mT - net(y[:1].mT), x[:1].mT, rtol=0, atol=2e-6)


def test_whatever_it_says_the_image_folds_to_what_was_measured():
    y = folded(anatomy(), 0.5)
    restored = y - unfold(random=True)(y)
    assert (restored - y).abs().max() > 0.1
    torch.testing.assert_close(fold(restored, *window(y)), y, rtol=0, atol=1e-5)
    assert restored.min() >= -1e-6


@pytest.mark.parametrize("shape", [(32, 32), (37, 50), (1, 1), (1, 30)])
def test_where_nothing_is_empty_nothing_was_folded(shape):
    x = 0.5 + torch.rand(2, 1, *shape, generator=seeded(3))
    assert not unfold(random=True)(x).any()


def test_it_begins_by_moving_nothing():
    assert not unfold()(folded(anatomy(), 0.5)).any()


def test_an_item_does_not_depend_on_its_batch_nor_on_the_brightness():
    y, net = folded(anatomy(), 0.5), unfold(random=True)
    torch.testing.assert_close(net(y)[1:], net(y[1:]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(9 * y), 9 * net(y), rtol=1e-4, atol=1e-4)
