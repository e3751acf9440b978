"""Small images to run the command line on."""

from pathlib import Path

import numpy as np
from PIL import Image


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bright square on a dark ground with noise, uint8."""
    generator = np.random.default_rng(seed)
    image = np.full(shape, 60.0)
    image[..., 12:36, 12:36] = 160
    return np.clip(image + generator.normal(0, 8, shape), 0, 255).astype(np.uint8)


def png(path: Path, seed: int = 0) -> Path:
    """Write a small noisy picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy((48, 48), seed)).save(path)
    return path


def tree(folder: Path) -> list[str]:
    """All files below ``folder``, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
