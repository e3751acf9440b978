"""The feature preserving loss: the explained network sees the same features in the denoised image as in the clean."""

import torch
from torch import Tensor, nn

from medfpl.explain.guided import Rules, guided_map

# Below this mean square (of a map, in its own units) an image has no features, and any change would weigh endlessly.
_QUIET = 1e-12


def feature_distance(of: Tensor, reference: Tensor) -> Tensor:
    """Return each item's relative squared distance between two maps (B, 1, H, W): |G - G0|^2 / |G0|^2, shape (B,).

    0 where the maps agree; about 1 where they have nothing in common. Dividing by the clean map's own
    energy makes a weight mean the same for every width, depth and image size of the explained network.
    """
    squared = (of - reference).square().mean((1, 2, 3))
    return squared / reference.square().mean((1, 2, 3)).clamp_min(_QUIET)


class FeaturePreservingLoss:
    """L_fpl of arXiv 2310.20101 for a frozen network (see guided.frozen), per item and scale-free.

    The clean image's map does not depend on the denoiser: compute it once (``clean_map``) and use
    it for every corruption of the same image.
    """

    def __init__(self, net: nn.Module, rules: Rules = Rules()) -> None:
        if any(p.requires_grad for p in net.parameters()):
            raise ValueError("the explained network must be frozen")
        self._net = net
        self.rules = rules

    def clean_map(self, clean: Tensor) -> Tensor:
        """Return the map of clean images (B, 1, H, W), outside of any graph."""
        return guided_map(self._net, clean, self.rules)

    def __call__(self, denoised: Tensor, clean_map: Tensor) -> Tensor:
        """Return the mean feature distance of ``denoised`` (part of a graph) from the maps of its clean images."""
        return feature_distance(guided_map(self._net, denoised, self.rules, create_graph=True), clean_map).mean()


def distance_between(net: nn.Module, a: Tensor, b: Tensor, rules: Rules = Rules()) -> Tensor:
    """Return each item's relative L2 feature distance between images ``a`` and ``b`` (the reference), shape (B,)."""
    return torch.sqrt(feature_distance(guided_map(net, a, rules), guided_map(net, b, rules)))
