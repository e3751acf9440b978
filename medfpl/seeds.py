"""Stable seeds: the same (seed, item, purpose) gives the same numbers anywhere, in any order."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stable_seed(seed: int, *labels: object) -> int:
    """Return a 63-bit seed from ``seed`` and the labels (their ``str``), by SHA-256.

    Unlike ``hash`` it is the same in every process, and no label can be mistaken
    for two: ("a", "b") and ("ab",) differ.
    """
    digest = hashlib.sha256(repr((int(seed), *map(str, labels))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_generator(seed: int, *labels: object) -> np.random.Generator:
    """Return a NumPy generator of its own for (seed, labels)."""
    return np.random.default_rng(stable_seed(seed, *labels))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def torch_generator(seed: int, *labels: object, device: str = "cpu") -> "torch.Generator":
    """Return a torch generator of its own for (seed, labels) on ``device``."""
    import torch

    return torch.Generator(device=device).manual_seed(stable_seed(seed, *labels))
