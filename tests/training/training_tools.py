"""A training small enough for a test, and what to compare of it."""

import torch
from lightning_fabric import Fabric

from medfpl.nets.unet import UNetConfig, build_unet
from medfpl.training.config import load_config
from medfpl.training.loop import train

SMALL = {
    "net.type": "unet", "net.width": 4, "net.depth": 2, "data.frame": 40, "data.patch": 32, "data.batch": 4,
    "data.workers": 0,
    "data.noises": ["gaussian"], "warmup": 2, "validation_images": 2, "validate_every": 1000, "save_every": 1000,
    "log_every": 1,
}  # fmt: skip


def run(
    store, folder, resume=False, report=lambda row: None, explained=None, begin=None, precision="32-true", **changes
):
    """Train on the CPU in this process."""
    folder.mkdir(exist_ok=True)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    config = load_config(None, {**SMALL, **changes})
    return train(fabric, store, config, folder, resume=resume, report=report, explained=explained, begin=begin)


def state(net):
    """Return all of a network's numbers in one vector."""
    return torch.cat([v.flatten().double() for v in net.state_dict().values()])


def small_restoration(norm="none"):
    """Return a network to explain: random, but with an output that is not zero."""
    net = build_unet(UNetConfig(width=4, depth=2, norm=norm), torch.Generator().manual_seed(5))
    torch.nn.init.normal_(net.out.weight, generator=torch.Generator().manual_seed(6))
    return net.eval()
