"""Phase ramps and filters against rolls, closed forms and NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfpl.noises.fourier import mirror, shift_lines, smooth_noise, with_phase
from medfpl.noises.polynomial import TERMS, draw_coefficients, polynomial_field


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(shift=st.integers(-40, 40), height=st.integers(2, 21), width=st.integers(2, 21), dim=st.sampled_from([-2, -1]))
@settings(max_examples=40, deadline=None)
def test_whole_shifts_are_rolls(shift: int, height: int, width: int, dim: int) -> None:
    x = noise(2, 1, height, width)
    moved = shift_lines(x, torch.full((2, 1, 1, 1), float(shift), dtype=x.dtype), dim)
    torch.testing.assert_close(moved, x.roll(shift, dim), atol=1e-10, rtol=0)


def test_part_shifts_move_a_wave_exactly_and_add_up() -> None:
    u = torch.arange(64, dtype=torch.float64)
    x = torch.sin(2 * torch.pi * 3 * u / 64).expand(1, 1, 5, 64)
    d = torch.full((1, 1, 1, 1), 0.37, dtype=torch.float64)
    expected = torch.sin(2 * torch.pi * 3 * (u - 0.37) / 64).expand_as(x)
    torch.testing.assert_close(shift_lines(x, d, -1), expected, atol=1e-12, rtol=0)
    odd = noise(1, 1, 9, 33)
    torch.testing.assert_close(shift_lines(shift_lines(odd, d, -1), 1 - d, -1), odd.roll(1, -1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("margin", [0, 3, 25])
def test_mirror_is_numpys_symmetric_padding(margin: int) -> None:
    x = noise(2, 1, 7, 10)
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (margin, margin), (margin, margin)], mode="symmetric")
    np.testing.assert_array_equal(mirror(x, margin).numpy(), expected)


@pytest.mark.parametrize("shape", [(128, 128), (127, 96)])
def test_smooth_noise_has_unit_variance_and_a_gaussian_autocorrelation(shape: tuple[int, int]) -> None:
    length = 4.0
    field = smooth_noise(noise(200, 1, *shape), torch.full((200, 1, 1, 1), length, dtype=torch.float64))
    # about (127 * 96) / (4 pi length^2) independent patches an image, 200 images: the variance is good to 2 %
    assert field.var().item() == pytest.approx(1, abs=0.05)
    assert field.mean().item() == pytest.approx(0, abs=0.05)
    for lag in (2, 4, 8):
        measured = (field * field.roll(lag, -1)).mean() / field.var()
        assert measured.item() == pytest.approx(np.exp(-(lag**2) / (2 * length**2)), abs=0.03)


def test_polynomials_are_centred_scaled_and_match_numpy() -> None:
    coefficients = [draw_coefficients(torch.Generator().manual_seed(s)) for s in (1, 2)]
    field = polynomial_field(coefficients, noise(2, 1, 31, 20))
    table = np.zeros((4, 4))
    table[[0, 0, 0, 0, 1, 1, 1, 2, 2, 3], [0, 1, 2, 3, 0, 1, 2, 0, 1, 0]] = coefficients[1]
    expected = np.polynomial.polynomial.polygrid2d(np.linspace(-1, 1, 31), np.linspace(-1, 1, 20), table)
    expected -= expected.mean()
    np.testing.assert_allclose(field[1, 0].numpy(), expected / np.abs(expected).max(), atol=1e-12)
    assert len(coefficients[0]) == TERMS


def test_object_phase_keeps_the_magnitude_and_reaches_its_amplitude() -> None:
    x = noise(2, 1, 32, 24).abs()
    coefficients = draw_coefficients(torch.Generator().manual_seed(0))
    values = [{"phase": p, "phase_map": coefficients} for p in (0.0, 2.5)]
    z = with_phase(x, values)
    torch.testing.assert_close(z.abs(), x)
    assert z[0].imag.abs().max().item() == 0
    assert z[1].angle().abs().max().item() == pytest.approx(2.5)
    assert with_phase(x, values[:1] * 2) is x
