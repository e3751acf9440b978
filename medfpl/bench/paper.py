"""The published figures beside ours."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from medfpl.bench import stats
from medfpl.bench.rows import Row
from medfpl.bench.stats import Score
from medfpl.bench.tables import DIGITS, NAMES, WRAPPED, Entry, Table, extent, kind_name, number, wrapped

CITATION = (
    "Guanfang Dong and Anup Basu, Medical Image Denosing via Explainable AI Feature Preserving Loss, "
    "arXiv:2310.20101, 2023, Tables II to IV"
)
# The kind of image that is nearest to each of its data sets.
DATASETS = {
    "lidc": ("ct", "chest CT (LIDC-IDRI)"),
    "lits": ("ct", "abdomen CT (LiTS)"),
    "rsna": ("xray", "chest X-ray"),
}

Published = Mapping[tuple[str, Score, str, str], float]


def published() -> dict[tuple[str, Score, str, str], float]:
    """Return the paper's value by (data set, score, noise, method)."""
    lines = (files("medfpl.bench") / "paper_tables.csv").read_text("utf-8").splitlines(keepends=True)
    rows = csv.DictReader(io.StringIO("".join(line for line in lines if not line.startswith("#"))))
    found: dict[tuple[str, Score, str, str], float] = {}
    for r in rows:
        score: Score = "psnr" if r["metric"] == "psnr" else "ssim"
        found[r["dataset"], score, r["noise"], r["method"]] = float(r["value"])
    return found


def comparison_tables(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each of the paper's data sets of which the run has the kind of image, PSNR and SSIM.

    A cell is our value, and the paper's in brackets. Only the noises and methods that both have; a method that was
    run in several variants stands there once, with its first.
    """
    paper = published()
    found = stats.cells(rows)
    made: list[Table] = []
    for dataset, (kind, name) in DATASETS.items():
        part = [c for c in found if c.kind == kind]
        for score in DIGITS:
            table = _table(part, paper, dataset, score)
            if table:
                head, body = table
                title = f"{NAMES[score]} beside the paper's: our {kind_name(kind)}, its {name}"
                notes = _notes(rows, kind, score)
                made.append(Table(f"paper-{dataset}-{score}", kind, title, head, body, notes, foot=len(body) > 1))
    return made


def _table(
    part: Sequence[stats.Cell], paper: Published, dataset: str, score: Score
) -> tuple[tuple[str, ...], tuple[tuple[Entry, ...], ...]] | None:
    ours: dict[tuple[str, str], float] = {}
    for c in part:
        ours.setdefault((c.noise.split(" (")[0], c.method.split(" (")[0]), getattr(c, score))
    theirs = {(n, m): v for (d, s, n, m), v in paper.items() if (d, s) == (dataset, score)}
    both = [key for key in ours if key in theirs]
    noises, methods = sorted({n for n, _ in both}), sorted({m for _, m in both}, key=stats.method_order)
    if not both:
        return None
    lines = [(n, [(ours.get((n, m), math.nan), theirs.get((n, m), math.nan)) for m in methods]) for n in noises]
    if len(lines) > 1:
        columns = [[pairs[j] for _, pairs in lines] for j in range(len(methods))]
        lines.append(("mean", [(_mean(a for a, _ in column), _mean(b for _, b in column)) for column in columns]))
    digits = DIGITS[score]
    body = tuple(
        (Entry(n), *(Entry(f"{number(a, digits)} ({number(b, 2)})", a) for a, b in pairs)) for n, pairs in lines
    )
    return ("noise", *methods), body


def _notes(rows: Sequence[Row], kind: str, score: Score) -> tuple[str, ...]:
    notes = [
        f"In brackets: {CITATION}. Its images and strengths are not published, and are others than ours.",
        "The paper trained one network for each noise; its filters saw the same images for gaussian as for thermal.",
        extent(rows, kind),
    ]
    if score == "psnr" and all(r.psnr_kind != WRAPPED for r in rows):
        notes.append(
            "Not like for like: the paper's PSNR is of 8-bit squares that wrapped around at 256, which no image falls "
            "much below 27.9 dB with; ours is true. Only --psnr uint8-wrapped gives numbers of the same convention."
        )
    return (*notes, *(wrapped(rows) if score == "psnr" else ()))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)
