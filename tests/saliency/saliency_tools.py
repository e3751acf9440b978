"""Small networks and pairs of images for tests of the saliency."""

import numpy as np
import torch

from medfpl.explain.guided import Rules, frozen
from medfpl.nets.unet import UNet, UNetConfig, build_unet
from medfpl.nets.weights import Model, ModelCard
from medfpl.saliency.maps import Explainer


def network(depth: int = 3, skips: int | None = 1) -> UNet:
    """A frozen U-Net of random weights whose batch norms have seen something."""
    generator = torch.Generator().manual_seed(0)
    net = build_unet(UNetConfig(width=8, depth=depth, skips=skips), generator)
    with torch.no_grad():
        net.out.weight.normal_(generator=generator)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return net.eval().requires_grad_(False)


def explainer() -> Explainer:
    """A small explained network, as it would be loaded."""
    net = network()
    card = ModelCard("small", "restoration", "of a test", {"type": "unet"}, "w.safetensors", "ab" * 32, 1, 1)
    return Explainer(frozen(net), Model(card, None, "run"), Rules())  # type: ignore[arg-type]


def body(side: int = 192, seed: int = 0) -> np.ndarray:
    """A smooth bright body with soft organs on black, working units."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    image = 0.5 / (1 + np.exp((np.hypot(x, 1.2 * y) - 0.4) * 250))
    for cy, cx, radius, contrast in ((-0.1, -0.15, 0.1, 0.08), (0.1, 0.15, 0.12, -0.06), (0.0, 0.0, 0.05, 0.2)):
        image += contrast / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) * 250))
    return image.astype(np.float32)


def disc(side: int, centre: tuple[float, float], diameter: float, contrast: float) -> np.ndarray:
    """A soft disc to be planted."""
    y, x = np.mgrid[:side, :side]
    return (contrast / (1 + np.exp((np.hypot(y - centre[0], x - centre[1]) - diameter / 2) / 0.5))).astype(np.float32)


def white(side: int, sigma: float, seed: int) -> np.ndarray:
    """White noise."""
    return np.random.default_rng(seed).normal(0, sigma, (side, side)).astype(np.float32)
