"""Choosing the settings that tuning.py reads: every setting of a small grid on corrupted validation images."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from medfpl.bench.cases import Case
from medfpl.bench.metrics import psnr
from medfpl.bench.plan import Unit
from medfpl.bench.tuning import ANY, COLUMNS, Tuned
from medfpl.bench.unit import UnitCorruption, level_of
from medfpl.denoisers import METHODS


def grid(method: str, *, level_known: bool) -> list[Tuned]:
    """Return the settings to try for ``method``, its defaults first. ``level_known``: as for noise, not an artifact."""
    return list(_grid(method, level_known))


def _grid(method: str, level_known: bool) -> Iterator[Tuned]:
    yield Tuned()
    factors = (0.5, 0.7, 1.4, 2.0) if level_known else (0.5, 2.0, 4.0)
    levels = () if level_known else (0.01, 0.03, 0.08)
    if method in ("mean", "median"):
        yield from (Tuned.of({"size": size}) for size in (5, 7))
    elif method == "combined":
        yield from (
            Tuned.of({"size": n, "sigma": s}) for n, s in product((3, 5), (0.0, 0.8, 1.6)) if (n, s) != (3, 0.8)
        )
    elif method == "gaussian":
        yield from (Tuned.of({"sigma": s}) for s in (0.3, 0.5, 0.7, 1.0, 1.4, 2.0))
    elif method == "wiener":
        yield from (Tuned.of({"size": n}, f) for n, f in product((3, 7), (0.7, 1.0, 1.4)))
        yield from (Tuned((), f) for f in factors)
        yield from (Tuned((), 1.0, level) for level in levels)
    elif method == "bilateral":
        yield from (Tuned.of({"sigma_spatial": s}, f) for s, f in product((1.0, 2.5), (0.7, 1.0)))
        yield from (Tuned((), f) for f in factors)
        yield from (Tuned((), 1.0, level) for level in levels)
    elif method == "nlm":
        yield from (Tuned.of({"patch": 3}, f) for f in (0.7, 1.0))
        yield from (Tuned((), f) for f in factors)
        yield from (Tuned((), 1.0, level) for level in levels)
    elif method in ("wavelet", "dpir"):
        yield from (Tuned((), f) for f in factors)
        yield from (Tuned((), 1.0, level) for level in levels)


@dataclass(frozen=True)
class Tried:
    """What a setting gave on one corrupted image: PSNR in dB."""

    method: str
    noise: str
    kind: str
    tuned: Tuned
    psnr: float


def best_rows(trials: Sequence[Tried]) -> list[dict[str, str]]:
    """Return the table's rows: for each method, noise and kind (and all kinds together) the best mean PSNR.

    What is tried first, the defaults, wins a tie. Kinds weigh alike in "any".
    """
    means: dict[tuple[str, str], dict[Tuned, dict[str, list[float]]]] = {}
    for t in trials:
        by_kind = means.setdefault((t.method, t.noise), {}).setdefault(t.tuned, {})
        by_kind.setdefault(t.kind, []).append(t.psnr)
    rows = []
    for (method, noise), found in sorted(means.items(), key=lambda item: item[0]):
        kinds = sorted({kind for by_kind in found.values() for kind in by_kind})
        for wanted in [*([k] for k in kinds), kinds]:
            scores = {tuned: fmean(fmean(by[k]) for k in wanted) for tuned, by in found.items()}
            best, first = max(scores, key=scores.__getitem__), next(iter(scores))
            cases = sum(len(found[best][k]) for k in wanted)
            name = wanted[0] if wanted is not kinds else ANY
            rows.append(_row(method, noise, name, best, scores[first], scores[best], cases))
    return rows


def _row(method: str, noise: str, kind: str, best: Tuned, default: float, psnr: float, cases: int) -> dict[str, str]:
    settings, level = json.dumps(dict(best.settings), sort_keys=True), "" if best.level is None else f"{best.level:g}"
    values = (method, noise, kind, settings, f"{best.factor:g}", level, f"{default:.2f}", f"{psnr:.2f}", str(cases))
    return dict(zip(COLUMNS, values, strict=True))


def try_settings(case: Case, unit: Unit, methods: Sequence[str]) -> list[Tried]:
    """Return the PSNR of every setting of every method on one corrupted image."""
    noisy = UnitCorruption(unit, case)(case.image)
    level, known = level_of(unit.noise, case.image, noisy)
    found = []
    for method in methods:
        for tuned in grid(method, level_known=known):
            denoised = METHODS.get(method).make(**dict(tuned.settings)).denoise(noisy, noise_level=tuned.told(level))
            found.append(Tried(method, unit.noise, case.intensity.kind, tuned, psnr(case.image, denoised)))
    return found
