"""Coil shading: a smooth gain, the exponential of a cubic, that a U-Net reads off a small copy of the image."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from medfpl.nets.unet import UNet, UNetConfig, build_unet

ORDER = 3
PASSES = 2  # what is left of a field is easier to see once most of it is gone
INPUTS = 3  # the image as it is, for a CT has an absolute scale, and over its mean, and the logarithm of that
DARK = 0.05  # of the mean: darker pixels say nothing of a gain


@dataclass(frozen=True)
class FieldConfig:
    """Shape: the U-Net's width and depth, and the sides of the copy that it sees."""

    width: int = 24
    depth: int = 4
    side: int = 64

    @property
    def inner(self) -> UNetConfig:
        """Shape of the U-Net."""
        return UNetConfig(self.width, self.depth, norm="none", inputs=INPUTS)

    @property
    def multiple(self) -> int:
        """Image sides need no padding: the copy is padded inside."""
        return 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


class Field(nn.Module):
    """``forward`` takes an image (B, 1, H, W) and returns what a field added to it: x (1 - exp(-field)).

    The U-Net draws a map of the logarithm of the gain; the field is what polynomials in Legendre's basis can follow of
    it, without its mean, for the brightness of the whole image is no field's. Whatever an image's size, the U-Net sees
    much the same, and no edge can get into the gain. After Sled et al. 1998, IEEE Trans Med Imaging 17:87.
    """

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noise, (B, 1, H, W)."""
        side = self.config.side
        rows, columns = _legendre(x[0, 0, :, 0]), _legendre(x[0, 0, 0])
        longest = torch.maximum(torch.ones_like(x[0, 0, :, 0]).sum(), torch.ones_like(x[0, 0, 0]).sum())
        down, across = (_shrinking(basis[0], longest / side, side) for basis in (rows, columns))
        # On the copy, where a cell at the image's end, or beyond it, counts by how much of it is image.
        small_rows, small_columns = rows @ down.transpose(-2, -1), columns @ across.transpose(-2, -1)
        cells = small_rows[0].sum() * small_columns[0].sum()
        field = torch.zeros_like(x)
        for _ in range(PASSES):
            small = down @ (x * torch.exp(-field)) @ across.transpose(-2, -1)
            shown = small / small.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-6)
            said = self.unet(torch.cat([small, shown, (shown.clamp_min(0) + DARK).log()], 1)).to(x.dtype)
            # The mean product with each of the basis, whose own mean square is 1.
            found = torch.einsum("bhw,ih,jw->bij", said[:, 0], small_rows, small_columns) / cells * _degrees(x)
            field = field + torch.einsum("bij,ih,jw->bhw", found, rows, columns)[:, None]
        field = field - field.mean((-2, -1), keepdim=True)
        noise: Tensor = x * (1 - torch.exp(-field))
        return noise


def _legendre(line: Tensor) -> Tensor:
    """Return Legendre's polynomials up to ORDER at the N pixels of ``line``, of mean square 1: (ORDER + 1, N)."""
    ones = torch.ones_like(line)
    t = (2 * ones.cumsum(0) - 1) / ones.sum() - 1
    basis = [ones, t]
    for k in range(1, ORDER):
        basis.append(((2 * k + 1) * t * basis[k] - k * basis[k - 1]) / (k + 1))
    return torch.stack([(2 * k + 1) ** 0.5 * values for k, values in enumerate(basis)])


def _shrinking(ones: Tensor, cell: Tensor, side: int) -> Tensor:
    """Return the matrix (side, N) that takes N pixels to means over cells of ``cell`` pixels; beyond are zeros."""
    first = ones.cumsum(0) - 1
    begin = torch.arange(side, dtype=ones.dtype, device=ones.device)[:, None] * cell
    return (torch.minimum(first + 1, begin + cell) - torch.maximum(first, begin)).clamp_min(0) / cell


def _degrees(like: Tensor) -> Tensor:
    """Return 1 for the products of a total degree of 1 to ORDER, 0 for the others: (ORDER + 1, ORDER + 1)."""
    k = torch.arange(ORDER + 1, device=like.device)
    total = k[:, None] + k
    return ((total >= 1) & (total <= ORDER)).to(like.dtype)


def build_field(config: FieldConfig, generator: Generator) -> Field:
    """Return one in channels_last with weights drawn from ``generator``; it begins by finding no field."""
    net = Field(config)
    net.unet = build_unet(config.inner, generator)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
