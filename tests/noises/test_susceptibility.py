"""The dipole field against symmetry, fall-off and the k-space dipole; the image against conservation."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_checks import MR, noisy, phantom
from torch import Tensor

from medfpl.noises import Context, corrupt
from medfpl.noises.kinds.susceptibility import NOISE, dipole_field

SPIN_ECHO = {"echo_time": 0.0}


def source(radius: float = 8.0, at: tuple[float, float] = (64, 64), **other: Any) -> dict[str, Any]:
    values = NOISE.at_strength(0.5, "dipole", MR)
    place = {"sources": 1, "at_phase": [at[0]], "at_readout": [at[1]], "radii": [radius]}
    return {"mode": "dipole", **values, **place, **other}


def offset(values: dict[str, Any], side: int = 129) -> Tensor:
    return dipole_field(torch.zeros(1, 1, side, side, dtype=torch.float64), [values])[0][0, 0]


def image(x: Tensor, values: dict[str, Any], context: Context = MR) -> Tensor:
    return NOISE.apply(x, [values] * len(x), [torch.Generator()] * len(x), [context] * len(x))


def test_field_is_antisymmetric_under_a_right_angle_and_falls_as_one_over_r_squared() -> None:
    values = source()
    field = offset(values)
    torch.testing.assert_close(torch.rot90(field), -field, atol=1e-9, rtol=0)
    surface = 0.5 * values["chi"] * 42.577 * 1.5
    for r in (8, 16, 32, 64):
        assert float(field[64 - r, 64]) == pytest.approx(surface * (8 / r) ** 2)
        assert float(field[64, 64 + r]) == pytest.approx(-surface * (8 / r) ** 2)
    assert float(field[64 - 20, 64 - 20]) == pytest.approx(0, abs=1e-9)


def test_air_in_tissue_at_1_5_tesla() -> None:
    field = offset(source(chi=9.4, field=1.5))
    assert float(field[64 - 8, 64]) == pytest.approx(300, rel=0.01)  # Hz; 3 px at 100 Hz/px


@given(factor=st.floats(-3, 3))
@settings(max_examples=15, deadline=None)
def test_field_is_linear_in_susceptibility_and_main_field(factor: float) -> None:
    field = offset(source(chi=10, field=2))
    torch.testing.assert_close(offset(source(chi=10 * factor, field=2)), factor * field)
    torch.testing.assert_close(offset(source(chi=10, field=2 * abs(factor))), abs(factor) * field)


def test_no_step_is_no_artifact_but_the_missing_signal() -> None:
    x = phantom(64, 64, dtype=torch.float64)
    values = source(at=(30, 20), chi=0)
    assert float(offset(values, 64).abs().max()) == 0
    _, _, tissue = dipole_field(x, [values])
    torch.testing.assert_close(image(x, values), x * tissue, atol=1e-12, rtol=0)
    assert float(image(x, source(radius=0, chi=0)).sub(x).abs().max()) < 1e-12


def test_field_agrees_with_the_k_space_dipole() -> None:
    # F^-1[(1/3 - k_b^2/k^2) F chi] (Salomir 2003) of a disc, on a grid so wide that its copies are far;
    # outside of a cylinder across the field that is chi/2 R^2/r^2 cos(2 phi)
    side, radius = 1024, 12
    at = np.arange(side) - side // 2
    chi = (at[:, None] ** 2 + at**2 <= radius**2).astype(float)
    ky, kx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)
    square = ky**2 + kx**2
    square[0, 0] = 1
    kernel = 1 / 3 - ky**2 / square
    kernel[0, 0] = 0
    relative = np.fft.ifft2(kernel * np.fft.fft2(chi)).real
    area = chi.sum() / (np.pi * radius**2)  # a pixelated disc is a little larger or smaller
    values = source(radius=radius * area**0.5, at=(64, 64), chi=1.0, field=1.0)
    expected = offset(values)[64 - 40 : 64 + 41, 64 - 40 : 64 + 41].numpy() / 42.577
    middle = relative[side // 2 - 40 : side // 2 + 41, side // 2 - 40 : side // 2 + 41]
    v, u = np.mgrid[-40:41, -40:41]
    outside = np.hypot(v, u) > radius + 3
    assert np.abs(middle - expected)[outside].max() < 0.01 * np.abs(expected).max()
    uniform = np.fft.ifft2(kernel * np.fft.fft2(np.ones_like(chi))).real
    assert np.abs(uniform).max() < 1e-12


def test_two_sources_add_their_fields_and_steepness_is_the_gradient() -> None:
    one, two = source(at=(40, 50)), source(radius=5.0, at=(90, 80))
    both = {**one, "sources": 2, "at_phase": [40, 90], "at_readout": [50, 80], "radii": [8.0, 5.0]}
    field, slope, tissue = dipole_field(torch.zeros(1, 1, 129, 129, dtype=torch.float64), [both])
    torch.testing.assert_close(field[0, 0], offset(one) + offset(two))
    rows, columns = torch.gradient(field[0, 0])
    numeric = torch.hypot(rows, columns)
    v, u = torch.meshgrid(torch.arange(129.0), torch.arange(129.0), indexing="ij")
    far = (torch.hypot(v - 40, u - 50) > 20) & (torch.hypot(v - 90, u - 80) > 15)
    far[[0, -1]], far[:, [0, -1]] = False, False
    torch.testing.assert_close(slope[0, 0][far], numeric[far], rtol=0.03, atol=0.3)
    assert int((~tissue).sum()) == pytest.approx(np.pi * (64 + 25), rel=0.1)


@given(seed=st.integers(0, 99), chi=st.floats(0, 100))
@settings(max_examples=25, deadline=None)
def test_without_loss_line_sums_are_kept(seed: int, chi: float) -> None:
    x = phantom(48, 64, dtype=torch.float64)
    y, records = corrupt(x, NOISE, seeds=[seed], given={"chi": chi, **SPIN_ECHO}, contexts=[MR])
    _, _, tissue = dipole_field(x, [records[0].values])
    torch.testing.assert_close(y.sum(-1), (x * tissue).sum(-1), atol=1e-10, rtol=0)


def test_twice_the_bandwidth_is_half_the_displacement() -> None:
    x = phantom(64, 64, dtype=torch.float64)
    wide = image(x, source(at=(32, 32), bandwidth=400.0, **SPIN_ECHO))
    torch.testing.assert_close(
        wide, image(x, source(at=(32, 32), chi=NOISE.at_strength(0.25, "dipole", MR)["chi"], **SPIN_ECHO))
    )
    for s, pixels in [(0.5, 6), (1, 12)]:
        values = source(**NOISE.at_strength(s, "dipole", MR) | {"sources": 1, "radius": 8.0})
        assert float(offset(values)[64 - 8, 64]) / values["bandwidth"] == pytest.approx(pixels)


def test_signal_is_lost_inside_and_where_the_field_is_steep() -> None:
    x = torch.ones(1, 1, 129, 129, dtype=torch.float64)
    spin = image(x, source(**SPIN_ECHO))
    short, long = image(x, source(echo_time=2.0)), image(x, source(echo_time=10.0))
    assert float(spin.sum()) > float(short.sum()) > float(long.sum())
    assert float(spin.max()) > 1.5  # pile-up
    # where two turns of phase cross the slice, 2 = slope thickness TE: nothing is left but side lobes
    thick = image(x, source(echo_time=2.0), Context("mr", pixel_mm=0.5))
    assert float(thick.sum()) < float(short.sum())


def test_places_scale_with_the_image_and_follow_the_phase_axis() -> None:
    def drawn(height: int, width: int, **given: Any) -> dict[str, Any]:
        x = phantom(height, width)
        return corrupt(x, NOISE, seeds=[3], given={"sources": 3, **given}, contexts=[MR])[1][0].values

    small, large = drawn(64, 96), drawn(128, 192)
    for key in ("at_phase", "at_readout", "radii"):
        assert large[key] == pytest.approx([2 * n for n in small[key]])
    assert all(0.3 * 64 <= v <= 0.7 * 64 for v in small["at_phase"])
    assert drawn(96, 64, phase_axis="columns")["at_phase"] == small["at_phase"]
    x = phantom(40, 56)
    swapped = noisy("susceptibility", x.mT, seed=4, phase_axis="columns")
    torch.testing.assert_close(swapped.mT, noisy("susceptibility", x, seed=4))


def test_items_with_one_and_three_sources_share_a_batch() -> None:
    x = phantom(48, 48, items=2)
    alone = [corrupt(x[i : i + 1], NOISE, seeds=[i], given={"sources": n}, contexts=[MR]) for i, n in enumerate((1, 3))]
    values = [r[0].values for _, r in alone]
    together = NOISE.apply(x, values, [torch.Generator()] * 2, [MR] * 2)
    for i, (y, _) in enumerate(alone):
        torch.testing.assert_close(together[i], y[0])


def test_gain_is_a_smooth_unit_variance_field_times_sigma() -> None:
    x = torch.ones(40, 1, 128, 128, dtype=torch.float64)
    gain = noisy("susceptibility", x, mode="gain", sigma=0.1, correlation=6) - 1
    assert float(gain.std()) == pytest.approx(0.1, rel=0.05)
    assert float(gain.mean()) == pytest.approx(0, abs=0.005)
    lagged = float((gain * gain.roll(6, -1)).mean() / gain.var())
    assert lagged == pytest.approx(np.exp(-0.5), abs=0.05)
    zero = torch.zeros(1, 1, 16, 16)
    assert torch.equal(noisy("susceptibility", zero, mode="gain"), zero)
