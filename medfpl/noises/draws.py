"""Random fields beyond the normal and the uniform: Poisson counts and chi-square or gamma variates."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.base import fields

# Above this rate a Poisson count is drawn as a normal one: the skewness is below 1e-3 there, and
# torch.poisson on CUDA was reported wrong for large rates (pytorch #86782).
LARGE_RATE = 1e6
# Up to this whole shape a gamma variate is cheaper as the log of a product of uniforms.
PRODUCT_SHAPE = 12


def poisson(rate: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Return Poisson counts of ``rate`` (B, ...) >= 0, item i from generator i; its shape, dtype and device."""
    mean = rate.detach().to(generators[0].device)
    large = mean > LARGE_RATE
    rates = mean.clamp_max(LARGE_RATE)
    counts = torch.stack([torch.poisson(item, generator=g) for item, g in zip(rates, generators, strict=True)])
    if bool(large.any()):
        for item, some, here, g in zip(counts, mean, large, generators, strict=True):
            if bool(here.any()):
                normal = torch.randn(some.shape, generator=g, device=g.device, dtype=some.dtype)
                item.copy_(torch.where(here, (some + some.sqrt() * normal).round_(), item))
    return counts.to(rate.device)


def gamma(shapes: Sequence[float], size: Sequence[int], generators: Sequence[Generator], like: Tensor) -> Tensor:
    """Return Gamma(shape, 1) variates (B, *size), item i of shape ``shapes[i]`` from generator i.

    A sum of k exponentials is minus the log of a product of k uniforms; other shapes use torch's rejection
    sampler. A shape of 0 gives 0.
    """
    if len(set(shapes)) > 1:
        single = [gamma([k], size, [g], like) for k, g in zip(shapes, generators, strict=True)]
        return torch.cat(single)
    (shape,) = set(shapes)
    if shape <= PRODUCT_SHAPE and float(shape).is_integer():
        out = torch.ones(len(generators), *size, dtype=like.dtype, device=like.device)
        for _ in range(int(shape)):
            out.mul_(fields(generators, size, like, "uniform").neg_().add_(1))
        return out.log_().neg_()
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    out = torch.empty(len(generators), *size, device=generators[0].device, dtype=dtype)
    for item, g in zip(out, generators, strict=True):
        # the only gamma sampler of torch that takes a generator
        item.copy_(torch._standard_gamma(torch.full_like(item, shape), generator=g))
    return out.to(like.device, like.dtype)
