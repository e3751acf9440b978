"""The one contract every noise keeps: draw plain parameters, then apply them.

A batch is float (B, 1, H, W) in working units: 0 black (CT: air), 1 white; nothing is ever clipped.
Phase encoding runs along the rows' axis (dim -2), readout along the columns' (dim -1), unless swapped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Required, TypedDict, Unpack

import torch
from torch import Tensor

from medfpl.errors import MedfplError, UsageError

Values = dict[str, Any]  # plain numbers and strings: JSON-able


@dataclass(frozen=True)
class Context:
    """What a physical model must know of an image: its kind, working range in real units, pixel size in mm."""

    kind: str = "other"
    black: float = 0.0
    white: float = 1.0
    pixel_mm: float = 1.0


@dataclass(frozen=True)
class Parameter:
    """A physical parameter: unit, allowed range and meaning. ``choices`` makes it a named choice."""

    unit: str
    meaning: str
    low: float = -float("inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    integer: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Return ``value`` in this parameter's type; raise UsageError outside the range."""
        if self.choices:
            if value not in self.choices:
                raise UsageError(f"{name}={value} is not allowed", f"choose from {', '.join(self.choices)}")
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{name} needs a number, not {value!r}") from None
        if self.integer and not number.is_integer():
            raise UsageError(f"{name} needs a whole number, not {value}")
        if not self.low <= number <= self.high:
            raise UsageError(f"{name}={value} is outside {self.low:g} to {self.high:g} {self.unit}".rstrip())
        return int(number) if self.integer else number

    def range_text(self) -> str:
        """Return the allowed values for people: "0 to 10", "rows, columns" or ""."""
        if self.choices:
            return ", ".join(self.choices)
        ends = (
            f"{self.low:g}" if self.low > -float("inf") else "",
            f"{self.high:g}" if self.high < float("inf") else "",
        )
        return " to ".join(ends) if all(ends) else f"from {ends[0]}" if ends[0] else f"to {ends[1]}" if ends[1] else ""


Apply = Callable[[Tensor, Sequence[Values], Sequence[torch.Generator], Sequence[Context]], Tensor]


@dataclass(frozen=True)
class Noise:
    """A noise's declaration.

    ``at_strength(s, mode, context)`` maps strength in (0, 1] to the physical parameters that ``mode`` uses;
    s = 0.5 is the default level, near the paper's, and s = 1 is severe.
    ``draw(generator, shape, values, context)`` returns ``values`` with every random scalar added (positions,
    angles, phases), as plain numbers; ``shape`` is (H, W). It draws a fixed number of variates in a fixed
    order whatever the values, so that a sweep of strengths shares its noise.
    ``apply(x, values, generators, context)`` returns the corrupted batch: ``values`` and ``generators`` hold one
    entry an item, and only drawn fields (one number a pixel or line) come from the generators. It keeps shape,
    dtype and device, does not modify ``x``, and has no Python loop over images but for drawing their fields.
    ``survey(slice, values)`` adds what only pixels tell (an object's extent), so that a volume's slices agree on it.
    ``per_volume`` is True where the slices of one volume share the drawn scalars.
    ``needs_nonnegative`` is True for magnitude models, or names the modes that are; ``corrupt`` clamps negative
    input and says so.
    ``mode_modalities`` names the modalities of a mode that has fewer than ``modalities``.
    """

    name: str
    summary: str
    modalities: tuple[str, ...]
    formula: str
    source: str
    parameters: Mapping[str, Parameter]
    at_strength: Callable[[float, str, Context], Values]
    apply: Apply
    draw: Callable[[torch.Generator, tuple[int, int], Values, Context], Values] = lambda _g, _shape, values, _c: values
    modes: tuple[str, ...] = ("default",)
    default_mode: Callable[[str], str] | None = None
    per_volume: bool = False
    needs_nonnegative: bool | tuple[str, ...] = False
    differentiable: bool = True
    mode_modalities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    survey: Callable[[Tensor, Values], Values] | None = None

    def mode_for(self, kind: str) -> str:
        """Return the mode that is the default for images of ``kind``."""
        return self.default_mode(kind) if self.default_mode else self.modes[0]

    def nonnegative(self, mode: str) -> bool:
        """Whether ``mode`` is defined for x >= 0 only."""
        needs = self.needs_nonnegative
        return needs if isinstance(needs, bool) else mode in needs

    def surrogate(self, mode: str, kind: str) -> bool:
        """Whether ``mode`` only stands in on images of ``kind``, its physics belonging elsewhere."""
        if mode in self.mode_modalities:
            return kind not in self.mode_modalities[mode]
        return kind != "other" and kind not in self.modalities


@dataclass(frozen=True)
class Record:
    """One item's corruption: enough to make it again from the clean image.

    ``values`` hold the mode, the physical parameters and the drawn scalars; ``seed`` makes the fields.
    ``surrogate`` is True where the physics belongs to another modality (an MR artifact on a CT).
    """

    noise: str
    strength: float | None
    values: Values
    seed: int
    context: Context
    surrogate: bool = False
    clamped: bool = False
    device: str = "cpu"
    torch_version: str = field(default_factory=lambda: str(torch.__version__))

    def to_json(self) -> Values:
        """Return this record as plain JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Record":
        """Return the record that ``to_json`` wrote; raise MedfplError if ``data`` is not one."""
        try:
            return cls(**{**data, "context": Context(**data["context"])})
        except (KeyError, TypeError) as error:
            raise MedfplError(
                "not a noise record", "a record is what 'medfpl noise' wrote beside its output"
            ) from error


def settings_for(
    noise: Noise, strength: float | None, given: Mapping[str, Any], context: Context
) -> tuple[str, Values]:
    """Return the mode and the physical parameters: those of ``strength`` (default 0.5), overridden by ``given``.

    On a CT, a parameter in working units may be given in HU: ``"25HU"``.
    """
    given = dict(given)
    mode = given.pop("mode", noise.mode_for(context.kind))
    if mode not in noise.modes:
        raise UsageError(f"{noise.name} has no mode {mode!r}", f"its modes: {', '.join(noise.modes)}")
    unknown = sorted(set(given) - set(noise.parameters))
    if unknown:
        raise UsageError(f"{noise.name} has no parameter {unknown[0]!r}", f"known: {', '.join(noise.parameters)}")
    strength = 0.5 if strength is None else float(strength)
    if not 0 <= strength <= 1:
        raise UsageError(f"strength={strength} is outside 0 to 1")
    values = noise.at_strength(max(strength, 1e-6), mode, context)
    unused = sorted(set(given) - set(values))
    if unused:
        raise UsageError(
            f"{noise.name} does not use {unused[0]!r} in mode {mode!r}", f"that mode has {', '.join(values)}"
        )
    for name, value in given.items():
        parameter = noise.parameters[name]
        values[name] = parameter.check(name, _from_hu(name, value, parameter, context))
    return mode, values


def _from_hu(name: str, value: Any, parameter: Parameter, context: Context) -> Any:
    """Return ``25HU`` in working units; any other value as it is."""
    if not (isinstance(value, str) and value.upper().endswith("HU")):
        return value
    if parameter.unit != "working units":
        raise UsageError(f"{name} is not in HU but in {parameter.unit or 'plain numbers'}")
    if context.kind != "ct":
        raise UsageError(f"{name}={value}: only a CT has HU")
    try:
        return float(value[:-2]) / (context.white - context.black)
    except ValueError:
        raise UsageError(f"{name} needs a number, not {value!r}") from None


class Asked(TypedDict, total=False):
    """What a corruption is asked for. All but ``seeds`` may be left out.

    ``seeds`` are one an item: an item's noise depends on its own seed only, not on its batch. ``scalar_seeds``
    (default: ``seeds``) draw the scalar parameters; slices of one volume share theirs where
    ``noise.per_volume``. ``standing`` (1, 1, H, W) is the slice that stands for the volume of all items: what only
    pixels tell is read from it (``noise.survey``), not from each slice. ``strength`` and ``contexts`` are one an item
    too, or one strength for all; ``given`` are the mode and physical parameters. Strength 0 without physical
    parameters returns the item bit for bit.
    """

    seeds: Required[Sequence[int]]
    strength: float | Sequence[float] | None
    given: Mapping[str, Any] | None
    contexts: Sequence[Context] | None
    scalar_seeds: Sequence[int] | None
    standing: Tensor | None
    noise_device: str


def corrupt(x: Tensor, noise: Noise, **asked: Unpack[Asked]) -> tuple[Tensor, list[Record]]:
    """Return a corrupted copy of ``x`` (B, 1, H, W) and one record an item.

    Raises:
        MedfplError: for NaN or Inf, an empty batch or a shape other than (B, 1, H, W).
        UsageError: for an unknown mode or parameter, or a value out of its range.
    """
    records = draw_records(x, noise, **asked)
    return _replay(x, noise, records), records


def draw_records(x: Tensor, noise: Noise, **asked: Unpack[Asked]) -> list[Record]:
    """Return the records that ``corrupt`` with the same arguments would return, without corrupting anything."""
    check_batch(x)
    n = len(x)
    seeds, strength, standing = asked["seeds"], asked.get("strength"), asked.get("standing")
    scalar_seeds, given = asked.get("scalar_seeds") or seeds, asked.get("given") or {}
    explicit = bool(set(given) - {"mode"})
    contexts = list(asked.get("contexts") or [Context()] * n)
    strengths = [None] * n if strength is None else [strength] * n if isinstance(strength, int | float) else [*strength]
    for name, one_an_item in [("seeds", seeds), ("contexts", contexts), ("strengths", strengths)]:
        if len(one_an_item) != n:
            raise UsageError(f"{n} items need {n} {name}, not {len(one_an_item)}")
    records = []
    for i in range(n):
        mode, chosen = settings_for(noise, strengths[i], given, contexts[i])
        scalars = torch.Generator().manual_seed(scalar_seeds[i])
        drawn = noise.draw(scalars, (x.shape[-2], x.shape[-1]), {"mode": mode, **chosen}, contexts[i])
        if standing is not None and noise.survey is not None:
            drawn = noise.survey(standing, drawn)
        own = None if explicit else strengths[i]
        records.append(_record(noise, x[i], own, drawn, seeds[i], contexts[i], asked.get("noise_device", "cpu")))
    return records


def replay(x: Tensor, noise: Noise, records: Sequence[Record]) -> Tensor:
    """Make the corruption of ``records`` again on the clean batch ``x``."""
    check_batch(x)
    return _replay(x, noise, records)


def _replay(x: Tensor, noise: Noise, records: Sequence[Record]) -> Tensor:
    untouched = [r.strength == 0 for r in records]
    device = records[0].device if records else "cpu"
    seeds, contexts = [r.seed for r in records], [r.context for r in records]
    return _apply(x, noise, [r.values for r in records], seeds, contexts, untouched, device)


def check_batch(x: Tensor) -> None:
    """Raise MedfplError unless ``x`` is a finite float batch (B, 1, H, W) that holds pixels."""
    if x.ndim != 4 or x.shape[1] != 1 or 0 in x.shape:
        raise MedfplError(f"a batch is (B, 1, H, W) and not empty, not {tuple(x.shape)}")
    if not x.is_floating_point():
        raise MedfplError(f"a batch holds floats, not {x.dtype}")
    low, high = x.detach().aminmax()  # NaN spreads; one pass, where isfinite takes several
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise MedfplError("NaN or Inf in the image", "fill invalid pixels before adding noise")


def fields(generators: Sequence[torch.Generator], size: Sequence[int], like: Tensor, kind: str = "normal") -> Tensor:
    """Draw one field of ``size`` an item, each from its own generator: (B, *size) in ``like``'s dtype and device.

    ``kind`` is "normal" (mean 0, sd 1) or "uniform" (0 to 1). Always drawn in float32 (float64 for float64
    input), on the generator's device.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    make = {"normal": torch.randn, "uniform": torch.rand}[kind]
    drawn = torch.empty(len(generators), *size, device=generators[0].device, dtype=dtype)
    for item, g in zip(drawn, generators, strict=True):
        make(tuple(size), generator=g, out=item)
    return drawn.to(like.device, like.dtype)


def column(values: Sequence[Values], key: str, like: Tensor) -> Tensor:
    """Return the items' ``key`` as a tensor (B, 1, 1, 1) in ``like``'s dtype and device."""
    return torch.tensor([v[key] for v in values], dtype=like.dtype, device=like.device).view(-1, 1, 1, 1)


def by_mode(models: Mapping[str, Apply]) -> Apply:
    """Return an ``apply`` that hands each item to the model of its mode; one call a mode."""

    def apply(
        x: Tensor, values: Sequence[Values], generators: Sequence[torch.Generator], contexts: Sequence[Context]
    ) -> Tensor:
        modes = [v["mode"] for v in values]
        if len(set(modes)) == 1:
            return models[modes[0]](x, values, generators, contexts)
        y = torch.empty_like(x)
        for mode in dict.fromkeys(modes):
            at = [i for i, m in enumerate(modes) if m == mode]
            y[at] = models[mode](x[at], [values[i] for i in at], [generators[i] for i in at], [contexts[i] for i in at])
        return y

    return apply


def _record(
    noise: Noise, x: Tensor, strength: float | None, values: Values, seed: int, context: Context, device: str
) -> Record:
    mode = values["mode"]
    surrogate = noise.surrogate(mode, context.kind)
    clamped = noise.nonnegative(mode) and bool((x < 0).any())
    return Record(noise.name, strength, values, seed, context, surrogate, clamped, device)


def _apply(
    x: Tensor,
    noise: Noise,
    values: Sequence[Values],
    seeds: Sequence[int],
    contexts: Sequence[Context],
    untouched: Sequence[bool],
    device: str,
) -> Tensor:
    generators = [torch.Generator(device).manual_seed(s ^ 0x5DEECE66D) for s in seeds]
    # FFTs and exact tails need at least float32; half precision comes back as it went in.
    work = (x if x.dtype in (torch.float32, torch.float64) else x.float()).contiguous()
    clamped = [noise.nonnegative(v["mode"]) for v in values]
    if all(clamped):
        work = work.clamp_min(0)
    elif any(clamped):
        work = torch.where(torch.tensor(clamped, device=x.device).view(-1, 1, 1, 1), work.clamp_min(0), work)
    with torch.autocast(x.device.type, enabled=False):
        y = noise.apply(work, values, generators, contexts).to(x.dtype)
    if any(untouched):
        keep = torch.tensor(untouched, device=x.device).view(-1, 1, 1, 1)
        y = torch.where(keep, x, y)  # branch on 0: an FFT round trip is not exact
    return y
