"""Validation on held-out patients: each noise at its default strength, and clean images, always the same ones."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medfpl.noises import NOISES
from medfpl.noises.base import corrupt
from medfpl.seeds import numpy_generator, stable_seed
from medfpl.store.store import Store
from medfpl.training.config import DataConfig
from medfpl.training.data import Frames


@dataclass(frozen=True)
class ValidationSet:
    """Pairs on the CPU: ``pairs[noise] = (clean, noisy)``, each (N, 1, F, F); "clean" has noisy = clean."""

    pairs: dict[str, tuple[Tensor, Tensor]]


def build_validation(store: Store, config: DataConfig, images: int, seed: int) -> ValidationSet:
    """Draw ``images`` frames of the val split and corrupt each with each noise at strength 0.5."""
    frames = Frames(store, "val", config)
    side = min(config.frame, 256)
    drawn = [frames.draw(numpy_generator(seed, "validation", i), side) for i in range(images)]
    clean = torch.stack([f for f, _ in drawn])
    contexts = [c for _, c in drawn]
    names = [NOISES.resolve(n) for n in config.noises] or NOISES.names()
    pairs = {"clean": (clean, clean)}
    for name in names:
        seeds = [stable_seed(seed, "validation", name, i) for i in range(images)]
        noisy, _ = corrupt(clean, NOISES.get(name), seeds=seeds, strength=0.5, contexts=contexts)
        pairs[name] = (clean, noisy)
    return ValidationSet(pairs)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the PSNR in dB of each item of two (B, 1, H, W) batches, data range 1, at most 100."""
    return -10 * torch.log10((a.double() - b.double()).square().mean((1, 2, 3)).clamp_min(1e-10))


@torch.inference_mode()
def validate(
    net: nn.Module, pairs: ValidationSet, device: torch.device, *, residual: bool, batch: int = 4
) -> dict[str, dict[str, float]]:
    """Return, for each noise and on average, the PSNR of the input and of the network's output."""
    net.eval()
    table: dict[str, dict[str, float]] = {}
    for name, (clean, noisy) in pairs.pairs.items():
        outputs = []
        for part in noisy.split(batch):
            seen = part.to(device).contiguous(memory_format=torch.channels_last)
            outputs.append(((seen - net(seen)) if residual else net(seen)).float().cpu())
        table[name] = {
            "input_psnr": float(psnr(noisy, clean).mean()),
            "psnr": float(psnr(torch.cat(outputs), clean).mean()),
        }
    net.train()
    noises = [v for k, v in table.items() if k != "clean"] or list(table.values())
    mean: dict[str, list[float]] = defaultdict(list)
    for row in noises:
        for key, value in row.items():
            mean[key].append(value)
    table["mean"] = {k: float(np.mean(v)) for k, v in mean.items()}
    return table
