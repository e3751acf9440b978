"""The training mixture: which noise, how strong, which mode, and sometimes a second one on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfpl.noises import NOISES
from medfpl.noises.base import Context, corrupt
from medfpl.seeds import log_uniform, stable_seed

# Modes too slow to draw for every training image; each has a fast sibling among the modes of its noise.
SLOW_MODES = {("poisson", "ct")}
# What can come on top of an artifact: the noise that every acquisition has.
SECOND = ("gaussian", "rician", "poisson")


# What images of a kind really suffer from, more often than what only stands in there. A case is a noise, or a
# noise and its mode: the quanta behind a CT slice make noise with texture, which white noise does not teach.
BY_KIND: dict[str, dict[str, float]] = {
    "ct": {"poisson/ct-texture": 5.0, "structured/ring": 1.5, "motion/blur": 1.0},
    "xray": {"poisson": 3.0, "structured/fixed-pattern": 1.5, "motion/blur": 1.5},
    "mr": {"rician": 3.0, "noncentral-chi": 2.0, "motion": 2.0, "field-inhomogeneity": 1.5},
}
SECOND_BY_KIND: dict[str, tuple[str, ...]] = {
    "ct": ("poisson/ct-texture", "gaussian"),
    "xray": ("poisson", "gaussian"),
    "mr": ("rician", "noncentral-chi"),
}


# Parameters that a strength leaves fixed and real images do not: drawn between bounds, for a share of a case's items.
# A network that met one period only would take away that one; noise is correlated once an image was interpolated.
VARIED: dict[tuple[str, str], tuple[float, dict[str, tuple[float, float]]]] = {
    ("structured", "pattern"): (1.0, {"period": (16.0, 256.0), "angle": (-90.0, 90.0)}),
    ("gaussian", "default"): (0.3, {"correlation": (0.3, 1.8)}),
    ("poisson", "ct-texture"): (0.6, {"cutoff": (0.3, 1.0)}),
}


@dataclass(frozen=True)
class Mixture:
    """How corruptions are drawn.

    ``clean`` is the share left untouched; ``pair`` the share with a second noise on top, at most
    ``pair_strength`` strong. Strength is log-uniform in ``weakest`` to ``strongest``, and for the share ``even``
    uniform: there are more strong ones then, from which what is global is learned. ``default_mode`` is the
    share in the default mode, the rest spread over a noise's other modes that fit the image's kind.
    ``weights`` are relative, 1 for a name not in it. ``by_kind`` are further weights for images of a kind, of
    cases "noise" (instead of ``weights``) or "noise/mode" (on top); ``second_by_kind`` are the cases that may
    come second. A noise that is not among ``names`` is never drawn.
    """

    names: tuple[str, ...] = ()
    clean: float = 0.08
    pair: float = 0.15
    pair_strength: float = 0.3
    weakest: float = 0.02
    strongest: float = 1.0
    even: float = 0.0
    default_mode: float = 0.7
    weights: Mapping[str, float] = field(default_factory=dict)
    by_kind: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    second_by_kind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def physical(cls, **settings: Any) -> "Mixture":
        """Return a mixture that favours what each kind of image really suffers from (BY_KIND)."""
        return cls(**{"by_kind": BY_KIND, "second_by_kind": SECOND_BY_KIND, **settings})

    def cases(self, kind: str) -> dict[str, float]:
        """Return the weight of each case for images of ``kind``; noises in the registry's order, then modes."""
        names = [NOISES.resolve(n) for n in self.names] or NOISES.names()
        wanted = self.by_kind.get(kind, {})
        found = {name: wanted.get(name, self.weights.get(name, 1.0)) for name in names}
        return found | {case: weight for case, weight in wanted.items() if _noise(case) in names}


@dataclass(frozen=True)
class Plan:
    """The corruptions of one item in order: (noise, strength, given parameters); empty for a clean item."""

    steps: tuple[tuple[str, float, dict[str, Any]], ...] = ()

    @property
    def label(self) -> str:
        """A name for logs: the first noise, or "clean"."""
        return self.steps[0][0] if self.steps else "clean"


def plan_item(mixture: Mixture, seed: int, context: Context) -> Plan:
    """Draw one item's corruptions from its own ``seed``."""
    rng = np.random.default_rng(stable_seed(seed, "mixture"))
    cases, seconds = mixture.cases(context.kind), mixture.second_by_kind.get(context.kind, SECOND)
    is_clean, is_pair = rng.random() < mixture.clean, rng.random() < mixture.pair
    weights = np.array(list(cases.values()), dtype=float)
    first = str(rng.choice(list(cases), p=weights / weights.sum()))
    strength = log_uniform(rng, mixture.weakest, mixture.strongest)
    second = str(rng.choice(seconds))
    second_strength = log_uniform(rng, mixture.weakest, mixture.pair_strength)
    steps = [(*_mode(mixture, case, context, rng), s) for case, s in ((first, strength), (second, second_strength))]
    if is_clean:
        return Plan()
    if rng.random() < mixture.even:
        steps[0] = (*steps[0][:2], float(rng.uniform(mixture.weakest, mixture.strongest)))
    on_top = is_pair and _noise(second) in cases and _noise(first) not in map(_noise, seconds)
    return Plan(tuple((name, s, given) for name, given, s in steps[: 1 + on_top]))


def apply_plans(x: Tensor, plans: Sequence[Plan], seeds: Sequence[int], contexts: Sequence[Context]) -> Tensor:
    """Return the corrupted batch; items alike in noise and given parameters are corrupted together, as one by one."""
    y = x.clone()
    for depth in range(max((len(p.steps) for p in plans), default=0)):
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, plan in enumerate(plans):
            if depth < len(plan.steps):
                name, _, given = plan.steps[depth]
                groups.setdefault((name, *sorted(given.items())), []).append(i)
        for (name, *_), members in groups.items():
            index = torch.tensor(members)
            given = plans[members[0]].steps[depth][2]
            y[index], _ = corrupt(
                y[index],
                NOISES.get(name),
                seeds=[stable_seed(seeds[i], "noise", depth) for i in members],
                strength=[plans[i].steps[depth][1] for i in members],
                given=given,
                contexts=[contexts[i] for i in members],
            )
    return y


def _noise(case: str) -> str:
    return case.partition("/")[0]


def _mode(mixture: Mixture, case: str, context: Context, rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """Return a case's noise, and the mode and varied parameters that it is given."""
    use_default, pick = rng.random() < mixture.default_mode, rng.random()
    name, _, mode = case.partition("/")
    noise = NOISES.get(name)
    default = noise.mode_for(context.kind)
    if mode:
        return name, {"mode": mode, **_vary(name, mode, rng)}
    others = [m for m in noise.modes if m != default and (name, m) not in SLOW_MODES]
    if context.kind != "ct":
        others = [m for m in others if not m.startswith("ct")]
    if use_default or not others:
        return name, _vary(name, default, rng)
    chosen = others[int(pick * len(others))]
    return name, {"mode": chosen, **_vary(name, chosen, rng)}


def _vary(name: str, mode: str, rng: np.random.Generator) -> dict[str, Any]:
    share, bounds = VARIED.get((name, mode), (0.0, {}))
    if rng.random() >= share:
        return {}
    return {key: float(rng.uniform(*ends)) for key, ends in bounds.items()}
