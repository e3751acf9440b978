from math import log, pi, sqrt

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr, ndtri

from medfpl.bench.tasks.planting import disc, distances
from medfpl.bench.tasks.profiles import (
    OFFSETS,
    edge_width,
    find_edges,
    fitted_width,
    profiles_of,
    radial_profile,
    transfer_f50,
)

ERF_WIDTH = 2 * ndtri(0.9)  # 10-90 % of the normal distribution function, in standard deviations


def straight_edge(s, angle=0.3, size=96, low=0.3, rise=0.2):
    y, x = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return (low + rise * ndtr((x * np.cos(angle) + y * np.sin(angle)) / s)).astype(np.float32)


def edges_of(image, faintest=0.03):
    return find_edges(image, np.random.default_rng(0), faintest=faintest)


@pytest.mark.parametrize("s", [0.6, 1.0, 1.8])
def test_width_of_an_error_function(s):
    assert edge_width(ndtr(OFFSETS / s)) == pytest.approx(ERF_WIDTH * s, rel=0.01)
    assert fitted_width(5 * ndtr((OFFSETS + 0.4) / s) - 1) == pytest.approx(ERF_WIDTH * s, rel=0.01)
    assert edge_width(-3 + 7 * ndtr((OFFSETS - 0.3) / s)) == pytest.approx(ERF_WIDTH * s, rel=0.01)


def test_width_of_what_does_not_rise_is_not_a_number():
    assert np.isnan(edge_width(np.zeros(57)))
    assert np.isnan(edge_width(-ndtr(OFFSETS)))
    assert np.isnan(fitted_width(-ndtr(OFFSETS)))
    assert np.isnan(fitted_width(np.zeros(len(OFFSETS))))


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.1, 2.5, -2.0])
@pytest.mark.parametrize("s", [0.8, 1.4])
def test_a_straight_edge_is_found_and_measured(angle, s):
    image = straight_edge(s, angle)
    edges = edges_of(image)
    assert len(edges) > 40
    assert np.allclose(np.abs(edges.normals @ (np.sin(angle), np.cos(angle))), 1, atol=2e-3)
    middle = edges.points - 47.5
    assert np.allclose(middle @ (np.sin(angle), np.cos(angle)), 0, atol=0.03)  # on the half level
    assert edges.rise == pytest.approx(0.2, rel=0.01)
    assert edge_width(profiles_of(image, edges).mean(0)) == pytest.approx(ERF_WIDTH * s, rel=0.03)


@pytest.mark.parametrize("b", [0.7, 1.2])
def test_a_blur_adds_its_width_in_squares(b):
    clean = straight_edge(1.0)
    blurred = gaussian_filter(clean, b)
    edges = edges_of(clean)
    ratio = edge_width(profiles_of(blurred, edges).mean(0)) / edge_width(profiles_of(clean, edges).mean(0))
    assert ratio == pytest.approx(sqrt(1 + b * b), rel=0.02)


def test_noise_does_not_bias_the_mean_profile():
    clean = straight_edge(1.2)
    edges = edges_of(clean)
    rng = np.random.default_rng(0)
    exact = edge_width(profiles_of(clean, edges).mean(0))
    for noise, tolerance in [(0.03, 0.04), (0.1, 0.08)]:
        noisy = [clean + rng.normal(0, noise, clean.shape) for _ in range(30)]
        found = [fitted_width(profiles_of(x, edges).mean(0)) for x in noisy]
        assert np.mean(found) == pytest.approx(exact, rel=tolerance)


def test_lines_corners_and_faint_edges_are_left_out():
    y, x = np.mgrid[0:96, 0:96] - 47.5
    line = 0.3 + 0.2 * np.exp(-0.5 * (x / 1.5) ** 2)
    assert len(edges_of(line.astype(np.float32))) == 0
    assert len(edges_of(straight_edge(1.0, rise=0.02))) == 0
    square = gaussian_filter(((np.abs(x) < 25) & (np.abs(y) < 25)).astype(np.float32), 1)
    from_corner = np.abs(np.abs(edges_of(square).points - 47.5) - 25).max(1)
    assert from_corner.min() > 4
    assert len(edges_of(np.zeros((64, 64), np.float32))) == 0


def test_radial_profile_of_rings():
    r = distances(20)
    profile = radial_profile(torch.cos(r / 4), 0.5).numpy()
    assert profile == pytest.approx(np.cos((np.arange(40) * 0.5 + 0.25) / 4), abs=0.08)
    assert radial_profile(torch.ones(9, 9)).tolist() == [1] * 8


@pytest.mark.parametrize("b", [0.8, 1.2, 2.0])
def test_f50_of_a_gaussian_blur(b):
    planted = 0.05 * disc(distances(24), 20, 0.5)
    left = torch.from_numpy(gaussian_filter(planted.numpy(), b))
    assert transfer_f50(left, planted, 10) == pytest.approx(sqrt(log(2) / 2) / (pi * b), rel=0.04)


def test_f50_of_what_is_unchanged_and_of_nothing():
    planted = 0.05 * disc(distances(20), 20, 0.5)
    assert transfer_f50(0.4 * planted, planted, 10) == 0.5
    assert np.isnan(transfer_f50(0 * planted, planted, 10))
