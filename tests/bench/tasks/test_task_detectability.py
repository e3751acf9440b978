from math import sqrt

import numpy as np
import pytest
import torch
from task_trials import blur, case, identity, measured, trial, white

from medfpl.bench.tasks.observers import Readings, dense_dog_channels, detectability, respond, template_snr
from medfpl.bench.tasks.planting import disc, distances

REACH, SIGMA = 12, 0.02
SIGNAL = 0.01 * disc(distances(REACH), 8)
CHANNELS = dense_dog_channels(REACH)


def draws(seed, signal, realisations=12, places=12, sigma=SIGMA):
    """Windows of white noise without and with ``signal``, on a background of its own at every place."""
    g = torch.Generator().manual_seed(seed)
    side = 2 * REACH + 1
    background = torch.randn(places, side, side, generator=g, dtype=torch.float64)
    noise = sigma * torch.randn(realisations, places, side, side, generator=g, dtype=torch.float64)
    return background + noise, background + noise + signal


def test_channels_are_those_of_the_definition():
    """The basis spans the difference of Gaussians that is drawn here in the frequency domain."""
    n = 1025
    f = np.fft.fftfreq(n)
    f2 = f[:, None] ** 2 + f[None] ** 2
    s = 0.005 * 1.4**7
    channel = np.fft.fftshift(np.fft.ifft2(np.exp(-f2 / (2 * (1.67 * s) ** 2)) - np.exp(-f2 / (2 * s * s))).real)
    m = n // 2
    wanted = torch.from_numpy(channel[m - REACH : m + REACH + 1, m - REACH : m + REACH + 1].reshape(-1))
    rest = wanted - CHANNELS @ (CHANNELS.T @ wanted)
    assert float(rest.norm()) < 0.03 * float(wanted.norm())
    assert torch.allclose(CHANNELS.T @ CHANNELS, torch.eye(CHANNELS.shape[1], dtype=torch.float64), atol=1e-10)


def test_hotelling_of_white_noise_is_the_analytic_value():
    """d'^2 = |channelised signal|^2 / sigma^2, for an orthonormal basis of the channels."""
    exact = float((CHANNELS.T @ SIGNAL.reshape(-1)).square().sum()) / SIGMA**2
    squares = []
    for seed in range(60):
        readings = Readings(*(respond(w, CHANNELS) for w in draws(seed, SIGNAL)))
        squares.append(detectability(readings, readings) ** 2)
    freedom = 12 * 11
    error = exact * sqrt(2 / (freedom - CHANNELS.shape[1] + 1))
    assert np.mean(squares) == pytest.approx(exact, abs=3 * error / sqrt(60))
    assert np.std(squares) == pytest.approx(error, rel=0.35)


def test_hotelling_does_not_see_signals_that_are_not_there():
    """With independent noise in both classes and no signal the mean of d'^2 is 0 before it is cut off there."""
    found = []
    for seed in range(40):
        absent, other = draws(seed, 0)[0], draws(1000 + seed, 0)[1]
        readings = Readings(respond(absent - absent.mean(0), CHANNELS), respond(other - other.mean(0), CHANNELS))
        found.append(detectability(readings, readings))
    assert np.mean(found) < 0.15


def test_hotelling_uses_the_noises_correlation_and_the_template_does_not():
    """Noise that is all in one direction of the signal's channel space: the Hotelling observer looks elsewhere."""
    g = torch.Generator().manual_seed(0)
    signal = torch.tensor([1.0, 1.0], dtype=torch.float64)
    noise = torch.randn(200, 10, 2, generator=g, dtype=torch.float64) * torch.tensor([10.0, 0.5])
    readings = Readings(noise, noise + signal)
    assert detectability(readings, readings) == pytest.approx(sqrt(1 / 100 + 1 / 0.25), rel=0.05)
    template = (signal / signal.norm())[:, None]
    projected = Readings(noise @ template, (noise + signal) @ template)
    assert template_snr(projected, projected) == pytest.approx(sqrt(2) / sqrt((100 + 0.25) / 2), rel=0.05)


def test_the_template_in_white_noise_is_the_matched_filter():
    template = SIGNAL.reshape(-1, 1)
    found = []
    for seed in range(40):
        readings = Readings(*(respond(w, template) for w in draws(seed, SIGNAL)))
        found.append(template_snr(readings, readings))
    assert np.mean(found) == pytest.approx(float(SIGNAL.norm()) / SIGMA, rel=0.02)


def test_too_few_draws_are_refused():
    readings = Readings(*(respond(w, CHANNELS) for w in draws(0, SIGNAL, realisations=2, places=3)))
    with pytest.raises(ValueError, match="degrees of freedom"):
        detectability(readings, readings)


def test_identity_is_as_good_as_its_input_and_as_theory_says():
    found = measured("detectability", trial(identity, white(SIGMA)))
    for diameter in (4, 8, 12):
        detail = f"20 HU, {diameter} px"
        profile = 0.01 * disc(distances(12), diameter)
        for observer in ("cho", "npw"):
            assert found[observer][detail] == found[f"{observer}_noisy"][detail]
            assert found[f"{observer}_efficiency"][detail] == 1
            assert found[observer][detail] == pytest.approx(float(profile.norm()) / SIGMA, rel=0.25)


def test_a_blur_that_can_be_undone_hides_little_from_hotelling():
    found = measured("detectability", trial(blur(1.0), white(SIGMA)))
    assert list(found["cho_efficiency"].values()) == pytest.approx([1] * 3, abs=0.08)


def test_an_eraser_hides_everything():
    found = measured("detectability", trial(lambda x: torch.full_like(x, 0.5), white(SIGMA)))
    for measure in ("cho", "npw", "cho_efficiency", "npw_efficiency"):
        assert list(found[measure].values()) == [0, 0, 0]


def test_without_noise_there_is_nothing_to_measure():
    assert measured("detectability", trial(identity, lambda x, realisation=0: 0.9 * x)) == {}


def test_too_little_room_gives_no_value():
    assert measured("detectability", trial(of=case(torch.zeros(1, 1, 96, 96)))) == {}
