"""How fast a training step is: residual loss alone, with the feature preserving loss, and a textbook version of that.

All of them take the same images in one process, in turn, so that whatever else the machine does meets all alike; the
figures are medians. The textbook version is what one writes first: NCHW memory, a hook on each ReLU, the clean maps
anew for each corruption and with a graph, gradients of the explained network's weights along the way.

    python scripts/bench_train.py --rounds 20 --precision 32
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medfpl.explain.guided import rules_for
from medfpl.nets.unet import UNet, UNetConfig, build_unet
from medfpl.training.config import RunConfig, TrainConfig, load_config
from medfpl.training.data import Batch
from medfpl.training.engines import build_fabric, choose_engine
from medfpl.training.losses import residual_loss
from medfpl.training.networks import explained_loss
from medfpl.training.planting import FEATURES
from medfpl.training.step import Step

Take = Callable[[Batch], None]


def our_step(fabric: Fabric, config: TrainConfig, explained: UNet) -> Take:
    """Return the step that medfpl trains with."""
    network = network_of(config)
    ema = copy.deepcopy(network).requires_grad_(False).to(fabric.device)
    net, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters()))
    feature = None
    if config.fpl.weight:
        feature = explained_loss(config.fpl, explained, images(config).clean.to(fabric.device))
    step = Step(fabric, net, network, ema, optimizer, config, feature)
    return lambda batch: finish(fabric, step(batch, 0, 1e-4))


def textbook_step(fabric: Fabric, config: TrainConfig, explained: UNet) -> Take:
    """Return the same step, written plainly."""
    network = network_of(config).to(memory_format=torch.contiguous_format)
    net, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters(), lr=1e-4))
    teacher = copy.deepcopy(explained).eval().to(fabric.device, memory_format=torch.contiguous_format)
    teacher.requires_grad_(True)
    for module in teacher.modules():
        if isinstance(module, nn.ReLU):
            module.register_full_backward_hook(lambda _module, inside, _outside: (inside[0].clamp(min=0),))

    at: dict[str, Tensor] = {}
    rules = rules_for(explained.config.outputs, explained.config.depth)
    if rules.layer:
        teacher.get_submodule(rules.layer).register_forward_hook(lambda _m, _i, out: at.update(here=out))

    def guided_map(x: Tensor) -> Tensor:
        at["here"] = x
        out = teacher(x)
        scalar = 0.5 * (out[:, 1:].sigmoid() if rules.scalar == "evidence" else out).square().sum()
        return torch.autograd.grad(scalar, at["here"], create_graph=True)[0]

    def take(batch: Batch) -> None:
        clean = batch.clean.repeat_interleave(batch.copies, 0).to(fabric.device)
        noisy = batch.noisy.to(fabric.device)
        denoised = noisy - net(noisy)
        with fabric.autocast():
            wanted = guided_map(clean.requires_grad_())
            found = guided_map(denoised)
        loss = residual_loss(denoised, clean, config.loss) + config.fpl.weight * (found - wanted).square().mean()
        fabric.backward(loss)
        fabric.clip_gradients(net, optimizer, max_norm=config.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        teacher.zero_grad()
        finish(fabric, loss.detach())

    return take


def network_of(config: TrainConfig) -> UNet:
    """Return the denoiser, its output not zero: a zero one would have no gradient."""
    return not_zero(build_unet(UNetConfig(**config.net.unet()), torch.Generator().manual_seed(0)))


def not_zero(net: UNet) -> UNet:
    """Return ``net`` with small random weights in its last layer."""
    nn.init.normal_(net.out.weight, std=0.05, generator=torch.Generator().manual_seed(1))
    return net


def finish(fabric: Fabric, value: Tensor) -> None:
    """Wait for the device."""
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
    assert bool(value.flatten()[0].isfinite())


def images(config: TrainConfig) -> Batch:
    """Return smooth random images and white noise."""
    generator = torch.Generator().manual_seed(2)
    few, side = config.data.batch // config.data.copies, config.data.patch
    coarse = torch.rand(few, 1, side // 16, side // 16, generator=generator)
    clean = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    noise = torch.randn(few * config.data.copies, 1, side, side, generator=generator)
    return Batch(clean, clean.repeat_interleave(config.data.copies, 0) + 0.05 * noise, [])


def main() -> None:
    """Measure and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="steps of each kind, after two to warm up")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--patch", type=int, default=192)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="32", help="32, bf16 or 16; the same for all")
    parser.add_argument("--norm", default="batch", help="of both networks: batch or none")
    given = parser.parse_args()
    settings = {
        "data.batch": given.batch, "data.patch": given.patch, "data.frame": given.patch,
        "net.type": "unet", "net.width": 32, "net.norm": given.norm,
    }  # fmt: skip
    shared = {**settings, "data.copies": given.copies, "fpl.norms_every": 0}
    engine = choose_engine(given.device, precision=given.precision)
    fabric = build_fabric(engine)
    fabric.launch()
    weight = RunConfig().fpl.weight
    small = RunConfig().restoration.net.unet() | {"norm": given.norm}
    residual = load_config(None, shared)
    ours = load_config(None, {**shared, "fpl.weight": weight})
    shape = UNetConfig(**small, outputs=1 + len(FEATURES))
    explained = not_zero(build_unet(shape, torch.Generator().manual_seed(3)))
    same = network_of(residual)  # the paper explains a network like the denoiser, at the image
    kinds: dict[str, Take] = {
        "residual alone": our_step(fabric, residual, explained),
        "ours": our_step(fabric, ours, explained),
        "textbook": textbook_step(fabric, ours, explained),
        "textbook, R as large as D": textbook_step(fabric, ours, same),
    }
    batch = images(residual)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(given.rounds + 2):
        for kind, take in kinds.items():
            start = time.perf_counter()
            take(batch)
            if turn >= 2:
                seconds[kind].append(time.perf_counter() - start)
    medians = {kind: statistics.median(times) for kind, times in seconds.items()}
    base = medians["residual alone"]
    print(f"{engine.describe()}; batch {given.batch}, copies {given.copies}, patch {given.patch}, norm {given.norm}")
    for kind, median in medians.items():
        print(f"{kind:28}{median:8.3f} s a step{given.batch / median:8.1f} images/s{median / base:7.2f} x residual")
    print(json.dumps({"engine": engine.describe(), "seconds": medians, **vars(given)}))


if __name__ == "__main__":
    main()
