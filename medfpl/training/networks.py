"""The networks of a training: the one that learns, and the loss on the one that is explained."""

import copy
import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medfpl.errors import UsageError
from medfpl.explain.guided import Rules, frozen, rules_for
from medfpl.explain.loss import FeaturePreservingLoss, quiet_level
from medfpl.nets.drunet import LEVEL, WHITE, DRUNet, DRUNetConfig, build_drunet
from medfpl.nets.experts import Experts, build_experts, with_correctors
from medfpl.nets.field import FieldConfig, build_field
from medfpl.nets.parts import Part
from medfpl.nets.shading import ShadingConfig, build_shading
from medfpl.nets.unet import UNet, UNetConfig, build_unet
from medfpl.nets.unfold import UnfoldConfig, build_unfold
from medfpl.noises import NOISES
from medfpl.seeds import torch_generator
from medfpl.training.config import FplConfig, TrainConfig
from medfpl.training.planting import FEATURES

RARE = -3.0  # first logit of a feature: few pixels have one


def build_network(config: TrainConfig, begin: nn.Module | None = None) -> UNet | Part | Experts:
    """Return the network of a stage with weights drawn from the seed, or with those of ``begin``.

    A blind DRUNet also begins from a prior's: with context from what that does where it is told the noise level that
    the image shows, and without from what it does where it is told that there is no noise.

    Raises:
        UsageError: if ``begin`` is of another shape.
    """
    if config.net.type == "experts":
        assert isinstance(begin, Experts)
        return copy.deepcopy(begin)
    net, begin = _new(config), begin if begin is None else alone(begin)
    if begin is not None:
        try:
            net.load_state_dict(_beginning(net, begin))
        except RuntimeError:
            raise UsageError("the network to begin from has another shape", "see net.* and 'init'") from None
    return net


def join_experts(
    config: TrainConfig, experts: Mapping[str, tuple[nn.Module, Sequence[str]]], known: nn.Module | None = None
) -> Experts:
    """Return the named networks, each with the noises it knows, behind a router that knows nothing yet, or ``known``'s.

    Raises:
        UsageError: if one is no drunet, shading or unfold network, if no expert knows a noise whose name the router is
            to learn, or if ``known`` has no router of that shape.
    """
    plain = {name: alone(net) for name, (net, _) in experts.items()}
    nets = [net for net in plain.values() if isinstance(net, Part)]
    if len(nets) < len(experts):
        other = next(name for name, net in plain.items() if not isinstance(net, Part))
        raise UsageError(f"net.experts: {other} cannot be one", "an expert is a drunet, shading or unfold network")
    families = [noises for _, noises in experts.values()]
    whole = build_experts(nets, families, config.net.router, torch_generator(config.seed, "init"), config.net.certain)
    named = [NOISES.resolve(n) for n in config.data.noises] or NOISES.names()
    for noise in named if config.net.route == "noise" else ():
        try:
            whole.config.family(noise)
        except ValueError as error:
            raise UsageError(f"net.experts: {error}", "name the noises to train with --noises") from None
    if known is not None:
        try:
            whole.router.load_state_dict(known.router.state_dict() if isinstance(known, Experts) else {})
        except RuntimeError:
            raise UsageError("the model to begin from has no such router", "see net.experts and 'init'") from None
    return whole


def alone(net: nn.Module) -> nn.Module:
    """Return a denoiser without the correctors behind it; what chooses among several experts is returned as it is."""
    return net.experts[0] if isinstance(net, Experts) and len(net.experts) == 1 else net


def followed(net: UNet | Part | Experts, noises: Sequence[str], known: Experts | None) -> UNet | Part | Experts:
    """Return ``net`` itself followed by the correctors of ``known`` for any of these noises, or alone if there is none.

    It is not copied: as it learns, so does what is returned.
    """
    found = [] if known is None else zip(known.config.correctors, known.correctors, strict=True)
    chosen = [(config, part) for config, part in found if config.noise in noises and isinstance(part, Part)]
    if not chosen or not isinstance(net, DRUNet):
        return net
    one = build_experts([net], [noises], 4, torch.Generator().manual_seed(0))  # a router of one has no choice
    whole = with_correctors(one, chosen)
    whole.experts[0] = net
    return whole


def explained_loss(config: FplConfig, explained: nn.Module, clean: Tensor) -> FeaturePreservingLoss:
    """Return the feature preserving loss on a frozen copy of ``explained``, on the device of ``clean`` (B, 1, H, W).

    The clean images say how loud a usual map is (explain.loss.quiet_level).

    Raises:
        UsageError: if the network has no such layer, or finds no features where evidence is asked for.
    """
    assert isinstance(explained, UNet)
    own = rules_for(explained.config.outputs, explained.config.depth)
    scalar = own.scalar if config.scalar == "auto" else config.scalar
    layer = {"auto": own.layer, "image": ""}.get(config.layer, config.layer)
    net, rules = frozen(explained).to(clean.device), Rules(scalar, config.gate, config.beta, layer)
    try:
        return FeaturePreservingLoss(net, rules, quiet_level(net, clean, rules))
    except ValueError as error:
        raise UsageError(str(error), "see fpl.scalar and fpl.layer") from None


def fingerprint(net: nn.Module) -> str:
    """Return a hash of all of a network's numbers and their names."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _beginning(net: nn.Module, begin: nn.Module) -> dict[str, Tensor]:
    """Return the weights of ``begin`` for ``net``: what a blind DRUNet sees beyond it, it begins by not looking at."""
    state = begin.state_dict()
    if not (isinstance(net, DRUNet) and isinstance(begin, DRUNet) and net.config.blind):
        return state
    head, own = state["m_head.weight"], net.config
    of_level = None if begin.config.blind else head[:, 1:]
    known = head if begin.config.blind else head[:, :1]
    unknown = known.new_zeros(len(known), own.inputs - known.shape[1], 3, 3)
    state["m_head.weight"] = torch.cat([known, unknown], 1)
    if own.context and not begin.config.context:
        if of_level is not None:  # the level that a prior is told is the one that the whole image shows
            state["m_head.weight"][:, LEVEL : LEVEL + 1] = of_level / WHITE
        state |= {k: v for k, v in net.state_dict().items() if k.startswith("context.")}
    return state


def _new(config: TrainConfig) -> UNet | Part:
    generator = torch_generator(config.seed, "init", config.stage)
    if config.stage == "prior":
        return build_drunet(DRUNetConfig(config.prior.width, config.prior.blocks), generator)
    if config.net.type == "drunet":
        return build_drunet(DRUNetConfig(config.net.width, config.net.blocks, True, config.net.context), generator)
    if config.net.type == "shading":
        return build_shading(ShadingConfig(config.net.width, config.net.depth), generator)
    if config.net.type == "field":
        return build_field(FieldConfig(config.net.width, config.net.depth), generator)
    if config.net.type == "unfold":
        return build_unfold(UnfoldConfig(config.net.width, config.net.depth), generator)
    outputs = 1 + len(FEATURES) if config.features else 1
    net = build_unet(UNetConfig(**config.net.unet(), outputs=outputs), generator)
    if config.features:
        assert net.out.bias is not None
        nn.init.constant_(net.out.bias[config.net.unshuffle**2 :], RARE)
    return net
