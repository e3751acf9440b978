"""Everything a run leaves, from its rows."""

from pathlib import Path

import pytest
from bench_rows import row, rows, save_examples, tasks
from rich.cells import cell_len

from medfpl.bench.outputs import printed, write_outputs
from medfpl.errors import MedfplError


@pytest.fixture(scope="module")
def found() -> list:
    return rows(kinds=("ct", "xray"), noises=("gaussian", "motion"), methods=("medfpl", "mean", "nlm"), patients=2)


def test_all_files_are_written_and_the_notes_are_in_them(found: list, tmp_path: Path) -> None:
    save_examples(tmp_path / "examples", found)
    shown = write_outputs(found, tasks(found), tmp_path, compare_paper=True, notes=["a remark of the run"])
    assert {p.name for p in tmp_path.iterdir()} == {"examples", "figures", "report.html", "table.md", "table.tex"}
    assert (tmp_path / "figures" / "strip-ct0-0-gaussian.png").is_file()
    for name in ("table.md", "table.tex", "report.html"):
        text = (tmp_path / name).read_text("utf-8")
        assert "a remark of the run" in text
        assert "beside the paper" in text
        assert "lesions" in text
    assert shown == printed(sorted(found, key=lambda r: r.cell))


def test_the_same_rows_give_the_same_files_in_any_order(found: list, tmp_path: Path) -> None:
    some = found[::5]
    for name, order in (("a", some), ("b", some[::-1])):
        write_outputs(order, [], tmp_path / name)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_terminals_table_is_narrow_even_with_all_kinds_and_methods() -> None:
    shown = printed(rows(kinds=("ct", "xray", "mr", "other"), patients=1, slices=1))
    widths = [max(cell_len(c) for c in column) for column in zip(shown.columns, *shown.rows, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert [line[0] for line in shown.rows][:3] == ["noisy", "medfpl", "dpir"]
    assert [note.split(":")[0] for note in shown.notes] == ["ct", "xray", "mr", "other"]


def test_the_lead_is_over_the_best_rival_and_may_be_none() -> None:
    ahead = [row(psnr=30.0), row(method="mean", psnr=28.0), row(method="nlm", psnr=29.0)]
    assert printed(ahead).notes == ("ct: medfpl leads nlm by 1.00 dB, 1 patient, too few for an interval",)
    behind = [row(psnr=27.0), *ahead[1:]]
    assert printed(behind).notes[0].startswith("ct: medfpl is behind nlm by 2.00 dB")
    assert printed(ahead[1:]).notes == ()


def test_nothing_and_mixtures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MedfplError, match="no results"):
        write_outputs([], [], tmp_path)
    with pytest.raises(MedfplError, match="two kinds of PSNR"):
        write_outputs([row(), row(psnr_kind="uint8-wrapped")], [], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_which_all_failed_still_has_tables(tmp_path: Path) -> None:
    nan = float("nan")
    failed = [
        row(method=m, psnr=nan, ssim=nan, rmse=nan, gmsd=nan, seconds=nan, error="the model did not load")
        for m in ("medfpl", "mean")
    ]
    write_outputs(failed, [], tmp_path)
    assert "the model did not load" in (tmp_path / "table.md").read_text("utf-8")
