"""The cells of a benchmark: cases x noises x strengths x methods, with names that every run gives alike."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from medfpl.bench.data import Chosen
from medfpl.bench.tuning import Tuned, read_tuned, setting_text
from medfpl.denoisers import METHODS
from medfpl.errors import MedfplError, UsageError
from medfpl.noises import NOISES
from medfpl.pipeline.jobs import Shard
from medfpl.seeds import stable_seed

PsnrKind = Literal["true", "uint8-wrapped"]
Tuning = Literal["tuned", "none"]

# The paper's Table I. Its introduction lists Rayleigh noise in place of Rician: on request.
NOISES_OF_TABLE = (
    "chemical-shift",
    "field-inhomogeneity",
    "gaussian",
    "motion",
    "noncentral-chi",
    "poisson",
    "rician",
    "salt-pepper",
    "speckle",
    "structured",
    "susceptibility",
    "thermal",
    "wrap-around",
)
FIRST = ("medfpl", "dpir")


@dataclass(frozen=True)
class Unit:
    """One corrupted image, on which every method runs. ``mode`` is the one used, ``seed`` the corruption's own."""

    case: str
    noise: str
    mode: str
    strength: float
    seed: int

    @property
    def key(self) -> str:
        """A name that is the same in every run with the same data."""
        return f"{self.case}/{self.noise}.{self.mode}/{self.strength:g}"


@dataclass(frozen=True)
class Entry:
    """A method that takes part: the model that it is to use (a name or run folder; None: its default), and settings.

    The ``settings`` are for every noise and kind, before those that were tuned.
    """

    method: str
    model: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """Return the entry written as ``method``, ``method=MODEL`` or either with ``:KEY=VALUE`` for each setting.

        Raises:
            UsageError: for a method or setting that is unknown.
        """
        plain, *pairs = re.split(r":(?=\w+=)", text)
        name, equals, model = plain.partition("=")
        method = METHODS.get(METHODS.resolve(name))
        if equals and "model" not in method.settings:
            raise UsageError(f"{name} has no models", "write medfpl=MODEL")
        if equals and not model:
            raise UsageError(f"{text} names no model")
        given = dict(pair.split("=", 1) for pair in pairs)
        if len(given) < len(pairs):
            raise UsageError(f"{text} has a setting twice")
        if extra := given.keys() & {"model", "device"}:
            raise UsageError(f"{extra.pop()} is no setting here", "write medfpl=MODEL; --device is for all methods")
        return cls(method.name, model or None, tuple(sorted(method.check(given).items())))

    @property
    def label(self) -> str:
        """What the cells are named after: of a model's path its last part."""
        plain = self.method if self.model is None else f"{self.method}={Path(self.model).name}"
        return ":".join([plain, *(setting_text(*pair) for pair in self.settings)])

    def tuned(self, tuned: Tuned) -> Tuned:
        """Return ``tuned`` with this entry's settings before its own."""
        return replace(tuned, settings=tuple(sorted({**dict(tuned.settings), **dict(self.settings)}.items())))


@dataclass(frozen=True)
class Corruption:
    """A noise to run: ``mode`` "" is the one that is the default for the image's kind."""

    noise: str
    mode: str = ""

    @classmethod
    def parse(cls, text: str) -> "Corruption":
        """Return the corruption written as ``noise`` or ``noise/mode``; raise UsageError for one that is unknown."""
        name, _, mode = text.partition("/")
        noise = NOISES.get(NOISES.resolve(name))
        if mode and mode not in noise.modes:
            raise UsageError(f"{noise.name} has no mode {mode!r}", f"its modes: {', '.join(noise.modes)}")
        return cls(noise.name, mode)


@dataclass(frozen=True)
class BenchSettings:
    """What is run on the cases: all that decides a row's values besides the data."""

    entries: tuple[Entry, ...]
    corruptions: tuple[Corruption, ...]
    strengths: tuple[float, ...] = (0.5,)
    seed: int = 0
    psnr: PsnrKind = "true"
    tuning: Tuning = "tuned"
    tasks: tuple[str, ...] = ()
    features: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not (self.entries and self.corruptions and self.strengths):
            raise UsageError("a benchmark needs a method, a noise and a strength")
        labels = [e.label for e in self.entries]
        for what, given in (("method", labels), ("noise", self.corruptions), ("strength", self.strengths)):
            if len(set(given)) < len(given):
                raise UsageError(f"a {what} is given twice")
        if not all(0 < s <= 1 for s in self.strengths):
            raise UsageError("a strength is above 0 and at most 1")


@dataclass(frozen=True, eq=False)
class Plan:
    """All units in order, the cases by name, and the tuned settings. ``examples`` are cases to keep pictures of."""

    settings: BenchSettings
    cases: Mapping[str, Chosen]
    units: tuple[Unit, ...]
    examples: frozenset[str] = frozenset()
    tuned: Mapping[tuple[str, str, str], Tuned] = field(default_factory=dict)

    def cell(self, unit: Unit, entry: Entry) -> str:
        """Return the name of a cell."""
        return f"{unit.key}/{entry.label}"

    def cells_by_unit(self) -> dict[str, list[str]]:
        """Return the names of each unit's cells, all in the order of the results."""
        return {u.key: [self.cell(u, e) for e in self.settings.entries] for u in self.units}

    def shard(self, shard: Shard) -> list[Unit]:
        """Return the units of a part; all methods of a corrupted image are in the same one."""
        return [u for u in self.units if shard.holds(Path(u.key))]

    def fingerprint(self) -> str:
        """Return a hash of all that decides the rows: runs that share it can be joined."""
        tuned = sorted((*key, json.dumps(asdict(t), sort_keys=True)) for key, t in self.tuned.items())
        settings = {k: v for k, v in asdict(self.settings).items() if k not in ("entries", "device", "features")}
        networks = [(e.label, weights_of(e)) for e in self.settings.entries]
        if self.settings.tasks:
            networks.append(("features", weights_of_features(explained_network(self.settings.features))))
        facts = [settings, networks, list(self.cases), [u.key for u in self.units], tuned]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def default_entries(model: str | None = None) -> tuple[Entry, ...]:
    """Return every method that can run, ours first; ``model`` is for ours.

    A method whose default model is not installed is not among them.
    """
    names = [n for n in METHODS.names() if n not in FIRST]
    entries = [Entry("medfpl", model), *([Entry("dpir")] if has_model(Entry("dpir")) else []), *map(Entry, names)]
    return tuple(entries)


def has_model(entry: Entry) -> bool:
    """Whether the model that an entry needs is installed."""
    try:
        weights_of(entry)
    except MedfplError:
        return False
    return True


def default_corruptions(every: bool = False) -> tuple[Corruption, ...]:
    """Return the noises of the paper's Table I, or every one there is."""
    return tuple(Corruption(n) for n in (NOISES.names() if every else NOISES_OF_TABLE))


def make_plan(cases: Sequence[Chosen], settings: BenchSettings) -> Plan:
    """Return the plan of ``settings`` on ``cases``; the first case of each kind gets its pictures kept."""
    units = tuple(
        _unit(c, n, s, settings.seed) for c in cases for n in settings.corruptions for s in settings.strengths
    )
    if len({u.key for u in units}) < len(units):
        raise UsageError("a noise is given twice, once by its default mode")
    firsts: dict[str, str] = {}
    for case in cases:
        firsts.setdefault(case.intensity.kind, case.id)
    tuned = read_tuned() if settings.tuning == "tuned" else {}
    return Plan(settings, {c.id: c for c in cases}, units, frozenset(firsts.values()), tuned)


def weights_of(entry: Entry) -> str:
    """Return the hash of the weights that an entry uses, "" for a method without."""
    if "model" not in METHODS.get(entry.method).settings:
        return ""
    from medfpl.nets.weights import find_model

    return find_model(entry.model, role="prior" if entry.method == "dpir" else "denoiser").card.sha256


def explained_network(asked: str | None) -> str | None:
    """Return the name of the network whose features the tasks compare: the default one if there is any."""
    from medfpl.nets.weights import list_models

    defaults = [m.card.name for m in list_models() if m.card.role == "restoration" and m.card.default]
    return asked or (defaults[0] if defaults else None)


def weights_of_features(name: str | None) -> str:
    """Return the hash of that network's weights, "" for none; UsageError if there is no model of that name."""
    from medfpl.nets.weights import find_model

    return "" if name is None else find_model(name, role="restoration").card.sha256


def _unit(case: Chosen, corruption: Corruption, strength: float, seed: int) -> Unit:
    noise = NOISES.get(corruption.noise)
    mode = corruption.mode or noise.mode_for(case.intensity.kind)
    return Unit(case.id, noise.name, mode, strength, stable_seed(seed, "bench", case.id, noise.name, mode, strength))


def describe(settings: BenchSettings) -> dict[str, Any]:
    """Return the settings for a record: plain values, no path."""
    return {
        "methods": [e.label for e in settings.entries],
        "noises": ["/".join(filter(None, (c.noise, c.mode))) for c in settings.corruptions],
        "strengths": list(settings.strengths),
        "psnr": settings.psnr,
        "tuning": settings.tuning,
        "tasks": list(settings.tasks),
        "device": settings.device,
    }
