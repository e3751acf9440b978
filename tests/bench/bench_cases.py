"""Small images, plans and runs that the tests of the benchmark share."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medfpl.bench.plan import BenchSettings, Corruption, Entry
from medfpl.bench.rows import Row


def picture(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> Path:
    """Write a smooth grey picture with a bright square, 8 bits."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]] / 40
    image = 90 + 40 * np.sin(rows * rng.uniform(2, 4)) * np.cos(columns * rng.uniform(2, 4))
    image[10:20, 8:22] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
    return path


def pictures(folder: Path, patients: int = 2, each: int = 1) -> Path:
    """Fill a folder with X-ray-like pictures named as collections name them, and return it."""
    for p in range(patients):
        for n in range(each):
            picture(folder / f"{p:08}_{n:03}.png", 10 * p + n)
    return folder


def settings(
    methods: tuple[str, ...] = ("mean", "gaussian"), noises: tuple[str, ...] = ("gaussian", "motion"), **rest: Any
) -> BenchSettings:
    """Return settings with few and fast methods."""
    return BenchSettings(tuple(map(Entry.parse, methods)), tuple(map(Corruption.parse, noises)), **rest)


def timeless(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Return rows as plain values without their seconds, and NaN as None, so that equal rows compare equal."""
    return [{k: None if v != v else v for k, v in asdict(r).items() if k != "seconds"} for r in rows]
