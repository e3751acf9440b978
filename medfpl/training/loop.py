"""The one training loop: restoration network and denoiser, on a CPU, a GPU or many."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Subset

from medfpl.errors import MedfplError
from medfpl.nets.unet import UNet, UNetConfig, build_unet
from medfpl.seeds import torch_generator
from medfpl.store.store import Store
from medfpl.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from medfpl.training.config import TrainConfig
from medfpl.training.data import Batch, TrainingBatches
from medfpl.training.losses import residual_loss
from medfpl.training.validate import ValidationSet, build_validation, validate

NO_LIMIT = 1 << 40
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Result:
    """What a run left: the averaged network, how far it came and its last validation table."""

    net: UNet
    progress: Progress
    table: dict[str, dict[str, float]]


def rate_at(config: TrainConfig, progress: Progress) -> float:
    """Return the learning rate: linear warm-up, constant, then a half cosine to 0 over the last ``decay`` share."""
    shares = [progress.step / config.steps] if config.steps else []
    shares += [progress.seconds / (60 * config.minutes)] if config.minutes else []
    done = min(max(shares, default=0.0), 1.0)
    warm = min(1.0, (progress.step + 1) / max(1, config.warmup))
    start = 1 - config.decay
    fall = 1.0 if done <= start else 0.5 * (1 + math.cos(math.pi * (done - start) / max(config.decay, 1e-9)))
    return config.learning_rate * warm * fall


def train(
    fabric: Fabric, store: Store, config: TrainConfig, folder: Path, *, resume: bool = False, report: Report
) -> Result:
    """Train one network and return it with averaged weights; checkpoints go to ``folder``.

    ``report`` is called on the first process with one flat row a step ("event": "step") and a validation.
    KeyboardInterrupt saves a checkpoint before it goes on up.

    Raises:
        MedfplError: if the loss is not finite, memory runs out, or a checkpoint cannot be written.
    """
    if config.steps is None and config.minutes is None:
        raise MedfplError("a run needs a budget", "give --steps or --minutes")
    network = build_unet(UNetConfig(**config.net.model_dump()), torch_generator(config.seed, "init", config.stage))
    ema = copy.deepcopy(network).requires_grad_(False)
    net, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay))
    ema.to(fabric.device)
    progress = Progress()
    checkpoint = folder / f"{config.stage}.ckpt"
    if resume and checkpoint.is_file():
        state = load_checkpoint(checkpoint)
        network.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
    held_out = build_validation(store, config.data, config.validation_images, config.seed)
    table: dict[str, dict[str, float]] = {}
    residual = config.stage != "restoration"

    def save(path: Path = checkpoint) -> None:
        if fabric.is_global_zero:
            save_checkpoint(path, network, ema, optimizer, progress, config.model_dump())

    last = time.perf_counter()
    try:
        for batch in _batches(fabric, store, config, progress.step):
            if _over(config, progress):
                break
            row = _step(fabric, net, network, ema, optimizer, batch, config, progress)
            progress.step += 1
            last, before = time.perf_counter(), last
            progress.seconds += last - before  # waiting for data and validation count: it is the user's time
            report({"event": "step", "step": progress.step, "seconds": progress.seconds, **row})
            if progress.step % config.validate_every == 0:
                table = _validate(fabric, ema, held_out, residual, progress, report)
            if progress.step % config.save_every == 0:
                save()
    except torch.OutOfMemoryError as error:
        raise MedfplError(
            "out of memory", "lower data.batch, data.patch or net.width, or use --precision 16"
        ) from error
    except KeyboardInterrupt:
        save()
        raise
    save()
    table = _validate(fabric, ema, held_out, residual, progress, report)
    return Result(ema, progress, table)


def _step(
    fabric: Fabric,
    net: Any,
    network: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainConfig,
    progress: Progress,
) -> dict[str, float]:
    clean = fabric.to_device(batch.clean).contiguous(memory_format=torch.channels_last)
    noisy = fabric.to_device(batch.noisy).contiguous(memory_format=torch.channels_last)
    rate = rate_at(config, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate
    seen = clean if config.stage == "restoration" else noisy
    output = net(seen)
    loss = residual_loss(output if config.stage == "restoration" else noisy - output, clean, config.loss)
    fabric.backward(loss)
    norm = fabric.clip_gradients(net, optimizer, max_norm=config.clip, error_if_nonfinite=False)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise MedfplError(
            f"the loss is not finite at step {progress.step}", "lower learning_rate; the last checkpoint is kept"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    _average(ema, network, min(config.ema, (1 + progress.step) / (10 + progress.step)))
    return {"loss": value, "gradient": float(norm) if norm is not None else math.nan, "rate": rate}


@torch.no_grad()
def _average(ema: nn.Module, network: nn.Module, keep: float) -> None:
    for mean, now in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)


def _batches(fabric: Fabric, store: Store, config: TrainConfig, first: int) -> Iterator[Batch]:
    steps = config.steps or NO_LIMIT
    world, rank = fabric.world_size, fabric.global_rank
    dataset = TrainingBatches(store, config.data, config.seed, steps, rank=rank, world=world)
    if first >= steps:
        return
    loader: DataLoader[Batch] = DataLoader(
        Subset(dataset, range(first, steps)),
        batch_size=None,
        num_workers=config.data.workers,
        prefetch_factor=4 if config.data.workers else None,
        persistent_workers=False,
        pin_memory=fabric.device.type == "cuda",
    )
    yield from loader


def _over(config: TrainConfig, progress: Progress) -> bool:
    return bool(config.minutes and progress.seconds >= 60 * config.minutes)


def _validate(
    fabric: Fabric, ema: UNet, held_out: ValidationSet, residual: bool, progress: Progress, report: Report
) -> dict[str, dict[str, float]]:
    if not fabric.is_global_zero:
        return {}
    table = validate(ema, held_out, fabric.device, residual=residual)
    progress.best = max(progress.best, table["mean"]["psnr"])
    report({"event": "validation", "step": progress.step, "seconds": progress.seconds, "table": table})
    return table
