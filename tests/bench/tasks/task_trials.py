"""Trials of methods whose answer is known, on an image that is drawn here."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from medfpl.bench.cases import Case
from medfpl.bench.tasks import TASKS
from medfpl.bench.tasks.base import Trial
from medfpl.scan import Intensity

CT = Intensity("ct", "HU", -1000.0, 1000.0)
MR = Intensity("mr", "1", 0.0, 500.0)


def body(size=192):
    """A body of soft tissue (40 HU) in air with an organ of 120 HU, edges of 1 pixel: (1, 1, size, size)."""
    y, x = np.mgrid[0:size, 0:size] - (size - 1) / 2
    hu = np.where(np.hypot(y, x) < 0.45 * size, 40.0, -1000.0)
    hu[np.hypot(y, x - 0.15 * size) < 0.2 * size] = 120.0
    return torch.from_numpy(CT.to_working(gaussian_filter(hu, 1.0).astype(np.float32)))[None, None]


def case(image=None, intensity=CT):
    return Case("c0", "p0", body() if image is None else image, intensity)


def white(sigma):
    """White Gaussian noise of ``sigma`` working units."""

    def corrupt(x, realisation=0):
        generator = torch.Generator().manual_seed(1000 + realisation)
        return x + sigma * torch.randn(x.shape[-2:], generator=generator)

    return corrupt


def identity(x):
    return x


def blur(sigma):
    def denoise(x):
        return torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, sigma, sigma)))

    return denoise


def trial(denoise=identity, corrupt=None, *, of=None, seed=0, features=None):
    of, corrupt = of or case(), corrupt or white(0.01)
    noisy = corrupt(of.image)
    return Trial(of, of.image, noisy, denoise(noisy), corrupt, denoise, seed, features)


def measured(task, made):
    """Run a task: {measure: {detail: value}}. Every measure must be declared, every value finite."""
    declared = TASKS.get(task)
    assert declared.name == task
    found = {}
    for v in declared.run(made):
        assert v.measure in declared.measures
        assert np.isfinite(v.value)
        assert v.detail not in found.setdefault(v.measure, {})
        found[v.measure][v.detail] = v.value
    return found
