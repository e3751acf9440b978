"""Structured noise: every pattern against the formula it claims."""

import numpy as np
import pytest
import torch
from noise_checks import CT, MR, check_moments, flat, noisy, phantom
from scipy.ndimage import map_coordinates

from medfpl.noises import NOISES, Context, corrupt, ct
from medfpl.noises.kinds.structured import RADII_PER_PX, ring_profile


@pytest.mark.parametrize(("angle", "axis"), [(0.0, 1), (90.0, 0)])
def test_pattern_is_one_sine(angle: float, axis: int) -> None:
    x = flat(0.5, 96, torch.float64)
    error = (noisy("structured", x, amplitude=0.2, period=12, angle=angle) - x)[0, 0]
    assert float(error.square().mean()) == pytest.approx(0.2**2 / 2, rel=1e-5)
    assert float(error.std(dim=1 - axis).max()) < 1e-9  # constant across the wave
    power = torch.fft.fft2(error).abs().square()
    bins = torch.zeros_like(power, dtype=torch.bool)
    index = [0, 0]
    for k in (8, 88):
        index[axis] = k
        bins[tuple(index)] = True
    assert float(power[bins].sum() / power.sum()) == pytest.approx(1, abs=1e-9)


def test_pattern_of_a_slanted_wave_has_its_period() -> None:
    x = flat(0.0, 240, torch.float64)
    error = noisy("structured", x, amplitude=1, period=20, angle=30)[0, 0]
    power = torch.fft.fft2(error).abs()
    peak = np.unravel_index(int(power.argmax()), power.shape)
    frequency = np.hypot(*[min(p, 240 - p) / 240 for p in peak])
    assert frequency == pytest.approx(1 / 20, abs=1 / 240)


def test_phases_are_uniform() -> None:
    noise = NOISES.get("structured")
    x = flat(0.5, 16).expand(400, -1, -1, -1)
    _, records = corrupt(x, noise, seeds=range(400))
    phases = np.array([r.values["phase"] for r in records]) / (2 * np.pi)
    assert ((phases >= 0) & (phases < 1)).all()
    assert abs(phases.mean() - 0.5) < 5 / np.sqrt(12 * 400)


def test_fixed_pattern_is_rows_plus_columns() -> None:
    x = flat(0.5, 400, torch.float64)
    error = (noisy("structured", x, mode="fixed-pattern", sigma_rows=0.1, sigma_columns=0.04) - x)[0, 0]
    assert torch.linalg.matrix_rank(error, rtol=1e-6) == 2
    residual = error - error.mean(1, keepdim=True) - error.mean(0) + error.mean()
    assert float(residual.abs().max()) < 1e-12


def test_fixed_pattern_has_its_variances() -> None:
    x = torch.zeros(400, 1, 300, 8)
    error = noisy("structured", x, mode="fixed-pattern", sigma_rows=0.1, sigma_columns=0.04)[:, 0]
    rows = error.mean(-1).double().flatten().numpy()
    check_moments(rows - np.repeat(error.mean((-2, -1)).numpy(), 300), 0, 0.01 * (1 - 1 / 300))
    assert rows.var() == pytest.approx(0.1**2 + 0.04**2 / 8, rel=0.03)
    only = noisy("structured", flat(0.5, 64), mode="fixed-pattern", sigma_rows=0.1, sigma_columns=0.0)
    assert float(only.std(dim=-1).max()) < 1e-6


def test_fixed_pattern_gain_multiplies() -> None:
    x = phantom(64, 64)
    gained = noisy("structured", x, mode="fixed-pattern", sigma_rows=0, sigma_columns=0, sigma_gain=0.1)
    assert bool((gained[x == 0] == 0).all())
    ratio = (gained / x)[x > 0]
    assert 0.05 < float(ratio.std()) < 0.3


def test_rings_are_round_and_linear() -> None:
    """About the isocentre the error depends on the radius alone."""
    x = flat(0.5, 201)
    error = (noisy("structured", x, mode="ring", context=CT, sigma=0.01, share=1.0) - x)[0, 0].double().numpy()
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radii = np.arange(8, 95, 1.0)
    rows, columns = 100 + radii[:, None] * np.sin(angles), 100 + radii[:, None] * np.cos(angles)
    # on whole pixels of the axes no interpolation is in the way
    axes = np.stack([error[100, 100 + 8 : 195], error[100, 92:5:-1], error[108:195, 100], error[92:5:-1, 100]])
    assert axes.std(0).mean() < 0.001 * axes.mean(0).std()
    polar = map_coordinates(error, [rows, columns], order=3)
    assert polar.mean(1).std() > 0
    assert np.median(polar.std(1)) < 0.2 * polar.mean(1).std()  # what a cubic spline misses at one px
    double = (noisy("structured", x, mode="ring", context=CT, sigma=0.02, share=1.0) - x)[0, 0].double().numpy()
    np.testing.assert_allclose(double, 2 * error, atol=1e-6)


def test_ring_profile_is_the_back_projection_of_an_equal_error_in_all_views() -> None:
    """Smooth channel errors, so that the interpolation of both ways agrees; circular symmetry needs a full turn."""
    shape = (101, 101)
    count = ct.bins(shape)
    s = torch.arange(count, dtype=torch.float64) - count // 2
    error = (torch.exp(-(((s - 20) / 3) ** 2)) - 0.5 * torch.exp(-(((s + 33) / 4) ** 2)))[None]
    filtered = ct.ramp_filter(error)
    views = 720
    angles = [2 * np.pi * k / views for k in range(views)]
    image = ct.back_project(filtered[:, None].expand(-1, views, -1), angles, shape)[0, 0]
    profile = ring_profile(filtered)[0]
    along_row = image[50, 50:]
    torch.testing.assert_close(along_row, profile[::RADII_PER_PX][:51], rtol=0, atol=2e-3 * float(profile.abs().max()))


def test_rings_are_sparse_where_asked() -> None:
    x = flat(0.5, 128)
    assert torch.equal(noisy("structured", x, mode="ring", context=CT, share=0.0), x)
    few, all_of_them = ((noisy("structured", x, mode="ring", context=CT, share=s) - x).std() for s in (0.1, 1.0))
    assert float(few / all_of_them) == pytest.approx(0.1**0.5, rel=0.4)


def test_herringbone_is_a_spike_in_k_space() -> None:
    x = phantom(48, 60, dtype=torch.float64)
    y, (record,) = corrupt(x, NOISES.get("structured"), seeds=[4], given={"mode": "herringbone", "ratio": 0.3})
    k_space = torch.fft.fft2(x, norm="ortho")
    spike = 0.3 * k_space.abs().max() * torch.exp(1j * torch.tensor(record.values["phase"], dtype=torch.float64))
    k_space[..., record.values["cycles_rows"], record.values["cycles_columns"]] += spike
    torch.testing.assert_close(y, torch.fft.ifft2(k_space, norm="ortho").abs(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (255, 192)])
def test_herringbone_spikes_stay_off_the_centre_and_their_own_twins(size: tuple[int, int]) -> None:
    noise = NOISES.get("structured")
    for seed in range(60):
        _, (record,) = corrupt(torch.rand(1, 1, *size), noise, seeds=[seed], given={"mode": "herringbone"})
        twice = [2 * record.values[k] % n for k, n in zip(("cycles_rows", "cycles_columns"), size, strict=True)]
        assert (record.values["cycles_rows"], record.values["cycles_columns"]) != (0, 0)
        assert size == (2, 2) or any(twice)


def test_surrogates_are_named() -> None:
    noise, x = NOISES.get("structured"), phantom(32, 32)
    for mode, context, expected in [
        ("ring", CT, False),
        ("ring", Context("xray"), True),
        ("herringbone", MR, False),
        ("herringbone", CT, True),
        ("pattern", Context("xray"), False),
    ]:
        assert corrupt(x, noise, seeds=[0], given={"mode": mode}, contexts=[context])[1][0].surrogate is expected
