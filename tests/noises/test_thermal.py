"""Thermal noise: Gaussian or Rician in the image, scaled by temperature and bandwidth."""

import numpy as np
import pytest
import torch
from noise_checks import check_distribution, check_moments, flat, noisy, samples
from scipy import stats

from medfpl.noises.kinds.thermal import image_noise


def test_real_mode_is_gaussian() -> None:
    x = flat(0.5)
    error = samples(noisy("thermal", x, sigma_ref=0.1) - x)
    check_moments(error, 0, 0.01)
    check_distribution(error, stats.norm(0, 0.1).cdf)


def test_channels_are_uncorrelated_and_equal() -> None:
    values = [{"sigma_ref": 0.1, "temperature": 293.0, "bandwidth": 200.0}]
    noise = image_noise(flat(0.0), values, [torch.Generator().manual_seed(1)])
    real, imaginary = samples(noise.real), samples(noise.imag)
    check_moments(real, 0, 0.01)
    check_moments(imaginary, 0, 0.01)
    assert abs(np.corrcoef(real, imaginary)[0, 1]) < 5 / np.sqrt(real.size)


@pytest.mark.parametrize("doubled", [{"temperature": 586}, {"bandwidth": 400}])
def test_sd_grows_with_the_root_of_temperature_and_bandwidth(doubled: dict) -> None:
    x = flat(0.5, 64)
    once = noisy("thermal", x, sigma_ref=0.1, temperature=293, bandwidth=200) - x
    twice = noisy("thermal", x, **{"sigma_ref": 0.1, "temperature": 293, "bandwidth": 200, **doubled}) - x
    torch.testing.assert_close(twice, once * 2**0.5, rtol=1e-4, atol=1e-6)


def test_magnitude_mode_is_rician() -> None:
    y = samples(noisy("thermal", flat(0.2), mode="magnitude", sigma_ref=0.1))
    check_distribution(y / 0.1, stats.rice(2).cdf)


def test_equals_noise_added_to_k_space() -> None:
    x = torch.rand(1, 1, 40, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = [{"sigma_ref": 0.1, "temperature": 293.0, "bandwidth": 200.0}]
    noise = image_noise(x, values, [torch.Generator().manual_seed(1)])
    k_space = torch.fft.fft2(x, norm="ortho") + torch.fft.fft2(noise, norm="ortho")
    torch.testing.assert_close(torch.fft.ifft2(k_space, norm="ortho").real, x + noise.real)


@pytest.mark.parametrize("size", [(16, 24), (15, 17), (9, 2), (8, 1)])
def test_the_real_channel_is_white(size: tuple[int, int]) -> None:
    """Each k-space power and each pixel's variance is sigma^2, also where k-space mirrors itself."""
    many = 4000
    x = torch.zeros(many, 1, *size, dtype=torch.float64)
    error = noisy("thermal", x, sigma_ref=0.1)[:, 0]
    power = torch.fft.fft2(error, norm="ortho").abs().square().mean(0) / 0.01
    assert bool((power - 1).abs().max() < 6 * (2 / many) ** 0.5)
    assert bool((error.var(0) / 0.01 - 1).abs().max() < 6 * (2 / many) ** 0.5)
