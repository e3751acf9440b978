"""What a prior learns from: white noise of a known level, which it is told."""

import torch
from torch import Tensor

from medfpl.seeds import numpy_generator, torch_generator

# Where a prior is measured: standard deviations in working units.
MEASURED = (0.02, 0.05, 0.1, 0.2)


def draw_level(seed: int, max_level: float) -> float:
    """Return an item's noise level in working units, ``max_level`` times the square of a uniform number.

    Half of the items are below a quarter of the strongest: medical images have little noise, and the last rounds of
    half-quadratic splitting ask for little.
    """
    return float(max_level * numpy_generator(seed, "level").random() ** 2)


def with_white_noise(clean: Tensor, levels: list[float], seeds: list[int]) -> Tensor:
    """Return what a prior sees of ``clean`` (B, 1, H, W): with white noise added, and its level, (B, 2, H, W)."""
    noise = torch.cat([torch.randn(clean[:1].shape, generator=torch_generator(seed, "white")) for seed in seeds])
    known = torch.tensor(levels).view(-1, 1, 1, 1)
    return torch.cat([clean + known * noise, known.expand_as(clean)], 1)
