import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medfpl.bench.metrics import gmsd, psnr, rmse, ssim


def scene(height=40, width=48, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 10
    clean = 0.5 + 0.3 * np.sin(x * y) + 0.2 * (x > 2)
    return clean, clean + rng.normal(0, noise, clean.shape)


def tensors(*arrays):
    return [torch.from_numpy(a)[None, None] for a in arrays]


@pytest.mark.parametrize("noise", [1e-3, 0.1, 1.0])
def test_ssim_and_psnr_are_those_of_scikit_image(noise):
    clean, noisy = scene(noise=noise)
    a, b = tensors(clean, noisy)
    wanted = structural_similarity(
        clean, noisy, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(a, b) == pytest.approx(wanted, abs=1e-9)
    assert ssim(a[0, 0], b[0, 0]) == ssim(a, b)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=1), abs=1e-9)


@pytest.mark.parametrize(("sigma", "true", "wrapped"), [(10, 28.1, 30.3), (20, 22.1, 28.7), (40, 16.1, 28.0)])
def test_the_wrapped_psnr_hides_noise(sigma, true, wrapped):
    clean = torch.full((512, 512), 128 / 255)
    noisy = clean + sigma / 255 * torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    assert psnr(clean, noisy) == pytest.approx(true, abs=0.05)
    assert psnr(clean, noisy, kind="uint8-wrapped") == pytest.approx(wrapped, abs=0.06)


def test_the_floor_of_the_wrapped_psnr():
    every = torch.arange(256).view(16, 16) / 255
    assert psnr(torch.zeros(16, 16), every, kind="uint8-wrapped") == pytest.approx(27.898, abs=5e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.5))
def test_the_wrapped_psnr_is_uint8_arithmetic(seed, noise):
    clean, noisy = scene(16, 16, noise, seed)
    a, b = (np.clip(np.round(x * 255), 0, 255).astype(np.uint8) for x in (clean, noisy))
    with np.errstate(over="ignore"):
        error = np.square(a - b)
    assert error.dtype == np.uint8
    mean = error.mean()
    wanted = 100.0 if mean == 0 else 10 * np.log10(255**2 / mean)
    assert psnr(*tensors(clean, noisy), kind="uint8-wrapped") == pytest.approx(wanted, abs=1e-9)


def test_both_psnrs_agree_where_the_error_is_small():
    clean, noisy = scene(128, 128, noise=0.016)
    clean, noisy = 0.2 + 0.5 * clean, 0.2 + 0.5 * noisy
    a, b = tensors(clean, noisy)
    assert psnr(a, b) > 40
    assert psnr(a, b, kind="uint8-wrapped") == pytest.approx(psnr(a, b), abs=0.3)


def gmsd_in_numpy(clean, noisy):
    """The definition, with convolutions of scipy."""
    halves = [x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3)) for x in (clean, noisy)]
    kernel = np.array([[1, 0, -1]] * 3) / 3
    first, second = (
        np.hypot(convolve(h, kernel, mode="constant"), convolve(h, kernel.T, mode="constant")) for h in halves
    )
    c = 0.0026143790849673205
    return np.std((2 * first * second + c) / (first**2 + second**2 + c))


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_gmsd_is_its_definition(noise):
    clean, noisy = scene(noise=noise)
    assert gmsd(*tensors(clean, noisy)) == pytest.approx(gmsd_in_numpy(clean, noisy), abs=1e-12)


def test_gmsd_of_a_reference_implementation():
    # piq 0.8.0: piq.gmsd(a, b, data_range=1.0) of the images below
    i = torch.arange(32 * 32, dtype=torch.float64).view(1, 1, 32, 32)
    a = (i * 37).remainder(101) / 101
    b = (a + (i * 53).remainder(89) / 890).clamp(0, 1)
    assert gmsd(a, b) == pytest.approx(0.011887541271579516, abs=1e-6)


def test_gmsd_leaves_out_an_odd_last_line():
    clean, noisy = tensors(*scene(41, 49))
    assert gmsd(clean, noisy) == gmsd(clean[..., :40, :48], noisy[..., :40, :48])


def test_a_perfect_image_scores_most():
    x = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    assert psnr(x, x) == psnr(x, x, kind="uint8-wrapped") == 100
    assert ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert gmsd(x, x) == 0
    assert rmse(x, x, 2000) == 0


def test_rmse_is_in_real_units():
    x = torch.zeros(16, 16)
    assert rmse(x, x + 0.01, 2000) == pytest.approx(20, rel=1e-6)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(torch.zeros(4, 4), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="an image is"):
        ssim(torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16))
    with pytest.raises(ValueError, match="true"):
        psnr(torch.zeros(4, 4), torch.zeros(4, 4), kind="best")  # type: ignore[arg-type]
