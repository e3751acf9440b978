from math import pi, sqrt

import pytest
import torch
from scipy.ndimage import gaussian_filter
from task_trials import blur, identity, measured, trial, white

from medfpl.bench.tasks.spectra import mean_frequency, power_spectrum


def regions(sigma, b=0.0, n=400, side=32, seed=0):
    noise = sigma * torch.randn(n, 2 * side, 2 * side, generator=torch.Generator().manual_seed(seed)).double()
    if b:
        noise = torch.from_numpy(gaussian_filter(noise.numpy(), (0, b, b), mode="wrap"))
    return noise[:, :side, :side]


def test_white_noise_has_a_flat_spectrum_of_its_variance():
    spectrum = power_spectrum(regions(0.3))
    assert float(spectrum.mean()) == pytest.approx(0.09, rel=0.01)
    assert spectrum[0, 0] == pytest.approx(0, abs=1e-20)
    rest = spectrum.flatten()[1:]
    assert float(rest.std() / rest.mean()) == pytest.approx(1 / sqrt(400), rel=0.15)
    assert mean_frequency(spectrum) == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("b", [0.8, 1.5])
def test_the_spectrum_of_blurred_noise_is_a_gaussian(b):
    spectrum = power_spectrum(regions(1.0, b))
    f = torch.fft.fftfreq(32).double()
    wanted = torch.exp(-4 * pi**2 * b * b * (f[:, None] ** 2 + f**2))
    assert float((spectrum - wanted).abs().flatten()[1:].max()) < 0.25
    assert float((spectrum - wanted).flatten()[1:].mean()) == pytest.approx(0, abs=0.01)
    assert float(spectrum.mean()) == pytest.approx(1 / (4 * pi * b * b), rel=0.05)
    assert mean_frequency(spectrum) == pytest.approx(1 / (2 * pi**1.5 * b), rel=0.08)


def test_identity_and_blur():
    same = measured("noise-texture", trial(identity, white(0.02)))
    assert same == {"noise": {"": 1}, "frequency": {"": 1}}
    b = 1.0
    found = measured("noise-texture", trial(blur(b), white(0.02)))
    assert found["noise"][""] == pytest.approx(1 / (2 * sqrt(pi) * b), rel=0.05)
    assert found["frequency"][""] == pytest.approx(1 / (2 * pi**1.5 * b) / 0.25, rel=0.08)


def test_an_eraser_has_no_noise_and_so_no_texture():
    assert measured("noise-texture", trial(lambda x: torch.full_like(x, 0.5))) == {"noise": {"": 0}}


def test_a_corruption_without_noise_gives_no_value():
    assert measured("noise-texture", trial(identity, lambda x, realisation=0: 0.9 * x)) == {}


def test_a_spectrum_of_zeros_has_no_mean_frequency():
    assert mean_frequency(torch.zeros(32, 32)) != mean_frequency(torch.zeros(32, 32))
