from math import log, pi, sqrt

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, median_filter
from task_trials import blur, body, case, identity, measured, trial, white


def test_identity_keeps_edges():
    found = measured("edges", trial(identity, white(0.003)))
    assert found["width"] == found["width_noisy"]
    assert list(found["width"].values()) == pytest.approx([1, 1], abs=0.03)
    assert set(found["width"]) == {"strong", "faint"}
    assert found["f50"] == {"40 HU": 0.5, "200 HU": 0.5}


@pytest.mark.parametrize("b", [0.7, 1.0])
def test_a_blur_widens_edges_as_it_must(b):
    found = measured("edges", trial(blur(b), white(0.003)))
    # the body's edge was drawn hard on the pixel grid, then blurred by 1 pixel
    assert list(found["width"].values()) == pytest.approx([sqrt(1 + b * b)] * 2, rel=0.04)
    assert list(found["f50"].values()) == pytest.approx([sqrt(log(2) / 2) / (pi * b)] * 2, rel=0.05)
    assert list(found["width_noisy"].values()) == pytest.approx([1, 1], abs=0.03)


def test_a_filter_that_spares_strong_edges_is_told_from_one_that_does_not():
    def denoise(x):
        smooth = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5)))
        return torch.where((x - smooth).abs() > 0.05, x, smooth)

    found = measured("edges", trial(denoise, white(0.003)))
    assert found["width"]["strong"] < found["width"]["faint"] - 0.3
    assert found["f50"]["40 HU"] < 0.2


def test_a_median_keeps_straight_edges_and_a_mean_does_not():
    def median(x):
        return torch.from_numpy(median_filter(x.numpy(), (1, 1, 3, 3)))

    def mean(x):
        return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (1,) * 4, mode="reflect"), 3, 1)

    kept, widened = (measured("edges", trial(m, white(0.003)))["width"]["strong"] for m in (median, mean))
    assert kept == pytest.approx(1, abs=0.05)
    assert widened == pytest.approx(sqrt(1 + 2 / 3), rel=0.05)


def test_an_eraser_leaves_no_edge_to_measure():
    found = measured("edges", trial(lambda x: torch.full_like(x, 0.5)))
    assert set(found) == {"width_noisy"}


def test_a_flat_image_has_no_edge():
    assert measured("edges", trial(of=case(torch.zeros(1, 1, 64, 64)))) == {}


def test_the_choice_of_edges_is_the_same_every_time():
    of = case(body() + 0.002 * torch.from_numpy(np.random.default_rng(0).normal(size=(192, 192))).float())
    assert measured("edges", trial(of=of)) == measured("edges", trial(of=of))
