"""Experts: a denoiser for each family of noise, and a router that tells which family an image suffers from.

The best estimate of an image whose noise is one of several kinds is the mean of the kinds' own best estimates,
weighted by how probable each kind is, given the image. Jacobs et al. 1991, Neural Computation 3:79.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medfpl.nets.correctors import CorrectorConfig, belief, gone
from medfpl.nets.drunet import global_statistics, local_statistics
from medfpl.nets.give_back import DEFAULT, Back, without_local_mean
from medfpl.nets.parts import Part, Shape, part_of, shape_to_json

# Channels of the router's stages, each of half the side of the one before, in widths; it looks at the noise's texture
# after the third and at the whole image after the last.
_STAGES, _TEXTURE = (1, 2, 3, 4, 4, 4), 3
_HIDDEN = 64
# An expert less probable than this is not asked: one for noise, and by default one for artifacts, which changes what
# an image shows and must be nearly certain.
LEAST, CERTAIN = 0.1, 0.9
# Noises that are random from pixel to pixel; a family without any is one of artifacts.
RANDOM = frozenset(
    ("gaussian", "thermal", "poisson", "speckle", "salt-pepper", "rician", "rayleigh", "noncentral-chi"),
)
# Of these the mean of many is not the value: it lies above, and the more the darker.
MAGNITUDE = frozenset(("rician", "rayleigh", "noncentral-chi"))
# Working units (10 HU): the mean of fainter noise does not differ from the value but in air.
FAINT = 0.005
# Square of the mean magnitude over the mean square, of whole images: of noise in a fifth of the image 0.13, of impulses
# less than their share.
IMPULSES = 0.02


@dataclass(frozen=True)
class ExpertsConfig:
    """The shape of each expert, the noises of its family (the first also has clean images), the router's width.

    An expert for artifacts is asked from a share of ``certain`` on. The ``correctors`` are asked afterwards, in order.
    ``back`` is how much comes back of what each expert took, none: by default of all.
    """

    experts: tuple[Shape, ...]
    families: tuple[tuple[str, ...], ...]
    router: int = 16
    certain: float = CERTAIN
    correctors: tuple[CorrectorConfig, ...] = ()
    back: tuple[Back, ...] = ()

    @property
    def multiple(self) -> int:
        """Image sides are padded to a multiple of this inside the experts."""
        return max(shape.multiple for shape in (*self.experts, *(c.net for c in self.correctors)))

    @property
    def random(self) -> list[bool]:
        """Whether each family is one of random noise, by its first, and not of artifacts."""
        return [bool(RANDOM & set(family[:1])) for family in self.families]

    @property
    def offset(self) -> list[bool]:
        """Whether noise of each family may have a mean of its own, as that of magnitude images."""
        return [bool(MAGNITUDE & set(family)) for family in self.families]

    @property
    def least(self) -> list[float]:
        """How probable each family must be for its expert to be asked."""
        return [LEAST if random else self.certain for random in self.random]

    @property
    def noises(self) -> list[str]:
        """All noises of all families and correctors, each once, in order."""
        return list(dict.fromkeys([n for family in self.families for n in family] + [c.noise for c in self.correctors]))

    def family(self, noise: str) -> int:
        """Return the index of the first family with ``noise``; of ``clean`` it is 0. ValueError if there is none."""
        if noise == "clean":
            return 0
        for index, family in enumerate(self.families):
            if noise in family:
                return index
        raise ValueError(f"no expert knows {noise}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "experts": [shape_to_json(expert) for expert in self.experts],
            "families": [list(family) for family in self.families],
            "router": self.router,
            "certain": self.certain,
            "correctors": [corrector.to_json() for corrector in self.correctors],
            "back": [back.to_json() for back in self.back],
        }


class Router(nn.Module):
    """Strided convolutions and what they find on average, at most and how differently, to a logit for each family.

    What it looks at does not depend on the image's scale: intensities over their mean, what is rough over its level.
    """

    def __init__(self, width: int, families: int) -> None:
        super().__init__()
        channels = [7, *(factor * width for factor in _STAGES)]
        pairs = list(pairwise(channels))
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.head = nn.Sequential(
            nn.Linear(3 * (channels[_TEXTURE] + channels[-1]), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, families)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of (B, 1, H, W)."""
        local = local_statistics(x)
        level, columns, rows = global_statistics(x, local).split(1, 1)
        mean = x.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-4)
        rough = level.clamp_min(1e-3 * mean)
        fine = (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)) / rough
        seen = [x / mean, local[:, :1] / mean, local[:, 1:] / rough, columns / rough, rows / rough, fine]
        y = torch.cat([*(part.clamp(-10, 10) for part in seen), (rough / mean).log()], 1)
        found = []
        for index, stage in enumerate(self.stages, start=1):
            y = F.relu(stage(y))
            if index in (_TEXTURE, len(self.stages)):
                average = y.mean((-2, -1))
                spread = (y - average[..., None, None]).square().mean((-2, -1)).add(1e-6).sqrt()
                found += [average, spread, y.amax((-2, -1))]
        logits: Tensor = self.head(torch.cat(found, 1))
        return logits


class Experts(nn.Module):
    """``forward`` takes an image (B, 1, H, W) and returns the noise in it; in training it returns the router's logits.

    Experts are networks of their own, trained before; only the router is trained here.
    """

    def __init__(self, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        self.router = Router(config.router, len(config.families))
        self.experts = nn.ModuleList(part_of(shape) for shape in config.experts)
        self.correctors = nn.ModuleList(part_of(corrector.net) for corrector in config.correctors)
        self.experts.requires_grad_(False)
        self.correctors.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noise (B, 1, H, W), or in training the logits (B, K)."""
        return self.router(x) if self.training else self.blend(x, lambda expert, part: expert(part))[0]

    def shares(self, x: Tensor, artifacts: bool = True) -> Tensor:
        """Return how probable each family is, (B, K): improbable ones 0, the others adding up to 1.

        Where none is probable enough the first is. Without ``artifacts`` those of no random noise are never asked.
        """
        probable = self.router(x).softmax(1)
        kept = probable * (probable >= probable.new_tensor(self.config.least))
        if not artifacts:
            kept = kept * kept.new_tensor(self.config.random)
        none = kept.sum(1, keepdim=True) == 0
        first = torch.zeros_like(kept).index_fill(1, torch.tensor([0], device=x.device), 1.0)
        kept = torch.where(none, first, kept)
        return kept / kept.sum(1, keepdim=True)

    @torch.no_grad()
    def products(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """Return the mean products of each two experts' errors, (B, K, K); shares w leave the error w' products w."""
        errors = torch.stack([(noisy - expert(noisy).float() - clean).flatten(1) for expert in self.experts], 1)
        with torch.autocast(errors.device.type, enabled=False):  # sums of many small squares
            return errors @ errors.mT / errors.shape[-1]

    def blend(
        self,
        x: Tensor,
        run: Callable[[Part, Tensor], Tensor],
        artifacts: bool = True,
        without: Collection[str] = (),
        beneath: Callable[[Tensor], Tensor] | None = None,
        magnitudes: bool = True,
        faint: float | None = None,
    ) -> tuple[Tensor, list[tuple[str, Tensor]]]:
        """Return the mean of what ``run(expert, part)`` returns for the items of ``x``, by their ``shares``.

        Of what those for noise find the local mean is given back (nets.give_back, whose ``most`` is ``faint``). What
        ``beneath`` returns of the image without it comes on top; then what the correctors, one after the other, find
        in the image without both and without that mean, not without ``artifacts``; those for the artifacts in
        ``without`` are not asked. Of those asked also the artifact and how much each item's was believed, (B,). Without
        ``magnitudes``, as in CT, faint noise is never that of magnitude images, whatever the router says.
        """
        shares = self.shares(x, artifacts)
        parts = torch.cat([torch.zeros_like(x)] * 2, 1)  # of the noise: what is taken, and the mean given back
        for k, (share, expert) in enumerate(zip(shares.unbind(1), self.experts, strict=True)):
            assert isinstance(expert, Part)
            if torch.jit.is_tracing():  # which experts are asked is no part of a traced graph: all are
                parts = parts + share.view(-1, 1, 1, 1) * self._parts(k, run, x, faint, share)
                continue
            at = share.nonzero()[:, 0]
            if not len(at):
                continue
            found = self._parts(k, run, x[at], faint, share[at])
            if self.config.offset[k] and not magnitudes:
                mild = is_faint(found.sum(1, keepdim=True)).nonzero()[:, 0]
                if len(mild):
                    found[mild] = self._parts(0, run, x[at[mild]], faint, share[at[mild]])
            parts[at] += share[at].view(-1, 1, 1, 1) * found
        noise, mean = parts.masked_fill(blank(x), 0).split(1, 1)
        if beneath is not None:
            noise = noise + beneath(x - noise)
        beliefs: list[tuple[str, Tensor]] = []
        if not artifacts:
            return noise, beliefs
        for corrector, config in zip(self.correctors, self.config.correctors, strict=True):
            assert isinstance(corrector, Part)
            if config.noise in without:
                continue
            image = x - noise - mean
            artifact = run(corrector, image)
            believed = belief(artifact, image, config)
            if torch.jit.is_tracing():
                believed = believed * gone(artifact, run(corrector, image - artifact), config)
            elif len(at := believed.nonzero()[:, 0]):
                believed[at] *= gone(artifact[at], run(corrector, (image - artifact)[at]), config)
            beliefs.append((config.noise, believed))
            noise = noise + believed.view(-1, 1, 1, 1) * artifact
        return noise, beliefs

    def _parts(
        self, index: int, run: Callable[[Part, Tensor], Tensor], image: Tensor, faint: float | None, share: Tensor
    ) -> Tensor:
        """Return an expert's noise without what of it is anatomy, and that, (B, 2, H, W), for its ``share`` (B,).

        What one for artifacts finds is none of either.
        """
        expert = self.experts[index]
        assert isinstance(expert, Part)
        noise = run(expert, image)
        if not self.config.random[index]:
            return torch.cat([noise, torch.zeros_like(noise)], 1)
        back = self.config.back[index] if self.config.back else DEFAULT
        left = without_local_mean(noise, image, offset=self.config.offset[index], most=faint, back=back, share=share)
        return torch.cat([left, noise - left], 1)


def is_faint(noise: Tensor) -> Tensor:
    """Return whether the ``noise`` found in each item (B, 1, H, W) is random but faint, (B,)."""
    square = noise.square().mean((1, 2, 3))
    return (square < FAINT**2) & (noise.abs().mean((1, 2, 3)).square() > IMPULSES * square)


def blank(x: Tensor) -> Tensor:
    """Return where whole rows or columns of (B, 1, H, W) are exactly 0, of that shape.

    There is no noise where nothing was measured, and what an expert smears across the end of a folded image's field of
    view would hide that it ends there.
    """
    seen = x.abs()
    return (seen.amax(-1, keepdim=True) == 0) | (seen.amax(-2, keepdim=True) == 0)


def with_correctors(net: Experts, correctors: Sequence[tuple[CorrectorConfig, Part]]) -> Experts:
    """Return a copy of ``net`` that asks these networks about what it denoised, in place of its own correctors."""
    made = Experts(replace(net.config, correctors=tuple(config for config, _ in correctors)))
    made.router.load_state_dict(net.router.state_dict())
    made.experts.load_state_dict(net.experts.state_dict())
    for own, (_, given) in zip(made.correctors, correctors, strict=True):
        own.load_state_dict(given.state_dict())
    return made.to(memory_format=torch.channels_last).train(net.training)  # type: ignore[call-overload]


def build_experts(
    experts: Sequence[Part],
    families: Sequence[Sequence[str]],
    router: int,
    generator: torch.Generator,
    certain: float = CERTAIN,
) -> Experts:
    """Return copies of ``experts`` behind a router whose weights are drawn from ``generator`` with He's variance."""
    shapes = tuple(expert.config for expert in experts)
    net = Experts(ExpertsConfig(shapes, tuple(tuple(family) for family in families), router, certain))
    for own, given in zip(net.experts, experts, strict=True):
        own.load_state_dict(given.state_dict())
    with torch.no_grad():
        for module in net.router.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                weight, bias = module.weight, module.bias
                weight.copy_(torch.randn(weight.shape, generator=generator) * (2 / weight[0].numel()) ** 0.5)
                assert bias is not None
                bias.zero_()
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
