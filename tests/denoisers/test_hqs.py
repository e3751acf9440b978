"""Half-quadratic splitting against what is known in closed form: Gaussian priors, whose denoiser is linear."""

import numpy as np
import pytest
import torch
from torch import Tensor

from medfpl.denoisers.hqs import FIRST, LEAST, Blurred, Identity, Masked, Operator, restore, schedule
from medfpl.errors import UsageError

MEAN, SD = 0.4, 0.3  # of the Gaussian prior
SHAPE = (2, 1, 6, 8)


def rand(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def gaussian_prior(x: Tensor, level: Tensor) -> Tensor:
    """The exact denoiser of pixels that are N(MEAN, SD^2): the proximal map of R(x) = |x - MEAN|^2 / (2 SD^2)."""
    return (SD**2 * x + level**2 * MEAN) / (SD**2 + level**2)


KERNEL = torch.tensor([[0.1, 0.2, 0.0], [0.1, 0.3, 0.3]], dtype=torch.double)
KNOWN = rand(9, (6, 8)) > 0.4
OPERATORS = {"identity": Identity(), "masked": Masked(KNOWN), "blurred": Blurred(KERNEL)}


def matrix(operator: Operator) -> np.ndarray:
    """H as a matrix over the pixels, by definition and without FFT."""
    h, w = SHAPE[-2:]
    if isinstance(operator, Masked):
        return np.diag(operator.known.numpy().ravel().astype(float))
    if isinstance(operator, Identity):
        return np.eye(h * w)
    whole = np.zeros((h, w, h, w))
    for y in range(h):
        for x in range(w):
            for (i, j), value in np.ndenumerate(KERNEL.numpy()):
                whole[y, x, (y - (i - 1)) % h, (x - (j - 1)) % w] += value
    return whole.reshape(h * w, h * w)


@pytest.mark.parametrize("name", OPERATORS)
def test_nearest_solves_its_normal_equations(name):
    operator, h = OPERATORS[name], matrix(OPERATORS[name])
    y, z = rand(1), rand(2)
    alpha = torch.tensor([0.05, 3.0], dtype=torch.double).view(-1, 1, 1, 1)
    found = operator.nearest(y, z, alpha)
    for i, a in enumerate((0.05, 3.0)):
        right = h.T @ y[i].numpy().ravel() + a * z[i].numpy().ravel()
        wanted = np.linalg.solve(h.T @ h + a * np.eye(len(h)), right)
        np.testing.assert_allclose(found[i].numpy().ravel(), wanted, rtol=1e-9, atol=1e-12)


def test_blurring_is_the_convolution_with_its_kernel():
    x = rand(3)
    wanted = matrix(OPERATORS["blurred"]) @ x[0].numpy().ravel()
    np.testing.assert_allclose(Blurred(KERNEL).apply(x)[0].numpy().ravel(), wanted, rtol=1e-12)


def split_solution(operator: Operator, y: np.ndarray, sigma: float, level: float, weight: float) -> np.ndarray:
    """The z that minimises |Hx - y|^2 / (2 sigma^2) + weight (|x - z|^2 / (2 level^2) + |z - MEAN|^2 / (2 SD^2))."""
    h = matrix(operator)
    n, near, prior = len(h), weight / level**2, weight / SD**2
    eye = np.eye(n)
    left = np.block([[h.T @ h / sigma**2 + near * eye, -near * eye], [-near * eye, (near + prior) * eye]])
    right = np.concatenate([h.T @ y / sigma**2, np.full(n, prior * MEAN)])
    return np.linalg.solve(left, right)[n:]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("weight", [0.23, 1.0])
def test_at_one_level_it_converges_to_the_minimiser_of_the_split_problem(name, weight):
    y, sigma = rand(4), 0.1
    found = restore(y, OPERATORS[name], gaussian_prior, sigma, iterations=2000, weight=weight, first=sigma)
    for i in range(len(y)):
        wanted = split_solution(OPERATORS[name], y[i].numpy().ravel(), sigma, sigma, weight)
        np.testing.assert_allclose(found[i].numpy().ravel(), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_that_minimiser_is_a_fixed_point(name):
    y, sigma = rand(4), 0.1
    fixed = [split_solution(OPERATORS[name], item.numpy().ravel(), sigma, sigma, 0.23) for item in y]
    start = torch.from_numpy(np.stack(fixed)).view(SHAPE)
    found = restore(y, OPERATORS[name], gaussian_prior, sigma, iterations=1, first=sigma, start=start)
    torch.testing.assert_close(found, start, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_as_the_prior_s_level_falls_the_split_problem_becomes_the_map_estimate(name):
    # The MAP estimate of N(MEAN, SD^2) pixels: the mean of the posterior, in closed form. What the split problem's
    # differs from it goes to 0 with the square of the prior's level.
    h, y, sigma = matrix(OPERATORS[name]), rand(4)[0].numpy().ravel(), 0.1
    precision = h.T @ h / sigma**2 + np.eye(len(h)) / SD**2
    best = np.linalg.solve(precision, h.T @ y / sigma**2 + MEAN / SD**2)
    errors = [np.abs(split_solution(OPERATORS[name], y, sigma, level, 1.0) - best).max() for level in (0.1, 0.01)]
    assert errors[0] > 1e-3
    assert errors[1] < 0.015 * errors[0]


def test_denoising_with_one_round_is_the_formula():
    y, sigma, weight = rand(5), 0.08, 0.23
    found = restore(y, Identity(), gaussian_prior, sigma, iterations=1, weight=weight)
    # From y itself the data step stays at y.
    torch.testing.assert_close(found, (SD**2 * y + sigma**2 * MEAN) / (SD**2 + sigma**2))


def test_the_rounds_are_those_of_the_schedule():
    y, asked = rand(6), []

    def watched(x: Tensor, level: Tensor) -> Tensor:
        asked.append(level.flatten().tolist())
        return gaussian_prior(x, level)

    levels = torch.tensor([0.01, 0.5], dtype=torch.double)
    found = restore(y, Masked(KNOWN), watched, levels, iterations=5, weight=0.3)
    first = np.geomspace(49 / 255, 0.01, 5)
    np.testing.assert_allclose([a[0] for a in asked], first, rtol=1e-9)
    np.testing.assert_allclose([a[1] for a in asked], 0.5)
    z = y[0, 0].numpy()
    for s in first:
        alpha = 0.3 * 0.01**2 / s**2
        x = np.where(KNOWN.numpy(), (y[0, 0].numpy() + alpha * z) / (1 + alpha), z)
        z = (SD**2 * x + s**2 * MEAN) / (SD**2 + s**2)
    np.testing.assert_allclose(found[0, 0].numpy(), z, rtol=1e-9)


def test_a_single_round_is_at_the_noise_s_own_level():
    level = torch.full((1, 1, 1, 1), 0.02)
    assert [float(s) for s in schedule(level, 1)] == [pytest.approx(0.02)]
    assert float(schedule(level, 8)[0]) == pytest.approx(FIRST)


def test_no_noise_is_treated_as_the_least():
    asked = []
    restore(rand(), Identity(), lambda x, s: asked.append(float(s[0])) or x, 0.0, iterations=3)
    assert asked[-1] == pytest.approx(LEAST)
    assert torch.isfinite(restore(rand(), Blurred(KERNEL), gaussian_prior, 0.0)).all()


def test_a_blurred_image_comes_back():
    # No noise to speak of: the data alone decide, whatever the prior.
    x = rand(7, (1, 1, 32, 32))
    kernel = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]], dtype=torch.double)
    blurred = Blurred(kernel)
    found = restore(blurred.apply(x), blurred, lambda x, s: x, 0.001, iterations=40, weight=1e-3)
    assert float((found - x).abs().max()) < 1e-3
    assert float((blurred.apply(x) - x).abs().max()) > 0.1


@pytest.mark.parametrize(
    "kernel", [torch.ones(3), torch.ones(9, 3), torch.ones(3, 9), torch.full((3, 3), float("nan"))]
)
def test_kernels_that_do_not_fit_are_refused(kernel):
    with pytest.raises(UsageError, match="kernel"):
        restore(rand(), Blurred(kernel), gaussian_prior, 0.1)


@pytest.mark.parametrize("level", [-1.0, float("nan"), torch.ones(3)])
def test_noise_levels_that_make_no_sense_are_refused(level):
    with pytest.raises(UsageError):
        restore(rand(), Identity(), gaussian_prior, level)
