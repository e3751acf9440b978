"""The noise estimates on phantoms of known noise and on real images."""

import csv

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.restoration import estimate_sigma

from medfpl.denoisers.sigma import estimate_noise, estimate_noise_correlated, noise_levels, soft_tissue_noise
from medfpl.errors import UsageError

SIGMAS = (0.005, 0.01, 0.03, 0.1, 0.2)


def body(size: int = 256) -> np.ndarray:
    """Air, an ellipse of tissue with a slow gradient, organs and ribs."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.where((y / 0.8) ** 2 + (x / 0.9) ** 2 < 1, 0.5 + 0.05 * x, 0.0)
    for cy, cx, r, value in ((0.2, 0.3, 0.25, 0.04), (-0.2, -0.4, 0.2, -0.3), (-0.5, 0.1, 0.08, 0.3)):
        image[np.hypot(y - cy, x - cx) < r] += value
    return gaussian_filter(image, 0.7)


def white(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))[:, None]


@pytest.mark.parametrize("estimate", [estimate_noise, estimate_noise_correlated])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_white_noise_on_a_phantom(estimate, sigma):
    x = batch(*(body() + sigma * white((256, 256), s) for s in range(2)))
    found = estimate(x)
    assert found.shape == (2,)
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found / sigma, 1, atol=0.05)


@pytest.mark.parametrize("sigma", SIGMAS[:-1])
def test_clipped_air_does_not_count(sigma):
    noisy = body() + sigma * white((256, 256))
    clipped = np.maximum(noisy, 0)
    half = clipped.copy()
    half[:, :128] = 0
    for image in (clipped, np.clip(noisy, 0, 1), half):
        assert float(estimate_noise(batch(image))) == pytest.approx(sigma, rel=0.07)
    # The estimate that takes the whole image reads air as noise-free tissue.
    assert estimate_sigma(half) < 0.85 * sigma


def test_signal_free_mr_background_does_not_count():
    real, imaginary = body() + 0.05 * white((256, 256), 1), 0.05 * white((256, 256), 2)
    assert float(estimate_noise(batch(np.hypot(real, imaginary)))) == pytest.approx(0.05, rel=0.05)


def test_only_valid_pixels_count():
    image = body() + 0.02 * white((256, 256))
    valid = np.ones((256, 256), bool)
    valid[:, 150:] = False
    image[~valid] = np.nan
    mask = torch.from_numpy(valid)[None, None]
    for estimate in (estimate_noise, estimate_noise_correlated):
        assert float(estimate(batch(image), mask)) == pytest.approx(0.02, rel=0.07)
    assert float(estimate_noise(batch(image), torch.zeros_like(mask))) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 2, 3), (1, 1, 8, 8), (2, 1, 9, 64)])
def test_tiny_images_give_a_number(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for estimate in (estimate_noise, estimate_noise_correlated):
        found = estimate(x)
        assert found.shape == shape[:1]
        assert torch.isfinite(found).all()
        assert (found >= 0).all()


def test_nothing_varies_and_scale():
    assert float(estimate_noise(torch.full((1, 1, 32, 32), 0.4))) == 0
    x = batch(body() + 0.03 * white((256, 256)))
    np.testing.assert_allclose(estimate_noise(2000 * x - 1000), 2000 * estimate_noise(x), rtol=1e-6)


def test_impulses_are_not_noise():
    image = np.clip(body() + 0.02 * white((256, 256)), 0, 1)
    hit = np.random.default_rng(5).random(image.shape)
    image[hit < 0.03], image[hit > 0.97] = 0, 1
    assert float(estimate_noise(batch(image))) == pytest.approx(0.02, rel=0.1)


def test_an_item_does_not_feel_its_batch():
    images = [body(128) + s * white((128, 128)) for s in (0, 0.02, 0.2)]
    for estimate in (estimate_noise, estimate_noise_correlated):
        alone = torch.cat([estimate(batch(i)) for i in images])
        assert torch.equal(estimate(batch(*images)), alone)


@pytest.mark.parametrize(("blur", "white_share"), [(0.7, 0.35), (1.0, 0.1)])
def test_correlated_noise(blur, white_share):
    field = gaussian_filter(white((256, 256), 3), blur, mode="wrap")
    x = batch(body() + 0.03 * field / field.std())
    assert float(estimate_noise_correlated(x)) == pytest.approx(0.03, rel=0.12)
    # The finest scale holds little of it: this is the documented underestimate.
    assert float(estimate_noise(x)) < white_share * 0.03


def test_levels_given_as_numbers_or_an_item_each():
    x = torch.rand(3, 1, 8, 8)
    assert noise_levels(x, 0.1).shape == (3, 1, 1, 1)
    assert noise_levels(x, torch.tensor([0.1, 0.2, 0.3]))[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(noise_levels(x, None)[:, 0, 0, 0], estimate_noise(x))
    with pytest.raises(UsageError, match="2 noise levels do not fit a batch of 3"):
        noise_levels(x, torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("sd", [3.0, 10.0, 25.0, 50.0])
def test_soft_tissue_noise_in_hu(sd):
    hu = 1100 * body() - 1000 + 490
    noisy = hu + sd * white(hu.shape, 7)
    assert soft_tissue_noise(noisy) == pytest.approx(sd, rel=0.07)


def test_noise_that_hides_the_soft_tissue_is_measured_where_a_quieter_image_shows_it():
    hu = 1100 * body() - 1000 + 490
    noisy, quiet = hu + 150 * white(hu.shape, 7), hu + 5 * white(hu.shape, 8)
    assert soft_tissue_noise(noisy) is None
    assert soft_tissue_noise(noisy, quiet) == pytest.approx(150, rel=0.1)


def test_fat_between_thin_muscles_is_not_noise():
    fat = np.full((256, 256), -90.0)
    muscles = fat.copy()
    for left in range(10, 240, 9):
        muscles[20:236, left : left + 5] = 60
    muscles[20:48, 20:236] = 50
    muscles = gaussian_filter(muscles, 0.8)
    noisy, denoised = (muscles + sd * white(muscles.shape, 9) for sd in (22, 6))
    # Half of all windows hold muscle and fat, which alone differ by more than 60 HU.
    assert soft_tissue_noise(noisy, denoised) == pytest.approx(22, rel=0.07)
    assert soft_tissue_noise(denoised, denoised) == pytest.approx(6, rel=0.1)
    muscles[:60] = -90
    assert soft_tissue_noise(muscles + 22 * white(muscles.shape, 9), muscles) is None


def test_no_soft_tissue_no_number():
    assert soft_tissue_noise(np.full((64, 64), -1000.0)) is None


@pytest.mark.real
def test_white_noise_on_real_images(real_data):
    pydicom = pytest.importorskip("pydicom")
    rows = [r for r in csv.DictReader((real_data / "manifest.csv").open()) if r["kind"] == "chest_ct"]
    rows = [r for r in rows if r["est_noise_sigma"] and r["path"].endswith(".dcm")]
    rows = sorted(rows, key=lambda r: float(r["est_noise_sigma"]))[:2]
    for row in rows:
        image = pydicom.dcmread(real_data / row["path"])
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        x = (np.maximum(hu, -1024) + 1000)[128:384, 128:384] / 2000
        own = float(estimate_noise(batch(x)))
        assert own < 0.002
        for sigma in SIGMAS:
            noisy = x + sigma * white(x.shape)
            assert float(estimate_noise(batch(noisy))) == pytest.approx(np.hypot(sigma, own), rel=0.05)
