"""Gaussian noise against its distribution; the same for all noises that scale with the image."""

import numpy as np
import pytest
import torch
from noise_checks import check_distribution, check_moments, flat, noisy, phantom, samples
from scipy import stats


def test_moments_and_distribution() -> None:
    for x in (flat(0.0), flat(0.5)):
        error = samples(noisy("gaussian", x, sigma=0.1) - x)
        check_moments(error, 0, 0.01)
        check_distribution(error, stats.norm(0, 0.1).cdf)


def test_neighbours_are_uncorrelated_and_the_spectrum_is_flat() -> None:
    side = 512
    error = noisy("gaussian", flat(0.5, side), sigma=0.1).double()[0, 0] - 0.5
    for neighbour in (error.roll(1, 0), error.roll(1, 1), error.roll((1, 1), (0, 1))):
        correlation = float((error * neighbour).mean() / error.square().mean())
        assert abs(correlation) < 4 / side
    power = torch.fft.fft2(error, norm="ortho").abs().square()
    radius = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side))
    for low in np.arange(0.05, 0.5, 0.05):
        ring = power[(radius >= low) & (radius < low + 0.05)]
        # a periodogram's value is exponential: its sd is its mean; Hermitian twins halve the sample
        assert abs(float(ring.mean()) - 0.01) < 5 * 0.01 / np.sqrt(ring.numel() / 2)


def test_a_correlated_one_has_the_same_variance_and_the_autocorrelation_of_its_filter() -> None:
    side, length = 512, 1.2
    error = noisy("gaussian", flat(0.5, side), sigma=0.1, correlation=length).double()[0, 0] - 0.5
    variance = float(error.square().mean())
    assert variance == pytest.approx(0.01, rel=0.05)
    for lag in (1, 2, 3):
        found = float((error * error.roll(lag, 1)).mean()) / variance
        assert found == pytest.approx(np.exp(-(lag**2) / (4 * length**2)), abs=0.03)


@pytest.mark.parametrize(
    ("name", "given", "scaled"),
    [
        ("gaussian", {"sigma": 0.1}, ("sigma",)),
        ("thermal", {"mode": "real", "sigma_ref": 0.1}, ("sigma_ref",)),
        ("thermal", {"mode": "magnitude", "sigma_ref": 0.1}, ("sigma_ref",)),
        ("rician", {"sigma": 0.1}, ("sigma",)),
        ("rayleigh", {"mode": "additive", "sigma": 0.1}, ("sigma",)),
        ("rayleigh", {"mode": "centred", "sigma": 0.1}, ("sigma",)),
        ("noncentral-chi", {"sigma": 0.1, "coils": 4}, ("sigma",)),
        ("speckle", {"mode": "gaussian", "sigma": 0.1}, ()),
        ("speckle", {"mode": "gamma", "sigma": 0.1}, ()),
        ("structured", {"mode": "herringbone", "ratio": 0.2}, ()),
        ("structured", {"mode": "pattern", "amplitude": 0.2}, ("amplitude",)),
    ],
)
def test_scaling_the_image_and_the_noise_scales_the_result(name: str, given: dict, scaled: tuple[str, ...]) -> None:
    """Homogeneous: dividing an image by a constant commutes with the noise."""
    x = phantom(48, 48)
    large = {k: 8 * v if k in scaled else v for k, v in given.items()}
    torch.testing.assert_close(noisy(name, 8 * x, **large), 8 * noisy(name, x, **given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "thermal", "rayleigh", "speckle"])
def test_a_sweep_of_strengths_shares_its_noise(name: str) -> None:
    x = phantom(48, 48)
    weak, strong = (noisy(name, x, strength=s) - x for s in (0.2, 0.8))
    torch.testing.assert_close(4 * weak, strong, rtol=1e-4, atol=1e-5)
