"""The splat against rolls, conservation laws and an independent sum over sub-pixels."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medfpl.noises.displace import splat


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(width: int, amplitude: float) -> Tensor:
    return amplitude * torch.sin(2 * torch.pi * torch.arange(width, dtype=torch.float64) / width + 0.4)


@given(shift=st.integers(-50, 50), width=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_whole_pixels_are_a_roll(shift: int, width: int) -> None:
    x = random(2, 1, 3, width)
    moved = splat(x, torch.full_like(x, float(shift)))
    torch.testing.assert_close(moved, x.roll(shift, -1), atol=1e-12, rtol=0)


@given(part=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_part_of_a_pixel_is_shared_linearly(part: float, seed: int) -> None:
    x = random(1, 1, 2, 15, seed=seed)
    expected = (1 - part) * x + part * x.roll(1, -1)
    torch.testing.assert_close(splat(x, torch.full_like(x, part)), expected, atol=1e-12, rtol=0)


@given(seed=st.integers(0, 999), scale=st.floats(0, 30))
@settings(max_examples=60, deadline=None)
def test_line_sums_are_kept_whatever_the_displacement(seed: int, scale: float) -> None:
    x = random(2, 1, 4, 33, seed=seed)
    y = splat(x, scale * (2 * random(2, 1, 4, 33, seed=seed + 1) - 1))
    torch.testing.assert_close(y.sum(-1), x.sum(-1), atol=1e-12, rtol=0)
    assert float(y.min()) > -1e-10  # pile-up and folding never make signal negative


def test_against_a_sum_over_sub_pixels() -> None:
    x, d, parts = random(1, 1, 1, 64), smooth(64, 9.0), 2000
    edges = np.arange(65) + np.concatenate([d[:1], (d[1:] + d[:-1]) / 2, d[-1:]])
    expected = np.zeros(64)
    for j in range(64):
        at = edges[j] + (np.arange(parts) + 0.5) / parts * (edges[j + 1] - edges[j])
        np.add.at(expected, np.floor(at).astype(int) % 64, float(x[0, 0, 0, j]) / parts)
    np.testing.assert_allclose(splat(x, d.expand_as(x))[0, 0, 0].numpy(), expected, atol=2e-3)


def test_stretching_a_flat_image_leaves_no_ripple() -> None:
    width, stretch = 200, 0.3
    d = stretch * (torch.arange(width, dtype=torch.float64) - width / 2)
    y = splat(torch.ones(1, 1, 1, width, dtype=torch.float64), d)
    inner = y[0, 0, 0, 80:120]  # beyond it what left on one side comes in on the other
    torch.testing.assert_close(inner, torch.full_like(inner, 1 / (1 + stretch)), atol=1e-12, rtol=0)


def test_a_blob_moves_by_the_displacement_of_its_centre() -> None:
    u = torch.arange(64, dtype=torch.float64)
    x = torch.exp(-((u - 30) ** 2) / 18).expand(1, 1, 1, 64)
    y = splat(x, 0.5 + 0.02 * (u - 30))
    assert abs(float((y * u).sum() / y.sum()) - 30.5) < 1e-6


def test_gradients() -> None:
    x, d = random(1, 1, 2, 12), smooth(12, 1.3).expand(1, 1, 2, 12).clone()
    assert torch.autograd.gradcheck(splat, (x.requires_grad_(), d.requires_grad_()))


def test_single_precision_stays_close_at_a_caustic() -> None:
    x, d = random(4, 1, 8, 256), smooth(256, 60.0)
    exact = splat(x, d.expand_as(x))
    torch.testing.assert_close(splat(x.float(), d.float().expand_as(x)).double(), exact, atol=2e-4, rtol=0)
