"""Shading: what is wrong over a whole image and smooth, as one gain and one offset a pixel, found on a small copy."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from medfpl.nets.unet import UNet, UNetConfig, build_unet


@dataclass(frozen=True)
class ShadingConfig:
    """Shape: the U-Net's width and depth, and by which factor the copy that it sees is smaller than the image."""

    width: int = 16
    depth: int = 4
    factor: int = 4

    @property
    def inner(self) -> UNetConfig:
        """Shape of the U-Net: its two outputs are the gain and the offset."""
        return UNetConfig(self.width, self.depth, norm="none", outputs=2)

    @property
    def multiple(self) -> int:
        """Image sides are padded to a multiple of this inside the network."""
        return self.factor * self.inner.multiple

    @property
    def reach(self) -> int:
        """How far, in pixels, an input pixel can influence the output."""
        return self.factor * (self.inner.reach + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


class Shading(nn.Module):
    """``forward`` takes an image (B, 1, H, W) and returns what is wrong in it: gain x image + offset, both smooth.

    It costs little, and its U-Net sees hundreds of pixels around: fields, waves and folded images are of that size.
    """

    def __init__(self, config: ShadingConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noise, (B, 1, H, W)."""
        height, width = x.shape[-2:]
        factor = self.config.factor
        padded = F.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate")
        small = self.unet(F.avg_pool2d(padded, factor))
        gain, offset = F.interpolate(small, scale_factor=factor, mode="bilinear", align_corners=False).split(1, 1)
        noise: Tensor = x * gain[..., :height, :width] + offset[..., :height, :width]
        return noise


def build_shading(config: ShadingConfig, generator: Generator) -> Shading:
    """Return one in channels_last with weights drawn from ``generator``; it begins by finding nothing wrong."""
    net = Shading(config)
    net.unet = build_unet(config.inner, generator)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
