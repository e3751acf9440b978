import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.tiles import run_tiled, tiles


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(8, 64), st.integers(0, 40), st.sampled_from([1, 4, 8]))
def test_cores_partition_the_image_and_lie_within_their_outer(height, width, size, halo, multiple):
    hits = torch.zeros(height, width, dtype=torch.int)
    for tile in tiles(height, width, size=size, halo=halo, multiple=multiple):
        top, bottom, left, right = tile.core
        hits[top:bottom, left:right] += 1
        t, b, lft, r = tile.outer
        assert t % multiple == 0
        assert lft % multiple == 0
        assert t <= max(0, top - halo)
        assert b >= min(height, bottom + halo)
        assert lft <= max(0, left - halo)
        assert r >= min(width, right + halo)
    assert bool((hits == 1).all())


def test_tiled_equals_whole():
    config = UNetConfig(width=4, depth=3, unshuffle=2, norm="none")
    net = build_unet(config, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(1))
    x = torch.rand(2, 1, 301, 411, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        whole = net(x)
        tiled = run_tiled(net, x, halo=config.reach, multiple=config.multiple, max_pixels=1, size=64)
    assert (tiled - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_tiles_that_differ_fade_into_each_other_and_equal_ones_leave_no_trace():
    x = torch.rand(1, 1, 90, 130, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = run_tiled(lambda part: part, x, halo=12, multiple=4, max_pixels=1, size=32, fade=8)
    assert torch.allclose(same, x, atol=1e-12)
    levels = iter(range(100))
    steps = run_tiled(lambda part: part * 0 + next(levels), x, halo=12, multiple=4, max_pixels=1, size=32, fade=8)
    across = steps[0, 0, 4]  # a row inside the first row of tiles: levels 0, 1, 2, ... from left to right
    assert across[0] == 0
    assert across[48] == 1
    assert across.diff().max() <= 1 / 16 + 1e-12


def test_a_small_image_is_one_pass():
    shapes = []
    run_tiled(lambda x: shapes.append(x.shape) or x, torch.zeros(1, 1, 20, 30), halo=5, max_pixels=600, size=8)
    assert shapes == [(1, 1, 20, 30)]
