"""The classical filters against other libraries' and against their definitions written as plain loops."""

import numpy as np
import pytest
import pywt
import scipy.ndimage as ndi
import torch
from scipy.signal import wiener
from skimage.restoration import denoise_bilateral, denoise_nl_means, denoise_wavelet

from medfpl.denoisers import METHODS
from medfpl.denoisers.methods._filters import gaussian_blur, median_network, window_sum
from medfpl.denoisers.methods.bilateral import BilateralFilter

SHAPES = [(37, 50), (64, 33), (5, 4)]


def image(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Blobs with noise, float64, partly outside 0..1."""
    rng = np.random.default_rng(seed)
    blobs = ndi.gaussian_filter(rng.standard_normal(shape), 3)
    return blobs / blobs.std() * 0.4 + 0.5 + 0.1 * rng.standard_normal(shape)


def run(name: str, x: np.ndarray, noise_level: float | None = 0.1, **settings: object) -> np.ndarray:
    batch = torch.from_numpy(x)[None, None]
    return METHODS.get(name).make(**settings).denoise(batch, noise_level=noise_level)[0, 0].numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_mean_is_scipys(shape, size):
    x = image(shape)
    np.testing.assert_allclose(run("mean", x, size=size), ndi.uniform_filter(x, size), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
def test_median_is_scipys_to_the_bit(shape, size):
    x = image(shape)
    np.testing.assert_array_equal(run("median", x, size=size), ndi.median_filter(x, size))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.3])
def test_gaussian_is_scipys(shape, sigma):
    x = image(shape)
    np.testing.assert_allclose(run("gaussian", x, sigma=sigma), ndi.gaussian_filter(x, sigma), atol=1e-12)


def test_gaussian_with_a_width_an_item():
    x = torch.from_numpy(np.stack([image((30, 31), s) for s in range(3)]))[:, None]
    y = gaussian_blur(x, torch.tensor([0.0, 0.7, 2.5]))
    for i, sigma in enumerate((0.0, 0.7, 2.5)):
        np.testing.assert_allclose(y[i, 0], ndi.gaussian_filter(x[i, 0].numpy(), sigma), atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_combined_is_the_three_in_turn(shape):
    x = image(shape)
    expected = ndi.gaussian_filter(ndi.median_filter(ndi.uniform_filter(x, 3), 3), 0.8)
    np.testing.assert_allclose(run("combined", x), expected, atol=1e-12)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_wiener_is_scipys_inside(size):
    # scipy continues with zeros over the border, we by reflection: equal half a window inside.
    x = image((37, 50))
    r = size // 2
    ours, theirs = run("wiener", x, size=size, noise=0.1), wiener(x, size, 0.1**2)
    np.testing.assert_allclose(ours[r:-r, r:-r], theirs[r:-r, r:-r], atol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_wiener_on_integers_does_not_overflow():
    # scipy squares uint8 as uint8, so that the local variance is nonsense; the paper's numbers look like it.
    pixels = np.clip(image((48, 48)) * 255, 0, 255).astype(np.uint8)
    batch = torch.from_numpy(pixels)[None, None]
    method = METHODS.get("wiener").make(size=3, noise=10)
    ours = method.denoise(batch)[0, 0].double().numpy()
    exact = wiener(pixels.astype(float), 3, 100.0)
    faulty = wiener(pixels, 3, 100)
    np.testing.assert_allclose(ours[1:-1, 1:-1], exact[1:-1, 1:-1], atol=1e-3)
    assert np.nanmax(np.abs(faulty - exact)[1:-1, 1:-1]) > 5


def test_wiener_keeps_a_low_variance_on_a_high_mean():
    # In float32, mean(x^2) - mean^2 near 30 is wrong by more than this variance.
    rng = np.random.default_rng(0)
    x = 30 + 1e-3 * rng.standard_normal((32, 32))
    y = METHODS.get("wiener").make(size=5, noise=5e-4).denoise(torch.from_numpy(x).float()[None, None])[0, 0].numpy()
    exact = wiener(x, 5, 2.5e-7)
    np.testing.assert_allclose(y[2:-2, 2:-2], exact[2:-2, 2:-2], atol=1e-5)


def test_bilaterals_range_weights_are_scikit_images():
    # Without the spatial weights, whose table scikit-image 0.26 reads with a wrong stride for odd windows. It mirrors
    # over the border, where our window ends, and reads the range weights from a table too.
    x = np.clip(image((40, 44)), 0, 1)
    ours = BilateralFilter(sigma_spatial=1e4, sigma_range=0.2, radius=4).denoise(torch.from_numpy(x)[None, None])
    theirs = denoise_bilateral(x, win_size=9, sigma_color=0.2, sigma_spatial=1e4, mode="symmetric", bins=100_000)
    np.testing.assert_allclose(ours[0, 0].numpy()[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=5e-5)


@pytest.mark.parametrize("shape", [(17, 12), (4, 3)])
def test_bilateral_is_its_definition(shape):
    x, s, r, radius = image(shape), 1.3, 0.25, 3
    expected = np.empty(shape)
    for i, j in np.ndindex(shape):
        rows, columns = (slice(max(0, k - radius), k + radius + 1) for k in (i, j))
        window, dy, dx = x[rows, columns], np.arange(shape[0])[rows, None] - i, np.arange(shape[1])[columns] - j
        weight = np.exp(-(dy**2 + dx**2) / (2 * s * s) - (window - x[i, j]) ** 2 / (2 * r * r))
        expected[i, j] = (weight * window).sum() / weight.sum()
    np.testing.assert_allclose(run("bilateral", x, sigma_spatial=s, sigma_range=r, radius=radius), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(15, 11), (5, 4)])
@pytest.mark.parametrize(("patch", "search"), [(3, 5), (5, 9)])
def test_nlm_is_its_definition(shape, patch, search):
    x, sigma, h = image(shape), 0.1, 0.15
    r, reach = patch // 2, search // 2
    patches = np.lib.stride_tricks.sliding_window_view(np.pad(x, r, mode="symmetric"), (patch, patch))
    expected = np.empty(shape)
    for i, j in np.ndindex(shape):
        rows, columns = (slice(max(0, k - reach), k + reach + 1) for k in (i, j))
        distance = ((patches[rows, columns] - patches[i, j]) ** 2).mean((-2, -1))
        weight = np.exp(-np.maximum(distance - 2 * sigma**2, 0) / h**2)
        expected[i, j] = (weight * x[rows, columns]).sum() / weight.sum()
    np.testing.assert_allclose(run("nlm", x, sigma, patch=patch, search=search, h=h), expected, atol=1e-12)


def test_nlm_is_as_good_as_scikit_images():
    # Not equal: its fast mode sums 4 x 4 of the patch's 5 x 5 pixels, but divides by 25, so that its h is 5/4 of ours;
    # and it drops weights under exp(-5).
    clean = ndi.gaussian_filter(image((96, 96)), 2)
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)
    ours = run("nlm", noisy, 0.1, patch=5, search=13, h=0.1)
    theirs = denoise_nl_means(noisy, patch_size=5, patch_distance=6, h=0.08, sigma=0.1, fast_mode=True)
    assert ((ours - clean) ** 2).mean() < ((theirs - clean) ** 2).mean()
    assert ((ours - theirs) ** 2).mean() < 0.05 * ((noisy - clean) ** 2).mean()


@pytest.mark.parametrize("shape", [(64, 64), (65, 90), (37, 50)])
@pytest.mark.parametrize("wavelet", ["db1", "sym4"])
def test_wavelet_without_shifts_is_scikit_images(shape, wavelet):
    x = image(shape)
    ours = run("wavelet", x, 0.1, wavelet=wavelet, shifts=1, levels=2)
    theirs = denoise_wavelet(x, sigma=0.1, wavelet=wavelet, wavelet_levels=2, method="BayesShrink", mode="soft")
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_wavelet_averages_over_the_grids_positions():
    x = image((32, 40))
    parts = []
    for dy in range(2):
        for dx in range(2):
            moved = np.pad(x, ((dy, 0), (dx, 0)), mode="symmetric")
            one = denoise_wavelet(moved, sigma=0.1, wavelet="db2", wavelet_levels=2)
            parts.append(one[dy : dy + 32, dx : dx + 40])
    np.testing.assert_allclose(run("wavelet", x, 0.1, wavelet="db2", levels=2, shifts=2), np.mean(parts, 0), atol=1e-12)


def test_every_offered_wavelet_is_orthogonal():
    for name in METHODS.get("wavelet").settings["wavelet"].choices:
        assert pywt.Wavelet(name).orthogonal


@pytest.mark.parametrize("n", [1, 9, 25])
def test_the_median_network_finds_the_median(n):
    rng = np.random.default_rng(n)
    values = rng.integers(0, 7, (500, n)).astype(float)
    wires = list(values.T)
    for a, b, low, high in median_network(n):
        small, large = np.minimum(wires[a], wires[b]), np.maximum(wires[a], wires[b])
        wires[a], wires[b] = (small if low else wires[a]), (large if high else wires[b])
    np.testing.assert_array_equal(wires[n // 2], np.median(values, axis=1))


@pytest.mark.parametrize("size", range(1, 12))
def test_window_sums(size):
    x = torch.arange(24.0).reshape(2, 12) ** 2
    expected = x.unfold(1, size, 1).sum(-1)
    torch.testing.assert_close(window_sum(x, size, 1), expected)
