"""Projection, ramp filter and back-projection against closed forms and scikit-image."""

from math import pi

import numpy as np
import pytest
import torch
from noise_checks import phantom
from skimage.transform import radon

from medfpl.errors import MedfplError
from medfpl.noises import Context, ct


def disc(height: int, width: int, radius: float, column: float = 0.0, row: float = 0.0) -> torch.Tensor:
    """A disc of value 1 with soft edges, its centre (column, row) px from the image's."""
    fine = 4
    rows = (torch.arange(height * fine) + 0.5) / fine - height / 2 - row
    columns = (torch.arange(width * fine) + 0.5) / fine - width / 2 - column
    inside = (torch.hypot(rows[:, None], columns) < radius).double()
    return inside.view(1, 1, height, fine, width, fine).mean((3, 5))


@pytest.mark.parametrize("size", [(128, 128), (127, 96)])
@pytest.mark.parametrize("spacing", [1, 2, 3])
def test_line_integrals_of_a_disc(size: tuple[int, int], spacing: int) -> None:
    radius, column, row = 30.0, 9.0, -12.0
    angles = ct.half_turn(9)
    found = ct.project(disc(*size, radius, column, row), angles, spacing)[0]
    count = ct.bins(size, spacing)
    assert found.shape == (9, count)
    s = (torch.arange(count, dtype=torch.float64) - count // 2) * spacing
    for view, theta in zip(found, angles, strict=True):
        distance = s - column * np.cos(theta) - row * np.sin(theta)
        expected = 2 * (radius**2 - distance**2).clamp_min(0).sqrt()
        inner = distance.abs() < radius - 2 * spacing - 2
        assert float((view - expected)[inner].abs().max()) < 0.03 * radius
        # mass: the integral over the detector is the disc's area in every view
        assert float(view.sum() * spacing) == pytest.approx(pi * radius**2, rel=2e-3)


def test_line_integrals_agree_with_scikit_image() -> None:
    image = phantom(101, 101, dtype=torch.float64)
    image = image * (torch.hypot(torch.arange(101)[:, None] - 50.0, torch.arange(101) - 50.0) < 49)
    degrees = np.array([0.0, 20.0, 45.0, 90.0, 130.0])
    # theirs turns the other way, as its rows run upwards, and rotates about the pixel size // 2
    theirs = radon(image[0, 0].numpy(), theta=degrees, circle=True).T
    ours = ct.project(image, (-np.deg2rad(degrees)).tolist())[0].numpy()
    middle = ours.shape[1] // 2
    ours = ours[:, middle - 50 : middle + 51]
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9995
    assert np.abs(ours - theirs).max() < 0.05 * theirs.max()


def test_filtered_back_projection_gives_the_disc_back() -> None:
    image = disc(128, 120, 40.0, 5.0, -6.0)
    angles = ct.half_turn(180)
    again = ct.back_project(ct.ramp_filter(ct.project(image, angles)), angles, image.shape)
    inner = disc(128, 120, 36.0, 5.0, -6.0) == 1
    outer = disc(128, 120, 44.0, 5.0, -6.0) == 0
    assert float((again[inner] - 1).abs().max()) < 0.05
    assert abs(float(again[inner].mean()) - 1) < 0.01
    assert abs(float(again[outer].mean())) < 0.01


def test_the_ramp_filter_is_the_ramp() -> None:
    """Its response to an impulse is Ram-Lak's: 1/4, then -1/(pi n)^2 at odd n."""
    impulse = torch.zeros(1, 65, dtype=torch.float64)
    impulse[0, 32] = 1
    n = np.arange(-32, 33)
    expected = np.where(n % 2 == 1, -1 / (pi * np.where(n == 0, 1, n)) ** 2, 0.0)
    expected[32] = 0.25
    np.testing.assert_allclose(ct.ramp_filter(impulse)[0].numpy(), expected, atol=1e-12)


def test_a_smeared_view_is_constant_along_its_rays_and_linear_between_bins() -> None:
    shape = (20, 30)
    count = ct.bins(shape)
    view = torch.arange(count, dtype=torch.float64)[None] - count // 2
    for theta in (0.0, 0.4, pi / 2):
        found = ct.smear(view, ct.bin_positions(shape, theta, count, 1, view))[0, 0]
        rows = torch.arange(20, dtype=torch.float64) - 9.5
        columns = torch.arange(30, dtype=torch.float64) - 14.5
        torch.testing.assert_close(found, columns * np.cos(theta) + rows[:, None] * np.sin(theta))


def test_attenuation_of_water_and_air() -> None:
    context = Context("ct", -1000.0, 1000.0, 0.7)
    x = torch.tensor([0.5, 0.0, -1.0, 1.0]).view(1, 1, 1, 4)
    black, scale, pixel = ct.units([context], x.shape, x)
    mu = ct.attenuation(x, black, scale, pixel).flatten()
    torch.testing.assert_close(mu, 0.7 * ct.MU_WATER * torch.tensor([1.0, 0.0, 0.0, 2.0]))
    step = ct.working_per_attenuation(scale, pixel) * (mu[3] - mu[0])
    assert float(step) == pytest.approx(0.5)


def test_what_is_no_ct_gets_a_field_of_view() -> None:
    like = torch.zeros(1)
    black, scale, pixel = ct.units([Context("xray", 0, 255, 9.0)], (1, 1, 100, 200), like)
    assert (float(black), float(scale), float(pixel)) == (-1000, 2000, pytest.approx(1.75))


@pytest.mark.parametrize("pixel_mm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ct_without_a_pixel_size_is_refused(pixel_mm: float) -> None:
    with pytest.raises(MedfplError, match="pixel size"):
        ct.units([Context("ct", -1000, 1000, pixel_mm)], (1, 1, 8, 8), torch.zeros(1))
