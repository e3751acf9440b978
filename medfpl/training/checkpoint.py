"""Checkpoints that are whole or absent, and hold all that a run needs to go on as if it had not stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from medfpl.errors import BadInput, MedfplError, UsageError
from medfpl.io.atomic import atomic_target
from medfpl.training.config import TrainConfig

# What a resumed run may change: its length, its reports, and how fast it is fed.
CHANGEABLE = {
    "steps",
    "minutes",
    "log_every",
    "validate_every",
    "save_every",
    "fpl.network",  # its weights are compared instead
    "init",  # as are its
    "fpl.norms_every",
    "data.workers",
    "data.cache_mb",
}


@dataclass
class Progress:
    """Where a run stands: steps and seconds done, the best validation PSNR (dB) so far, and the last validated step."""

    step: int = 0
    seconds: float = 0.0
    best: float = -float("inf")
    validated: int = 0


def save_checkpoint(
    path: Path,
    net: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    config: Mapping[str, Any],
    **more: Any,
) -> None:
    """Write everything to ``path`` in one step; an interrupted or failed write leaves the old file.

    ``config`` is the training's as plain values; ``more`` are further entries of plain values.
    """
    state = {
        "net": net.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
        "config": dict(config),
        **more,
    }
    write_state(path, state)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` for ``load_checkpoint``, in one step."""
    kept = "the last checkpoint is kept; make room and go on with --resume"
    try:
        with atomic_target(path, overwrite=True) as part:
            torch.save(dict(state), part)
    except MedfplError as error:
        raise MedfplError(f"the checkpoint cannot be written: {error.message}", kept) from error
    except RuntimeError as error:  # torch reports a full disk so
        raise MedfplError("the checkpoint cannot be written: is the disk full?", kept) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote, loaded with ``weights_only`` onto the CPU."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput("there is no checkpoint to resume from", "start the run without --resume") from None
    except Exception as error:  # a damaged archive raises many types
        raise BadInput("the checkpoint is damaged", "start again in another run folder") from error


def restore(state: Mapping[str, Any], net: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a checkpoint's state into the networks and the optimizer, and return how far it had come."""
    try:
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        known = {f.name for f in fields(Progress)}
        return Progress(**{k: v for k, v in state["progress"].items() if k in known})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput("the checkpoint does not fit this network", "start again in another run folder") from error


def check_same(state: Mapping[str, Any], config: TrainConfig, inputs: Mapping[str, str]) -> None:
    """Refuse to go on with other settings, images or explained network than the run began with.

    Raises:
        UsageError: naming the setting that differs.
        BadInput: if the checkpoint's settings are not of this version.
    """
    # A setting that the checkpoint does not know yet was at its default.
    try:
        before = _flat(TrainConfig(**state["config"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise BadInput("the checkpoint is of another version", "start again in another run folder") from error
    for name, value in _flat(config).items():
        if name not in CHANGEABLE and before.get(name) != value:
            raise UsageError(
                f"the {config.stage} training was begun with {name}={before.get(name)}, not {value}",
                "resume with the settings it was begun with, or choose another run folder",
            )
    for name, value in state.get("inputs", {}).items():
        if inputs.get(name, value) != value:
            raise UsageError(f"the {config.stage} training was begun with another {name}", "choose another run folder")


def _flat(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            values.update(_flat(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values
