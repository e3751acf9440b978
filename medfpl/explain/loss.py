"""The feature preserving loss: the explained network sees the same features in the denoised image as in the clean."""

import torch
from torch import Tensor, nn

from medfpl.explain.guided import Rules, guided_map

# Below this mean square (of a map, in its own units) an image has no features, and any change would weigh endlessly.
_QUIET = 1e-24
# Of a relative squared distance: below a tenth of the map the loss falls with the square, as the paper's does. The
# plain root would pull at nearly clean images as hard as at noisy ones, along what little more than rounding left.
_FLOOR = 1e-2


def feature_distance(of: Tensor, reference: Tensor, quiet: float = _QUIET) -> Tensor:
    """Return each item's relative squared distance between two maps (B, C, H, W): |G - G0|^2 / |G0|^2, shape (B,).

    0 where the maps agree; about 1 where they have nothing in common. Dividing by the clean map's own
    energy makes a weight mean the same for every width, depth and image size of the explained network. ``quiet``, a
    mean square, is the least that a clean map counts for.
    """
    squared = (of - reference).square().mean((1, 2, 3))
    return squared / reference.square().mean((1, 2, 3)).clamp_min(quiet)


def quiet_level(net: nn.Module, clean: Tensor, rules: Rules = Rules()) -> float:
    """Return the median mean square of the maps of clean images (B, 1, H, W): what is quieter has few features."""
    return max(_QUIET, float(guided_map(net, clean, rules).float().square().mean((1, 2, 3)).median()))


class FeaturePreservingLoss:
    """L_fpl of arXiv 2310.20101 for a frozen network (see guided.frozen), per item and scale-free.

    The paper's is the squared distance; the root lets each item pull alike, however much its noise hides. The clean
    image's map does not depend on the denoiser: compute it once (``clean_map``) and use it for every corruption of
    the same image. Maps quieter than ``quiet`` (see ``quiet_level``) count as if they were that loud.
    """

    def __init__(self, net: nn.Module, rules: Rules = Rules(), quiet: float = _QUIET) -> None:
        if any(p.requires_grad for p in net.parameters()):
            raise ValueError("the explained network must be frozen")
        self._net = net
        self.rules = rules
        self._quiet = quiet

    def clean_map(self, clean: Tensor) -> Tensor:
        """Return the map of clean images (B, 1, H, W), outside of any graph."""
        return guided_map(self._net, clean, self.rules).float()

    def __call__(self, denoised: Tensor, clean_map: Tensor) -> Tensor:
        """Return the mean relative L2 distance of ``denoised`` (part of a graph) from the maps of its clean images."""
        found = guided_map(self._net, denoised, self.rules, create_graph=True).float()
        return (feature_distance(found, clean_map, self._quiet) + _FLOOR).sqrt().mean() - _FLOOR**0.5


def distance_between(net: nn.Module, a: Tensor, b: Tensor, rules: Rules = Rules()) -> Tensor:
    """Return each item's relative L2 feature distance between images ``a`` and ``b`` (the reference), shape (B,)."""
    return torch.sqrt(feature_distance(guided_map(net, a, rules), guided_map(net, b, rules)))
