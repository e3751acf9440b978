"""The benchmark's tables: what stands in them. medfpl.bench.markup writes them down."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medfpl.bench import stats
from medfpl.bench.rows import Row
from medfpl.bench.stats import Score

Mark = Literal["", "best", "second"]
KIND_NAMES = {"ct": "CT", "xray": "X-ray", "mr": "MR", "other": "Other images"}
DIGITS: dict[Score, int] = {"psnr": 2, "ssim": 3}
NAMES: dict[Score, str] = {"psnr": "PSNR", "ssim": "SSIM"}
WRAPPED = "uint8-wrapped"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table; ``value`` is what it is sorted by (NaN: by its text)."""

    text: str
    value: float = math.nan
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """One table: the first column names the rows. ``kind`` is the kind of image it is about, or "" for all.

    ``foot`` is whether the last line sums up the others, and is not to be sorted among them.
    """

    name: str
    kind: str
    title: str
    head: tuple[str, ...]
    body: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()
    foot: bool = False


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Return ``value`` for people: a true minus, the sign for infinity, a dash for what is not known."""
    if math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        text = "\N{INFINITY}"
    else:
        text = f"{abs(value):.{digits}f}"
    zero = not any(c in "123456789\N{INFINITY}" for c in text)
    sign = MINUS if value < 0 and not zero else "+" if signed and not zero else ""
    return sign + text


def kind_name(kind: str) -> str:
    """Return the title of a kind of image."""
    return KIND_NAMES.get(kind, kind)


def marks(values: Sequence[float], digits: int, better: str = "more", ideal: float = math.nan) -> list[Mark]:
    """Return who is best and who second, by the figures that are shown: equal figures share a mark."""
    shown = [round(v, digits) if math.isfinite(v) else v for v in values]
    cost: dict[str, Callable[[float], float]] = {
        "more": lambda v: -v,
        "less": lambda v: v,
        "ideal": lambda v: abs(v - ideal),
    }
    costs = [round(cost[better](v), digits + 3) if not math.isnan(v) else math.nan for v in shown]
    places = sorted({c for c in costs if not math.isnan(c)})
    if len(places) < 2:
        return [""] * len(values)  # nobody is better than anybody
    names: dict[float, Mark] = {places[0]: "best", places[1]: "second"}
    return [names.get(c, "") for c in costs]


def score_tables(rows: Sequence[Row]) -> list[Table]:
    """Return PSNR and SSIM of every kind: a line a noise, a column a method, as in the paper."""
    found = stats.cells(rows)
    made: list[Table] = []
    for kind in stats.kinds(found):
        made += [_score_table(found, rows, kind, score) for score in DIGITS]
    return made


def summary_tables(rows: Sequence[Row], seed: int = 0) -> list[Table]:
    """Return for every kind what each method reaches over all noises, and how far it is from the reference."""
    found = stats.cells(rows)
    reference = stats.reference_of(found)
    standings = {(s.kind, s.score, s.method): s for score in DIGITS for s in stats.standings(found, score)}
    leads = {
        (d.kind, d.score, d.rival): d
        for score in DIGITS
        for d in (stats.differences(rows, score, reference, seed) if reference else [])
    }
    made = []
    for kind in stats.kinds(found):
        methods = stats.methods_of(found, kind)
        table = []
        for m in methods:
            entries = [Entry(m)]
            for score in DIGITS:
                s = standings[kind, score, m]
                entries += [
                    Entry(number(s.mean, DIGITS[score]), s.mean),
                    Entry(number(s.rank, 1), s.rank),
                    Entry(f"{s.wins} of {s.noises}", s.wins),
                    _lead(leads.get((kind, score, m)), score),
                ]
            seconds = stats.over_patients((c.noise, c.seconds) for c in found if c.kind == kind and c.method == m)[0]
            table.append((*entries, Entry(f"{seconds:.3g}" if math.isfinite(seconds) else number(seconds, 0), seconds)))
        body = _mark_columns(table, {1: ("more", 2), 2: ("less", 1), 5: ("more", 3), 6: ("less", 1), 9: ("less", 4)})
        short = [f"{n}{c}" for n in ("PSNR", "SSIM") for c in ("", " rank", " best in", f" {reference} leads by")]
        used = range(10) if reference in methods else (0, 1, 2, 3, 5, 6, 7, 9)
        head = ["method", *short, "s / image"]
        made.append(
            Table(
                f"summary-{kind}",
                kind,
                f"{kind_name(kind)}: over all noises",
                tuple(head[i] for i in used),
                tuple(tuple(line[i] for i in used) for line in body),
                (extent(rows, kind), *_interval_notes([d for d in leads.values() if d.kind == kind]), *wrapped(rows)),
            )
        )
    return made


def group_tables(rows: Sequence[Row], seed: int = 0) -> list[Table]:
    """Return the summary and the scores of each group of a kind that has several (regions, scanners)."""
    made = []
    for kind in stats.kinds(rows):
        part = [r for r in rows if r.kind == kind]
        groups = sorted({r.group for r in part} - {""})
        for group in groups if len(groups) > 1 else []:
            mine = [r for r in part if r.group == group]
            for table in (*summary_tables(mine, seed), *score_tables(mine)):
                title = table.title.replace(kind_name(kind), f"{kind_name(kind)}, {group}", 1)
                made.append(replace(table, name=f"{table.name}-{group}", title=title))
    return made


def counted(n: int, what: str) -> str:
    """Return "1 image" or "2 images"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def extent(rows: Sequence[Row], kind: str) -> str:
    """Return the line that says how much data of ``kind`` a table is from, and how it was averaged."""
    part = [r for r in rows if r.kind == kind]
    patients, images = len({r.patient for r in part}), len({r.case for r in part})
    sizes = sorted({(r.height, r.width) for r in part})
    size = f"{sizes[0][0]} x {sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    strengths = sorted({r.strength for r in part if not math.isnan(r.strength)})
    strength = ", ".join(f"{s:g}" for s in strengths)
    strength = f"mean of strengths {strength}" if len(strengths) > 1 else f"strength {strength}"
    ranges = ", ".join(f"{v:g}" for v in sorted({r.data_range for r in part}))
    real = " (2000 HU)" if kind == "ct" and ranges == "1" else ""
    means = "mean within a patient, then over patients" if patients > 1 else "one patient says nothing about others"
    where = f"{counted(images, 'image')} ({size}) of {counted(patients, 'patient')}"
    return f"{where}, {strength}, data range {ranges} in working units{real}; {means}."


def wrapped(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the warning that must stand under every table of wrapped PSNR."""
    if all(r.psnr_kind != WRAPPED for r in rows):
        return ()
    return (
        "The PSNR here is the published tables' and not a PSNR: images rounded to 8 bits, the square of their "
        "difference taken modulo 256. It cannot fall far below 27.9 dB however bad an image is, and is right only "
        "above about 35 dB. It serves to set a table beside the paper's; true PSNR is --psnr true.",
    )


def _score_table(found: Sequence[stats.Cell], rows: Sequence[Row], kind: str, score: Score) -> Table:
    methods, noises = stats.methods_of(found, kind), stats.noises_of(found, kind)
    at = {(c.noise, c.method): c for c in found if c.kind == kind}
    digits = DIGITS[score]
    lines: list[tuple[str, float, list[float]]] = []
    for noise in noises:
        present = [at[noise, m] for m in methods if (noise, m) in at]
        before = stats.over_patients(("", getattr(c, f"{score}_in")) for c in present)[0]
        lines.append((noise, before, [getattr(at[noise, m], score) if (noise, m) in at else math.nan for m in methods]))
    if len(lines) > 1:
        columns = [[line[2][j] for line in lines] for j in range(len(methods))]
        complete = [math.nan if any(map(math.isnan, c)) else sum(c) / len(c) for c in columns]
        lines.append(("mean", sum(line[1] for line in lines) / len(lines), complete))
    body = []
    for noise, before, values in lines:
        entries = [Entry(noise), Entry(number(before, digits), before)]
        for m, value, mark in zip(methods, values, marks(values, digits), strict=True):
            cell = at.get((noise, m))
            entries.append(Entry(number(value, digits) + ("\N{DAGGER}" if cell and cell.failed else ""), value, mark))
        body.append(tuple(entries))
    what = f"{NAMES[score]}, dB" if score == "psnr" else NAMES[score]
    if score == "psnr" and wrapped(rows):
        what = "wrapped PSNR (not a PSNR), dB"
    failed = sum(c.failed for c in at.values())
    of = sum(1 for r in rows if r.kind == kind)
    notes = (f"\N{DAGGER} {failed} of {of} runs failed; the mean is of the others.",) if failed else ()
    notes = (extent(rows, kind), *notes, *(wrapped(rows) if score == "psnr" else ()))
    head = ("noise", "noisy", *methods)
    title = f"{kind_name(kind)}: {what}"
    return Table(f"{score}-{kind}", kind, title, head, tuple(body), notes, foot=len(noises) > 1)


def interval_text(lead: stats.Difference, digits: int) -> str:
    """Return a difference with its interval: "+1.20 (+0.80 to +1.60)"."""
    text = number(lead.mean, digits, signed=True)
    if math.isnan(lead.low):
        return text
    return f"{text} ({number(lead.low, digits, signed=True)} to {number(lead.high, digits, signed=True)})"


def _lead(lead: stats.Difference | None, score: Score) -> Entry:
    if lead is None:
        return Entry("")
    return Entry(interval_text(lead, DIGITS[score]), lead.mean)


def _interval_notes(leads: Sequence[stats.Difference]) -> list[str]:
    if not leads:
        return []
    fewest = min(d.patients for d in leads)
    if fewest < stats.LEAST:
        return [f"{counted(fewest, 'patient')}: too few for intervals of the differences."]
    note = (
        "In brackets: 95 % bootstrap interval over patients (BCa), of paired differences; each is for one comparison "
        "alone."
    )
    if fewest < stats.FEW:
        note += f" With {fewest} patients it is narrower than that: it covers the truth less than nine times in ten."
    return [note]


def _mark_columns(body: Sequence[tuple[Entry, ...]], columns: Mapping[int, tuple[str, int]]) -> list[tuple[Entry, ...]]:
    marked = [list(line) for line in body]
    for j, (better, digits) in columns.items():
        for line, mark in zip(marked, marks([line[j].value for line in body], digits, better), strict=True):
            line[j] = Entry(line[j].text, line[j].value, mark)
    return [tuple(line) for line in marked]
