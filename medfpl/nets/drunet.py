"""DRUNet, the residual U-Net of DPIR (arXiv 2008.13751): told the noise level, as its prior, or blind, as a denoiser.

Names and shapes of a prior's weights are those of the published grey network, so that its file loads.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Channels at each level, in widths. The published names go down to m_down3 and no further.
_FACTORS = (1, 2, 4, 8)
# Side of the window, in pixels, in which a blind network is told the mean and the noise.
_WINDOW = 15
LEVEL = 3  # channel of the first convolution that has the noise level of the whole image
# Below any noise; a root has no slope at 0.
TINY = 1e-8
# Mean size of what a 3 x 3 mean leaves of white noise of standard deviation 1.
WHITE = (8 / 9 * 2 / math.pi) ** 0.5


@dataclass(frozen=True)
class DRUNetConfig:
    """Shape of a DRUNet: channels at the first level and residual blocks a level. The defaults are the published.

    A ``blind`` one is given the image alone, not the noise's level, and returns the noise in it. With ``context`` it
    also sees the image as a whole: its noise level, what its rows and columns have in common, and their features.
    """

    width: int = 64
    blocks: int = 4
    blind: bool = False
    context: bool = False

    @property
    def inputs(self) -> int:
        """Channels of the first convolution: the image and the noise's level, or if blind what is seen of both."""
        return 6 if self.context else 3 if self.blind else 2

    @property
    def channels(self) -> list[int]:
        """Channels at each level, top first."""
        return [factor * self.width for factor in _FACTORS]

    @property
    def multiple(self) -> int:
        """Image sides are padded to a multiple of this inside the network."""
        return 2 ** (len(_FACTORS) - 1)

    @property
    def reach(self) -> int:
        """How far, in pixels, an input pixel can influence the output: the halo that a tile needs."""
        deepest = len(_FACTORS) - 1
        sides = sum(2**level for level in range(deepest))
        convolutions = 2 * self.blocks * (2 * sides + 2**deepest)
        return 2 + convolutions + 2 * sides + (_WINDOW // 2 + 1 if self.blind else 0)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of ``x``."""
        out: Tensor = x + self.res(x)
        return out


class Context(nn.Module):
    """x + conv(relu(conv(x, and its means over rows, columns and all))), 1x1, without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(4 * channels, channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of ``x``."""
        rows, columns = x.mean(-1, keepdim=True), x.mean(-2, keepdim=True)
        whole = rows.mean(-2, keepdim=True)
        out: Tensor = x + self.res(torch.cat([x, *(m.expand_as(x) for m in (rows, columns, whole))], 1))
        return out


class DRUNet(nn.Module):
    """Residual blocks at four scales; strided convolutions down, transposed up, skips that are added; no bias anywhere.

    ``forward`` takes (B, 2, H, W) of any size, an image and the map of its noise's standard deviation in the same units
    (sides are padded by edge values and cropped again), and returns the denoised image (B, 1, H, W). A blind one takes
    the image, (B, 1, H, W), and returns the noise in it; its first convolution also sees ``local_statistics``.
    Without biases a scaled input has a scaled output: any level is a known one of an image of other contrast.
    """

    def __init__(self, config: DRUNetConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels

        def blocks(channels: int) -> list[nn.Module]:
            return [ResidualBlock(channels) for _ in range(config.blocks)]

        def down(level: int) -> nn.Sequential:
            return nn.Sequential(*blocks(c[level]), nn.Conv2d(c[level], c[level + 1], 2, stride=2, bias=False))

        def up(level: int) -> nn.Sequential:
            return nn.Sequential(nn.ConvTranspose2d(c[level + 1], c[level], 2, stride=2, bias=False), *blocks(c[level]))

        self.m_head = nn.Conv2d(config.inputs, c[0], 3, padding=1, bias=False)
        self.m_down1, self.m_down2, self.m_down3 = down(0), down(1), down(2)
        self.m_body = nn.Sequential(*blocks(c[3]))
        self.m_up3, self.m_up2, self.m_up1 = up(2), up(1), up(0)
        self.m_tail = nn.Conv2d(c[0], 1, 3, padding=1, bias=False)
        self.context = Context(c[3]) if config.context else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the denoised image, or if blind the noise, (B, 1, H, W)."""
        height, width = x.shape[-2:]
        pad = (-width % self.config.multiple, -height % self.config.multiple)
        if any(pad):
            x = F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")
        top = self.m_head(torch.cat([x, self._statistics(x)], 1) if self.config.blind else x)
        half = self.m_down1(top)
        quarter = self.m_down2(half)
        eighth = self.m_down3(quarter)
        y = self.m_body(self.context(eighth))
        y = self.m_up3(y + eighth)
        y = self.m_up2(y + quarter)
        y = self.m_up1(y + half)
        out: Tensor = self.m_tail(y + top)
        if self.config.blind:
            out = x - out
        return out[..., :height, :width]

    def _statistics(self, x: Tensor) -> Tensor:
        local = local_statistics(x)
        return torch.cat([local, global_statistics(x, local)], 1) if self.config.context else local


def local_statistics(x: Tensor) -> Tensor:
    """Return the local mean of (B, 1, H, W), and that of what a 3 x 3 mean leaves of it, in size: (B, 2, H, W).

    Both scale with the image, as all in a network without biases must. Their ratio tells the dark of a magnitude image,
    where noise has an offset, from tissue; convolutions by themselves hardly learned to form it.
    """
    rest = x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return torch.cat([_local_mean(x), _local_mean(rest.abs())], 1)


def global_statistics(x: Tensor, local: Tensor) -> Tensor:
    """Return what (B, 1, H, W) has in common everywhere, along its columns and along its rows: (B, 3, H, W).

    The first is the level of the noise, a mean of the second of the ``local`` statistics in which edges count little;
    the others are the means over columns and over rows of what the local mean leaves of it. They scale with the image.
    """
    level = local[:, 1:].clamp_min(TINY).sqrt().mean((-2, -1), keepdim=True).square()
    rest = x - local[:, :1]
    parts = (level, rest.mean(-2, keepdim=True), rest.mean(-1, keepdim=True))
    return torch.cat([part.expand_as(x) for part in parts], 1)


def _local_mean(x: Tensor) -> Tensor:
    half = _WINDOW // 2
    rows = F.avg_pool2d(x, (1, _WINDOW), 1, (0, half), count_include_pad=False)
    return F.avg_pool2d(rows, (_WINDOW, 1), 1, (half, 0), count_include_pad=False)


def build_drunet(config: DRUNetConfig, generator: torch.Generator) -> DRUNet:
    """Return a DRUNet in channels_last, its weights drawn from ``generator`` with He's variance.

    The second convolution of each block is drawn ten times weaker: it corrects what passes by.
    """
    net = DRUNet(config)
    with torch.no_grad():
        for name, module in net.named_modules():
            if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                continue
            weight = module.weight
            # With stride 2 and a 2x2 kernel each output pixel of a transposed convolution has one source a channel.
            fan = len(weight) if isinstance(module, nn.ConvTranspose2d) else weight[0].numel()
            gain = 2**0.5 if name.endswith("res.0") else 0.1 if name.endswith("res.2") else 1.0
            weight.copy_(torch.randn(weight.shape, generator=generator) * gain / fan**0.5)
        if isinstance(net.context, Context):
            last = net.context.res[2]
            assert isinstance(last, nn.Conv2d)
            last.weight.zero_()  # a network that begins from one without context is at first that one
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
