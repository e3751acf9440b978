"""Stripes: waves of any period and direction are found to a fraction of a per cent, and nothing else is one."""

from math import cos, hypot, pi, sin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfpl.denoisers import METHODS
from medfpl.inverse import stripes
from medfpl.io import read


@pytest.fixture(scope="module")
def clean(sample_data):
    """A real CT slice and a phantom MR slice, working units."""
    found = []
    for name in ("chest_ct/clean", "brain_mr_clean.nii.gz"):
        place = sample_data / name
        scan = read(sorted(place.iterdir())[0] if place.is_dir() else place)
        middle = scan.intensity.to_working(scan.pixels[len(scan.pixels) // 2])
        found.append(torch.from_numpy(middle).float())
    return found


def wave(shape, period, angle, amplitude=0.1, phase=1.0):
    """Return the wave as the noise "structured" makes it, written down again."""
    rows, columns = torch.arange(shape[0]).double()[:, None], torch.arange(shape[1]).double()
    return amplitude * (2 * pi * (sin(angle) * rows + cos(angle) * columns) / period + phase).sin().float()


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.floats(6, 90), st.floats(-pi / 2, pi / 2), st.floats(0.04, 0.3), st.floats(0, 2 * pi), st.sampled_from([0, 1])
)
def test_a_wave_is_found_and_undone(clean, period, angle, amplitude, phase, which):
    image = clean[which]
    striped = image + wave(image.shape, period, angle, amplitude, phase)
    found = stripes.find(striped)
    assert found is not None
    assert found["period"] == pytest.approx(period, rel=0.01)
    assert found["amplitude"] == pytest.approx(amplitude, rel=0.1)
    assert psnr(stripes.undo(striped, found), image) > psnr(striped, image) + 15


def test_it_is_found_in_noise(clean):
    image = clean[0]
    noise = 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    found = stripes.find(image + wave(image.shape, 20, 0.5) + noise)
    assert found is not None
    assert found["amplitude"] == pytest.approx(0.1, rel=0.05)


def test_in_a_denoised_image_a_wave_must_be_the_same_everywhere(clean):
    image = clean[0]
    even, uneven = wave(image.shape, 20, 0.5), wave(image.shape, 20, 0.5) * torch.linspace(0.5, 1.5, image.shape[1])
    assert stripes.find_hidden(image + even, image + even) == pytest.approx(stripes.find(image + even), rel=1e-3)
    assert stripes.find(image + uneven) is not None  # it explains much
    assert stripes.find_hidden(image + uneven, image + uneven) is None


def test_what_noise_hides_is_undone_once_it_is_gone(clean):
    image = clean[1][None, None]
    noise = 0.03 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    striped = image + wave(image.shape[-2:], 30, 0.5, 0.06) + noise
    assert stripes.find(striped[0, 0]) is None
    done, left = (METHODS.get("medfpl").make(undo=undo).restore(striped, "mr") for undo in ("stripes", "none"))
    assert [list(found) for found in (done.found[0], left.found[0])] == [["stripes"], []]
    assert psnr(done.undone, image + noise) > 40
    assert psnr(done.result, image) > psnr(left.result, image) + 4


def test_what_noise_hides_is_undone_where_a_file_cut_it_off_at_black_too(clean):
    image = clean[0].clamp_min(0)[None, None]
    noise = 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    striped = ((image + wave(image.shape[-2:], 30, 0.5, 0.04)).clamp_min(0) + noise).clamp_min(0)
    assert stripes.find(striped[0, 0]) is None
    done, left = (METHODS.get("medfpl").make(undo=undo).restore(striped, "ct") for undo in ("stripes", "none"))
    assert [list(found) for found in (done.found[0], left.found[0])] == [["stripes"], []]
    assert psnr(done.result, image) > psnr(left.result, image) + 4
    air = (image == 0) & (striped < 0.02)
    assert (done.result - image)[air].abs().mean() < 0.01  # no trough of the wave is laid on black


@pytest.mark.parametrize("period", [4.0, 5.0, 6.0, 8.0, 9.0, 10.0, 12.0, 16.0, 20.0, 24.0])
@pytest.mark.parametrize("size", [(192, 160), (400, 400)])
def test_waves_along_the_columns_of_whole_pixels_are_found(clean, period, size):
    image = torch.nn.functional.interpolate(clean[1][None, None], size=size, mode="bicubic")[0, 0]
    striped = image + wave(size, period, 0.0, 0.25, 0.0)
    found = stripes.find(striped)
    assert found is not None
    assert found["amplitude"] == pytest.approx(0.25, rel=0.02)
    assert psnr(stripes.undo(striped, found), image) > 35


def test_the_phase_is_that_of_the_first_pixel_of_a_large_image(clean):
    image = torch.nn.functional.interpolate(clean[0][None, None], size=(700, 830), mode="bicubic")[0, 0]
    found = stripes.find(image + wave(image.shape, 40, -0.7, 0.1, 0.0))
    assert found is not None
    assert hypot(found["sine"] + 0.1, found["cosine"]) < 0.005 or hypot(found["sine"] - 0.1, found["cosine"]) < 0.005
    assert psnr(stripes.undo(image + wave(image.shape, 40, -0.7, 0.1, 0.0), found), image) > 50


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_what_has_no_wave_is_left_alone(clean, which, noise):
    image = clean[which]
    noisy = image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(3))
    assert stripes.find(noisy) is None


def test_of_lines_that_are_no_wave_nothing_else_is_taken(clean):
    lines = 0.1 * torch.randn(clean[0].shape[1], generator=torch.Generator().manual_seed(3))
    seen = clean[0] + lines
    found = stripes.find(seen)
    assert found is None or psnr(stripes.undo(seen, found), clean[0]) > psnr(seen, clean[0])


@pytest.mark.parametrize("image", [torch.zeros(64, 64), torch.eye(48), torch.zeros(8, 8), torch.ones(33, 1)])
def test_images_that_show_nothing(image):
    assert stripes.find(image) is None


@pytest.mark.parametrize("which", [0, 1])
def test_of_a_wave_that_a_file_cut_off_at_black_the_rest_is_undone_whole(clean, which):
    image = clean[which].clamp_min(0)
    cut = (image + wave(image.shape, 37, 0.3, 0.2)).clamp_min(0)
    found = stripes.find(cut)
    assert found is not None
    assert found["amplitude"] == pytest.approx(0.2, rel=0.03)
    undone = stripes.undo(cut, found)
    assert (undone - image)[cut > 0].abs().max() < 0.02
    assert undone[(image == 0) & (cut == 0)].abs().max() < 0.02
    assert psnr(undone, image) > psnr(cut, image) + 10


def test_too_little_of_an_image_shows_no_wave(clean):
    corner = torch.zeros_like(clean[0])
    corner[:60, :60] = 0.5 + wave((60, 60), 20, 0.4)
    assert stripes.find(corner) is None
