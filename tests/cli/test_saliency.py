import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pictures import png, tree
from PIL import Image

Run = Callable[..., Any]
MEAN = ("--method", "mean")


@pytest.fixture
def series(sample_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for path in sorted((sample_data / "chest_ct" / "noisy").glob("*.dcm"))[:3]:
        shutil.copy(path, folder)
    return folder


def record(folder: Path) -> Any:
    return json.loads((folder / "saliency.json").read_text())


def test_a_series_gets_one_folder_of_maps(medfpl: Run, series: Path, tmp_path: Path) -> None:
    result = medfpl("saliency", series, "-o", tmp_path / "maps", *MEAN)
    assert result.code == 0, result.err
    assert tree(tmp_path / "maps") == [
        "series_1/after.dcm",
        "series_1/after.nii.gz",
        "series_1/before.dcm",
        "series_1/before.nii.gz",
        "series_1/difference.dcm",
        "series_1/difference.nii.gz",
        "series_1/maps.npz",
        "series_1/overlay_0001.png",
        "series_1/saliency.json",
    ]
    assert "feature distance" in result.out
    assert "1 explained" in result.err
    found = record(tmp_path / "maps" / "series_1")
    assert [row["slice"] for row in found["slices"]] == [0, 1, 2]
    assert all(row["feature_distance"] > 0 for row in found["slices"])
    assert all(row["noise_before"] > row["noise_after"] for row in found["slices"])
    assert "Phantom" not in json.dumps(found) + result.out + result.err
    image = nibabel.load(tmp_path / "maps" / "series_1" / "before.nii.gz")
    assert image.shape == (256, 256, 3)


def test_one_slice_and_a_picture(medfpl: Run, series: Path, tmp_path: Path) -> None:
    source = png(tmp_path / "scan.png")
    slice_ = sorted(series.iterdir())[0]
    result = medfpl("saliency", slice_, source, "-o", tmp_path / "maps", *MEAN, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["counts"] == {"done": 2, "kept": 0, "failed": 0, "skipped": 0}
    assert {"before.dcm", "before.nii.gz"} <= {p.name for p in (tmp_path / "maps" / slice_.stem).iterdir()}
    assert tree(tmp_path / "maps" / "scan") == ["maps.npz", "overlay.png", "saliency.json"]
    for row in told["files"]:
        assert row["noise_after"] < row["noise_before"]
        assert all(Path(p).is_file() for p in row["outputs"])


def test_a_dicom_without_geometry_gets_a_picture_in_dicom(medfpl: Run, sample_data: Path, tmp_path: Path) -> None:
    result = medfpl("saliency", sample_data / "chest_xray_noisy.dcm", "-o", tmp_path / "maps", *MEAN)
    assert result.code == 0, result.err
    made = tree(tmp_path / "maps" / "chest_xray_noisy")
    assert "overlay.dcm" in made
    assert "before.dcm" not in made


def test_a_result_from_elsewhere_is_judged(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "scan.png")
    image = np.asarray(Image.open(source)).copy()
    image[18:30, 18:30] = 90  # a hole that was not there
    Image.fromarray(image).save(tmp_path / "other.png")
    given = ("--denoised", tmp_path / "other.png")
    assert medfpl("saliency", source, "-o", tmp_path / "maps", *given).code == 0
    found = record(tmp_path / "maps" / "scan")
    assert found["flagged_slices"] == [0]
    assert found["denoised"] == "elsewhere, and given as a file"
    same = medfpl("saliency", source, "-o", tmp_path / "same", "--denoised", source)
    assert same.code == 0
    assert record(tmp_path / "same" / "scan")["feature_distance"] == 0
    assert record(tmp_path / "same" / "scan")["flagged_slices"] == []


def test_nothing_is_overwritten_and_a_run_goes_on(medfpl: Run, tmp_path: Path) -> None:
    source, out = png(tmp_path / "scan.png"), tmp_path / "maps"
    command = ("saliency", source, "-o", out, *MEAN)
    assert medfpl(*command).code == 0
    before = (out / "scan" / "saliency.json").stat().st_mtime_ns
    again = medfpl(*command)
    assert again.code == 1
    assert "its output exists" in again.err
    kept = medfpl(*command, "--resume")
    assert (kept.code, "1 kept from before" in kept.err) == (0, True)
    assert (out / "scan" / "saliency.json").stat().st_mtime_ns == before
    assert medfpl(*command, "--overwrite").code == 0
    assert (out / "scan" / "saliency.json").stat().st_mtime_ns > before


def test_slices_are_chosen(medfpl: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((4, 40, 40)).astype(np.float32))
    for number, (text, drawn) in enumerate((("0,3", [0, 3]), ("all", [0, 1, 2, 3]))):
        out = tmp_path / str(number)
        assert medfpl("saliency", tmp_path / "v.npy", "-o", out, *MEAN, "--slices", text).code == 0
        assert sorted(p.name for p in (out / "v").glob("*.png")) == [f"overlay_{z:04d}.png" for z in drawn]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--slices", "x"), 2, "no list of slices"),
        (("--overwrite", "--resume"), 2, "exclude each other"),
        (("--explain", "nosuch"), 2, "no restoration model is called"),
        (("--explain", "medfpl-base"), 2, "restoration is needed"),
        (("--method", "nosuch"), 2, "nosuch"),
        (("--denoised", "missing.png"), 1, "error"),
    ],
)
def test_what_will_not_do(medfpl: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    source = png(tmp_path / "scan.png")
    result = medfpl("saliency", source, "-o", tmp_path / "maps", *MEAN, *arguments)
    assert (result.code, told in result.err) == (code, True), result.err
    assert tree(tmp_path) == ["scan.png"]


def test_a_bad_file_does_not_stop_the_others(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    result = medfpl("saliency", tmp_path / "in", "-o", tmp_path / "maps", *MEAN)
    assert result.code == 3
    assert result.err.count("error:") == 1
    assert [p.name for p in (tmp_path / "maps").iterdir()] == ["a"]


def test_denoise_writes_maps_and_noise_beside_its_result(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "in" / "a.png")
    np.save(tmp_path / "in" / "v.npy", np.random.default_rng(0).normal(100, 9, (2, 48, 48)).astype(np.float32))
    out = tmp_path / "out"
    result = medfpl("denoise", source.parent, "-o", out, *MEAN, "--saliency", "--noise-map", "--json")
    assert result.code == 0, result.err
    assert tree(out) == [
        "a.png",
        "a_noise.tif",
        "a_saliency.json",
        "a_saliency.npz",
        "a_saliency.png",
        "run.json",
        "v.npy",
        "v_noise.npy",
        "v_saliency.json",
        "v_saliency.npz",
        "v_saliency.png",
    ]
    rows = {Path(row["input"]).name: row for row in json.loads(result.out)["files"]}
    assert rows["a.png"]["feature_distance"] > 0
    assert len(rows["v.npy"]["slice_noise"]) == 2
    local = np.load(out / "v_noise.npy")
    assert local.shape == (2, 48, 48)
    assert np.median(local) == pytest.approx(9, rel=0.1)
    with np.load(out / "v_saliency.npz") as maps:
        np.testing.assert_array_equal(maps["difference"], maps["after"] - maps["before"])
    table = medfpl("denoise", source, "-o", tmp_path / "b.png", *MEAN, "--saliency")
    assert "feature distance" in table.out
    assert "flagged slices" in table.out


def test_resume_makes_maps_that_are_missing(medfpl: Run, tmp_path: Path) -> None:
    source, target = png(tmp_path / "a.png"), tmp_path / "out.png"
    command = ("denoise", source, "-o", target, *MEAN, "--saliency", "--resume")
    assert medfpl(*command).code == 0
    first = (tmp_path / "out_saliency.npz").read_bytes()
    (tmp_path / "out_saliency.png").unlink()
    assert medfpl(*command).code == 0
    assert (tmp_path / "out_saliency.png").is_file()
    with np.load(tmp_path / "out_saliency.npz") as again:
        assert again["before"].shape == (1, 48, 48)
    assert first


def test_explain_needs_saliency(medfpl: Run, tmp_path: Path) -> None:
    result = medfpl("denoise", png(tmp_path / "a.png"), *MEAN, "--explain", "medfpl-restoration")
    assert (result.code, "--saliency" in result.err) == (2, True)
