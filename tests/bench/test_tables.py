"""What stands in the tables, and that Markdown and LaTeX say it without being led astray by any name."""

import math
import re
from dataclasses import replace

import pytest
from bench_rows import row, rows, tasks
from hypothesis import given
from hypothesis import strategies as st

from medfpl.bench import captions, markup, tables
from medfpl.bench.rows import TaskRow
from medfpl.bench.stats import ORDER
from medfpl.bench.tables import Entry, Table
from medfpl.bench.task_tables import task_tables


def texts(table: Table) -> list[list[str]]:
    return [[e.text for e in line] for line in table.body]


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (1.234, 2, False, "1.23"),
        (-1.234, 2, True, "\N{MINUS SIGN}1.23"),
        (1.234, 2, True, "+1.23"),
        (-0.001, 2, True, "0.00"),
        (math.inf, 2, True, "+\N{INFINITY}"),
        (math.nan, 2, True, "\N{EN DASH}"),
    ],
)
def test_numbers(value: float, digits: int, signed: bool, text: str) -> None:
    assert tables.number(value, digits, signed=signed) == text


def test_marks_go_by_the_figures_that_are_shown() -> None:
    assert tables.marks([30.001, 30.002, 29.0, 28.0], 2) == ["best", "best", "second", ""]
    assert tables.marks([3.0, 1.0, 2.0], 1, "less") == ["", "best", "second"]
    assert tables.marks([1.3, 0.8, 0.5], 1, "ideal", 1.0) == ["second", "best", ""]
    assert tables.marks([math.nan, 1.0, 2.0], 1) == ["", "second", "best"]
    assert tables.marks([math.inf, 50.0], 2) == ["best", "second"]
    assert tables.marks([1.0, 1.0], 1) == ["", ""]


def test_score_tables_are_the_papers() -> None:
    psnr, ssim = tables.score_tables(rows(kinds=("ct",), patients=2))
    assert psnr.head == ("noise", "noisy", *ORDER)
    assert [line[0] for line in texts(psnr)] == [
        *("gaussian", "motion", "poisson", "rician", "salt-pepper", "speckle"),
        "mean",
    ]
    assert psnr.foot
    best = max(e.value for e in psnr.body[0][2:])
    assert [e.value for e in psnr.body[0] if e.mark == "best"] == [best]
    column = [line[3].value for line in psnr.body]
    assert column[-1] == pytest.approx(sum(column[:-1]) / 6)
    assert ssim.title == "CT: SSIM"
    assert "2 patients" in psnr.notes[0]


def test_wrapped_psnr_says_what_it_is_in_every_table_that_holds_it() -> None:
    found = rows(kinds=("ct",), patients=1, psnr_kind="uint8-wrapped")
    psnr, ssim = tables.score_tables(found)
    (summary,) = tables.summary_tables(found)
    assert "not a PSNR" in psnr.title
    assert all("modulo 256" in " ".join(t.notes) for t in (psnr, summary))
    assert "modulo 256" not in " ".join(ssim.notes)
    assert "modulo 256" in captions.about(found)[0]
    assert "modulo" not in " ".join(captions.about(rows(patients=1)))


def test_failures_are_marked_and_counted() -> None:
    found = [row(case="a"), row(case="b", psnr=math.nan, ssim=math.nan, error="not enough memory"), row(method="mean")]
    psnr, _ = tables.score_tables(found)
    assert texts(psnr)[0][2] == "30.00\N{DAGGER}"
    assert "1 of 3 runs failed" in psnr.notes[1]
    assert "medfpl failed on 1 of 2 images: not enough memory." in captions.about(found)


def test_summaries_hold_leads_with_intervals_only_for_enough_patients() -> None:
    (few,) = tables.summary_tables(rows(kinds=("ct",), patients=1))
    (many,) = tables.summary_tables(rows(kinds=("ct",), patients=12, slices=1))
    column = few.head.index("PSNR medfpl leads by")
    assert "to" not in texts(few)[1][column]
    assert "1 patient: too few for intervals" in " ".join(few.notes)
    assert re.fullmatch(r"\+\d\.\d\d \(\S+ to \S+\)", texts(many)[1][column])
    assert "narrower" not in " ".join(many.notes)
    assert texts(many)[0][column] == ""


def test_a_run_without_the_reference_has_no_leads() -> None:
    (table,) = tables.summary_tables(rows(kinds=("ct",), methods=("mean", "nlm"), patients=1))
    assert not any("leads" in name for name in table.head)


def test_captions_tell_blind_from_specialist() -> None:
    blind = [row(noise=n, prior="base") for n in ("gaussian", "motion")]
    specialists = [row(noise=n, prior=n) for n in ("gaussian", "motion")]
    assert any("medfpl is blind: the one model base" in line for line in captions.about(blind))
    assert any("specialists, 2 models for 2 noises" in line for line in captions.about(specialists))
    assert any("medfpl is the model base." in line for line in captions.about(blind[:1]))


def test_captions_tell_who_was_told_the_noise_level() -> None:
    found = [
        row(method="nlm", noise="gaussian", noise_level=0.1, level_known=True),
        row(method="nlm", noise="motion", noise_level=0.05),
        row(method="mean"),
    ]
    lines = captions.about(found)
    assert "Told the true noise level: nlm, on gaussian." in lines
    assert "Left to estimate the noise level: nlm, on motion." in lines
    levels = {line["label"]: line["level"] for line in captions.settings_table(found)}
    assert levels == {"nlm": "both", "mean": "not used"}


def task_row(measure: str, value: float, **changes: object) -> TaskRow:
    plain = TaskRow(
        "c", "c0", "p0", "ct", "gaussian", "default", 0.5, 0, "medfpl", "", "lesions", measure, "", "", value
    )
    return replace(plain, **changes)


def test_task_tables_know_what_is_better() -> None:
    found = [
        task_row("recovery", 1.30),
        task_row("recovery", 0.90, method="mean"),
        task_row("leakage", 0.20),
        task_row("leakage", 0.50, method="mean"),
        task_row("recovery_noisy", 0.98),
        task_row("recovery_noisy", 0.98, method="mean"),
    ]
    (table,) = task_tables(found)
    assert table.head == ("measure", "ideal", "noisy", "medfpl", "mean")
    assert texts(table) == [
        ["recovery", "1", "0.98", "1.30", "0.90"],
        ["leakage", "0", "\N{EN DASH}", "0.200", "0.500"],
    ]
    assert [[e.mark for e in line[3:]] for line in table.body] == [["second", "best"], ["best", "second"]]


def test_tissues_are_not_averaged_and_noises_are_told_apart() -> None:
    found = [
        task_row("recovery", value, noise=noise, detail=detail)
        for noise, value in (("gaussian", 0.8), ("motion", 0.4))
        for detail in ("20 HU, 4 px", "40 HU, 4 px")
    ]
    assert [line[0] for line in texts(task_tables(found)[0])] == [
        "recovery",
        "recovery (gaussian)",
        "recovery (motion)",
    ]
    tissue = [task_row("shift_hu", v, task="bias", unit="HU", detail=d) for d, v in (("air", 10.0), ("bone", -10.0))]
    assert texts(task_tables(tissue)[0]) == [
        ["shift_hu (air), HU", "0", "\N{EN DASH}", "10.0"],
        ["shift_hu (bone), HU", "0", "\N{EN DASH}", "\N{MINUS SIGN}10.0"],
    ]


def test_noises_are_told_apart_for_a_measure_that_tissues_do_not_split() -> None:
    found = [
        task_row(measure, 1.0, task="bias", noise=noise, detail=detail)
        for noise in ("gaussian", "motion")
        for measure, detail in (("shift_hu", "air"), ("shift_hu", "bone"), ("error_hu", ""))
    ]
    lines = ["shift_hu (air), HU", "shift_hu (bone), HU", "error_hu, HU"]
    lines += ["error_hu (gaussian), HU", "error_hu (motion), HU"]
    assert [line[0] for line in texts(task_tables(found)[0])] == lines


def test_shares_of_the_truth_have_a_median_over_noises() -> None:
    found = [
        task_row(measure, value, noise=noise, patient=patient)
        for noise, value in (("gaussian", 0.4), ("motion", 0.7), ("poisson", 0.9))
        for patient, more in (("p0", -0.05), ("p1", 0.05))
        for measure, value in (("recovery", value + more), ("recovery_noisy", 1.0), ("leakage", value))
    ]
    (table,) = task_tables(found)
    lines = {line[0]: line[1:] for line in texts(table)}
    assert lines["recovery (median of noises)"] == ["1", "1.00", "0.70"]
    assert lines["recovery"] == ["1", "1.00", "0.67"]
    assert "leakage (median of noises)" not in lines
    assert "Median of noises" in table.notes[0]
    few = task_tables([t for t in found if t.noise != "poisson"])[0]
    assert not any("median" in line[0] for line in texts(few))


def test_groups_of_a_kind_have_tables_of_their_own() -> None:
    found = [
        row(case=f"{group}{n}", patient=f"{group}{n}", group=group, method=method, psnr=psnr)
        for group, psnr in (("chest", 30.0), ("abdomen", 34.0))
        for n in range(2)
        for method in ("medfpl", "mean")
    ]
    found += [row(kind="mr", group="brain", case="b", patient="b")]
    made = tables.group_tables(found)
    assert [t.name for t in made] == [f"{t}-ct-{g}" for g in ("abdomen", "chest") for t in ("summary", "psnr", "ssim")]
    assert [t.title for t in made[:2]] == ["CT, abdomen: over all noises", "CT, abdomen: PSNR, dB"]
    psnr = {t.name: texts(t)[0][2] for t in made if t.name.startswith("psnr")}
    assert psnr == {"psnr-ct-abdomen": "34.00", "psnr-ct-chest": "30.00"}
    assert "2 images" in made[0].notes[0]
    assert tables.group_tables([r for r in found if r.group != "chest"]) == []


def test_a_task_of_another_version_has_a_table_without_ideals() -> None:
    (table,) = task_tables([task_row("novelty", 3.0, task="not-known-here")])
    assert texts(table) == [["novelty", "\N{EN DASH}", "\N{EN DASH}", "3.00"]]


def test_markdown_marks_best_and_second() -> None:
    table = Table("t", "ct", "T", ("noise", "a", "b"), ((Entry("x"), Entry("1", 1, "best"), Entry("2", 2, "second")),))
    text = markup.to_markdown([table], "All", ["note"])
    assert "| x | **1** | <ins>2</ins> |" in text
    assert "| --- | ---: | ---: |" in text
    assert text.startswith("# All\n\n- note\n\n## T\n")


@given(st.text(max_size=40))
def test_no_text_breaks_a_markdown_line(text: str) -> None:
    line = markup.markdown(text)
    assert len(line.splitlines()) <= 1
    assert not re.search(r"(?<!\\)[|<>`*_]", line.replace("\\\\", ""))


@given(st.text(max_size=40))
def test_no_text_is_a_command_in_latex(text: str) -> None:
    line = markup.tex(text)
    assert line.isascii()
    assert len(line.splitlines()) <= 1
    commands = "textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|dag"
    known = rf"\\({commands})\{{\}}|\$(-|\\infty|\\rho)\$|\\[&%$#_{{}}]"
    assert not re.search(r"[\\&%$#_{}~^<>|]", re.sub(known, "", line))


def test_latex_is_balanced_and_every_line_has_all_cells() -> None:
    found = rows(patients=2)
    made = [*tables.summary_tables(found), *tables.score_tables(found), *task_tables(tasks(found[:200]))]
    text = markup.to_tex(made, captions.about(found))
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == len(made)
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == len(made)
    for table, body in zip(made, re.findall(r"\\toprule(.*?)\\bottomrule", text, re.DOTALL), strict=True):
        lines = [line for line in body.splitlines() if line.strip() and "midrule" not in line]
        assert len(lines) == 1 + len(table.body)
        assert all(
            line.endswith(r" \\") and len(re.findall(r"(?<!\\)&", line)) == len(table.head) - 1 for line in lines
        )
    opened, closed = (len(re.findall(rf"(?<!\\)\{c}", text)) for c in "{}")
    assert opened == closed
