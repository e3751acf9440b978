"""Validation on held-out patients: each noise at its default strength, and clean images, always the same ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medfpl.inverse import INVERSES, undo
from medfpl.noises import NOISES
from medfpl.noises.base import Context, Noise, corrupt
from medfpl.scan import Kind
from medfpl.seeds import numpy_generator, stable_seed
from medfpl.store.store import Store
from medfpl.training.config import DataConfig, Stage
from medfpl.training.data import Frames
from medfpl.training.metrics import psnr, ssim
from medfpl.training.white import MEASURED, with_white_noise

METRICS = ("input_psnr", "psnr", "input_ssim", "ssim")
Table = dict[str, dict[str, float]]
Reduce = Callable[[Tensor], Tensor]
# dB: with less error a noise left the frame as it is. How often to look for one that it changes.
UNCHANGED, TRIES = 60.0, 12


@dataclass(frozen=True)
class ValidationSet:
    """Images on the CPU: ``images[noise] = (clean, noisy, seen)``, each (N, 1, F, F); "clean" has all three the same.

    What the network sees is for a denoiser the noisy image without what ``medfpl denoise`` finds by its physics and
    undoes first, and for a prior (N, 2, F, F): the noisy image and its level.

    ``kinds`` are those of the N images.
    """

    images: dict[str, tuple[Tensor, Tensor, Tensor]]
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Scores:
    """What a validation measured: (noises, N, metrics) with ``METRICS`` last, and what the first two axes are."""

    values: Tensor
    noises: tuple[str, ...]
    kinds: tuple[Kind, ...]

    def table(self, kind: Kind | None = None) -> Table:
        """Return each noise's means over the images (of one kind), and their mean over the noises as "mean"."""
        mine = [i for i, k in enumerate(self.kinds) if kind in (None, k)]
        means = self.values[:, mine].mean(1)
        table = {n: dict(zip(METRICS, row, strict=True)) for n, row in zip(self.noises, means.tolist(), strict=True)}
        corrupted = [i for i, n in enumerate(self.noises) if n != "clean"] or [0]
        table["mean"] = dict(zip(METRICS, means[corrupted].mean(0).tolist(), strict=True))
        return table

    def by_kind(self) -> dict[str, Table]:
        """Return a table for each kind of image."""
        return {kind: self.table(kind) for kind in sorted(set(self.kinds))}


def build_validation(
    store: Store, config: DataConfig, images: int, seed: int, *, stage: Stage = "denoiser"
) -> ValidationSet:
    """Draw ``images`` frames of the val split, the kinds in turn, and corrupt each with each noise at strength 0.5.

    Of volumes the middle half is drawn: in frames that are all but empty, a mean over frames tells of nothing else.
    For a prior the noises are white, of the levels in training.white.MEASURED; a restoration network has none.
    A frame that a noise leaves as it is, as chemical shift does without fat, is drawn anew for it.
    """
    frames = Frames(store, "val", config)
    side = min(config.frame, 256)
    kinds = tuple(frames.kinds[i % len(frames.kinds)] for i in range(images))

    def draw(i: int, *again: int) -> tuple[Tensor, Context]:
        return frames.draw(numpy_generator(seed, "validation", i, *again), side, kinds[i], middle=True)

    drawn = [draw(i) for i in range(images)]
    clean = torch.stack([f for f, _ in drawn])
    if stage == "prior":
        seeds = [stable_seed(seed, "validation", "white", i) for i in range(images)]
        seen = {f"white {level:g}" if level else "clean": [level] * images for level in (0.0, *MEASURED)}
        white = {n: with_white_noise(clean, s, seeds) for n, s in seen.items()}
        return ValidationSet({n: (clean, x[:, :1], x) for n, x in white.items()}, kinds)
    names = [NOISES.resolve(n) for n in config.noises] or NOISES.names()
    made = {"clean": (clean, clean, clean)}
    for name in names if stage == "denoiser" else []:
        seeds = [stable_seed(seed, "validation", name, i) for i in range(images)]
        mine, noisy = _corrupted(NOISES.get(name), drawn, seeds)
        for again in range(1, TRIES):
            same = (psnr(noisy, mine) > UNCHANGED).nonzero()[:, 0].tolist()
            if not same:
                break
            anew = [draw(i, again) for i in same]
            mine[same], noisy[same] = _corrupted(NOISES.get(name), anew, [seeds[i] for i in same])
        made[name] = (mine, noisy, undo(noisy, tuple(INVERSES))[0])
    return ValidationSet(made, kinds)


def _corrupted(noise: Noise, drawn: Sequence[tuple[Tensor, Context]], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    clean = torch.stack([f for f, _ in drawn])
    return clean, corrupt(clean, noise, seeds=seeds, strength=0.5, contexts=[c for _, c in drawn])[0]


@torch.inference_mode()
def validate(
    net: nn.Module,
    held_out: ValidationSet,
    device: torch.device,
    *,
    residual: bool,
    batch: int = 4,
    rank: int = 0,
    world: int = 1,
    sum_over_ranks: Reduce = lambda x: x,
) -> Scores:
    """Return the PSNR and SSIM of the noisy input and of the network's output, which is the noise if ``residual``.

    Every ``world``-th noise is this rank's work; ``sum_over_ranks`` puts the parts together.
    """
    net.eval()
    noises = tuple(held_out.images)
    values = torch.zeros(len(noises), len(held_out.kinds), len(METRICS), dtype=torch.float64)
    for k in range(rank, len(noises), world):
        clean, noisy, seen = held_out.images[noises[k]]
        output = torch.cat([_output(net, part.to(device), residual) for part in seen.split(batch)])
        values[k] = torch.stack([f(x, clean) for f in (psnr, ssim) for x in (noisy, output)], 1)
    net.train()
    return Scores(sum_over_ranks(values), noises, held_out.kinds)


def _output(net: nn.Module, seen: Tensor, residual: bool) -> Tensor:
    out = net(seen.contiguous(memory_format=torch.channels_last))
    return ((seen - out) if residual else out[:, :1]).float().cpu()
