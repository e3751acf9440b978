"""Guided back-propagation (Springenberg et al. 2015) that can itself be differentiated.

The feature map of a network R at an image x is the guided gradient of a scalar of R(x) with respect to x: at every
ReLU a gradient passes only where the forward input and the incoming gradient are both positive.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

Scalar = Literal["energy", "sum"]
Gate = Literal["relu", "smooth"]


@dataclass(frozen=True)
class Rules:
    """How a map is made.

    ``scalar`` "energy" is half the squared norm of R(x). "sum" is the plain sum: with ReLU gates its map is
    piecewise constant in x, so that a loss on it has no gradient and cannot train; it is here to compare.
    ``gate`` "smooth" puts softplus with sharpness ``beta`` for each ReLU (Dombrowski et al. 2019), so that the map
    depends smoothly on x.
    """

    scalar: Scalar = "energy"
    gate: Gate = "relu"
    beta: float = 20.0


@dataclass
class _Pass:
    """Which rule holds: the guided one while the map is made, the true derivative when a loss on it is differentiated.

    The map depends on x through the gates and the activations, and those depend on x as the forward pass says. With
    the guided rule in both passes the second derivative would be wrong without any error.
    """

    guided: bool = True


class _GuidedReLU(torch.autograd.Function):
    """ReLU with the guided backward g_in = g_out [a > 0] [g_out > 0], made of operations that have a derivative."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, now: _Pass) -> Tensor:
        ctx.save_for_backward(a)
        ctx.now = now
        return a.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (a,) = ctx.saved_tensors
        gradient = torch.relu(gradients[0]) if ctx.now.guided else gradients[0]
        return gradient * (a > 0), None


class _GuidedSoftplus(torch.autograd.Function):
    """Softplus of sharpness beta with the guided backward g_in = g_out sigmoid(beta a) [g_out > 0]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, beta: float, now: _Pass) -> Tensor:
        ctx.save_for_backward(a)
        ctx.beta, ctx.now = beta, now
        return F.softplus(a, beta=beta)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (a,) = ctx.saved_tensors
        gradient = torch.relu(gradients[0]) if ctx.now.guided else gradients[0]
        return gradient * torch.sigmoid(ctx.beta * a), None, None


class _Guided(TorchFunctionMode):
    """While active, every ReLU that a network calls is a guided one. Nothing is left on the network."""

    def __init__(self, rules: Rules, now: _Pass) -> None:
        super().__init__()
        self._rules, self._now = rules, now

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping | None = None
    ) -> Any:
        if func in (F.relu, torch.relu, Tensor.relu):
            if self._rules.gate == "smooth":
                return _GuidedSoftplus.apply(args[0], self._rules.beta, self._now)
            return _GuidedReLU.apply(args[0], self._now)
        return func(*args, **(kwargs or {}))


def guided_map(net: nn.Module, x: Tensor, rules: Rules = Rules(), *, create_graph: bool = False) -> Tensor:
    """Return the feature map of ``net`` at ``x``: same shape (B, 1, H, W), arbitrary units, positive and negative.

    Each item's map depends on that item alone (``net`` in eval mode). With ``create_graph`` the map is
    part of the graph of ``x``: a loss on it reaches whatever ``x`` came from. ``net`` gets no gradient when its
    parameters do not require one.
    """
    now = _Pass()
    with torch.enable_grad():
        seen = x if create_graph and x.requires_grad else x.detach().requires_grad_()
        with _Guided(rules, now):
            out = net(seen)
        total = out.sum() if rules.scalar == "sum" else 0.5 * out.square().sum()
        (gradient,) = torch.autograd.grad(total, seen, create_graph=create_graph)
    now.guided = False
    return gradient if create_graph else gradient.detach()


def frozen(net: nn.Module) -> nn.Module:
    """Return a copy of ``net``: eval mode, no gradients, each batch norm folded into the convolution before it."""
    made = copy.deepcopy(net).eval()
    for parent in list(made.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        layers: list[nn.Module] = []
        for layer in parent:
            if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        for place, layer in enumerate(layers):
            parent[place] = layer
        del parent[len(layers) :]
    return made.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
