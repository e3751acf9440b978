"""Architectures: what makes the network that a card describes, none of whose fields is trusted."""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from medfpl.errors import BadInput

if TYPE_CHECKING:
    from medfpl.nets.correctors import CorrectorConfig
    from medfpl.nets.drunet import DRUNet
    from medfpl.nets.experts import Experts
    from medfpl.nets.field import Field
    from medfpl.nets.give_back import Back
    from medfpl.nets.parts import Part, Shape
    from medfpl.nets.shading import Shading
    from medfpl.nets.unet import UNet
    from medfpl.nets.unfold import Unfold

    Net = UNet | Part | Experts

Role = Literal["denoiser", "restoration", "prior"]
# Only a U-Net of ours has guided maps, and a U-Net has no input for the noise level that a prior is told.
ARCHITECTURES: dict[Role, tuple[str, ...]] = {
    "denoiser": ("unet", "drunet", "shading", "field", "unfold", "experts"),
    "restoration": ("unet",),
    "prior": ("drunet",),
}
MOST = 64  # experts, and correctors


def described(role: Role, architecture: dict[str, Any]) -> "Callable[[], Net]":
    """Return what makes the network of a card, none of whose fields is trusted."""
    kind, fields = architecture.get("type"), {k: v for k, v in architecture.items() if k != "type"}
    known: dict[Any, Callable[[dict[str, Any]], Callable[[], Net]]] = {
        "unet": _unet,
        "drunet": _drunet,
        "shading": _shading,
        "field": _field,
        "unfold": _unfold,
        "experts": _experts,
    }
    if kind not in known:
        raise _unknown_architecture()
    if kind not in ARCHITECTURES[role]:
        raise BadInput(f"a {role} model cannot be a {kind}")
    if kind == "drunet" and bool(fields.get("blind")) != (role == "denoiser"):
        raise BadInput("a prior is told the noise level, and a denoiser is blind")
    try:
        return known[kind](fields)
    except (TypeError, KeyError) as error:
        raise _unknown_architecture() from error


def _unknown_architecture() -> BadInput:
    return BadInput("the card names an architecture that this version does not know")


def _within(*limits: tuple[Any, int, int]) -> None:
    # Far beyond any that is trained, and small enough to be described before the weights are compared with it.
    if any(type(value) is not int or not low <= value <= high for value, low, high in limits):
        raise _unknown_architecture()


def _unet(fields: dict[str, Any]) -> "Callable[[], UNet]":
    from medfpl.nets.unet import UNet, UNetConfig

    config = UNetConfig(**fields)
    _within((config.width, 1, 1024), (config.depth, 1, 8), (config.unshuffle, 1, 16), (config.outputs, 1, 64))
    if config.inputs != 1:
        raise _unknown_architecture()
    _within((config.depth if config.skips is None else config.skips, 0, config.depth))
    if config.norm not in ("batch", "none"):
        raise _unknown_architecture()
    return lambda: UNet(config)


def _drunet(fields: dict[str, Any]) -> "Callable[[], DRUNet]":
    from medfpl.nets.drunet import DRUNet, DRUNetConfig

    config = DRUNetConfig(**fields)
    _within((config.width, 1, 1024), (config.blocks, 1, 64))
    if not (isinstance(config.blind, bool) and isinstance(config.context, bool)) or config.context > config.blind:
        raise _unknown_architecture()
    return lambda: DRUNet(config)


def _shading(fields: dict[str, Any]) -> "Callable[[], Shading]":
    from medfpl.nets.shading import Shading, ShadingConfig

    config = ShadingConfig(**fields)
    _within((config.width, 1, 1024), (config.depth, 1, 8), (config.factor, 1, 64))
    return lambda: Shading(config)


def _field(fields: dict[str, Any]) -> "Callable[[], Field]":
    from medfpl.nets.field import Field, FieldConfig

    config = FieldConfig(**fields)
    _within((config.width, 1, 1024), (config.depth, 1, 8), (config.side, 16, 1024))
    return lambda: Field(config)


def _unfold(fields: dict[str, Any]) -> "Callable[[], Unfold]":
    from medfpl.nets.unfold import Unfold, UnfoldConfig

    config = UnfoldConfig(**fields)
    _within((config.width, 1, 1024), (config.depth, 1, 8))
    return lambda: Unfold(config)


def _shape(given: Any) -> "Shape":
    """Return the shape of one of an experts model's networks, whose numbers are no larger than any that is trained."""
    from medfpl.nets.drunet import DRUNetConfig
    from medfpl.nets.field import FieldConfig
    from medfpl.nets.shading import ShadingConfig
    from medfpl.nets.unfold import UnfoldConfig

    kinds: dict[Any, tuple[Callable[[dict[str, Any]], Any], type]] = {
        "drunet": (_drunet, DRUNetConfig),
        "shading": (_shading, ShadingConfig),
        "field": (_field, FieldConfig),
        "unfold": (_unfold, UnfoldConfig),
    }
    if not isinstance(given, dict) or given.get("type") not in kinds:
        raise _unknown_architecture()
    check, shape = kinds[given["type"]]
    fields = {k: v for k, v in given.items() if k != "type"}
    check(fields)
    made: Shape = shape(**fields)
    if isinstance(made, DRUNetConfig) and not made.blind:
        raise BadInput("a prior is told the noise level, and an expert is blind")
    return made


_EXPERTS = {"experts", "families", "router"}


def _experts(fields: dict[str, Any]) -> "Callable[[], Experts]":
    from medfpl.nets.experts import CERTAIN, Experts, ExpertsConfig

    experts, families, router = fields["experts"], fields["families"], fields["router"]
    # Cards made before they were choices do not say them.
    certain, correctors, back = fields.get("certain", CERTAIN), fields.get("correctors", []), fields.get("back", [])
    if set(fields) - {"certain", "correctors", "back"} != _EXPERTS:
        raise _unknown_architecture()
    if not (isinstance(experts, list) and isinstance(families, list) and 0 < len(experts) == len(families) <= MOST):
        raise _unknown_architecture()
    if not all(isinstance(f, list) and all(isinstance(noise, str) for noise in f) for f in families):
        raise _unknown_architecture()
    if not (isinstance(correctors, list) and len(correctors) <= MOST):
        raise _unknown_architecture()
    if not (isinstance(back, list) and len(back) in (0, len(experts))):
        raise _unknown_architecture()
    if type(certain) not in (int, float) or not 0 <= certain <= 1:
        raise _unknown_architecture()
    _within((router, 1, 1024))
    config = ExpertsConfig(
        tuple(_shape(expert) for expert in experts),
        tuple(tuple(family) for family in families),
        router,
        certain,
        tuple(_corrector(corrector) for corrector in correctors),
        tuple(_back(given) for given in back),
    )
    return lambda: Experts(config)


def _back(given: Any) -> "Back":
    from medfpl.nets.give_back import NARROWEST, WIDTHS, Back

    if not (isinstance(given, dict) and all(type(v) is float and 0 <= v < inf for v in given.values())):
        raise _unknown_architecture()
    back = Back(**given)
    if not WIDTHS[0] <= back.narrowest <= NARROWEST:
        raise _unknown_architecture()
    return back


def _corrector(given: Any) -> "CorrectorConfig":
    from medfpl.nets.correctors import CorrectorConfig

    if not isinstance(given, dict) or {"net", "noise", "size", "edges"} != set(given) - {"enough", "again"}:
        raise _unknown_architecture()
    limits = {name: given[name] for name in ("size", "edges", "enough") if name in given}
    if not (isinstance(given["noise"], str) and all(type(v) is float and 0 < v < inf for v in limits.values())):
        raise _unknown_architecture()
    if "again" in given:
        limits["again"] = _rising(given["again"])
    return CorrectorConfig(_shape(given["net"]), given["noise"], **limits)


def _rising(given: Any) -> tuple[float, float]:
    if not (isinstance(given, list) and len(given) == 2 and all(type(v) is float for v in given)):
        raise _unknown_architecture()
    low, high = given
    if not 0 < low < high < inf:
        raise _unknown_architecture()
    return low, high
