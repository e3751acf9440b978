"""Phase and readout axes: models are written for phase encoding along dim -2 and readout along dim -1."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.base import Apply, Context, Parameter, Values

PHASE_AXIS = Parameter(
    "", "axis along which phase encoding runs (the readout runs along the other)", choices=("rows", "columns")
)


def swapped(values: Values) -> bool:
    """Whether phase encoding runs along the columns' axis (dim -1)."""
    return bool(values["phase_axis"] == "columns")


def phase_readout_shape(shape: tuple[int, int], values: Values) -> tuple[int, int]:
    """Return the pixels along (phase encoding, readout) of an image of ``shape`` (H, W)."""
    return (shape[1], shape[0]) if swapped(values) else shape


def oriented(model: Apply) -> Apply:
    """Return an ``apply`` that transposes the items whose phase axis is "columns" around ``model``."""

    def apply(
        x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
    ) -> Tensor:
        turn = [swapped(v) for v in values]
        if not any(turn):
            return model(x, values, generators, contexts)
        if all(turn):
            return model(x.mT.contiguous(), values, generators, contexts).mT.contiguous()
        y = torch.empty_like(x)
        for state in (False, True):
            at = [i for i, t in enumerate(turn) if t == state]
            some = [values[i] for i in at]
            y[at] = apply(x[at], some, [generators[i] for i in at], [contexts[i] for i in at])
        return y

    return apply
