"""Motion blur: length and direction are read from the spectrum, the movement is undone, and nothing else is one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfpl.inverse import INVERSES, motion_blur, undo
from medfpl.io import read
from medfpl.noises import NOISES
from medfpl.noises.fourier import mirror


@pytest.fixture(scope="module")
def radiograph(sample_data):
    scan = read(sample_data / "chest_xray_clean.dcm")
    return torch.from_numpy(scan.intensity.to_working(scan.pixels[0])).float()


def blurred(image, length, angle):
    values = {"mode": "blur", "length": length, "angle": angle}
    return NOISES.get("motion").apply(image[None, None], [values], [], [])[0, 0]


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.floats(10, 40), st.floats(0, 179.9))
def test_a_movement_is_found_and_undone(radiograph, length, angle):
    seen = blurred(radiograph, length, angle)
    found = motion_blur.find(seen)
    assert found is not None
    assert found["length"] == pytest.approx(length, rel=0.03)
    assert abs((found["angle"] - angle + 90) % 180 - 90) < 2.0
    assert psnr(motion_blur.undo(seen, found), radiograph) > psnr(seen, radiograph) + 3


def test_what_is_undone_explains_the_image(radiograph):
    seen = blurred(radiograph, 18.0, 30.0)
    found = motion_blur.find(seen)
    again = blurred(motion_blur.undo(seen, found), found["length"], found["angle"])
    assert (again - seen).square().mean().sqrt() < 0.003


def test_more_noise_is_more_damping(radiograph):
    seen = blurred(radiograph, 18.0, 30.0)
    found = motion_blur.find(seen)
    quiet, noisy = ((motion_blur.undo(seen, {**found, "noise": n}) - seen).norm() for n in (0.0, 0.03))
    assert noisy < quiet


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_what_did_not_move_is_left_alone(radiograph, noise):
    seen = radiograph + noise * torch.randn(radiograph.shape, generator=torch.Generator().manual_seed(1))
    assert motion_blur.find(seen) is None


@pytest.mark.parametrize("size", [(64, 64), (65, 90)])
def test_a_soft_image_did_not_move(radiograph, size):
    soft = torch.nn.functional.interpolate(radiograph[None, None], size=size, mode="area")
    assert motion_blur.find(torch.nn.functional.interpolate(soft, scale_factor=3, mode="bilinear")[0, 0]) is None


@pytest.mark.parametrize("image", [torch.zeros(80, 80), torch.ones(64, 200), torch.zeros(8, 8)])
def test_images_that_show_nothing(image):
    assert motion_blur.find(image) is None


def test_the_adjoint_of_the_mirrored_border():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 1, 9, 7, generator=generator), torch.rand(1, 1, 31, 29, generator=generator)
    assert float((mirror(x, 11) * y).sum()) == pytest.approx(float((x * motion_blur._unmirror(y, 11)).sum()), rel=1e-5)


def test_both_are_undone_and_each_item_is_by_itself(radiograph):
    rows = torch.arange(radiograph.shape[0])[:, None]
    wave = 0.1 * torch.sin(2 * torch.pi * rows / 24).expand_as(radiograph)
    both = blurred(radiograph, 15.0, 80.0) + wave
    cleaned, found = undo(torch.stack([both, radiograph])[:, None], tuple(INVERSES))
    assert list(found[0]) == ["motion-blur", "stripes"]
    assert found[1] == {}
    assert torch.equal(cleaned[1, 0], radiograph)
    assert psnr(cleaned[0, 0], radiograph) > psnr(both, radiograph)


def test_nothing_is_looked_for_where_nothing_is_to_be_undone(radiograph):
    x = blurred(radiograph, 15.0, 80.0)[None, None]
    same, found = undo(x, ())
    assert same is x
    assert found == [{}]


@pytest.mark.parametrize("noise", [0.001, 0.0025, 0.005])
def test_under_noise_it_is_undone_no_further_than_it_gains(radiograph, noise):
    generator = torch.Generator().manual_seed(2)
    seen = blurred(radiograph, 21.0, 40.0) + noise * torch.randn(radiograph.shape, generator=generator)
    numbers = {"length": 21.0, "angle": 40.0, "noise": noise}
    assert psnr(motion_blur.undo(seen, numbers), radiograph) > psnr(seen, radiograph) + 1
