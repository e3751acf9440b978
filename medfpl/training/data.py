"""Training batches: step k of seed s is the same images and noises on any machine and any number of workers."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.noises import NOISES
from medfpl.noises.base import Context
from medfpl.noises.mixture import Mixture, apply_plans, plan_item
from medfpl.scan import FloatArray, Kind
from medfpl.seeds import numpy_generator, stable_seed
from medfpl.store.store import Item, Split, Store
from medfpl.training.config import DataConfig
from medfpl.training.odd import make_odd
from medfpl.training.planting import FEATURES, plant
from medfpl.training.white import draw_level, with_white_noise


@dataclass(frozen=True)
class Batch:
    """Clean patches (B / copies, 1, P, P), each followed by its ``copies`` corruptions in ``noisy`` (B, 1, P, P).

    For a prior ``noisy`` is (B, 2, P, P): its second channel is the noise level. Working units; ``labels`` name each
    item's first noise. Batches of one ``number`` are the same.
    """

    clean: Tensor
    noisy: Tensor
    labels: list[str]
    number: int
    features: Tensor | None = None

    @property
    def copies(self) -> int:
        """How many corruptions share a clean patch."""
        return len(self.noisy) // len(self.clean)

    def parts(self, count: int) -> Iterator["Batch"]:
        """Yield ``count`` equal parts, clean patches kept together with their corruptions."""
        size = len(self.clean) // count
        for k in range(count):
            mine = slice(k * size * self.copies, (k + 1) * size * self.copies)
            own = slice(k * size, (k + 1) * size)
            features = None if self.features is None else self.features[own]
            yield Batch(self.clean[own], self.noisy[mine], self.labels[mine], self.number * count + k, features)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, from where a GPU fetches it while it computes."""
        return self._each(Tensor.pin_memory)

    def clone(self) -> "Batch":
        """Return a copy in memory of its own."""
        return self._each(Tensor.clone)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        features = None if self.features is None else change(self.features)
        return Batch(change(self.clean), change(self.noisy), self.labels, self.number, features)


class Frames:
    """Draws square frames of real anatomy: kind by weight, then patient, image and slice uniformly.

    Sampling by patient keeps one with many slices from outweighing the others.
    """

    def __init__(self, store: Store, split: Split, config: DataConfig) -> None:
        items = [i for i in store.of(split) if not (i.kind == "ct" and i.noise > 2 * config.max_noise_hu)]
        if not items:
            raise MedfplError(f"the store has no usable image in its {split} split", "prepare more patients")
        self._store, self._config = store, config
        self._cache: OrderedDict[tuple[str, int], FloatArray] = OrderedDict()
        self._cached = 0
        self._tree: dict[Kind, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
        for item in items:
            self._tree[item.kind][item.patient].append(item)
        self.kinds: list[Kind] = sorted(self._tree)
        weights = np.array([config.kind_weights.get(k, 1.0) for k in self.kinds], dtype=float)
        if not weights.any():
            raise MedfplError(f"data.kind_weights leaves no image of the {split} split", "give a kind a weight above 0")
        self._weights = weights / weights.sum()

    def draw(
        self, rng: np.random.Generator, frame: int, kind: Kind | None = None, *, middle: bool = False
    ) -> tuple[Tensor, Context]:
        """Return one clean frame (1, frame, frame) in working units and what the noises must know of it.

        ``middle``: of a volume's middle half alone, for its ends are mostly air.
        """
        drawn = self.kinds[int(rng.choice(len(self.kinds), p=self._weights))]
        kind = kind or drawn
        patients = sorted(self._tree[kind])
        items = self._tree[kind][patients[int(rng.integers(len(patients)))]]
        item = items[int(rng.integers(len(items)))]
        first = item.slices // 4 if middle else 0
        index = int(rng.integers(first, max(first + 1, item.slices - first)))
        image = torch.from_numpy(self._slice(item, index).astype(np.float32))[None]
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

    def _slice(self, item: Item, index: int) -> FloatArray:
        key = (item.id, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        try:
            image = self._store.working(item, slice(index, index + 1))[0]
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise BadInput(f"image {item.id} of the store cannot be read", "prepare the store again") from error
        # Padding far below air is no anatomy.
        image = np.clip(image, 0 if item.kind != "ct" else -0.012, 2.0)
        image = image.astype(np.float16) if item.slices > 8 else image
        self._cache[key] = image
        self._cached += image.nbytes
        while self._cached > self._config.cache_mb << 20:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return image


class TrainingBatches(Dataset[Batch]):
    """Map-style: index = step. ``rank`` of ``world`` devices draws its own share of each global batch.

    Each device's share must divide into ``parts``. With a ``config.pool`` that many items are drawn and kept, and come
    again in every pass, their batches in another order. Without ``corrupted`` the noisy images are the clean ones. With
    a ``white_level`` the noise is white, of a known level up to that one (see training.white).
    """

    def __init__(
        self,
        store: Store,
        config: DataConfig,
        seed: int,
        steps: int,
        *,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        corrupted: bool = True,
        white_level: float | None = None,
    ) -> None:
        if config.batch % (config.copies * world * parts):
            by = f"data.copies {config.copies} x devices {world} x accumulate {parts}"
            raise UsageError(f"a batch of {config.batch} does not divide by {by}", "change data.batch")
        if config.patch > config.frame:
            raise UsageError("data.patch is larger than data.frame", "a patch is cut out of a frame")
        self._frames = Frames(store, "train", config)
        self._config, self._seed, self._steps = config, seed, steps
        mixture = Mixture.physical if config.mixture == "physical" else Mixture
        weights = {NOISES.resolve(name): weight for name, weight in config.noise_weights.items()}
        self._mixture = mixture(
            names=tuple(config.noises),
            clean=config.clean,
            pair=config.pair,
            even=config.even,
            default_mode=config.default_mode,
            weights=weights,
        )
        self._corrupted, self._white_level = corrupted, white_level
        if 0 < config.pool < config.batch:
            raise UsageError("data.pool is smaller than data.batch", "a batch is drawn from the pool")
        self._pool: dict[int, Batch] = {}
        share = config.batch // world
        self._mine = range(rank * share, (rank + 1) * share, config.copies)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        count = self._config.pool // self._config.batch
        if not count:
            return self._draw(step)
        lap, place = divmod(step, count)
        number = int(numpy_generator(self._seed, "pool", lap).permutation(count)[place])
        if number not in self._pool:
            self._pool[number] = self._draw(number)
        # What a worker hands over it shares, one open file a tensor, for as long as either process keeps it.
        return self._pool[number].clone()

    def _draw(self, number: int) -> Batch:
        frames, planted, contexts, seeds, corners = [], [], [], [], []
        for j in self._mine:
            of_copies = [stable_seed(self._seed, "item", number * self._config.batch + j + c) for c in self._copies]
            rng = numpy_generator(of_copies[0], "frame")
            frame, context = self._frame(rng)
            if self._config.plant:
                frame, features = self._plant(rng, frame)
                planted.append(features)
            frames.append(frame)
            contexts.append(context)
            seeds.append(of_copies)
            corners.append(rng.random(2))
        clean = torch.stack(frames)
        noisy, labels = self._corrupt(clean, seeds, contexts)
        size = self._config.patch
        mine = [c for c in corners for _ in self._copies]
        return Batch(
            torch.stack([_patch(x, c, size) for x, c in zip(clean, corners, strict=True)]),
            torch.stack([_patch(x, c, size) for x, c in zip(noisy, mine, strict=True)]),
            labels,
            number,
            torch.stack([_patch(x, c, size) for x, c in zip(planted, corners, strict=True)]) if planted else None,
        )

    def _frame(self, rng: np.random.Generator) -> tuple[Tensor, Context]:
        frame, context = self._frames.draw(rng, self._config.frame)
        if not self._config.odd or rng.random() >= self._config.odd:
            return frame, context
        # An odd image has no absolute scale any more, as MR has none.
        kind = "xray" if context.kind == "xray" and rng.random() < 0.5 else "mr"
        odd = make_odd(rng, frame[0].numpy(), lambda: self._frames.draw(rng, self._config.frame)[0][0].numpy())
        return torch.from_numpy(odd)[None], replace(context, kind=kind)

    def _plant(self, rng: np.random.Generator, frame: Tensor) -> tuple[Tensor, Tensor]:
        if rng.random() >= self._config.plant:
            return frame, torch.zeros(len(FEATURES), *frame.shape[1:])
        image, features = plant(rng, frame[0].numpy())
        return torch.from_numpy(image)[None], torch.from_numpy(features).float()

    @property
    def _copies(self) -> range:
        return range(self._config.copies)

    def _corrupt(self, clean: Tensor, seeds: list[list[int]], contexts: list[Context]) -> tuple[Tensor, list[str]]:
        repeated = clean.repeat_interleave(self._config.copies, 0)
        if not self._corrupted:
            return repeated, ["clean"] * len(repeated)
        flat = [s for of_copies in seeds for s in of_copies]
        if self._white_level is not None:
            levels = [draw_level(s, self._white_level) for s in flat]
            return with_white_noise(repeated, levels, flat), ["white"] * len(flat)
        spread = [c for c in contexts for _ in self._copies]
        plans = [plan_item(self._mixture, s, c) for s, c in zip(flat, spread, strict=True)]
        return apply_plans(repeated, plans, flat, spread), [p.label for p in plans]


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
