"""The model that ships, on phantoms whose truth is known: better than the noisy image, and no anatomy is moved."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import medfpl
from medfpl.io import read
from medfpl.sample import sample_path
from medfpl.scan import FloatArray

# How far the local mean (a Gaussian of 2 pixels) of a clean image may move, as a share of the working range: 20 HU.
MOST = 0.01
IMAGES = [
    ("abdomen_ct_clean.nii.gz", "abdomen_ct_noisy.nii.gz"),
    ("chest_ct/clean/0007.dcm", "chest_ct/noisy/0007.dcm"),
    ("chest_xray_clean.dcm", "chest_xray_noisy.dcm"),
    ("brain_mr_clean.nii.gz", "brain_mr_noisy.nii.gz"),
]


def middle(name: str) -> tuple[FloatArray, FloatArray]:
    """Return a sample's middle slice in working units, before and after ``medfpl.denoise``."""
    scan = read(sample_path() / name)
    z = scan.pixels.shape[0] // 2
    return tuple(s.intensity.to_working(s.pixels[z]) for s in (scan, medfpl.denoise(scan)))  # type: ignore[return-value]


@pytest.mark.parametrize(("clean", "noisy"), IMAGES)
def test_it_brings_a_noisy_image_nearer_to_the_truth(clean: str, noisy: str) -> None:
    truth = middle(clean)[0]
    before, after = (np.sqrt(np.square(image - truth).mean()) for image in middle(noisy))
    assert after < before


@pytest.mark.parametrize("clean", [clean for clean, _ in IMAGES])
def test_it_erases_nothing_from_a_clean_image(clean: str) -> None:
    before, after = middle(clean)
    assert np.abs(gaussian_filter(after - before, 2)).max() < MOST
