"""From rows to numbers: means over patients, paired differences with intervals, ranks and wins.

A patient counts once, however many slices it has: values are averaged within a patient, then over patients,
and intervals are over patients.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medfpl.bench.rows import Row
from medfpl.bench.tuning import setting_text
from medfpl.seeds import numpy_generator

Score = Literal["psnr", "ssim"]
REFERENCE = "medfpl"
# The columns of the paper's tables.
ORDER = ("medfpl", "dpir", "bilateral", "combined", "gaussian", "mean", "median", "nlm", "wavelet", "wiener")
KINDS = ("ct", "xray", "mr", "other")
LEVEL, RESAMPLES = 0.95, 9999
# Patients. With fewer than LEAST a bootstrap interval covers the truth less than three times in four; with fewer
# than FEW, less than nine times in ten (tests/bench/test_stats.py).
LEAST, FEW = 4, 10


@dataclass(frozen=True)
class Cell:
    """One method on one noise and kind: means over patients. NaN where every run of it failed."""

    kind: str
    noise: str
    method: str
    psnr_in: float
    psnr: float
    ssim_in: float
    ssim: float
    seconds: float
    patients: int
    cases: int
    failed: int


@dataclass(frozen=True)
class Difference:
    """The reference less a rival, averaged over noises within each patient. ``low``..``high``: NaN for few patients."""

    kind: str
    score: Score
    rival: str
    mean: float
    low: float
    high: float
    patients: int
    pairs: int


@dataclass(frozen=True)
class Standing:
    """How a method compares over the noises of one kind: the mean of its ranks (1 is best; ties share) and its wins."""

    kind: str
    score: Score
    method: str
    mean: float
    rank: float
    wins: int
    noises: int


class Labels:
    """The names of the tables' rows and columns.

    A noise run in several modes, and a method run with several priors or settings on the same image, need more than
    their name: mode, prior or settings are added then, and only then.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        modes: dict[tuple[str, str], set[str]] = defaultdict(set)
        variants: dict[tuple[Hashable, ...], set[tuple[str, str, str]]] = defaultdict(set)
        for r in rows:
            modes[r.kind, r.noise].add(r.mode)
            variants[r.method, r.case, r.noise, r.mode, r.strength, r.seed].add((r.prior, r.tuning, r.settings))
        self._modes = modes
        self._parts: dict[str, set[int]] = defaultdict(set)
        for key, found in variants.items():
            if len(found) > 1:
                differing = {i for i in range(3) if len({v[i] for v in found}) > 1}
                self._parts[str(key[0])] |= differing

    def noise(self, row: Row) -> str:
        """Return ``row``'s noise, with its mode where the kind has several."""
        return f"{row.noise} ({row.mode})" if len(self._modes[row.kind, row.noise]) > 1 else row.noise

    def method(self, row: Row) -> str:
        """Return ``row``'s method, with what sets it apart from others of that name."""
        differing = self._parts.get(row.method)
        if not differing:
            return row.method
        parts = [(row.prior, row.tuning, _short(row.settings))[i] for i in sorted(differing)]
        return f"{row.method} ({', '.join(part or 'none' for part in parts)})" if any(parts) else row.method


def over_patients(values: Iterable[tuple[str, float]]) -> tuple[float, int]:
    """Return the mean of (patient, value) pairs, patients weighing alike, and their number; NaN is left out."""
    means = _within(values)
    return (_mean(means.values()), len(means)) if means else (math.nan, 0)


def cells(rows: Sequence[Row], labels: Labels | None = None) -> list[Cell]:
    """Return the mean scores of every kind, noise and method, in the order of the tables."""
    labels = labels or Labels(rows)
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for r in rows:
        groups[r.kind, labels.noise(r), labels.method(r)].append(r)
    keys = sorted(groups, key=lambda k: (kind_order(k[0]), k[1], method_order(k[2])))
    return [_cell(*key, groups[key]) for key in keys]


def standings(table: Sequence[Cell], score: Score) -> list[Standing]:
    """Return mean score, mean rank and wins of each method, kind by kind. A method without a score ranks last."""
    from scipy.stats import rankdata

    found = []
    for kind in kinds(table):
        scores = {(c.noise, c.method): getattr(c, score) for c in table if c.kind == kind}
        names, methods = noises_of(table, kind), methods_of(table, kind)
        grid = np.array([[scores.get((n, m), math.nan) for m in methods] for n in names])
        ranks = rankdata(-np.where(np.isnan(grid), -np.inf, grid), axis=1)
        with_any = ~np.isnan(grid).all(axis=1, keepdims=True)
        best = (grid == np.nanmax(np.where(with_any, grid, 0), axis=1, keepdims=True)) & with_any
        found += [
            Standing(kind, score, m, _mean(grid[:, j]), float(ranks[:, j].mean()), int(best[:, j].sum()), len(names))
            for j, m in enumerate(methods)
        ]
    return found


def reference_of(table: Iterable[Cell]) -> str | None:
    """Return the label of the method that the others are compared with: medfpl, the first if there are several."""
    return next((m for m in methods_of(table) if m.split(" (")[0] == REFERENCE), None)


def differences(rows: Sequence[Row], score: Score, reference: str = REFERENCE, seed: int = 0) -> list[Difference]:
    """Return the lead of the method labelled ``reference`` over each rival in each kind, with its interval.

    Only pairs on the same corrupted image count, where both gave a score. Each interval has a generator of its
    own, from ``seed`` and its names.
    """
    labels = Labels(rows)
    found = []
    for kind in kinds(rows):
        scores: dict[str, dict[tuple[Hashable, ...], float]] = defaultdict(dict)
        for r in rows:
            if r.kind == kind:
                image = (r.patient, labels.noise(r), r.case, r.strength, r.seed)
                scores[labels.method(r)][image] = getattr(r, score)
        ours = scores.get(reference, {})
        for rival in sorted(set(scores) - {reference}, key=method_order):
            pairs = {k: _less(v, scores[rival][k]) for k, v in ours.items() if k in scores[rival]}
            pairs = {k: v for k, v in pairs.items() if not math.isnan(v)}
            if pairs:
                found.append(_difference(kind, score, rival, pairs, numpy_generator(seed, kind, score, rival)))
    return found


def interval(values: Sequence[float], generator: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % BCa bootstrap interval of the mean of ``values``, one a patient (Efron 1987).

    NaN for fewer than LEAST, or where a value is infinite.
    """
    from scipy.stats import bootstrap

    data = np.asarray(values, float)
    if len(data) < LEAST or not np.isfinite(data).all():
        return math.nan, math.nan
    if np.ptp(data) == 0:
        return float(data[0]), float(data[0])
    limits = bootstrap(
        (data,), np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, method="BCa", rng=generator
    ).confidence_interval
    return float(limits.low), float(limits.high)


def kinds(table: Iterable[Row] | Iterable[Cell]) -> list[str]:
    """Return the kinds of image in ``table``, in the order of the tables."""
    return sorted({c.kind for c in table}, key=kind_order)


def noises_of(table: Iterable[Cell], kind: str) -> list[str]:
    """Return the names of ``kind``'s noises."""
    return sorted({c.noise for c in table if c.kind == kind})


def methods_of(table: Iterable[Cell], kind: str | None = None) -> list[str]:
    """Return the labels of the methods run on ``kind`` (or on any), in the paper's order."""
    return sorted({c.method for c in table if kind in (None, c.kind)}, key=method_order)


def kind_order(kind: str) -> tuple[int, str]:
    """Sort key of a kind."""
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def method_order(label: str) -> tuple[int, str]:
    """Sort key of a method's label: the paper's columns first."""
    name = label.split(" (")[0]
    return (ORDER.index(name) if name in ORDER else len(ORDER), label)


def _cell(kind: str, noise: str, method: str, rows: Sequence[Row]) -> Cell:
    def mean(value: Callable[[Row], float]) -> float:
        return over_patients((r.patient, value(r)) for r in rows)[0]

    return Cell(
        kind=kind,
        noise=noise,
        method=method,
        psnr_in=mean(lambda r: r.psnr_in),
        psnr=mean(lambda r: r.psnr),
        ssim_in=mean(lambda r: r.ssim_in),
        ssim=mean(lambda r: r.ssim),
        seconds=mean(lambda r: r.seconds),
        patients=len({r.patient for r in rows}),
        cases=len({r.case for r in rows}),
        failed=sum(bool(r.error) for r in rows),
    )


def _difference(
    kind: str, score: Score, rival: str, pairs: Mapping[tuple[Hashable, ...], float], generator: np.random.Generator
) -> Difference:
    # Within a patient every noise weighs alike, however many slices it was put on.
    by_noise = _within(((k[0], k[1]), v) for k, v in pairs.items())
    by_patient = _within((patient, v) for (patient, _), v in by_noise.items())
    values = [by_patient[p] for p in sorted(by_patient)]
    low, high = interval(values, generator)
    return Difference(kind, score, rival, _mean(values), low, high, len(values), len(pairs))


def _within(values: Iterable[tuple[Hashable, float]]) -> dict:
    groups = defaultdict(list)
    for key, value in values:
        if not math.isnan(value):
            groups[key].append(value)
    return {key: _mean(found) for key, found in groups.items()}


def _mean(values: Iterable[float]) -> float:
    # fsum: the same whatever the order.
    known = [float(v) for v in values if not math.isnan(v)]
    if not known:
        return math.nan
    return (math.fsum(known) if all(map(math.isfinite, known)) else sum(known)) / len(known)


def _less(a: float, b: float) -> float:
    # Two perfect results (PSNR inf) do not differ.
    return 0.0 if a == b else a - b


def _short(settings: str) -> str:
    return ", ".join(setting_text(k, v) for k, v in json.loads(settings or "{}").items())
