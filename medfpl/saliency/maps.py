"""Feature maps of an image before and after denoising: guided back-propagation through a frozen explained network."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medfpl.denoisers.methods.medfpl import HIGH, LOW
from medfpl.explain.guided import Rules, frozen, guided_map, rules_for
from medfpl.explain.loss import feature_distance
from medfpl.nets.weights import Model, find_model, load_net
from medfpl.scan import FloatArray
from medfpl.tiles import run_tiled

if TYPE_CHECKING:
    from medfpl.nets.unet import UNetConfig

# Back-propagation keeps every activation: about 1.2 kB a pixel at width 16.
WHOLE_PIXELS = 1024 * 1024
TILE = 512


@dataclass(frozen=True)
class Maps:
    """Feature maps (B, H, W), float32, gradients with respect to working units, and the feature distance (B,).

    ``difference`` is ``after - before``: negative where evidence for a feature was lost. ``distance`` is
    |after - before| / |before| in the L2 norm: 0 where the explained network sees the same in both.
    """

    before: FloatArray
    after: FloatArray
    difference: FloatArray
    distance: FloatArray


@dataclass(frozen=True)
class Explainer:
    """A frozen explained network, how its maps are made, and the model that it is."""

    net: nn.Module
    model: Model
    rules: Rules
    device: str = "cpu"


def load_explainer(name: str | None = None, device: str = "cpu") -> Explainer:
    """Return the explained network of that name, run folder or card (None: the default restoration network).

    Raises:
        MedfplError: if there is none, or it will not do.
    """
    model = find_model(name, role="restoration")
    net = frozen(load_net(model)).to(device)
    config = _config(net)
    # People look at pixels: the map is taken at the image, whatever layer suits a loss.
    return Explainer(net, model, replace(rules_for(config.outputs, config.depth), layer=""), device)


def explain_pair(
    net: nn.Module,
    noisy: Tensor,
    denoised: Tensor,
    rules: Rules = Rules(),
    *,
    whole_pixels: int = WHOLE_PIXELS,
    tile: int = TILE,
) -> Maps:
    """Return the maps of ``noisy`` and ``denoised``, both (B, 1, H, W) in working units without NaN, on one scale.

    ``net`` is frozen (explain.guided.frozen). Images with more than ``whole_pixels`` pixels are explained in
    tiles of side ``tile``, with the same result. Items are explained one by one: memory does not grow with B.
    """
    parameter = next(net.parameters())
    found = []
    for one in zip(noisy, denoised, strict=True):
        # The explained network sees what the denoiser sees.
        pair = torch.stack(one).to(parameter.device, torch.float32).clamp(LOW, HIGH)
        before, after = (explain(net, image[None], rules, whole_pixels=whole_pixels, tile=tile) for image in pair)
        found.append((before, after, torch.sqrt(feature_distance(after, before))))
    before, after, distance = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    before, after = before.squeeze(1), after.squeeze(1)
    return Maps(before.numpy(), after.numpy(), (after - before).numpy(), distance.numpy())


def explain(
    net: nn.Module, x: Tensor, rules: Rules = Rules(), *, whole_pixels: int = WHOLE_PIXELS, tile: int = TILE
) -> Tensor:
    """Return the feature map of ``x`` (B, 1, H, W): the same shape, in tiles where an image is large."""
    return run_tiled(
        partial(guided_map, net, rules=rules),
        x.contiguous(memory_format=torch.channels_last),
        # A map is a backward pass over what a forward pass found: each reaches as far as the network does.
        halo=2 * _config(net).reach,
        multiple=_config(net).multiple,
        max_pixels=whole_pixels,
        size=tile,
    )


def _config(net: nn.Module) -> "UNetConfig":
    return net.config  # type: ignore[return-value]
