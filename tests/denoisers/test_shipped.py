"""The models that ship, on phantoms whose truth is known: better than the noisy image, and no anatomy is erased."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import medfpl
from medfpl.io import read
from medfpl.nets.weights import list_models
from medfpl.sample import sample_path
from medfpl.scan import FloatArray

# How far the local mean (a Gaussian of 2 pixels) of a clean image may move, as a share of the working range: 30 HU.
MOST = 0.015
MODELS = [m.card.name for m in list_models() if m.origin == "shipped" and m.card.role == "denoiser"]
IMAGES = [
    ("abdomen_ct_clean.nii.gz", "abdomen_ct_noisy.nii.gz"),
    ("chest_ct/clean/0007.dcm", "chest_ct/noisy/0007.dcm"),
    ("chest_xray_clean.dcm", "chest_xray_noisy.dcm"),
    ("brain_mr_clean.nii.gz", "brain_mr_noisy.nii.gz"),
]


def middle(name: str, model: str) -> tuple[FloatArray, FloatArray]:
    """Return a sample's middle slice in working units, before and after ``medfpl.denoise``."""
    scan = read(sample_path() / name)
    z = scan.pixels.shape[0] // 2
    return tuple(s.intensity.to_working(s.pixels[z]) for s in (scan, medfpl.denoise(scan, model=model)))  # type: ignore[return-value]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("clean", "noisy"), IMAGES)
def test_it_brings_a_noisy_image_nearer_to_the_truth(clean: str, noisy: str, model: str) -> None:
    truth = middle(clean, model)[0]
    before, after = (np.sqrt(np.square(image - truth).mean()) for image in middle(noisy, model))
    assert after < before


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("clean", [clean for clean, _ in IMAGES])
def test_it_erases_nothing_from_a_clean_image(clean: str, model: str) -> None:
    before, after = middle(clean, model)
    assert np.abs(gaussian_filter(after - before, 2)).max() < MOST
