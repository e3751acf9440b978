"""What must be said of a run beside its numbers: which models, which settings, what each method was told."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from medfpl.bench import stats
from medfpl.bench.rows import Row
from medfpl.bench.tables import KIND_NAMES, wrapped
from medfpl.noises import NOISES


def about(rows: Sequence[Row]) -> list[str]:
    """Return the lines that stand under all tables: PSNR convention, models, settings, noise levels, stand-ins."""
    lines = [] if wrapped(rows) else ["PSNR is the true one: of the mean squared error in floating point."]
    lines = [*wrapped(rows), *lines, *_models(rows), *_tuning(rows), *_levels(rows), *_stand_ins(rows)]
    threads = sorted({r.threads for r in rows})
    lines.append(
        "Seconds are each method's own for one image, without reading or scoring, on "
        + (f"{threads[0]} thread." if threads == [1] else f"{_list(str(t) for t in threads)} threads.")
    )
    return [*lines, *_failures(rows)]


def settings_table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return one line a method as it was run: label, source, model, tuning, settings, noise level, seconds."""
    from medfpl.denoisers import METHODS

    labels = stats.Labels(rows)
    groups: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        groups[labels.method(r)].append(r)
    lines = []
    for label in sorted(groups, key=stats.method_order):
        part = groups[label]
        known = part[0].method in METHODS.names()
        method = METHODS.get(part[0].method) if known else None
        seconds = stats.over_patients((r.patient, r.seconds) for r in part)[0]
        lines.append(
            {
                "label": label,
                "source": method.source if method else "",
                "prior": _list(sorted({r.prior for r in part} - {""})),
                "tuning": _list(sorted({r.tuning for r in part} - {""})),
                "settings": _settings({r.settings for r in part}),
                "level": _level(part),
                "seconds": f"{seconds:.3g}",
                "runs": str(len(part)),
                "failed": str(sum(bool(r.error) for r in part)),
            }
        )
    return lines


def _models(rows: Sequence[Row]) -> list[str]:
    noises: dict[tuple[str, str], set[str]] = defaultdict(set)
    for r in rows:
        if r.prior:
            noises[r.method, r.prior].add(r.noise)
    lines = []
    for method in sorted({m for m, _ in noises}, key=stats.method_order):
        ran_on = {r.noise for r in rows if r.method == method}
        mine = {prior: found for (m, prior), found in noises.items() if m == method}
        whole = sorted(prior for prior, found in mine.items() if found == ran_on)
        if method != stats.REFERENCE:
            lines.append(f"{method} uses the prior {_list(sorted(mine))}.")
        elif len(ran_on) == 1:
            lines.append(f"{method} is the model {_list(sorted(mine))}.")
        elif whole:
            lines.append(
                f"{method} is blind: the one model {_list(whole)} for all noises, and is not told which it meets."
            )
        else:
            lines.append(
                f"{method} is a set of specialists, {len(mine)} models for {len(ran_on)} noises: it is told the noise."
            )
    return lines


def _tuning(rows: Sequence[Row]) -> list[str]:
    methods: dict[str, set[str]] = defaultdict(set)
    for r in rows:
        if r.tuning:
            methods[r.tuning].add(r.method)
    said = {"tuned": "Settings tuned for each noise and kind on other patients", "defaults": "Default settings"}
    return [
        f"{said.get(tuning, tuning)}: {_list(sorted(found, key=stats.method_order))}."
        for tuning, found in sorted(methods.items())
    ]


def _levels(rows: Sequence[Row]) -> list[str]:
    lines = []
    for known, said in ((True, "Told the true noise level"), (False, "Left to estimate the noise level")):
        part = [r for r in rows if not math.isnan(r.noise_level) and r.level_known == known]
        if part:
            methods = sorted({r.method for r in part}, key=stats.method_order)
            lines.append(f"{said}: {_list(methods)}, on {_list(sorted({r.noise for r in part}))}.")
    return lines


def _stand_ins(rows: Sequence[Row]) -> list[str]:
    known = set(NOISES.names())
    lines = []
    for kind in stats.kinds(rows):
        runs = {(r.noise, r.mode) for r in rows if r.kind == kind and r.noise in known}
        away = sorted({noise for noise, mode in runs if NOISES.get(noise).surrogate(mode, kind)})
        if away:
            where = KIND_NAMES.get(kind, kind)
            lines.append(f"On {where} these only stand in, their physics is another modality's: {_list(away)}.")
    return lines


def _failures(rows: Sequence[Row]) -> list[str]:
    failed: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        if r.error:
            failed[r.method].append(r)
    lines = []
    for method in sorted(failed, key=stats.method_order):
        part, of = failed[method], sum(r.method == method for r in rows)
        lines.append(f"{method} failed on {len(part)} of {of} images: {_list(sorted({r.error for r in part})[:3])}.")
    return lines


def _level(rows: Sequence[Row]) -> str:
    used = [r for r in rows if not math.isnan(r.noise_level)]
    if not used:
        return "not used"
    return (
        "true" if all(r.level_known for r in used) else "estimated" if not any(r.level_known for r in used) else "both"
    )


def _settings(texts: set[str]) -> str:
    found = sorted(", ".join(f"{k}={v}" for k, v in json.loads(text or "{}").items()) or "defaults" for text in texts)
    return "; ".join(found) if len(found) < 4 else f"{len(found)} sets, by noise and kind: see results.csv"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
