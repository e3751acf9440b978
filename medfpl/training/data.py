"""Training batches: step k of seed s is the same images and noises on any machine and any number of workers."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from medfpl.errors import MedfplError
from medfpl.noises.base import Context
from medfpl.noises.mixture import Mixture, apply_plans, plan_item
from medfpl.scan import FloatArray
from medfpl.seeds import numpy_generator, stable_seed
from medfpl.store.store import Item, Split, Store
from medfpl.training.config import DataConfig


@dataclass(frozen=True)
class Batch:
    """``clean`` and ``noisy`` are (B, 1, P, P) in working units; ``labels`` name each item's first noise."""

    clean: Tensor
    noisy: Tensor
    labels: list[str]


class Frames:
    """Draws square frames of real anatomy: kind by weight, then patient, image and slice uniformly.

    Sampling by patient keeps one with many slices from outweighing the others.
    """

    def __init__(self, store: Store, split: Split, config: DataConfig) -> None:
        items = [i for i in store.of(split) if not (i.kind == "ct" and i.noise > 2 * config.max_noise_hu)]
        if not items:
            raise MedfplError(f"the store has no usable image in its {split} split", "prepare more patients")
        self._store, self._config = store, config
        self._cache: dict[str, FloatArray] = {}
        self._tree: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
        for item in items:
            self._tree[item.kind][item.patient].append(item)
        self._kinds = sorted(self._tree)
        weights = np.array([config.kind_weights.get(k, 1.0) for k in self._kinds], dtype=float)
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator, frame: int) -> tuple[Tensor, Context]:
        """Return one clean frame (1, frame, frame) in working units and what the noises must know of it."""
        kind = self._kinds[int(rng.choice(len(self._kinds), p=self._weights))]
        patients = sorted(self._tree[kind])
        items = self._tree[kind][patients[int(rng.integers(len(patients)))]]
        item = items[int(rng.integers(len(items)))]
        image = torch.from_numpy(self._volume(item)[int(rng.integers(item.slices))].astype(np.float32))[None]
        turns, flip, gain, gamma = rng.integers(4), rng.random() < 0.5, rng.uniform(0.7, 1.3), rng.uniform(0.75, 1.35)
        whole, zoom = rng.random() < self._config.whole, rng.uniform(0.5, 1.0)
        noisy = kind == "ct" and item.noise > self._config.max_noise_hu
        longest = max(image.shape[-2:])
        # Shrinking averages pixels: it makes a clean target of a CT slice that is too noisy at its own size.
        scale = frame / longest if whole else min(zoom, 0.5) if noisy else zoom if zoom < 0.9 else 1.0
        scale = min(scale, 0.5) if noisy else scale
        scale = min(max(scale, 32 / min(image.shape[-2:])), 2.0)
        image = resize(image, scale)
        if kind != "ct":
            image = gain * image.clamp_min(0) ** gamma if kind == "mr" else image.clamp(0, 1) ** gamma
        image = torch.rot90(image, int(turns), (-2, -1))
        image = image.flip(-1) if flip else image
        offsets = rng.random(2)
        image = fit(image, frame, (float(offsets[0]), float(offsets[1])))
        return image, Context(item.kind, item.black, item.white, item.pixel_mm / scale)

    def _volume(self, item: Item) -> FloatArray:
        if item.id not in self._cache:
            volume = self._store.working(item)
            # Padding far below air is no anatomy.
            volume = np.clip(volume, 0 if item.kind != "ct" else -0.012, 2.0)
            self._cache[item.id] = volume.astype(np.float16) if item.slices > 8 else volume
        return self._cache[item.id]


class TrainingBatches(Dataset[Batch]):
    """Map-style: index = step. ``rank`` of ``world`` devices draws its own share of each global batch."""

    def __init__(
        self, store: Store, config: DataConfig, seed: int, steps: int, *, rank: int = 0, world: int = 1
    ) -> None:
        if config.batch % world:
            raise MedfplError(f"a batch of {config.batch} does not divide over {world} devices")
        self._frames = Frames(store, "train", config)
        self._config, self._seed, self._steps = config, seed, steps
        self._mixture = Mixture(names=tuple(config.noises), clean=config.clean, pair=config.pair)
        share = config.batch // world
        self._mine = range(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        frames, contexts, seeds, corners = [], [], [], []
        for j in self._mine:
            seed = stable_seed(self._seed, "item", step * self._config.batch + j)
            rng = numpy_generator(seed, "frame")
            frame, context = self._frames.draw(rng, self._config.frame)
            frames.append(frame)
            contexts.append(context)
            seeds.append(seed)
            corners.append(rng.random(2))
        clean = torch.stack(frames)
        plans = [plan_item(self._mixture, s, c) for s, c in zip(seeds, contexts, strict=True)]
        noisy = apply_plans(clean, plans, seeds, contexts)
        both = torch.cat([clean, noisy], 1)
        patches = torch.stack([_patch(b, c, self._config.patch) for b, c in zip(both, corners, strict=True)])
        return Batch(patches[:, :1], patches[:, 1:], [p.label for p in plans])


def resize(image: Tensor, scale: float) -> Tensor:
    """Return (1, H, W) resized by ``scale`` with anti-aliasing."""
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def fit(image: Tensor, frame: int, offsets: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """Return the (1, frame, frame) part of (1, H, W) at relative ``offsets``, with black around where it is smaller."""
    for axis, offset in ((-2, offsets[0]), (-1, offsets[1])):
        spare = image.shape[axis] - frame
        if spare > 0:
            image = image.narrow(axis, min(int(offset * (spare + 1)), spare), frame)
        elif spare < 0:
            before = min(int(offset * (-spare + 1)), -spare)
            pad = (before, -spare - before) if axis == -1 else (0, 0, before, -spare - before)
            image = F.pad(image, pad)
    return image.contiguous()


def _patch(x: Tensor, corner: np.ndarray, size: int) -> Tensor:
    size = min(size, x.shape[-1])
    top, left = (min(int(c * (x.shape[-1] - size + 1)), x.shape[-1] - size) for c in corner)
    return x[:, top : top + size, left : left + size]
