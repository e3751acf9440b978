"""The networks of which a model of experts is made: their shapes, by the names that cards give them."""

from typing import Any

from medfpl.nets.drunet import DRUNet, DRUNetConfig
from medfpl.nets.field import Field, FieldConfig
from medfpl.nets.shading import Shading, ShadingConfig
from medfpl.nets.unfold import Unfold, UnfoldConfig

Part = DRUNet | Shading | Field | Unfold
Shape = DRUNetConfig | ShadingConfig | FieldConfig | UnfoldConfig
_NAMES = {DRUNetConfig: "drunet", ShadingConfig: "shading", FieldConfig: "field", UnfoldConfig: "unfold"}


def shape_to_json(shape: Shape) -> dict[str, Any]:
    """Return the fields of a shape and its type as plain values."""
    return {"type": _NAMES[type(shape)], **shape.to_json()}


def part_of(shape: Shape) -> Part:
    """Return a network of this shape, with weights as torch makes them."""
    if isinstance(shape, DRUNetConfig):
        return DRUNet(shape)
    if isinstance(shape, ShadingConfig):
        return Shading(shape)
    return Field(shape) if isinstance(shape, FieldConfig) else Unfold(shape)
