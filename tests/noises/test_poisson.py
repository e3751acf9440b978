"""Quantum noise: counts on a detector, and what counts along rays do to a CT slice."""

from dataclasses import replace
from math import pi, sqrt

import numpy as np
import pytest
import torch
from noise_checks import CT, check_counts, check_moments, flat, noisy, phantom, samples
from torch import Tensor

from medfpl.noises import NOISES, Context, corrupt, ct, replay
from medfpl.noises.kinds.poisson import INTERPOLATION, line_error, line_variance

SIDE = 256
RADIUS_PX = 80  # 224 mm across at 1.4 mm


def cylinder(items: int = 1) -> Tensor:
    """A water cylinder of 224 mm in air."""
    return torch.where(_distance() < RADIUS_PX, 0.5, 0.0).expand(items, 1, SIDE, SIDE).clone()


def _distance() -> Tensor:
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    return torch.hypot(axis[:, None], axis)


def hu_error(mode: str, x: Tensor, **given: float) -> Tensor:
    return (noisy("poisson", x, context=CT, mode=mode, **given) - x) * 2000


@pytest.mark.parametrize("signal", [0.05, 0.5, 1.0])
def test_detector_counts(signal: float) -> None:
    photons = 160.0
    y = samples(noisy("poisson", flat(signal), photons=photons))
    check_moments(y, signal, signal / photons)
    counts = y * photons
    assert np.abs(counts - counts.round()).max() < 1e-3
    check_counts(counts.round(), photons * signal)


def test_detector_variance_is_linear_in_the_signal() -> None:
    levels = np.linspace(0.05, 1, 12)
    variances = [samples(noisy("poisson", flat(v), seed=i, photons=100)).var() for i, v in enumerate(levels)]
    slope, offset = np.polyfit(levels, variances, 1)
    assert slope == pytest.approx(0.01, rel=0.02)
    assert offset == pytest.approx(0, abs=1e-4)


def test_detector_with_electronic_noise() -> None:
    y = samples(noisy("poisson", flat(0.4), photons=100, electronic=5))
    check_moments(y, 0.4, 0.4 / 100 + (5 / 100) ** 2)


def test_black_stays_black_and_negatives_are_clamped() -> None:
    x = torch.zeros(1, 1, 32, 32)
    x[..., :16] = -0.2
    y, (record,) = corrupt(x, NOISES.get("poisson"), seeds=[0], strength=1.0)
    assert not y.any()
    assert record.clamped


def test_ct_modes_elsewhere_are_surrogates() -> None:
    x, noise = phantom(32, 32), NOISES.get("poisson")
    for kind in ("xray", "mr", "other"):
        _, (record,) = corrupt(x, noise, seeds=[0], given={"mode": "ct-texture"}, contexts=[Context(kind)])
        assert record.surrogate
    _, (record,) = corrupt(x, noise, seeds=[0], given={"mode": "ct"}, contexts=[CT])
    assert not record.surrogate


@pytest.mark.parametrize("line", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("electronic", [0.0, 10.0])
def test_line_errors_have_the_first_order_variance(line: float, electronic: float) -> None:
    integrals = torch.full((1, 500, 400), line)
    rays, read = torch.full((1, 1, 1), 1e5), torch.full((1, 1, 1), electronic)
    error = samples(line_error(integrals, rays, read, [torch.Generator().manual_seed(0)]))
    expected = float(line_variance(integrals[:, :1, :1], rays, read))
    by_hand = np.exp(line) / 1e5 * (1 + electronic**2 * np.exp(line) / 1e5)
    assert expected == pytest.approx(by_hand, rel=1e-5)
    assert error.var() == pytest.approx(expected, rel=0.03)
    assert abs(error.mean()) < expected + 5 * sqrt(
        expected / error.size
    )  # half of the variance is the logarithm's bias


def test_starved_rays_keep_a_bounded_error() -> None:
    integrals = torch.full((1, 200, 200), 15.0)
    rays, read = torch.full((1, 1, 1), 1e4), torch.full((1, 1, 1), 10.0)
    error = samples(line_error(integrals, rays, read, [torch.Generator().manual_seed(0)]))
    assert error.var() == pytest.approx(float(line_variance(integrals, rays, read).mean()), rel=0.25)


def test_ct_noise_at_the_centre_of_a_water_cylinder() -> None:
    """Closed form, Ram-Lak with linear interpolation: Var(mu) = 0.464 pi^2 v / (12 M d^2)."""
    rays, electronic, views = 1e5, 10.0, 180
    line = ct.MU_WATER * 1.4 * 2 * RADIUS_PX
    v = np.exp(line) / rays * (1 + electronic**2 * np.exp(line) / rays)
    expected = sqrt(INTERPOLATION * pi**2 * v / (12 * views * 1.4**2)) / ct.MU_WATER * 1000
    assert expected == pytest.approx(51, abs=1)
    x = cylinder(6)
    for mode in ("ct", "ct-texture"):
        error = hu_error(mode, x, rays=rays, electronic=electronic, views=views)[:, 0, _distance() < 15]
        assert float(error.std()) == pytest.approx(expected, rel=0.06)
        assert abs(float(error.mean())) < 2


def test_the_texture_mode_agrees_with_the_projections() -> None:
    x, r = cylinder(6), _distance()
    exact, fast = (hu_error(mode, x, rays=1e5) for mode in ("ct", "ct-texture"))
    for low, high, tolerance in ((0, 20, 0.10), (30, 50, 0.10), (70, 79, 0.15), (90, 115, 0.15)):
        ring = (r >= low) & (r < high)
        assert float(fast[:, 0, ring].std() / exact[:, 0, ring].std()) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("mode", ["ct", "ct-texture"])
def test_fewer_rays_scale_the_noise_by_the_root(mode: str) -> None:
    x = cylinder()
    many, few = (hu_error(mode, x, rays=rays, electronic=0.0) for rays in (4e5, 1e5))
    if mode == "ct-texture":
        torch.testing.assert_close(2 * many, few, rtol=1e-3, atol=0.1)
    else:
        assert float(few.std() / many.std()) == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("mode", ["ct", "ct-texture"])
def test_only_rays_times_views_matters(mode: str) -> None:
    x = cylinder(2)
    one, other = (hu_error(mode, x, rays=r, views=v, electronic=0.0) for r, v in ((1e5, 180), (2e5, 90)))
    centre = _distance() < 40
    assert float(one[:, 0, centre].std() / other[:, 0, centre].std()) == pytest.approx(1, abs=0.06)


def test_the_noise_power_of_the_texture_rises_with_frequency() -> None:
    """In air the noise is stationary: its power over |f| is flat within 15 percent, and its mean is 0."""
    error = hu_error("ct-texture", torch.zeros(8, 1, SIDE, SIDE), rays=1e5)[:, 0]
    power = torch.fft.fft2(error, norm="ortho").abs().square().mean(0)
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE))
    bands = np.arange(0.05, 0.5, 0.05)
    level = [float((power / radius)[(radius >= b) & (radius < min(b + 0.05, 0.5))].mean()) for b in bands]
    assert max(level) / np.mean(level) < 1.15
    assert min(level) / np.mean(level) > 0.85
    assert abs(float(error.mean())) < 1e-2


def test_the_noise_power_of_the_projections_rises_from_zero() -> None:
    """Low frequencies only: interpolation in the back-projection damps the high ones."""
    error = hu_error("ct", torch.zeros(4, 1, SIDE, SIDE), rays=1e5)[:, 0]
    power = torch.fft.fft2(error, norm="ortho").abs().square().mean(0)
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE))
    level = [float((power / radius)[(radius >= b) & (radius < b + 0.04)].mean()) for b in (0.02, 0.06, 0.10)]
    assert max(level) / min(level) < 1.3


def test_a_kernel_windows_the_noise_power() -> None:
    """In air the power is |f| times the squared Hann window, wherever that is not nearly 0."""
    air, cutoff = torch.zeros(8, 1, SIDE, SIDE), 0.6
    ramp, soft = (hu_error("ct-texture", air, rays=1e5, cutoff=c)[:, 0] for c in (0.0, cutoff))
    power = [torch.fft.fft2(e, norm="ortho").abs().square().mean(0) for e in (ramp, soft)]
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE))
    bands = [(radius >= b) & (radius < b + 0.05) for b in np.arange(0.05, 0.4, 0.05)]
    ratio = np.array([float(power[1][band].mean() / power[0][band].mean()) for band in bands])
    window = np.array([float(ct.hann(radius, torch.tensor(cutoff)).square()[band].mean()) for band in bands])
    np.testing.assert_allclose(ratio / ratio[0], window / window[0], rtol=0.02)


@pytest.mark.parametrize("cutoff", [0.4, 0.8])
def test_a_kernel_acts_alike_on_projections_and_texture(cutoff: float) -> None:
    """The sd at a cylinder's centre is the closed form's, windowed: the ramp's power, f^2, and the interpolation's."""
    x, centre = cylinder(6), _distance() < 15
    f = np.linspace(0, 0.5, 1001)
    power = f**2 * (2 + np.cos(2 * np.pi * f)) / 3
    window = np.where(f < cutoff, 0.5 * (1 + np.cos(np.pi * f / cutoff)), 0.0)
    expected = sqrt((power * window**2).sum() / power.sum())
    for mode in ("ct", "ct-texture"):
        ramp, soft = (hu_error(mode, x, rays=1e5, cutoff=c)[:, 0, centre].std() for c in (0.0, cutoff))
        assert float(soft / ramp) == pytest.approx(expected, rel=0.08)


def test_a_record_from_before_there_were_kernels_replays() -> None:
    x, noise = cylinder(), NOISES.get("poisson")
    expected, (record,) = corrupt(x, noise, seeds=[3], given={"mode": "ct-texture"}, contexts=[CT])
    old = replace(record, values={k: v for k, v in record.values.items() if k != "cutoff"})
    torch.testing.assert_close(replay(x, noise, [old]), expected, rtol=0, atol=0)


def test_dense_paths_make_streaks() -> None:
    """Between two dense discs the noise is larger, and oriented along the line that joins them."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    discs = sum((torch.hypot(axis[:, None], axis - c) < 25).float() for c in (-60.0, 60.0))
    x = (0.5 * (_distance() < 100) + 0.5 * discs)[None, None].expand(8, 1, SIDE, SIDE).clone()
    error = hu_error("ct-texture", x, rays=1e4)[:, 0]
    between = error[:, 118:138, 108:148]
    aside = error[:, 60:80, 108:148]
    assert float(between.std()) > 1.5 * float(aside.std())
    along, across = between.diff(dim=2).square().mean(), between.diff(dim=1).square().mean()
    assert float(across / along) > 3


def test_more_rays_than_can_be_counted_leave_the_image() -> None:
    x = cylinder()
    for mode in ("ct", "ct-texture"):
        assert float(hu_error(mode, x, rays=1e14, electronic=0.0).abs().max()) < 0.5


def test_a_large_body_with_a_wrong_pixel_size_stays_finite() -> None:
    huge = Context("ct", -1000.0, 1000.0, 50.0)
    x = cylinder()
    for mode in ("ct", "ct-texture"):
        for electronic in (0.0, 10.0):
            y = noisy("poisson", x, context=huge, mode=mode, electronic=electronic)
            assert bool(torch.isfinite(y).all())


def test_items_may_differ_in_views() -> None:
    x = phantom(40, 48, items=2)
    noise = NOISES.get("poisson")
    apart = [
        corrupt(x[i : i + 1], noise, seeds=[i], given={"mode": "ct", "views": v}, contexts=[CT])
        for i, v in enumerate((60, 90))
    ]
    together = replay(x, noise, [records[0] for _, records in apart])
    torch.testing.assert_close(together, torch.cat([y for y, _ in apart]), rtol=0, atol=1e-6)
