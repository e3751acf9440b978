"""The tables of the tasks: a line a measure, a column a method."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from medfpl.bench import stats
from medfpl.bench.rows import TaskRow
from medfpl.bench.tables import Entry, Mark, Table, counted, kind_name, marks, number
from medfpl.bench.tasks.base import Measure

NOISY = "_noisy"  # in the name of a measure that is taken before denoising


def task_tables(tasks: Sequence[TaskRow]) -> list[Table]:
    """Return for every kind and task its measures by method: means over noises, contrasts, sizes and patients."""
    groups: dict[tuple[str, str], list[TaskRow]] = defaultdict(list)
    for t in tasks:
        groups[t.kind, t.task].append(t)
    made = []
    for kind, task in sorted(groups, key=lambda k: (stats.kind_order(k[0]), k[1])):
        part = groups[kind, task]
        methods = sorted({t.method for t in part}, key=stats.method_order)
        declared = declared_measures(task)
        lines = _lines(part, declared)
        body = [_task_line(part, declared, methods, *line) for line in lines]
        medians = _medians(part, declared, methods, lines)
        body += medians
        # The first measure that is not split by tissue already.
        chief = next((measure for measure, detail in lines if not detail), lines[0][0])
        body += _by_noise([t for t in part if t.measure.replace(NOISY, "") == chief], declared, methods, chief)
        patients = len({t.patient for t in part})
        note = (
            f"{counted(patients, 'patient')}; mean over noises, contrasts and sizes in a patient, then over patients."
        )
        note += " Median of noises: of each one's mean." if medians else ""
        present = {t.measure for t in part}
        meanings = tuple(f"{n}: {m.meaning}." for n, m in declared.items() if n in present and NOISY not in n)
        head = ("measure", "ideal", "noisy", *methods)
        title = f"{kind_name(kind)}: task {task}"
        made.append(Table(f"task-{task}-{kind}", kind, title, head, tuple(body), (note, *meanings)))
    return made


def declared_measures(task: str) -> Mapping[str, Measure]:
    """Return what the task called ``task`` says of its measures; nothing for a task that this version has not."""
    from medfpl.bench.tasks import TASKS

    return TASKS.get(task).measures if task in TASKS.names() else {}


def ideal_text(measure: Measure) -> str:
    """Return a measure's ideal, and the way to it."""
    if math.isfinite(measure.ideal):
        return f"{measure.ideal:g}"
    return {"more": "more", "less": "less", "ideal": ""}[measure.better]


def _mean(part: Sequence[TaskRow]) -> float:
    return stats.over_patients((t.patient, t.value) for t in part)[0]


def _median_of_noises(part: Sequence[TaskRow]) -> float:
    means = [_mean([t for t in part if t.noise == noise]) for noise in sorted({t.noise for t in part})]
    known = [v for v in means if math.isfinite(v)]
    return median(known) if known else math.nan


def _medians(
    part: Sequence[TaskRow],
    declared: Mapping[str, Measure],
    methods: Sequence[str],
    lines: Sequence[tuple[str, str]],
) -> list[tuple[Entry, ...]]:
    """Return a line for each measure that is a share of the truth: its mean may be one noise's doing, too."""
    if len({t.noise for t in part}) < 3:
        return []
    shares = [line for line in lines if line[0] in declared and declared[line[0]].ideal == 1]
    return [
        _task_line(
            part,
            declared,
            methods,
            measure,
            detail,
            f"{measure} ({', '.join(filter(None, (detail, 'median of noises')))})",
            _median_of_noises,
        )
        for measure, detail in shares
    ]


def _task_line(
    part: Sequence[TaskRow],
    declared: Mapping[str, Measure],
    methods: Sequence[str],
    measure: str,
    detail: str,
    name: str = "",
    average: Callable[[Sequence[TaskRow]], float] = _mean,
) -> tuple[Entry, ...]:
    mine = [t for t in part if (t.measure, _class(t.detail)) == (measure, detail)]
    values = [average([t for t in mine if t.method == m]) for m in methods]
    # Before denoising a measure is the same for every method.
    at_first = [t for t in part if NOISY in t.measure and t.measure.replace(NOISY, "") == measure]
    before = average([t for t in at_first if _class(t.detail) == detail])
    meant = declared.get(measure)
    unit = meant.unit if meant else mine[0].unit
    digits = _digits([*values, before])
    shown: list[Mark] = [""] * len(values)
    if meant:
        shown = marks(values, digits, meant.better, meant.ideal)
    name = name or (f"{measure} ({detail})" if detail else measure)
    return (
        Entry(f"{name}, {unit}" if unit not in ("", "1") else name),
        Entry(ideal_text(meant) if meant else number(math.nan, 0), meant.ideal if meant else math.nan),
        Entry(number(before, digits), before),
        *(Entry(number(v, digits), v, m) for v, m in zip(values, shown, strict=True)),
    )


def _by_noise(
    part: Sequence[TaskRow], declared: Mapping[str, Measure], methods: Sequence[str], measure: str
) -> list[tuple[Entry, ...]]:
    """Return the lines of a task's chief measure noise by noise: its mean may be one noise's doing."""
    noises = sorted({t.noise for t in part})
    if len(noises) < 2:
        return []
    return [
        _task_line(
            [t for t in part if t.noise == noise],
            declared,
            methods,
            measure,
            detail,
            f"{measure} ({', '.join(filter(None, (noise, detail)))})",
        )
        for _, detail in _lines(part, declared)
        for noise in sorted({t.noise for t in part if t.measure == measure and _class(t.detail) == detail})
    ]


def _lines(part: Sequence[TaskRow], declared: Mapping[str, Measure]) -> list[tuple[str, str]]:
    """Return the (measure, detail without numbers) that a task table has lines for; the noisy have a column."""
    known = list(declared)
    found = {(t.measure, _class(t.detail)) for t in part if NOISY not in t.measure}
    return sorted(found, key=lambda k: (known.index(k[0]) if k[0] in known else len(known), k))


def _class(detail: str) -> str:
    # Tissues are not to be averaged: one's rise hides the other's fall. Contrasts and sizes are drawn as curves.
    return "" if any(c.isdigit() for c in detail) else detail


def _digits(values: Sequence[float]) -> int:
    # Three significant figures of the largest.
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return 3 if largest == 0 else max(0, min(6, 2 - math.floor(math.log10(largest))))
