"""The one contract every denoiser keeps: ours, DPIR and the classical filters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from medfpl.errors import UsageError

if TYPE_CHECKING:
    import torch

    from medfpl.inverse import Found
    from medfpl.scan import Kind


class Denoiser(Protocol):
    """A denoiser ready to run; it has no state that a call changes."""

    def denoise(self, x: "torch.Tensor", *, noise_level: "torch.Tensor | float | None" = None) -> "torch.Tensor":
        """Return a denoised copy of ``x``, float32 (B, 1, H, W) in working units (0 black, 1 white, not clipped).

        ``noise_level`` is the standard deviation of the noise in working units, for the batch or one an item
        (B,); a method that needs it and gets None estimates it (medfpl.denoisers.sigma). Each item's result
        is independent of the rest of its batch. Values outside 0..1 are allowed in and out.
        """
        ...


@dataclass(frozen=True)
class Restored:
    """Images (B, 1, H, W) ``undone``: with their noise, less the artifacts ``found``; and the ``result`` without both.

    ``corrected`` names further artifacts that went with the noise. Both lists have one entry an item.
    """

    result: "torch.Tensor"
    undone: "torch.Tensor"
    found: "list[Found]"
    corrected: list[set[str]]


@runtime_checkable
class Undoing(Denoiser, Protocol):
    """A denoiser that also undoes the artifacts that it finds, and tells which."""

    def restore(self, x: "torch.Tensor", kind: "Kind | None" = None) -> Restored:
        """Return what ``denoise`` does of images whose ``kind`` may be known, and what happened to them."""
        ...


@dataclass(frozen=True)
class Setting:
    """A parameter of a method that a user can set: its default, allowed range and meaning with unit."""

    default: float | int | str | None
    meaning: str
    low: float = -float("inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    text: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Return ``value`` as this setting's type; raise UsageError if it is outside the range."""
        if self.text:
            return value
        if self.choices:
            if value not in self.choices:
                raise UsageError(f"{name}={value} is not allowed", f"choose from {', '.join(self.choices)}")
            return value
        if self.default is None and value in (None, "auto"):
            return None
        try:
            number = int(value) if isinstance(self.default, int) else float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{name} needs a number, not {value!r}") from None
        if not self.low <= number <= self.high:
            raise UsageError(f"{name}={value} is outside {self.low:g} to {self.high:g}")
        return number


@dataclass(frozen=True)
class Method:
    """A denoiser's declaration. ``build(**settings)`` makes it; ``source`` cites where it comes from.

    ``mean_drifts`` where it may move a region's mean: on a CT that is undone (denoisers.local_mean).
    """

    name: str
    summary: str
    build: Callable[..., Denoiser]
    source: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    uses_noise_level: bool = False
    mean_drifts: bool = False

    def make(self, **given: Any) -> Denoiser:
        """Build the denoiser with the defaults and what is given; UsageError for a setting that is not allowed."""
        return self.build(**{name: setting.default for name, setting in self.settings.items()} | self.check(given))

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings ``given``, each as its type; raise UsageError for one unknown or outside its range."""
        unknown = sorted(set(given) - set(self.settings))
        if unknown:
            known = ", ".join(self.settings) or "none"
            raise UsageError(f"{self.name} has no setting {unknown[0]!r}", f"its settings: {known}")
        return {name: self.settings[name].check(name, value) for name, value in given.items()}
