import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medfpl.training.metrics import psnr, ssim


@pytest.mark.parametrize("noise", [0.001, 0.1, 1.0])
def test_both_are_those_of_scikit_image(noise):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:33] / 10
    clean = np.stack([np.sin(x * y), np.cos(x) + 0.5 * y])[:, None]
    noisy = clean + rng.normal(0, noise, clean.shape)
    a, b = torch.from_numpy(clean), torch.from_numpy(noisy)
    for i in range(2):
        pair = clean[i, 0], noisy[i, 0]
        wanted = structural_similarity(
            *pair, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(ssim(a, b)[i]) == pytest.approx(wanted, abs=1e-9)
        assert float(psnr(a, b)[i]) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=1), abs=1e-9)


def test_a_perfect_image_scores_most():
    x = torch.rand(2, 1, 16, 16)
    assert torch.allclose(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert torch.equal(psnr(x, x), torch.full((2,), 100.0, dtype=torch.float64))
