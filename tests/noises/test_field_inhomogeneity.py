"""Coil shading against a fit of its monomials, off-resonance against rolls and conservation."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_checks import MR, noisy, phantom
from torch import Tensor

from medfpl.noises import NOISES, corrupt
from medfpl.noises.kinds.field_inhomogeneity import NOISE


def field(x: Tensor, seed: int = 0, **given: Any) -> Tensor:
    return noisy("field-inhomogeneity", x, seed=seed, **given)


@given(seed=st.integers(0, 99), amplitude=st.floats(0.05, 1.5))
@settings(max_examples=20, deadline=None)
def test_log_gain_is_a_cubic_of_the_given_size(seed: int, amplitude: float) -> None:
    x = phantom(48, 37, dtype=torch.float64) + 0.3
    log_gain = (field(x, seed, amplitude=amplitude) / x).log()[0, 0]
    v = torch.linspace(-1, 1, 48, dtype=torch.float64)[:, None]
    u = torch.linspace(-1, 1, 37, dtype=torch.float64)
    terms = torch.stack([(v**i * u**j).flatten() for i in range(4) for j in range(4 - i)], 1)
    fit = terms @ torch.linalg.lstsq(terms, log_gain.flatten()[:, None]).solution
    assert float((fit[:, 0] - log_gain.flatten()).abs().max()) < 1e-5
    assert float(log_gain.abs().max()) == pytest.approx(amplitude)
    assert float(log_gain.mean()) == pytest.approx(0, abs=1e-9)


def test_shading_is_multiplicative() -> None:
    x = phantom(48, 40)
    y = field(x, amplitude=0.5)
    assert bool((y[x == 0] == 0).all())
    torch.testing.assert_close(field(3 * x, amplitude=0.5), 3 * y)
    gain = field(torch.ones_like(x), amplitude=0.5)
    torch.testing.assert_close(y / gain, x)
    assert torch.equal(field(x, amplitude=0.0), x)


def test_default_gain_lies_in_the_stated_range() -> None:
    gain = field(torch.ones(8, 1, 64, 64))
    assert float(gain.min()) >= 0.606
    assert float(gain.max()) <= 1.65


def test_slices_of_a_volume_share_their_field() -> None:
    x = torch.ones(2, 1, 32, 32)
    y, _ = corrupt(x, NOISE, seeds=[1, 2], scalar_seeds=[5, 5], contexts=[MR, MR])
    assert torch.equal(y[0], y[1])
    assert NOISES.get("field-inhomogeneity").per_volume


@given(seed=st.integers(0, 99), offset=st.floats(0, 1000))
@settings(max_examples=25, deadline=None)
def test_off_resonance_keeps_line_sums(seed: int, offset: float) -> None:
    x = phantom(33, 40, dtype=torch.float64)
    y = field(x, seed, mode="b0", offset=offset)
    torch.testing.assert_close(y.sum(-1), x.sum(-1), atol=1e-10, rtol=0)


def test_no_offset_is_the_image_and_bandwidth_undoes_offset() -> None:
    x = phantom(40, 48, dtype=torch.float64)
    torch.testing.assert_close(field(x, mode="b0", offset=0), x)
    one, other = field(x, mode="b0", offset=300, bandwidth=60), field(x, mode="b0", offset=600, bandwidth=120)
    torch.testing.assert_close(one, other)


def test_a_constant_offset_of_whole_pixels_is_a_roll(monkeypatch: pytest.MonkeyPatch) -> None:
    # polynomials have mean 0, so a constant map has to be put in their place
    monkeypatch.setattr(
        "medfpl.noises.kinds.field_inhomogeneity.polynomial_field", lambda coefficients, like: torch.ones_like(like)
    )
    x = phantom(40, 48, dtype=torch.float64)
    y = field(x, mode="b0", offset=150, bandwidth=50)
    torch.testing.assert_close(y, x.roll(3, -1), atol=1e-12, rtol=0)


def test_largest_displacement_is_offset_over_bandwidth() -> None:
    x = torch.zeros(1, 1, 64, 256, dtype=torch.float64)
    x[..., 40:216:8] = 1
    y = field(x, mode="b0", offset=400, bandwidth=50)
    column = torch.arange(256, dtype=torch.float64)
    moved = (((y - x).cumsum(-1)).abs().sum(-1) / x.sum(-1)).max()  # mean distance travelled in a line
    assert 0.5 < float(moved) <= 8
    assert float(((y * column).sum(-1) - (x * column).sum(-1)).abs().max() / x.sum(-1).max()) <= 8


def test_a_gradient_echo_decays() -> None:
    x = phantom(40, 48, dtype=torch.float64)
    spin, gradient = field(x, mode="b0"), field(x, mode="b0", echo_time=15, t2_prime=30)
    torch.testing.assert_close(gradient, spin * 0.6065306597126334)


def test_swapping_the_axes_moves_along_rows() -> None:
    x = phantom(40, 56, items=2, dtype=torch.float64)
    swapped = field(x.mT, mode="b0", phase_axis="columns")
    torch.testing.assert_close(swapped.mT, field(x, mode="b0"))
    torch.testing.assert_close(swapped.sum(-2), x.mT.sum(-2))
