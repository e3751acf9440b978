"""Images unlike those of the store: what stays true of them however odd they are."""

import numpy as np
import pytest
import torch

from medfpl.seeds import numpy_generator
from medfpl.training import odd
from medfpl.training.config import DataConfig
from medfpl.training.data import TrainingBatches
from medfpl.training.odd import make_odd


def body(side=64):
    y, x = np.mgrid[:side, :side] / side - 0.5
    image = 0.5 * (np.hypot(y, x) < 0.35) + 0.3 * (np.hypot(y - 0.1, x) < 0.1)
    return image.astype(np.float32)


def many(count=200):
    image, other = body(), body().T.copy()
    return [make_odd(numpy_generator(5, "odd", k), image, lambda: other) for k in range(count)]


def test_range_size_and_dtype_stay_and_the_images_given_are_not_touched():
    image, other = body(), body()
    image.flags.writeable = other.flags.writeable = False
    for k in range(100):
        made = make_odd(numpy_generator(0, k), image, lambda: other)
        assert made.shape == image.shape
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert made.min() >= 0
        assert made.max() <= 2


def test_one_generator_gives_one_image():
    first, again, other = (make_odd(numpy_generator(3, k), body(), body) for k in ("a", "a", "b"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_most_are_odd_and_some_are_hardly():
    same = np.mean([np.array_equal(made, body()) for made in many()])
    # None of five steps with probabilities 1/4, 1/2, 3/5, 1/2, 3/5, and not dead leaves.
    assert same == pytest.approx(0.875 * 0.75 * 0.5 * 0.4 * 0.5 * 0.4, abs=0.03)


def test_dark_for_bright_keeps_the_air_dark(monkeypatch):
    monkeypatch.setattr(odd, "GAMMA", (1.0, 1.0 + 1e-9))
    turned = 0
    for k in range(60):
        made = odd._retoned(numpy_generator(1, k), body())
        inside = body() > 0.1
        assert made[~inside].max() < 1e-6
        order = np.corrcoef(made[inside], body()[inside])[0, 1]
        assert abs(order) == pytest.approx(1, abs=1e-4)
        turned += order < 0
    assert 8 <= turned <= 30  # three in ten


def test_a_batch_of_odd_images(tiny_store):
    config = DataConfig(frame=64, patch=64, batch=8, noises=["gaussian"])
    plain, odd_ones = (
        TrainingBatches(tiny_store, config.model_copy(update={"odd": share}), 0, 3)[0] for share in (0.0, 1.0)
    )
    assert not torch.equal(plain.clean, odd_ones.clean)
    assert odd_ones.clean.min() >= 0
    again = TrainingBatches(tiny_store, config.model_copy(update={"odd": 1.0}), 0, 3)[0]
    assert torch.equal(odd_ones.noisy, again.noisy)
