import pytest
import torch

from medfpl.nets.drunet import WHITE, DRUNet, DRUNetConfig, build_drunet, global_statistics, local_statistics

SMALL = DRUNetConfig(width=4, blocks=1)
BLIND = DRUNetConfig(width=4, blocks=1, blind=True)
SEEING = DRUNetConfig(width=4, blocks=1, blind=True, context=True)


def small(seed: int = 0, config: DRUNetConfig = SMALL) -> DRUNet:
    return build_drunet(config, torch.Generator().manual_seed(seed))


def rand(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def published_names() -> dict[str, tuple[int, ...]]:
    """The names and shapes of drunet_gray.pth, written out by the published layout."""
    nc, wanted = (64, 128, 256, 512), {"m_head.weight": (64, 2, 3, 3), "m_tail.weight": (1, 64, 3, 3)}

    def blocks(place: str, first: int, channels: int) -> None:
        for k in range(first, first + 4):
            for convolution in (0, 2):
                wanted[f"{place}.{k}.res.{convolution}.weight"] = (channels, channels, 3, 3)

    for level in range(3):
        blocks(f"m_down{level + 1}", 0, nc[level])
        wanted[f"m_down{level + 1}.4.weight"] = (nc[level + 1], nc[level], 2, 2)
        wanted[f"m_up{level + 1}.0.weight"] = (nc[level + 1], nc[level], 2, 2)
        blocks(f"m_up{level + 1}", 1, nc[level])
    blocks("m_body", 0, 512)
    return wanted


def test_the_default_is_the_published_network():
    with torch.device("meta"):
        net = DRUNet(DRUNetConfig())
    assert {k: tuple(v.shape) for k, v in net.state_dict().items()} == published_names()
    assert sum(p.numel() for p in net.parameters()) == 32_638_656  # 32.64 M
    assert (DRUNetConfig().reach, DRUNetConfig().multiple) == (192, 8)


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (8, 129), (1, 1)])
def test_any_size_comes_back_as_one_channel(shape):
    assert small()(rand(2, 2, *shape)).shape == (2, 1, *shape)


def test_sides_are_continued_by_their_edge_values():
    x = rand(1, 2, 13, 17)
    padded = torch.nn.functional.pad(x, (0, 7, 0, 3), mode="replicate")
    assert torch.equal(small()(x), small()(padded)[..., :13, :17])


def test_it_computes_the_published_sum_of_skips():
    net, x = small(), rand(1, 2, 16, 24)
    level1 = net.m_head(x)
    level2 = net.m_down1(level1)
    level3 = net.m_down2(level2)
    level4 = net.m_down3(level3)
    y = net.m_up3(net.m_body(level4) + level4)
    y = net.m_up1(net.m_up2(y + level3) + level2)
    assert torch.equal(net(x), net.m_tail(y + level1))


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_without_bias_a_scaled_input_has_a_scaled_output(scale):
    net, x = small().double(), rand(1, 2, 24, 24, dtype=torch.double)
    torch.testing.assert_close(net(scale * x), scale * net(x), rtol=1e-12, atol=0)


@pytest.mark.parametrize("blocks", [1, 2])
def test_no_pixel_reaches_further_than_reach(blocks):
    config = DRUNetConfig(4, blocks)
    net = small(3, config).double()
    for centre in range(config.reach + 8, config.reach + 16):  # each place on the grid of the strides
        x = rand(1, 2, 2 * centre, 2 * centre, dtype=torch.double).requires_grad_()
        net(x)[0, 0, centre, centre].backward()
        assert x.grad is not None
        touched = x.grad[0].abs().sum(0).nonzero()
        assert (touched - centre).abs().max() <= config.reach
        assert (touched - centre).abs().max() > config.reach / 3  # the bound is no idle one


def test_initialisation_comes_from_the_generator_and_has_the_scale_of_its_input():
    a, b, c = small(1), small(1), small(2)
    assert torch.equal(a.m_head.weight, b.m_head.weight)
    assert not torch.equal(a.m_head.weight, c.m_head.weight)
    x = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(5))
    assert 0.3 < float(small(1, DRUNetConfig(16, 4))(x).detach().std()) < 10


def blind_copy(prior: DRUNet) -> DRUNet:
    net = small(config=BLIND)
    weights = prior.state_dict()
    head = torch.zeros(4, 3, 3, 3)
    head[:, :1] = weights["m_head.weight"][:, :1]
    net.load_state_dict({**weights, "m_head.weight": head})
    return net


@pytest.mark.parametrize("shape", [(16, 24), (13, 17)])
def test_a_blind_one_gives_the_noise_that_a_prior_told_of_none_removes(shape):
    prior, x = small(), rand(2, 1, *shape)
    told = torch.cat([x, torch.zeros_like(x)], 1)
    assert torch.allclose(x - blind_copy(prior)(x), prior(told), atol=1e-6)


def test_no_pixel_reaches_further_in_a_blind_one_either():
    net, reach = small(config=BLIND).double(), BLIND.reach
    centre = reach + 8
    x = rand(1, 1, 2 * centre, 2 * centre, dtype=torch.double).requires_grad_()
    net(x)[0, 0, centre, centre].backward()
    assert x.grad is not None
    assert reach / 3 < (x.grad[0, 0].nonzero() - centre).abs().max() <= reach


@pytest.mark.parametrize("config", [BLIND, SEEING])
def test_a_blind_one_of_a_scaled_image_gives_the_scaled_noise(config):
    net, x = small(config=config).double(), rand(1, 1, 16, 24, dtype=torch.float64)
    assert torch.allclose(net(7 * x), 7 * net(x))


def test_a_blind_one_is_told_the_local_mean_and_noise():
    x = rand(1, 1, 40, 50) + 3
    mean, noise = local_statistics(x)[0]
    assert mean[20, 25] == pytest.approx(float(x[0, 0, 13:28, 18:33].mean()), rel=1e-5)
    assert mean[0, 0] == pytest.approx(float(x[0, 0, :8, :8].mean()), rel=1e-5)
    rest = x - torch.nn.functional.conv2d(x, torch.full((1, 1, 3, 3), 1 / 9), padding=1)
    assert noise[20, 25] == pytest.approx(float(rest[0, 0, 13:28, 18:33].abs().mean()), rel=1e-4)
    assert float(local_statistics(torch.full((1, 1, 9, 9), 2.0))[0, 1].abs().max()) < 1e-6


def test_context_is_the_level_of_the_noise_and_what_columns_and_rows_share():
    noise = 0.2 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    level, columns, rows = global_statistics(noise, local_statistics(noise))[0]
    assert float(level[0, 0]) == pytest.approx(0.2 * WHITE, rel=0.02)
    assert (level == level[0, 0]).all()
    assert float(columns.abs().max()) < 0.06
    stripes = torch.zeros(1, 1, 64, 96)
    stripes[..., 40] = 1.0
    level, columns, rows = global_statistics(stripes, local_statistics(stripes))[0]
    assert float(columns[5, 40]) == pytest.approx(1 - 1 / 15, rel=1e-4)
    assert float(rows[:, 60].abs().max()) < 0.01
    step = torch.zeros(1, 1, 256, 256)
    step[..., 128:] = 1.0
    assert float(global_statistics(step, local_statistics(step))[0, 0, 0, 0]) < 0.01, "an edge is no noise"


def test_context_begins_as_nothing_and_then_joins_what_is_far_apart():
    net, x = small(config=SEEING), rand(1, 1, 48, 160)
    far = x.clone()
    far[..., :8, 150:] += 0.5  # beyond the local part's reach of the other end

    def at_the_other_end() -> float:
        with torch.no_grad():
            return float(
                (net.context(far[:, :1].expand(-1, 32, -1, -1)) - net.context(x.expand(-1, 32, -1, -1)))[..., 0]
                .abs()
                .max()
            )

    assert at_the_other_end() == 0
    torch.nn.init.normal_(net.context.res[2].weight, generator=torch.Generator().manual_seed(0))
    assert at_the_other_end() > 0
