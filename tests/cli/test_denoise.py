import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import noisy, png, tree
from PIL import Image

import medfpl as package
from medfpl.denoisers.methods import mean as mean_module

Run = Callable[..., Any]
MEAN = ("--method", "mean")


def test_one_file_beside_its_source(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "scan.png")
    before = source.read_bytes()
    result = medfpl("denoise", source, *MEAN)
    assert (result.code, tree(tmp_path)) == (0, ["scan.png", "scan_denoised.png"])
    assert source.read_bytes() == before
    assert "scan_denoised.png" in result.out
    assert "1 denoised" in result.err
    noise = [np.asarray(Image.open(tmp_path / n), float)[1:11, 1:40].std() for n in tree(tmp_path)]
    assert noise[1] < noise[0] / 1.5


def test_folder_tree_with_strangers(medfpl: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    png(source / "a.png", 1)
    png(source / "sub" / "b.png", 2)
    (source / "notes.csv").write_text("x\n")
    result = medfpl("denoise", source, "-o", out, *MEAN)
    assert result.code == 0
    assert tree(out) == ["a.png", "run.json", "sub/b.png"]
    assert "1 other files skipped" in result.err


def test_same_result_from_python(medfpl: Run, tmp_path: Path) -> None:
    values = noisy((3, 48, 48)).astype(np.float32)
    np.save(tmp_path / "volume.npy", values)
    for extra, options in (
        ((), {}),
        (("--strength", "0.5"), {"strength": 0.5}),
        (("--set", "size=5"), {"size": 5}),
    ):
        done = medfpl("denoise", tmp_path / "volume.npy", *MEAN, *extra, "--overwrite")
        assert done.code == 0, done.err
        from_command = np.load(tmp_path / "volume_denoised.npy")
        from_array = package.denoise(values, method="mean", **options)
        from_file = package.denoise(tmp_path / "volume.npy", method="mean", **options)
        np.testing.assert_array_equal(from_command, from_array)
        np.testing.assert_array_equal(from_command, from_file.pixels)
        assert not np.array_equal(from_command, values)


def test_json_report(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    (tmp_path / "in" / "x.txt").write_text("text")
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN, "--json", "--seed", "7")
    assert result.code == 3
    report = json.loads(result.out)
    keys = ["command", "version", "method", "model", "device", "seed", "counts", "seconds", "files"]
    assert list(report) == keys
    assert report["counts"] == {"done": 1, "kept": 0, "failed": 1, "skipped": 1}
    assert (report["method"], report["device"], report["seed"]) == ("mean", "cpu", 7)
    row_keys = (
        "input status outputs kind slices unit noise_before noise_after slice_noise feature_distance flagged_slices"
        " sha256 seconds notes error hint"
    )
    assert [" ".join(row) for row in report["files"]] == [row_keys] * 2
    good, bad = sorted(report["files"], key=lambda row: row["status"])
    assert good["noise_after"] < good["noise_before"]
    assert good["outputs"] == [str(tmp_path / "out" / "a.png")]
    assert (bad["outputs"], bad["noise_before"]) == ([], None)
    assert bad["error"]


def test_manifest(medfpl: Run, tmp_path: Path) -> None:
    import hashlib

    source = png(tmp_path / "in" / "sub" / "a.png")
    out = tmp_path / "out"
    assert medfpl("denoise", tmp_path / "in", "-o", out, *MEAN, "--seed", "3", "--set", "size=5").code == 0
    text = (out / "run.json").read_text()
    assert str(tmp_path) not in text
    (run,) = json.loads(text)["runs"]
    assert (run["command"], run["seed"], run["device"]) == ("denoise", 3, "cpu")
    assert run["arguments"]["settings"] == {"size": "5"}
    assert run["versions"]["medfpl"] == package.__version__
    (row,) = run["files"]
    assert (row["input"], row["outputs"]) == ("sub/a.png", ["sub/a.png"])
    assert row["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    png(tmp_path / "in" / "b.png", 5)
    assert medfpl("denoise", tmp_path / "in", "-o", out, *MEAN, "--resume").code == 0
    runs = json.loads((out / "run.json").read_text())["runs"]
    assert [[r["status"] for r in run["files"]] for run in runs] == [["done"], ["done", "kept"]]


def test_foreign_run_json_stays(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text('{"mine": 1}')
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert result.code == 1
    assert tree(tmp_path / "out") == ["run.json"]
    assert (tmp_path / "out" / "run.json").read_text() == '{"mine": 1}'


def test_quiet_prints_errors_alone(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    again = medfpl("denoise", tmp_path / "a.png", *MEAN, "-q")
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("error: ")


def test_existing_output_is_refused_kept_or_replaced(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    out = tmp_path / "a_denoised.png"
    out.write_bytes(b"precious")
    refused = medfpl("denoise", tmp_path / "a.png", *MEAN)
    assert refused.code == 1
    assert f"error: {tmp_path}/a.png: its output exists" in refused.err
    assert out.read_bytes() == b"precious"
    kept = medfpl("denoise", tmp_path / "a.png", *MEAN, "--resume")
    assert (kept.code, out.read_bytes()) == (0, b"precious")
    assert "1 kept" in kept.err
    replaced = medfpl("denoise", tmp_path / "a.png", *MEAN, "--overwrite")
    assert replaced.code == 0
    assert Image.open(out).size == (48, 48)


def test_resume_completes_with_the_same_bytes(medfpl: Run, tmp_path: Path) -> None:
    for i in range(5):
        png(tmp_path / "in" / f"{i}.png", i)
    whole = tmp_path / "whole"
    assert medfpl("denoise", tmp_path / "in", "-o", whole, *MEAN, "--residual").code == 0
    parts = tmp_path / "parts"
    assert medfpl("denoise", tmp_path / "in", "-o", parts, *MEAN, "--residual").code == 0
    (parts / "1.png").unlink()
    (parts / "3_residual.tif").unlink()
    result = medfpl("denoise", tmp_path / "in", "-o", parts, *MEAN, "--residual", "--resume")
    assert "2 denoised, 3 kept" in result.err
    images = [name for name in tree(whole) if name != "run.json"]
    assert [n for n in tree(parts) if n != "run.json"] == images
    assert len(images) == 10
    for name in images:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_shards_make_the_whole(medfpl: Run, tmp_path: Path) -> None:
    for i in range(12):
        png(tmp_path / "in" / f"{i}.png", i)
    for i in (1, 2, 3):
        assert medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN, "--shard", f"{i}/3").code == 0
    made = tree(tmp_path / "out")
    assert [n for n in made if n.endswith(".png")] == sorted(f"{i}.png" for i in range(12))
    assert [n for n in made if n.endswith(".json")] == [f"run-{i}-of-3.json" for i in (1, 2, 3)]


def test_dry_run_writes_nothing(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "in" / "a.png")
    png(tmp_path / "in" / "b.png")
    png(tmp_path / "out" / "b.png")
    before = tree(tmp_path)
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", "--dry-run", "--json")
    assert (result.code, tree(tmp_path)) == (0, before)
    assert [row["state"] for row in json.loads(result.out)["files"]] == ["new", "exists"]
    shown = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", "--dry-run", "--resume")
    assert "kept" in shown.out
    assert "nothing was written" in shown.err


def test_residual_is_what_was_removed(medfpl: Run, tmp_path: Path) -> None:
    import tifffile

    png(tmp_path / "a.png")
    assert medfpl("denoise", tmp_path / "a.png", *MEAN, "--residual").code == 0
    assert tree(tmp_path) == ["a.png", "a_denoised.png", "a_denoised_residual.tif"]
    removed = tifffile.imread(tmp_path / "a_denoised_residual.tif")
    before, after = (np.asarray(Image.open(tmp_path / n), float) for n in ("a.png", "a_denoised.png"))
    assert removed.dtype == np.float32
    np.testing.assert_allclose(before - after, removed, atol=0.5001)


def test_preview_shows_three_pictures(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    assert medfpl("denoise", tmp_path / "a.png", *MEAN, "--preview").code == 0
    assert tree(tmp_path) == ["a.png", "a_denoised.png", "a_denoised_preview.png"]
    width, height = Image.open(tmp_path / "a_denoised_preview.png").size
    assert width > 2.5 * height
    # A second run over the folder takes neither the result nor its picture for an input.
    again = medfpl("denoise", tmp_path, *MEAN, "--preview", "--resume")
    assert "1 kept" in again.err
    assert len(tree(tmp_path)) == 3


def bad_files(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    good = png(folder / "whole.png").read_bytes()
    (folder / "whole.png").unlink()
    bad = {
        "text.dcm": b"This is no image.\n" * 50,
        "empty.png": b"",
        "cut.png": good[: len(good) // 2],
        "text.nii.gz": b"nothing zipped here",
        "noise.nii": bytes(range(256)) * 2,
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / "colour.png")
    (folder / "gone.dcm").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.dcm")
    return {p.name: p for p in folder.iterdir()}


def test_bad_files_get_one_line_each_and_the_rest_is_done(medfpl: Run, tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "in")
    png(tmp_path / "in" / "good.png")
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert result.code == 3
    assert tree(tmp_path / "out") == ["good.png", "run.json"]
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert sorted(line.split(": ")[1] for line in errors) == sorted(str(p) for p in bad.values())
    assert all(line.split(": ", 2)[2] for line in errors)
    assert "Traceback" not in result.err
    assert "unexpected" not in result.err


def test_only_bad_files(medfpl: Run, tmp_path: Path) -> None:
    bad_files(tmp_path / "in")
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert (result.code, result.out) == (1, "")
    assert not (tmp_path / "out").exists()


def test_missing_input_and_no_images(medfpl: Run, tmp_path: Path) -> None:
    missing = medfpl("denoise", tmp_path / "nowhere", *MEAN)
    assert missing.code == 1
    assert f"error: {tmp_path}/nowhere: there is no such file" in missing.err
    (tmp_path / "empty").mkdir()
    empty = medfpl("denoise", tmp_path / "empty", "-o", tmp_path / "out", *MEAN)
    assert empty.code == 1
    assert "no image found" in empty.err
    png(tmp_path / "a.png")
    some = medfpl("denoise", tmp_path / "nowhere", tmp_path / "a.png", "-o", tmp_path / "out", *MEAN)
    assert (some.code, tree(tmp_path / "out")) == (3, ["a.png", "run.json"])


def test_read_only_target(medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png(tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom modes do not stop
        real_open = os.open

        def closed(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_CREAT and Path(os.fsdecode(path)).parent == tmp_path / "out":
                raise PermissionError(errno.EACCES, "closed", os.fspath(path))
            return real_open(path, flags, *more, **named)

        monkeypatch.setattr(os, "open", closed)
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert result.code == 1
    assert f"error: {tmp_path}/in/a.png: no permission to write the output" in result.err
    assert tree(tmp_path) == ["in/a.png"]


def test_target_below_a_file(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    result = medfpl("denoise", tmp_path / "a.png", "-o", tmp_path / "file" / "b.png", *MEAN)
    assert result.code == 1
    assert "a file stands where the output's folder should be" in result.err


def test_an_output_of_another_format_is_refused_before_the_work(
    medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(**settings: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(mean_module, "METHOD", _replaced(mean_module.METHOD, build=no_work))
    result = medfpl("denoise", png(tmp_path / "a.png"), "-o", tmp_path / "b.dcm", *MEAN)
    assert result.code == 2
    assert "written as .png, not as .dcm" in result.err
    assert tree(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--method", "nosuch"),
        ("--method", "mean", "--set", "nosuch=1"),
        ("--method", "mean", "--set", "size"),
        ("--method", "mean", "--set", "size=4"),
        ("--method", "mean", "--set", "size=5", "--set", "size=7"),
        ("--method", "mean", "--model", "x"),
        ("--method", "mean", "--device", "nosuch"),
        ("--method", "mean", "--strength", "2"),
        ("--method", "mean", "--noise-level", "loud"),
        ("--method", "mean", "--noise-level", "-1"),
        ("--method", "mean", "--shard", "3/2"),
        ("--method", "mean", "--kind", "ultrasound"),
        ("--method", "mean", "--jobs", "0"),
        ("--method", "mean", "--overwrite", "--resume"),
        ("--model", "no/such/model"),
        ("--nosuch",),
    ],
    ids=" ".join,
)
def test_usage_errors(medfpl: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    png(tmp_path / "a.png")
    result = medfpl("denoise", tmp_path / "a.png", *arguments)
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert tree(tmp_path) == ["a.png"]


def test_a_device_that_is_missing_is_an_error(medfpl: Run, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    png(tmp_path / "a.png")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN, "--device", "cuda")
    assert result.code == 1
    assert "the device cuda is not available" in result.err
    assert tree(tmp_path) == ["a.png"]


def test_input_as_output_is_refused(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "in" / "a.png")
    before = source.read_bytes()
    os.link(source, tmp_path / "linked.png")
    for output in (source, tmp_path / "in", tmp_path / "linked.png"):
        for flag in ("--overwrite", "--resume"):
            result = medfpl("denoise", source, "-o", output, *MEAN, flag)
            assert result.code == 2, (output, result.err)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["Bär→.png", "a\nb.png", "a\x1b[31mred.png", "$(touch x);.png", "[bold]a[/].png", "-a.png"]
)
def test_odd_names(medfpl: Run, tmp_path: Path, name: str) -> None:
    png(tmp_path / "in" / name)
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert result.code == 0, result.err
    assert tree(tmp_path / "out") == sorted([name, "run.json"])
    (tmp_path / "in" / name).write_bytes(b"now broken")
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "new", *MEAN)
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert line.isprintable()
    assert "\x1b" not in result.out + result.err


def test_names_that_are_no_utf8(medfpl: Run, tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.png")
    png(tmp_path / "in" / name)
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["counts"]["done"] == 1
    assert tree(tmp_path / "out") == [name, "run.json"]


def test_unexpected_error_hides_its_text(medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def denoise(self, x: Any, *, noise_level: Any = None) -> Any:
            raise ValueError("Doe^John")

    monkeypatch.setattr(mean_module, "METHOD", _replaced(mean_module.METHOD, build=lambda **settings: Broken()))
    png(tmp_path / "a.png")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN)
    assert (result.code, tree(tmp_path)) == (1, ["a.png"])
    assert "unexpected problem (ValueError)" in result.err
    assert "Doe" not in result.err
    monkeypatch.setenv("MEDFPL_DEBUG", "1")
    debug = subprocess.run(
        [sys.executable, "-m", "medfpl", "info", "/nowhere"], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" in debug.stderr


def test_values_that_are_not_finite_are_refused(medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def denoise(self, x: Any, *, noise_level: Any = None) -> Any:
            return x / 0 * 0

    monkeypatch.setattr(mean_module, "METHOD", _replaced(mean_module.METHOD, build=lambda **settings: Broken()))
    png(tmp_path / "a.png")
    result = medfpl("denoise", tmp_path / "a.png", *MEAN)
    assert (result.code, tree(tmp_path)) == (1, ["a.png"])
    assert "not finite" in result.err


def test_interrupt_leaves_nothing_half_done(medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import _thread

    class Interrupts:
        calls = 0

        def denoise(self, x: Any, *, noise_level: Any = None) -> Any:
            Interrupts.calls += 1
            if Interrupts.calls == 2:
                _thread.interrupt_main()
                time.sleep(0.3)
            return x * 0.5

    monkeypatch.setattr(mean_module, "METHOD", _replaced(mean_module.METHOD, build=lambda **settings: Interrupts()))
    for i in range(8):
        png(tmp_path / "in" / f"{i}.png", i)
    result = medfpl("denoise", tmp_path / "in", "-o", tmp_path / "out", *MEAN)
    assert result.code == 130
    assert "interrupted" in result.err
    assert "Traceback" not in result.err
    made = tree(tmp_path / "out")
    assert set(made) <= {"run.json", *(f"{i}.png" for i in range(8))}
    assert len(made) < 8
    assert not json.loads((tmp_path / "out" / "run.json").read_text())["runs"][-1]["finished"]


def _replaced(method: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(method, **changes)


def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    for i in range(30):
        png(tmp_path / "in" / f"{i:02}.png", i)

    def command(out: str, *more: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "medfpl",
            "denoise",
            str(tmp_path / "in"),
            "-o",
            str(tmp_path / out),
            *MEAN,
            *more,
        ]

    killed = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "00.png").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert len(tree(tmp_path / "killed")) < 31
    subprocess.run(command("killed", "--resume", "-q"), check=True, timeout=120)
    subprocess.run(command("whole", "-q"), check=True, timeout=120)
    images = [f"{i:02}.png" for i in range(30)]
    assert tree(tmp_path / "killed") == [*images, "run.json"]
    runs = json.loads((tmp_path / "killed" / "run.json").read_text())["runs"]
    assert [run["finished"] for run in runs] == [False, True]
    assert runs[0]["stated"] == runs[1]["stated"]
    for name in images:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
