"""DPIR: a network that is told the noise level, alone or in half-quadratic splitting (arXiv 2008.13751)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medfpl.denoisers import hqs
from medfpl.denoisers.base import Method, Setting
from medfpl.denoisers.methods.medfpl import HIGH, LOW
from medfpl.denoisers.sigma import noise_levels
from medfpl.nets.drunet import DRUNet
from medfpl.nets.weights import Model, find_model, load_net
from medfpl.tiles import run_tiled

WHOLE_PIXELS = 1024 * 1024
TILE = 768
BLOCK = 8


@dataclass(frozen=True)
class PriorDenoiser:
    """A loaded prior behind the Denoiser contract; ``mode`` is "direct" or "hqs"."""

    net: DRUNet
    model: Model
    device: str = "cpu"
    mode: str = "direct"
    iterations: int = hqs.ITERATIONS
    weight: float = hqs.WEIGHT
    whole_pixels: int = WHOLE_PIXELS
    tile: int = TILE

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return ``x`` less white noise of ``noise_level``, (B, 1, H, W) in working units.

        A level below the least that a prior is asked for (hqs.LEAST) takes its share of what that one would: at level
        0 the result is ``x`` itself.
        """
        with torch.inference_mode():
            levels = noise_levels(x, noise_level)
            seen = x.to(self.device, torch.float32)
            told = levels.to(self.device, torch.float32).clamp_min(hqs.LEAST)
            if self.mode == "direct":
                found = self.prior(seen, told)
            else:
                found = hqs.restore(
                    seen, hqs.Identity(), self.prior, told, iterations=self.iterations, weight=self.weight
                )
            return x + (found - seen).to(x.device, x.dtype) * (levels / hqs.LEAST).clamp_max(1)

    def prior(self, x: Tensor, level: Tensor) -> Tensor:
        """Return one pass of the network over ``x`` (B, 1, H, W), float32 on its device, at ``level`` (B, 1, 1, 1).

        The network sees values clamped to -1..3 working units; what lies outside keeps its excess. An item with areas
        darker than black is shown brighter by as much. The network has no bias, so that its result for a level above
        those it was trained on is that of the same image at less contrast.
        """
        inside = x.clamp(LOW, HIGH)
        inside = inside + _below_black(inside, level)
        config = self.net.config

        def run(part: Tensor) -> Tensor:
            both = torch.cat([part, level.expand_as(part)], 1)
            return self.net(both.contiguous(memory_format=torch.channels_last))

        clean = run_tiled(
            run, inside, halo=config.reach, multiple=config.multiple, max_pixels=self.whole_pixels, size=self.tile
        )
        return x + (clean - inside)


def _below_black(x: Tensor, level: Tensor) -> Tensor:
    """Return how far the darkest area of each item lies below what black with noise of ``level`` can show.

    No prior learns from images that are negative over more than a few pixels, as is the padding of some CT.
    """
    size = [min(BLOCK, side) for side in x.shape[-2:]]
    means = torch.nn.functional.avg_pool2d(x, size, ceil_mode=True)
    chance = 6 * level / (size[0] * size[1]) ** 0.5
    return (-chance - means.amin((-2, -1), keepdim=True)).clamp_min(0)


def _build(model: str | None, device: str, mode: str, iterations: int, weight: float) -> PriorDenoiser:
    found = find_model(model, "prior")
    net = load_net(found, device)
    assert isinstance(net, DRUNet)  # its role says so
    return PriorDenoiser(net, found, device, mode, iterations, weight)


METHOD = Method(
    name="dpir",
    summary="deep denoiser prior (DRUNet) that is told the noise level, alone or in half-quadratic splitting",
    build=_build,
    source="Zhang, Li, Zuo, Zhang, Van Gool & Timofte 2021, IEEE TPAMI 44, arXiv 2008.13751",
    settings={
        "model": Setting(None, "prior's name, run folder or card (none: the default prior)", text=True),
        "device": Setting("cpu", "torch device", text=True),
        "mode": Setting("direct", "direct: one pass; hqs: half-quadratic splitting", choices=("direct", "hqs")),
        "iterations": Setting(hqs.ITERATIONS, "rounds of hqs", 1, 100),
        "weight": Setting(hqs.WEIGHT, "lambda of hqs: of the prior against the data", 1e-4, 100),
    },
    uses_noise_level=True,
)
