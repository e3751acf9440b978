"""What a benchmark leaves behind: tables, figures, a page, and what the terminal shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medfpl.bench import stats, tables
from medfpl.bench.captions import about
from medfpl.bench.examples import find_examples
from medfpl.bench.figures import save_figures
from medfpl.bench.markup import to_markdown, to_tex
from medfpl.bench.page import write_page
from medfpl.bench.paper import comparison_tables
from medfpl.bench.rows import Row, TaskRow
from medfpl.bench.task_tables import task_tables
from medfpl.errors import MedfplError

TITLE = "How well medical images are denoised"


@dataclass(frozen=True)
class Printed:
    """The terminal's table, no wider than 80 characters, and the lines beneath it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def write_outputs(
    rows: Sequence[Row],
    tasks: Sequence[TaskRow],
    folder: Path,
    *,
    compare_paper: bool = False,
    notes: Sequence[str] = (),
) -> Printed:
    """Write table.md, table.tex, figures/*.png and report.html into ``folder``; return what to print.

    ``notes`` are lines about the run that stand with those every run has. Example images are taken from
    ``folder/examples`` where the run saved some. The same rows give the same tables in any order.

    Raises:
        MedfplError: for no rows, or rows of more than one PSNR convention.
    """
    rows = sorted(rows, key=lambda r: r.cell)
    labels = stats.Labels(rows)
    names = {r.cell: labels.method(r) for r in rows}
    tasks = sorted(tasks, key=lambda t: (t.cell, t.task, t.measure, t.detail))
    tasks = [replace(t, method=names.get(t.cell, t.method)) for t in tasks]
    if not rows:
        raise MedfplError("no results to show", "see the run's log for what failed")
    if len({r.psnr_kind for r in rows}) > 1:
        raise MedfplError("the results hold two kinds of PSNR", "run each into a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [*about(rows), *notes]
    made = [*tables.summary_tables(rows), *tables.score_tables(rows), *tables.group_tables(rows), *task_tables(tasks)]
    if compare_paper:
        made += comparison_tables(rows)
    (folder / "table.md").write_text(to_markdown(made, TITLE, lines), "utf-8")
    (folder / "table.tex").write_text(to_tex(made, lines), "utf-8")
    examples = find_examples(folder / "examples")
    pictures = save_figures(rows, tasks, examples, folder / "figures")
    write_page(folder / "report.html", TITLE, rows, made, pictures, examples, lines)
    return printed(rows)


def printed(rows: Sequence[Row]) -> Printed:
    """Return the terminal's table: mean scores over all noises by method and kind, and who leads whom."""
    found = stats.cells(rows)
    kinds, methods = stats.kinds(found), stats.methods_of(found)
    standings = {s: {(c.kind, c.method): c for c in stats.standings(found, s)} for s in tables.DIGITS}
    columns = ["method", *(name for kind in kinds for name in (f"{kind} dB", "SSIM")), "s"]
    body = [["noisy", *(text for kind in kinds for text in _before(found, kind)), ""]]
    for method in methods:
        line = [method if len(method) <= 18 else method[:17] + "\N{HORIZONTAL ELLIPSIS}"]
        for kind in kinds:
            for score, digits in tables.DIGITS.items():
                standing = standings[score].get((kind, method))
                line.append(tables.number(standing.mean, digits) if standing else "")
        seconds = stats.over_patients((c.noise, c.seconds) for c in found if c.method == method)[0]
        body.append([*line, f"{seconds:.2g}"])
    lines = [*_leads(rows), *tables.wrapped(rows)]
    return Printed(tuple(columns), tuple(map(tuple, body)), tuple(lines))


def _before(found: Sequence[stats.Cell], kind: str) -> tuple[str, str]:
    part = [c for c in found if c.kind == kind]
    psnr = stats.over_patients((c.noise, c.psnr_in) for c in part)[0]
    ssim = stats.over_patients((c.noise, c.ssim_in) for c in part)[0]
    return tables.number(psnr, 2), tables.number(ssim, 3)


def _leads(rows: Sequence[Row]) -> list[str]:
    """Return one line a kind: the reference's lead over the best of the others, or how far it is behind."""
    found = stats.cells(rows)
    reference = stats.reference_of(found)
    if reference is None:
        return []
    lines = []
    leads = stats.differences(rows, "psnr", reference)
    for kind in stats.kinds(found):
        against = [d for d in leads if d.kind == kind]
        if against:
            best = min(against, key=lambda d: d.mean)
            size = tables.number(abs(best.mean), 2)
            ends = tables.interval_text(best, 2).partition(" ")[2]
            of = tables.counted(best.patients, "patient")
            of += ", too few for an interval" if best.patients < stats.LEAST else ""
            verb = "leads" if best.mean > 0 else "is behind" if best.mean < 0 else "equals"
            lines.append(f"{kind}: {reference} {verb} {best.rival} by {size} dB {ends}".rstrip() + f", {of}")
    return lines
