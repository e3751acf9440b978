"""Guided back-propagation (Springenberg et al. 2015) that can itself be differentiated.

The feature map of a network R at an image x is the guided gradient of a scalar of R(x) with respect to x: at every
ReLU a gradient passes only where the forward input and the incoming gradient are both positive.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

Scalar = Literal["energy", "sum", "evidence"]
Gate = Literal["relu", "smooth"]


@dataclass(frozen=True)
class Rules:
    """How a map is made.

    ``scalar`` "energy" is half the squared norm of R(x). "sum" is the plain sum: with ReLU gates its map is
    piecewise constant in x, so that a loss on it has no gradient and cannot train; it is here to compare.
    Both are of the first output. "evidence" is half the squared norm of the sigmoids of the further outputs, the
    logits of features, for networks that find some.
    ``gate`` "smooth" puts softplus with sharpness ``beta`` for each ReLU (Dombrowski et al. 2019), so that the map
    depends smoothly on x.
    ``layer`` names a module of the network (as in ``named_modules``): the map is then the gradient with respect to
    what that module gives, and not to the image. Deep in a network the map has lost what noise does to single pixels.
    """

    scalar: Scalar = "energy"
    gate: Gate = "relu"
    beta: float = 20.0
    layer: str = ""


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
        # What comes out is positive where a is, and is kept by the next layer anyway: a itself can go.
        out = a.clamp_min(0)
        ctx.save_for_backward(out)
        ctx.now = now
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        gradient = torch.relu(gradients[0]) if ctx.now.guided else gradients[0]
        # gradient * (a > 0) in one pass over memory; detached, for the gate has no derivative.
        return torch.ops.aten.threshold_backward(gradient, out.detach(), 0), None


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
    """Return the feature map of ``net`` at ``x`` (B, 1, H, W), arbitrary units, positive and negative.

    It has the shape of ``x``, or that of the output of ``rules.layer``. Each item's map depends on that item alone
    (``net`` in eval mode). With ``create_graph`` the map is part of the graph of ``x``: a loss on it reaches
    whatever ``x`` came from. ``net`` gets no gradient when its parameters do not require one.

    Raises:
        ValueError: if ``net`` has no module called ``rules.layer``, or no features for "evidence".
    """
    now = _Pass()
    with torch.enable_grad():
        seen = x if create_graph and x.requires_grad else x.detach().requires_grad_()
        with _Guided(rules, now), _output_of(net, rules.layer, seen) as place:
            out = net(seen)
        (gradient,) = torch.autograd.grad(_scalar(out, rules.scalar), place[0], create_graph=create_graph)
    now.guided = False
    return gradient if create_graph else gradient.detach()


def _scalar(out: Tensor, scalar: Scalar) -> Tensor:
    if scalar == "evidence":
        if out.shape[1] < 2:
            raise ValueError("the explained network finds no features: it has no evidence")
        return 0.5 * out[:, 1:].sigmoid().square().sum()
    first = out[:, :1]
    return first.sum() if scalar == "sum" else 0.5 * first.square().sum()


@contextmanager
def _output_of(net: nn.Module, layer: str, x: Tensor) -> Iterator[list[Tensor]]:
    """Yield a list that holds ``x``, or what the module ``layer`` gave once ``net`` was called; leaves no hook."""
    if not layer:
        yield [x]
        return
    module = dict(net.named_modules()).get(layer)
    if module is None:
        raise ValueError(f"the explained network has no layer {layer!r}")
    place: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: place.append(output))
    try:
        yield place
    finally:
        handle.remove()


def rules_for(outputs: int, depth: int) -> Rules:
    """Return the rules that suit a U-Net of ``depth`` levels with that many outputs.

    A network that finds features is asked for its evidence, at the last level of its decoder: an input gradient
    moves more with noise in single pixels than with a feature that goes (docs/evidence/feature-preserving-loss.md).
    """
    return Rules("evidence", layer=f"up.{depth - 1}") if outputs > 1 else Rules()


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
