"""The U-Net that serves twice: as restoration network R and as denoiser D."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "none"]


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a U-Net. The defaults are the paper's: 17.26 M parameters (arXiv 2310.20101).

    ``unshuffle`` folds blocks of that many pixels squared into channels before the first convolution and unfolds
    after the last: 2 costs a quarter at the same width. ``skips`` counts the levels, from the deepest, whose skip
    connection is kept; fewer than ``depth`` closes the short way by which a network can learn the identity.
    ``inputs`` and ``outputs`` count the images that go in and come out: 1, or one a feature.
    """

    width: int = 64
    depth: int = 4
    unshuffle: int = 1
    norm: Norm = "batch"
    skips: int | None = None
    outputs: int = 1
    inputs: int = 1

    @property
    def multiple(self) -> int:
        """Image sides are padded to a multiple of this inside the network."""
        return self.unshuffle * 2**self.depth

    @property
    def channels(self) -> list[int]:
        """Channels at each level, top first; the deepest has no more than the one above it (bilinear upsampling)."""
        return [self.width * 2**i for i in range(self.depth)] + [self.width * 2 ** (self.depth - 1)]

    @property
    def reach(self) -> int:
        """How far, in pixels, an input pixel can influence the output: the halo that a tile needs."""
        convolutions = 2 + sum(2 * 2**i for i in range(1, self.depth + 1)) + sum(2 * 2**i for i in range(self.depth))
        pooling = sum(2**i for i in range(self.depth))
        upsampling = sum(2 * 2**i for i in range(self.depth))
        return self.unshuffle * (convolutions + pooling + upsampling + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def _double_convolution(inside: int, middle: int, outside: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((inside, middle), (middle, outside)):
        layers.append(nn.Conv2d(a, b, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(b))
        # One module a site and never in place: guided back-propagation needs each ReLU's own input.
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Double 3x3 convolutions, max-pooling down, bilinear upsampling and concatenation up, 1x1 output.

    ``forward`` takes (B, inputs, H, W) of any size (sides are padded by edge values and cropped again) and
    returns the same size, ``outputs`` channels. It is the plain network; what its output means (the image or
    the noise in it) is the caller's.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        pixels = config.unshuffle**2
        kept = config.depth if config.skips is None else config.skips
        self.stem = _double_convolution(pixels * config.inputs, widths[0], widths[0], config.norm)
        self.down = nn.ModuleList(_double_convolution(a, b, b, config.norm) for a, b in pairwise(widths))
        self.up = nn.ModuleList()
        self.skipped: list[bool] = []
        below = widths[-1]
        for level in reversed(range(config.depth)):
            skip = config.depth - 1 - level < kept
            inside = below + (widths[level] if skip else 0)
            outside = widths[level - 1] if level else widths[0]
            self.up.append(_double_convolution(inside, max(inside // 2, outside), outside, config.norm))
            self.skipped.append(skip)
            below = outside
        self.out = nn.Conv2d(widths[0], pixels * config.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output for ``x``, (B, inputs, H, W) -> (B, outputs, H, W)."""
        height, width = x.shape[-2:]
        multiple = self.config.multiple
        pad = (-width % multiple, -height % multiple)
        if any(pad):
            x = F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")
        if self.config.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.config.unshuffle)
        levels = [self.stem(x)]
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        y = levels.pop()
        for block, skip in zip(self.up, self.skipped, strict=True):
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            across = levels.pop()
            y = block(torch.cat([across, y], 1) if skip else y)
        y = self.out(y)
        if self.config.unshuffle > 1:
            y = F.pixel_shuffle(y, self.config.unshuffle)
        return y[..., :height, :width]


def build_unet(config: UNetConfig, generator: torch.Generator | None = None) -> UNet:
    """Return a U-Net in channels_last with He initialisation drawn from ``generator`` and a zero output layer.

    With a zero output layer a residual denoiser starts as the identity. Without a generator the
    parameters are left as torch made them (for weights that are loaded next).
    """
    net = UNet(config)
    if generator is not None:
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.Conv2d):
                    fan = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
                    module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
                    if module.bias is not None:
                        module.bias.zero_()
            net.out.weight.zero_()
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
