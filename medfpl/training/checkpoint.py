"""Checkpoints that are whole or absent, and hold all that a run needs to go on as if it had not stopped."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medfpl.errors import BadInput, MedfplError


@dataclass
class Progress:
    """Where a run stands: steps and seconds done, and the best validation score (dB) so far."""

    step: int = 0
    seconds: float = 0.0
    best: float = -float("inf")


def save_checkpoint(
    path: Path, net: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: Any
) -> None:
    """Write everything to ``path`` through a temporary file; an interrupted write leaves the old one."""
    state = {
        "net": net.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
        "config": config,
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise MedfplError(
            "the checkpoint cannot be written", "is the disk full? the last checkpoint is kept"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote, loaded with ``weights_only`` onto the CPU."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput("there is no checkpoint to resume from", "start the run without --resume") from None
    except Exception as error:  # a damaged archive raises many types
        raise BadInput("the checkpoint is damaged") from error
