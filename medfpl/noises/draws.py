"""Random fields beyond the normal and the uniform: Poisson counts and chi-square or gamma variates."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

# Above this rate a Poisson count is drawn as a normal one: the skewness is below 1e-3 there, and
# torch.poisson on CUDA was reported wrong for large rates (pytorch #86782).
LARGE_RATE = 1e6
# Up to this whole shape a gamma variate is cheaper as the log of a product of uniforms.
PRODUCT_SHAPE = 12


def poisson(rate: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Return Poisson counts of ``rate`` (B, ...) >= 0, item i from generator i; its shape, dtype and device."""
    counts = torch.empty_like(rate)
    for item, mean, g in zip(counts, rate.detach(), generators, strict=True):
        here = mean.to(g.device)
        drawn = torch.poisson(here.clamp_max(LARGE_RATE), generator=g)
        if bool((here > LARGE_RATE).any()):
            normal = torch.randn(here.shape, generator=g, device=g.device, dtype=here.dtype)
            drawn = torch.where(here > LARGE_RATE, (here + here.sqrt() * normal).round_(), drawn)
        item.copy_(drawn)
    return counts


def gamma(shapes: Sequence[float], size: Sequence[int], generators: Sequence[Generator], like: Tensor) -> Tensor:
    """Return Gamma(shape, 1) variates (B, *size), item i of shape ``shapes[i]`` from generator i.

    A sum of k exponentials is minus the log of a product of k uniforms; other shapes use torch's rejection
    sampler. A shape of 0 gives 0.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    out = torch.empty(len(generators), *size, device=generators[0].device, dtype=dtype)
    for item, shape, g in zip(out, shapes, generators, strict=True):
        if shape <= PRODUCT_SHAPE and float(shape).is_integer():
            item.fill_(1)
            for _ in range(int(shape)):
                item.mul_(torch.rand(tuple(size), generator=g, device=g.device, dtype=dtype).neg_().add_(1))
            item.log_().neg_()
        else:
            # the only gamma sampler of torch that takes a generator
            item.copy_(torch._standard_gamma(torch.full_like(item, shape), generator=g))
    return out.to(like.device, like.dtype)
