"""The training mixture: which noise, how strong, which mode, and sometimes a second one on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfpl.noises import NOISES
from medfpl.noises.base import Context, corrupt
from medfpl.seeds import stable_seed

# Modes too slow to draw for every training image; each has a fast sibling among the modes of its noise.
SLOW_MODES = {("poisson", "ct")}
# What can come on top of an artifact: the noise that every acquisition has.
SECOND = ("gaussian", "rician", "poisson")


@dataclass(frozen=True)
class Mixture:
    """How corruptions are drawn.

    ``clean`` is the share left untouched; ``pair`` the share with a second noise on top, at most
    ``pair_strength`` strong. Strength is log-uniform in ``weakest`` to ``strongest``. ``default_mode`` is the
    share in the default mode, the rest spread over a noise's other modes that fit the image's kind.
    ``weights`` are relative, 1 for a name not in it.
    """

    names: tuple[str, ...] = ()
    clean: float = 0.08
    pair: float = 0.15
    pair_strength: float = 0.3
    weakest: float = 0.02
    strongest: float = 1.0
    default_mode: float = 0.7
    weights: Mapping[str, float] = field(default_factory=dict)


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
    names = [NOISES.resolve(n) for n in mixture.names] or NOISES.names()
    is_clean, is_pair = rng.random() < mixture.clean, rng.random() < mixture.pair
    weights = np.array([mixture.weights.get(n, 1.0) for n in names], dtype=float)
    first = str(rng.choice(names, p=weights / weights.sum()))
    strength = _log_uniform(rng, mixture.weakest, mixture.strongest)
    second = str(rng.choice(SECOND))
    second_strength = _log_uniform(rng, mixture.weakest, mixture.pair_strength)
    modes = _mode(mixture, first, context, rng), _mode(mixture, second, context, rng)
    if is_clean:
        return Plan()
    steps = [(first, strength, modes[0])]
    if is_pair and first not in SECOND and (not mixture.names or second in names):
        steps.append((second, second_strength, modes[1]))
    return Plan(tuple(steps))


def apply_plans(x: Tensor, plans: Sequence[Plan], seeds: Sequence[int], contexts: Sequence[Context]) -> Tensor:
    """Return the corrupted batch: items that share a noise and mode are corrupted together, with the same result."""
    y = x.clone()
    for depth in range(max((len(p.steps) for p in plans), default=0)):
        groups: dict[tuple[str, str], list[int]] = {}
        for i, plan in enumerate(plans):
            if depth < len(plan.steps):
                name, _, given = plan.steps[depth]
                groups.setdefault((name, given.get("mode", "")), []).append(i)
        for (name, _), members in groups.items():
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


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _mode(mixture: Mixture, name: str, context: Context, rng: np.random.Generator) -> dict[str, Any]:
    noise = NOISES.get(name)
    use_default, pick = rng.random() < mixture.default_mode, rng.random()
    default = noise.mode_for(context.kind)
    others = [m for m in noise.modes if m != default and (name, m) not in SLOW_MODES]
    if context.kind != "ct":
        others = [m for m in others if not m.startswith("ct")]
    if use_default or not others:
        return {}
    return {"mode": others[int(pick * len(others))]}
