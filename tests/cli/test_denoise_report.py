import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import png, tree

from medfpl.pipeline import run as pipeline_run

Run = Callable[..., Any]
MEAN = ("--method", "mean")


def pixels_of(page: Path) -> list[str]:
    return re.findall(r'<script type="application/octet-stream" id="b\d+">(.*?)</script>', page.read_text("utf-8"))


def test_page_and_the_numbers_in_the_record(medfpl: Run, tmp_path: Path) -> None:
    for i in range(3):
        png(tmp_path / "in" / f"name{i}.png", i)
    (tmp_path / "in" / "name1.png").write_text("no picture")
    out = tmp_path / "out"
    result = medfpl("denoise", tmp_path / "in", "-o", out, *MEAN, "--report", out / "page.html", "--json")
    assert result.code == 3
    assert json.loads(result.out)["report"] == str(out / "page.html")
    assert tree(out) == ["name0.png", "name2.png", "page.html", "run.json"]
    (run,) = json.loads((out / "run.json").read_text())["runs"]
    numbers = {row["input"]: row.get("report") for row in run["files"]}
    assert numbers == {"name0.png": {"series": 1}, "name1.png": None, "name2.png": {"series": 2}}
    page = (out / "page.html").read_text("utf-8")
    assert "1 file refused" in page
    assert "name0" not in page
    assert len(pixels_of(out / "page.html")) == 2


def test_existing_page_stays(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    page = tmp_path / "page.html"
    page.write_text("mine")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN, "--report", page)
    assert (result.code, page.read_text()) == (1, "mine")
    assert "the report's page exists" in result.err
    assert tree(tmp_path) == ["a.png", "page.html"]
    assert medfpl("denoise", tmp_path / "a.png", *MEAN, "--report", page, "--overwrite").code == 0
    assert "<!DOCTYPE html>" in page.read_text("utf-8")


@pytest.mark.parametrize("name", ["page.pdf", "page", "a.png"])
def test_names_that_are_no_page(medfpl: Run, tmp_path: Path, name: str) -> None:
    png(tmp_path / "a.png")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN, "--report", tmp_path / name)
    assert result.code == 2
    assert tree(tmp_path) == ["a.png"]


def test_resume_reads_what_is_kept_again(medfpl: Run, tmp_path: Path) -> None:
    for i in range(2):
        png(tmp_path / "in" / f"{i}.png", i)
    out, page = tmp_path / "out", tmp_path / "page.html"
    command = ("denoise", tmp_path / "in", "-o", out, *MEAN, "--report", page)
    assert medfpl(*command).code == 0
    first = pixels_of(page)
    page.unlink()
    (out / "1.png").unlink()
    assert medfpl(*command, "--resume").code == 0
    # An 8-bit picture holds rounded values, and the page shows whole steps of it: the same.
    assert pixels_of(page) == first
    assert "1 file kept from an earlier run" in page.read_text("utf-8")
    assert medfpl(*command, "--resume").code == 0  # all kept: the page and the numbers are made again
    assert pixels_of(page) == first
    last = json.loads((out / "run.json").read_text())["runs"][-1]
    assert [row["report"] for row in last["files"]] == [{"series": 1}, {"series": 2}]


def test_damaged_result_is_named(medfpl: Run, tmp_path: Path) -> None:
    for i in range(2):
        png(tmp_path / "in" / f"{i}.png", i)
    command = ("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert medfpl(*command).code == 0
    (tmp_path / "out" / "0.png").write_bytes(b"broken")
    result = medfpl(*command, "--resume", "--report", tmp_path / "page.html")
    assert result.code == 3
    assert "its result of an earlier run cannot be read" in result.err


def test_nothing_done_nothing_shown(medfpl: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN, "--report", tmp_path / "page.html")
    assert result.code == 1
    assert tree(tmp_path) == ["a.png"]


def test_interrupt_leaves_no_page(medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png(tmp_path / "a.png")

    def interrupted(*arguments: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_run, "write", interrupted)
    result = medfpl("denoise", tmp_path / "a.png", *MEAN, "--report", tmp_path / "page.html")
    assert result.code == 130
    assert tree(tmp_path) == ["a.png"]
