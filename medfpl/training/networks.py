"""The networks of a training: the one that learns, and the loss on the one that is explained."""

import hashlib

import torch
from torch import Tensor, nn

from medfpl.errors import UsageError
from medfpl.explain.guided import Rules, frozen, rules_for
from medfpl.explain.loss import FeaturePreservingLoss, quiet_level
from medfpl.nets.drunet import DRUNet, DRUNetConfig, build_drunet
from medfpl.nets.unet import UNet, UNetConfig, build_unet
from medfpl.seeds import torch_generator
from medfpl.training.config import FplConfig, TrainConfig
from medfpl.training.planting import FEATURES

RARE = -3.0  # first logit of a feature: few pixels have one


def build_network(config: TrainConfig, begin: nn.Module | None = None) -> UNet | DRUNet:
    """Return the network of a stage with weights drawn from the seed, or with those of ``begin``.

    A blind DRUNet also begins from a prior's: from what that does where it is told that there is no noise.

    Raises:
        UsageError: if ``begin`` is of another shape.
    """
    net = _new(config)
    if begin is not None:
        try:
            net.load_state_dict(_beginning(net, begin))
        except RuntimeError:
            raise UsageError("the network to begin from has another shape", "see net.* and 'init'") from None
    return net


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
    state = begin.state_dict()
    if isinstance(net, DRUNet) and isinstance(begin, DRUNet) and net.config.blind and not begin.config.blind:
        of_image = state["m_head.weight"][:, :1]
        unknown = of_image.new_zeros(len(of_image), net.config.inputs - 1, 3, 3)
        state["m_head.weight"] = torch.cat([of_image, unknown], 1)
    return state


def _new(config: TrainConfig) -> UNet | DRUNet:
    generator = torch_generator(config.seed, "init", config.stage)
    if config.stage == "prior":
        return build_drunet(DRUNetConfig(config.prior.width, config.prior.blocks), generator)
    if config.net.type == "drunet":
        return build_drunet(DRUNetConfig(config.net.width, config.net.blocks, blind=True), generator)
    outputs = 1 + len(FEATURES) if config.features else 1
    net = build_unet(UNetConfig(**config.net.unet(), outputs=outputs), generator)
    if config.features:
        assert net.out.bias is not None
        nn.init.constant_(net.out.bias[config.net.unshuffle**2 :], RARE)
    return net
