"""Half-quadratic splitting: a denoiser of white noise serves as the prior of any restoration (DPIR, arXiv 2008.13751).

    minimise over x    |H x - y|^2 / (2 sigma^2) + weight * R(x)

is split into two steps that take turns: x follows the data and stays near z (closed form for each operator below),
z is x denoised at a level sigma_k that falls from round to round. For a prior that is the proximal map of R this
is exact in the limit; any good denoiser takes its place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medfpl.denoisers.sigma import noise_levels
from medfpl.errors import UsageError

# prior(x, level): x (B, 1, H, W) without white noise of standard deviation level (B, 1, 1, 1).
Prior = Callable[[Tensor, Tensor], Tensor]
ITERATIONS, WEIGHT = 8, 0.23
# In working units: where the levels begin, and the least that a prior is asked to remove; both as published.
FIRST, LEAST = 49 / 255, 0.255 / 255


class Operator(Protocol):
    """What happened to an image before the noise: y = H x + noise, H linear."""

    def nearest(self, y: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
        """Return the minimiser over x of |H x - y|^2 + alpha |x - z|^2, all (B, 1, H, W), alpha (B, 1, 1, 1) > 0."""
        ...


@dataclass(frozen=True)
class Identity:
    """Nothing but noise: denoising."""

    def nearest(self, y: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
        """Return the weighted mean of ``y`` and ``z``."""
        return (y + alpha * z) / (1 + alpha)


@dataclass(frozen=True)
class Masked:
    """Pixels are missing: ``known`` (H, W) or (B, 1, H, W), True where ``y`` was measured. Inpainting."""

    known: Tensor

    def nearest(self, y: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
        """Return the weighted mean of ``y`` and ``z`` where known, ``z`` elsewhere."""
        return torch.where(self.known, (y + alpha * z) / (1 + alpha), z)


@dataclass(frozen=True)
class Blurred:
    """Convolution with ``kernel`` (h, w), its middle at (h // 2, w // 2), over an image that repeats at its borders.

    An image that does not repeat is better tapered at its borders or padded first: what it lacks rings.
    """

    kernel: Tensor

    def transfer(self, like: Tensor) -> Tensor:
        """Return the kernel's transfer function on the grid of ``like`` (..., H, W), for rfft2.

        Raises:
            UsageError: if the kernel is no finite image that fits into ``like``.
        """
        size = like.shape[-2:]
        kernel = self.kernel
        if kernel.dim() != 2 or kernel.shape[0] > size[0] or kernel.shape[1] > size[1]:
            raise UsageError("the blur's kernel is no image that fits into the blurred one")
        if not bool(kernel.isfinite().all()):
            raise UsageError("the blur's kernel holds values that are not finite")
        wide = torch.zeros(size, dtype=like.dtype, device=like.device)
        wide[: kernel.shape[0], : kernel.shape[1]] = kernel.to(like)
        return torch.fft.rfft2(wide.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1)))

    def apply(self, x: Tensor) -> Tensor:
        """Return ``x`` (B, 1, H, W) blurred."""
        return torch.fft.irfft2(self.transfer(x) * torch.fft.rfft2(x), s=x.shape[-2:])

    def nearest(self, y: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
        """Return the Wiener-like filter of ``y`` and ``z``, by FFT."""
        transfer = self.transfer(y)
        above = transfer.conj() * torch.fft.rfft2(y) + alpha * torch.fft.rfft2(z)
        return torch.fft.irfft2(above / (transfer.abs().square() + alpha), s=y.shape[-2:])


def schedule(level: Tensor, iterations: int, first: float = FIRST) -> list[Tensor]:
    """Return the prior's levels: ``iterations`` of them, evenly spaced in their logarithm, from ``first`` to ``level``.

    ``level`` is (B, 1, 1, 1) > 0 and so is each of the results. Noise above ``first`` is met as it is throughout.
    """
    start = level.clamp_min(first)
    shares = [k / (iterations - 1) for k in range(iterations)] if iterations > 1 else [1.0]
    return [start * (level / start) ** share for share in shares]


def restore(
    y: Tensor,
    operator: Operator,
    prior: Prior,
    noise_level: Tensor | float | None,
    *,
    iterations: int = ITERATIONS,
    weight: float = WEIGHT,
    first: float = FIRST,
    start: Tensor | None = None,
) -> Tensor:
    """Return the image that ``operator`` and noise made ``y`` of, (B, 1, H, W) in working units.

    Args:
        y: what was measured, with white noise of ``noise_level`` (working units; one, one an item, or None: estimated
            from ``y``, which fits the identity only).
        operator: Identity, Masked, Blurred or another that has ``nearest``.
        prior: a denoiser that is told the level; called once a round.
        iterations: rounds; the prior's level falls from ``first`` to the noise's own.
        weight: lambda, how much the prior weighs against the data.
        start: the first guess of the image; ``y`` by default, which for missing pixels is best filled before.

    Raises:
        UsageError: for a noise level that is none, or an operator that does not fit ``y``.
    """
    level = noise_levels(y, noise_level).clamp_min(LEAST)
    z = y if start is None else start
    for sigma in schedule(level, iterations, first):
        x = operator.nearest(y, z, weight * (level / sigma).square())
        z = prior(x, sigma)
    return z
