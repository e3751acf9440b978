"""The one contract every task keeps: it gets a case and two functions, and returns measured values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from medfpl.bench.cases import Case

if TYPE_CHECKING:
    import torch
    from torch import nn


class Corrupt(Protocol):
    """The corruption of a cell, the same in all its details for whatever is put through it in one realisation."""

    def __call__(self, x: "torch.Tensor", realisation: int = 0) -> "torch.Tensor":
        """Return ``x`` (B, 1, H, W) corrupted, every item by the same parameters and the same noise.

        ``realisation`` 0 is the one that the cell's scores are from; others draw parameters and noise anew.
        """
        ...


@dataclass(frozen=True, eq=False)
class Trial:
    """One method on one corrupted image, and the means to do the same to other images.

    ``clean``, ``noisy`` and ``denoised`` are (1, 1, H, W) in working units. ``denoise`` takes (B, 1, H, W) and
    treats each item alone, as the benchmark's method with its settings and noise level does. ``seed`` is the
    cell's own, the same for every method. ``features`` is the explained network, frozen, or None.
    """

    case: Case
    clean: "torch.Tensor"
    noisy: "torch.Tensor"
    denoised: "torch.Tensor"
    corrupt: Corrupt
    denoise: Callable[["torch.Tensor"], "torch.Tensor"]
    seed: int
    features: "nn.Module | None" = None


@dataclass(frozen=True)
class Measure:
    """A number that a task gives: its meaning, unit, the value of a perfect result, and which way is better.

    ``better`` is "ideal" where both more and less than ``ideal`` is worse.
    """

    meaning: str
    unit: str
    ideal: float
    better: Literal["more", "less", "ideal"]


@dataclass(frozen=True)
class Value:
    """One measured number, and of what (a lesion's contrast and size, a tissue). What cannot be measured is absent."""

    measure: str
    value: float
    detail: str = ""


@dataclass(frozen=True)
class Task:
    """A task's declaration. ``run`` measures one trial; ``kinds`` are those it makes sense for (none: all)."""

    name: str
    summary: str
    source: str
    measures: Mapping[str, Measure]
    run: Callable[[Trial], Sequence[Value]]
    kinds: tuple[str, ...] = ()
