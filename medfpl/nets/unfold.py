"""Unfolding: what lay outside the field of view and was folded into it, told apart and put back."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from medfpl.nets.unet import UNet, UNetConfig, build_unet

# A row is empty whose mean is below this share of the fullest row's: denoised air, but no anatomy.
EMPTY = 0.02
BLURRED = 6  # rows over which a denoiser may have smeared the end of a field of view
# Where it ends less abruptly it is the object that ends: in whole MR at most 0.2. Folded images end by 0.35 and more,
# and behind a denoiser that was trained for minutes by 0.26.
CUT = 0.25
INPUTS = 4  # the image, itself repeated beyond the window, where the window is, and how far from its middle


@dataclass(frozen=True)
class UnfoldConfig:
    """Shape of the U-Net that tells the two parts of each folded pixel apart."""

    width: int = 24
    depth: int = 4

    @property
    def inner(self) -> UNetConfig:
        """Shape of the U-Net."""
        return UNetConfig(self.width, self.depth, unshuffle=2, norm="none", inputs=INPUTS)

    @property
    def multiple(self) -> int:
        """Image sides need no padding: an added row could be one of the object's."""
        return 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


class Unfold(nn.Module):
    """``forward`` takes an image (B, 1, H, W) and returns what folding added to it and took from it, of that shape.

    A field of view of n rows shows the sum of rows n apart; outside is nothing. So each pixel y of the window is
    A + B, A its own signal and B that of the row n off, of which the one outside that is nearer to the window counts.
    The U-Net looks at both places; B is what it says of them, A = y - B, and the sum stays the measured one.
    """

    def __init__(self, config: UnfoldConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noise, (B, 1, H, W); 0 where neither rows nor columns end abruptly (CUT)."""
        by_rows, by_columns = abruptness(x), abruptness(x.transpose(-2, -1))
        along_rows = (by_rows >= by_columns).view(-1, 1, 1, 1)
        if self.training:
            return self._unfolded(x, along_rows)
        folded = torch.maximum(by_rows, by_columns) >= CUT
        if torch.jit.is_tracing():  # which images are folded, and along what, is no part of a traced graph
            turned = self._along_rows(x.transpose(-2, -1)).transpose(-2, -1)
            return torch.where(along_rows, self._along_rows(x), turned) * folded.view(-1, 1, 1, 1)
        noise = torch.zeros_like(x)
        if bool(folded.any()):
            noise[folded] = self._unfolded(x[folded], along_rows[folded])
        return noise

    def _unfolded(self, x: Tensor, along_rows: Tensor) -> Tensor:
        if x.shape[-1] == x.shape[-2]:
            noise = self._along_rows(torch.where(along_rows, x, x.transpose(-2, -1)))
            return torch.where(along_rows, noise, noise.transpose(-2, -1))
        parts = [
            self._along_rows(item) if rows else self._along_rows(item.transpose(-2, -1)).transpose(-2, -1)
            for rows, item in zip(along_rows.flatten().tolist(), x.split(1), strict=True)
        ]
        return torch.cat(parts)

    def _along_rows(self, x: Tensor) -> Tensor:
        height = x.shape[-2]
        first, count = window(x)
        row = torch.arange(height, device=x.device)
        offset = row - first[:, None]  # from the window's first row: (B, H)
        n = count[:, None]
        inside = (offset >= 0) & (offset < n)
        # The row that is seen where this one would be: itself, or the one n rows off that it was folded onto.
        seen = first[:, None] + offset.remainder(n)
        # The one row outside that may have been folded onto a row of the window, the nearer of two.
        other = torch.where(inside, row + torch.where(2 * offset < n, n, -n), row + torch.where(offset < 0, n, -n))
        known = (other >= 0) & (other < height) & (inside | ((2 * offset >= -n) & (2 * offset < 3 * n)))
        place = _rows(inside)
        scale = x.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-6)
        shown = x / scale
        middle = _rows((2 * offset + 1 - n) / n.float())
        channels = [shown, _gather(shown, seen), place.expand_as(x), middle.clamp(-2, 2).expand_as(x)]
        said = self.unet(torch.cat([c.to(x.dtype) for c in channels], 1))
        # At the window's own place the U-Net says how much less, outside how much more: half of the difference.
        there = _gather(said, other.clamp(0, height - 1))
        moved = 0.5 * torch.where(place, there - said, said - there) * _rows(known) * scale
        if not self.training:  # neither part is negative; in training a limit would hide the way back
            limit = torch.where(place, x, _gather(x, seen)).clamp_min(0)
            moved = torch.minimum(moved.clamp_min(0), limit.to(moved.dtype))
        return torch.where(place, moved, -moved)


def window(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first row that is not empty and the number of rows to the last of (B, 1, H, W): (B,) each, int64.

    A denoiser blurs the end of a field of view over a few rows: it is where half of what follows is reached.
    """
    profile = x.detach().abs().mean((1, 3))
    first = _first_full(profile)
    return first, x.shape[-2] - _first_full(profile.flip(-1)) - first


def _first_full(profile: Tensor) -> Tensor:
    full = profile > EMPTY * profile.amax(-1, keepdim=True)
    coarse = full.int().argmax(-1, keepdim=True)
    rows = torch.arange(profile.shape[-1], device=profile.device)
    beyond = (coarse + torch.arange(BLURRED + 1, device=profile.device)).clamp_max(profile.shape[-1] - 1)
    half = 0.5 * profile.gather(-1, beyond).amax(-1, keepdim=True)
    fine = ((profile > half) & (rows >= coarse)).int().argmax(-1, keepdim=True)
    return torch.where(coarse > 0, fine, 0)[:, 0]  # where the first row is not empty the image goes on beyond it


def abruptness(x: Tensor) -> Tensor:
    """Return how full the first and the last row of the ``window`` are, the less full over the fullest: (B,), 0 to 1.

    Where nothing is empty nothing was folded, and it is 0. Objects end softly, and a field of view does not.
    """
    first, count = window(x)
    profile = x.detach().abs().mean((1, 3))
    ends = torch.stack([first, first + count - 1], -1)
    least = profile.gather(-1, ends).amin(-1) / profile.amax(-1).clamp_min(1e-12)
    return torch.where(count < x.shape[-2], least, 0)


def _rows(values: Tensor) -> Tensor:
    return values[:, None, :, None]


def _gather(x: Tensor, rows: Tensor) -> Tensor:
    return x.gather(-2, _rows(rows).expand(-1, 1, -1, x.shape[-1]))


def build_unfold(config: UnfoldConfig, generator: Generator) -> Unfold:
    """Return one in channels_last with weights drawn from ``generator``; it begins by moving nothing."""
    net = Unfold(config)
    net.unet = build_unet(config.inner, generator)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
