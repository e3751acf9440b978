"""``medfpl bench`` from the command line."""

import json

import pytest
from bench_cases import pictures

from medfpl.cli.app import main

FAST = ["--kind", "xray", "--executor", "serial", "--methods", "mean,median", "--noises", "gaussian"]


@pytest.fixture
def drawn_bench(tmp_path, capsys):
    """Run the command on small pictures; returns exit code and both streams."""
    data = pictures(tmp_path / "data")

    def run(*arguments, fast=True):
        capsys.readouterr()
        code = main(["bench", "-o", str(tmp_path / "out"), "--data", str(data), *(FAST if fast else []), *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def bench(drawn_bench, monkeypatch):
    """The same, without figures and page, which take the time."""
    from medfpl.bench import outputs

    for name in ("save_figures", "write_page"):
        monkeypatch.setattr(outputs, name, lambda *arguments, **options: [])
    return drawn_bench


def test_it_prints_the_table_and_leaves_the_files(drawn_bench, tmp_path):
    code, out, err = drawn_bench()
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["method", "xray"]
    assert {line.split()[0] for line in lines[2:5]} == {"noisy", "mean", "median"}
    assert "2 cases, 2 corrupted images, 2 methods on each: 4 results" in err
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"rows.jsonl", "results.parquet", "results.csv", "table.md", "table.tex", "run.json", "examples"} <= made
    assert {"report.html", "figures"} <= made


def test_json_is_one_object(bench):
    code, out, _ = bench("--json", "--seed", "4")
    said = json.loads(out)
    assert code == 0
    assert (said["done"], said["results"], said["failed"], said["seed"]) == (2, 4, 0, 4)
    assert said["settings"]["methods"] == ["mean", "median"]
    assert len(said["table"]["rows"]) == 3


def test_settings_are_given_with_the_method_and_a_model_with_all_of_ours(bench):
    code, out, _ = bench(
        *("--noises", "gaussian", "--limit", "1", "--executor", "serial", "--json"),
        *("--methods", "medfpl:faint=0,medfpl,mean:size=5", "--model", "medfpl-experts"),
        fast=False,
    )
    said = json.loads(out)
    assert (code, said["failed"]) == (0, 0)
    names = [f"medfpl=medfpl-experts{settings}" for settings in (":faint=0", "")] + ["mean:size=5"]
    assert said["settings"]["methods"] == names
    assert [row[0] for row in said["table"]["rows"]] == ["noisy", "medfpl", "medfpl (faint=0)", "mean"]


def test_a_second_run_is_refused_then_resumed_then_replaced(bench):
    assert bench()[0] == 0
    code, _, err = bench()
    assert code == 1
    assert err.splitlines()[-2:] == [
        "error: the folder holds a benchmark",
        "hint: --resume goes on with it, --overwrite replaces it",
    ]
    assert "0 corrupted images done, 2 kept" in bench("--resume")[2]
    assert bench("--overwrite")[0] == 0


def test_parts_say_how_they_are_joined(bench):
    for part in ("1/2", "2/2"):
        code, out, err = bench("--shard", part)
        assert (code, out) == (0, "")
        assert "--resume" in err
    code, out, _ = bench("--resume")
    assert code == 0
    assert "median" in out


def test_tasks_are_measured_on_request(bench, tmp_path):
    assert bench("--task", "identity")[0] == 0
    assert (tmp_path / "out" / "tasks.parquet").exists()
    header = (tmp_path / "out" / "tasks.csv").read_text().splitlines()[0]
    assert header.startswith("cell,case,patient,kind,noise")


def test_a_file_that_cannot_be_read_is_told(bench, tmp_path):
    (tmp_path / "data" / "00000009_000.png").write_bytes(b"\x89PNG\r\n\x1a\n1234567890")
    code, _, err = bench()
    assert code == 3
    assert "error: 00000009_000.png: " in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--psnr", "wrong"], "--psnr wrong is unknown"),
        (["--tuning", "best"], "--tuning best is unknown"),
        (["--split", "half"], "--split half is unknown"),
        (["--compare", "lancet"], "--compare lancet is unknown"),
        (["--strengths", "a,b"], "no numbers"),
        (["--strengths", "2"], "at most 1"),
        (["--task", "lesion"], "no task is called 'lesion'"),
        (["--shard", "3/2"], "--shard 3/2"),
        (["--executor", "slurm"], "--executor slurm is unknown"),
        (["--device", "nonsense"], "--device nonsense is no device"),
        (["--model", "x"], "not among --methods"),
    ],
)
def test_wrong_arguments_are_one_line_and_leave_nothing(bench, tmp_path, arguments, reason):
    code, out, err = bench(*(FAST if "--executor" not in arguments else [*FAST[:2], *FAST[4:]]), *arguments, fast=False)
    assert code == 2
    assert out == ""
    (error,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert reason in error
    assert not (tmp_path / "out").exists()


def test_an_interrupt_says_how_to_go_on(bench, monkeypatch):
    from medfpl.bench import run

    def stop(work):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_unit", stop)
    code, _, err = bench()
    assert code == 130
    assert "--resume" in err
