"""What a training runs on: device, number of processes and machines, number format."""

import logging
import os
from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.plugins.precision import Precision

from medfpl.errors import MedfplError, UsageError
from medfpl.pipeline.devices import choose_device, describe_device

FORMATS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


@dataclass(frozen=True)
class Engine:
    """Where a training runs: a torch device, processes a machine, machines, and a name of ``FORMATS``."""

    device: str
    devices: int
    nodes: int
    precision: str

    def describe(self) -> str:
        """Return a short text for people."""
        many = f" x {self.devices} on each of {self.nodes} machines" if self.nodes > 1 else f" x {self.devices}"
        return f"{describe_device(self.device)}{many if self.devices * self.nodes > 1 else ''}, {self.precision}"


def choose_engine(
    device: str = "auto", *, devices: int | None = None, nodes: int | None = None, precision: str = "auto"
) -> Engine:
    """Return the engine that was asked for; torchrun and Slurm say how many processes where it was not.

    Raises:
        UsageError: for a name that is none.
        MedfplError: for a device that is not there, or a number format that it does not have.
    """
    if precision not in ("auto", *FORMATS):
        raise UsageError(f"--precision {precision} is unknown", f"choose from auto, {', '.join(FORMATS)}")
    chosen = choose_device(device)
    told_devices, told_nodes = _launched()
    devices, nodes = devices or told_devices or 1, nodes or told_nodes or 1
    kind = torch.device(chosen).type
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise MedfplError(f"{devices} GPUs were asked for, and this machine has {torch.cuda.device_count()}")
    if kind == "mps" and devices * nodes > 1:
        raise MedfplError("there is one mps device", "--devices 1")
    if devices > 1 and ":" in device:
        raise UsageError(f"--device {device} is one device and --devices {devices} are several", "--device cuda")
    if precision == "16" and kind == "cpu":
        raise MedfplError("a CPU does not train in half precision", "--precision bf16, or 32")
    return Engine(chosen, devices, nodes, _precision_for(kind) if precision == "auto" else precision)


def build_fabric(engine: Engine) -> Fabric:
    """Return a Fabric on ``engine``, not launched."""
    # It tells of every process that joins and of every mode it is in.
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    device = torch.device(engine.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
    index = device.index if device.index is not None and engine.devices * engine.nodes == 1 else None
    return Fabric(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[index] if device.type == "cuda" and index is not None else engine.devices,
        num_nodes=engine.nodes,
        precision=FORMATS[engine.precision],
    )


def end_children(fabric: Fabric, patience: float = 10.0) -> None:
    """End the processes that ``fabric`` started on this machine, where they do not end by themselves."""
    for process in getattr(getattr(fabric.strategy, "launcher", None), "procs", []):
        try:
            process.wait(patience)
        except Exception:  # subprocess.TimeoutExpired
            process.kill()


def precision_of(fabric: Fabric) -> str:
    """Return the name in ``FORMATS`` of what ``fabric`` computes in."""
    plugin: Precision = fabric.strategy.precision
    return next(name for name, value in FORMATS.items() if value == plugin.precision)


def _precision_for(kind: str) -> str:
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    if kind == "cpu":
        # Where the processor multiplies in bfloat16 it is twice as fast; elsewhere it is far slower.
        able = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return "bf16" if any(getattr(torch.cpu, name, bool)() for name in able) else "32"
    return "32"


def _launched() -> tuple[int | None, int | None]:
    """Return the processes a machine and the machines of a torchrun or Slurm job that this process is part of."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return local, max(1, int(os.environ.get("WORLD_SIZE", "1")) // local)
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return max(1, int(os.environ.get("SLURM_NTASKS", "1")) // nodes), nodes
    return None, None
