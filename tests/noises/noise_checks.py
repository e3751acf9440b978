"""What the noise tests share: phantoms, one-line corruption, and statistical assertions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from medfpl.noises import NOISES, Context, corrupt

CT = Context("ct", -1000.0, 1000.0, 1.4)
MR = Context("mr", 0.0, 1000.0, 1.0)


def flat(value: float, side: int = 400, dtype: torch.dtype = torch.float32) -> Tensor:
    """A constant image: 160,000 samples of one distribution."""
    return torch.full((1, 1, side, side), value, dtype=dtype)


def phantom(height: int = 64, width: int = 64, items: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Ellipses of several values over air, each item a little different: (items, 1, height, width)."""
    rows = torch.linspace(-1, 1, height, dtype=dtype)[:, None]
    columns = torch.linspace(-1, 1, width, dtype=dtype)
    images = []
    for i in range(items):
        image = 0.45 * ((rows / 0.85) ** 2 + (columns / 0.85) ** 2 < 1)  # a rim of fat, on the scale of CT
        image = image + 0.10 * ((rows / 0.75) ** 2 + (columns / 0.75) ** 2 < 1)
        image = image + 0.35 * (((rows - 0.3) / 0.2) ** 2 + ((columns + 0.2) / 0.3) ** 2 < 1)
        image = image - 0.40 * (((rows + 0.3) / 0.3) ** 2 + ((columns - 0.25 + 0.05 * i) / 0.25) ** 2 < 1)
        images.append(image * (1 + 0.03 * columns))
    return torch.stack(images)[:, None].to(dtype)


def noisy(
    name: str,
    x: Tensor,
    seed: int | Sequence[int] = 0,
    strength: float | None = None,
    context: Context = MR,
    **given: Any,
) -> Tensor:
    """Corrupt every item of ``x``; item i of one ``seed`` gets seed + i."""
    seeds = [seed + i for i in range(len(x))] if isinstance(seed, int) else seed
    return corrupt(x, NOISES.get(name), seeds=seeds, strength=strength, given=given, contexts=[context] * len(x))[0]


def samples(y: Tensor) -> npt.NDArray[np.float64]:
    return y.detach().double().flatten().numpy()


def check_moments(values: npt.NDArray[np.float64], mean: float, variance: float) -> None:
    """Mean within 5 standard errors, variance within 3 percent, of at least 1e5 samples."""
    assert values.size >= 100_000
    assert abs(values.mean() - mean) < 5 * np.sqrt(variance / values.size)
    assert abs(values.var() / variance - 1) < 0.03


def check_distribution(values: npt.NDArray[np.float64], cdf: Callable[..., Any]) -> None:
    """Kolmogorov-Smirnov on 20,000 samples: p > 1e-3."""
    assert stats.kstest(values[:20_000], cdf).pvalue > 1e-3


def check_counts(counts: npt.NDArray[np.float64], rate: float) -> None:
    """Chi-square of whole numbers against Poisson(rate), cells of at least 10 expected: p > 1e-3."""
    assert np.array_equal(counts, np.round(counts))
    low, high = int(stats.poisson.ppf(1e-4, rate)), int(stats.poisson.ppf(1 - 1e-4, rate))
    edges = np.arange(low, high + 1)
    cells = np.digitize(counts, edges + 0.5)  # 0: up to low, ..., last: above high
    observed = np.bincount(cells, minlength=edges.size + 1)
    expected = np.diff(stats.poisson.cdf(edges, rate), prepend=0, append=1) * counts.size
    keep = expected >= 10
    cells, levels = observed[keep], expected[keep]
    cells[0] += observed[~keep].sum()
    levels[0] += expected[~keep].sum()
    assert stats.chisquare(cells, levels, sum_check=False).pvalue > 1e-3


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * torch.log10((y.double() - x.double()).square().mean()))
