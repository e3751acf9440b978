import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_making import MR, make_dicom, save
from pictures import png, tree
from PIL import Image
from pydicom.uid import generate_uid

import medfpl as package
from medfpl.io import read
from medfpl.noises import NOISES
from medfpl.pipeline.noise import NoiseRecipe, add_noise, replay_noise

Run = Callable[..., Any]
LISTED = {"name", "summary", "modalities", "modes", "parameters", "per_volume", "formula", "source"}


def ct_volume(path: Path, depth: int = 3) -> Path:
    """A body of water in air with a NaN pixel, float32 HU; values that float32 sums do not round."""
    volume = np.full((depth, 48, 40), -1000, np.float32)
    volume[:, 10:38, 8:32] = 40
    volume[:, 20:26, 14:20] = -100
    volume[0, 0, 0] = np.nan
    np.save(path, volume)
    return path


def series(folder: Path, depth: int = 5) -> list[Path]:
    """An MR series of one file a slice, its files named against the order of its slices."""
    folder.mkdir(parents=True)
    uid, study = generate_uid(), generate_uid()
    paths = []
    for z in range(depth):
        values = np.zeros((40, 36), np.uint16)
        values[8:32, 6:30] = 400 + 20 * z
        values[14:20, 12:20] = 900
        made = make_dicom(
            values,
            sop_class=MR,
            SeriesInstanceUID=uid,
            StudyInstanceUID=study,
            InstanceNumber=z + 1,
            ImagePositionPatient=[0, 0, 3.0 * z],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1.0, 1.0],
            SliceThickness=3.0,
            SeriesDescription="T1",
            ImageType=["ORIGINAL", "PRIMARY", "M"],
        )
        paths.append(save(made, folder / f"{depth - z}.dcm"))
    return paths


def record(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", NOISES.names())
def test_every_noise_writes_a_file_and_its_record_replays(medfpl: Run, tmp_path: Path, name: str) -> None:
    source = png(tmp_path / "in.png")
    clean = source.read_bytes()
    # Its default moves fat, of which there is none here.
    extra = ("--set", "mode=constant") if name == "chemical-shift" else ()
    made = medfpl("noise", source, "-o", tmp_path / "out.png", "--type", name, "--seed", "5", *extra)
    assert made.code == 0, made.err
    assert tree(tmp_path) == ["in.png", "out.noise.json", "out.png"]
    assert source.read_bytes() == clean
    assert not np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), np.asarray(Image.open(source)))
    again = medfpl("noise", source, "-o", tmp_path / "again.png", "--replay", tmp_path / "out.noise.json")
    assert again.code == 0, again.err
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert (tmp_path / "again.noise.json").read_bytes() == (tmp_path / "out.noise.json").read_bytes()


@pytest.mark.parametrize("name", ["motion", "poisson", "gaussian"])
def test_a_volume_replays_with_what_its_slices_share(medfpl: Run, tmp_path: Path, name: str) -> None:
    source = ct_volume(tmp_path / "ct.npy")
    made = medfpl("noise", source, "-t", name, "--kind", "ct")
    assert made.code == 0, made.err
    noisy, told = np.load(tmp_path / "ct_noisy.npy"), record(tmp_path / "ct_noisy.noise.json")
    assert len({s["seed"] for s in told["slices"]}) == 3
    assert ("shifts_phase" in told["values"]) == (name == "motion")
    assert all("values" not in s for s in told["slices"])
    assert np.isnan(noisy[0, 0, 0])
    assert np.isfinite(noisy.ravel()[1:]).all()
    again = medfpl("noise", source, "--kind", "ct", "--replay", tmp_path / "ct_noisy.noise.json", "--overwrite")
    assert again.code == 0, again.err
    np.testing.assert_array_equal(np.load(tmp_path / "ct_noisy.npy"), noisy)


def test_slices_draw_their_own_scalars_where_the_noise_is_no_volumes(medfpl: Run, tmp_path: Path) -> None:
    medfpl("noise", ct_volume(tmp_path / "ct.npy"), "-t", "structured")
    told = record(tmp_path / "ct_noisy.noise.json")
    assert "period" in told["values"]
    assert len({s["values"]["phase"] for s in told["slices"]}) == 3


def test_a_series_shares_its_motion_and_its_range_whatever_the_files_are_called(medfpl: Run, tmp_path: Path) -> None:
    paths = series(tmp_path / "in")
    made = medfpl("noise", tmp_path / "in", "-o", tmp_path / "out", "-t", "motion", "--seed", "2")
    assert made.code == 0, made.err
    told = [record(tmp_path / "out" / f"{p.stem}.noise.json") for p in paths]
    assert len({json.dumps(t["values"]) for t in told}) == 1
    assert len({t["context"]["white"] for t in told}) == 1
    assert len({t["slices"][0]["seed"] for t in told}) == len(paths)
    # Other names, same noise: neither paths nor UIDs are in the seeds.
    renamed = tmp_path / "other"
    renamed.mkdir()
    for z, path in enumerate(paths):
        shutil.copy(path, renamed / f"slice{z}.dcm")
    assert medfpl("noise", renamed, "-o", tmp_path / "out2", "-t", "motion", "--seed", "2").code == 0
    for z, path in enumerate(paths):
        one, two = (tmp_path / "out" / path.name), (tmp_path / "out2" / f"slice{z}.dcm")
        assert pydicom.dcmread(one).PixelData == pydicom.dcmread(two).PixelData
        again = medfpl(
            "noise", path, "-o", tmp_path / f"r{z}.dcm", "--replay", tmp_path / "out" / f"{path.stem}.noise.json"
        )
        assert again.code == 0, again.err
        assert (tmp_path / f"r{z}.dcm").read_bytes() == one.read_bytes()


def test_dicom_says_what_was_done_and_the_record_holds_no_identity(medfpl: Run, tmp_path: Path) -> None:
    paths = series(tmp_path / "in", 3)
    assert medfpl("noise", tmp_path / "in", "-o", tmp_path / "out", "-t", "rician").code == 0
    made = [pydicom.dcmread(tmp_path / "out" / p.name) for p in paths]
    before = pydicom.dcmread(paths[0])
    assert len({d.SeriesInstanceUID for d in made}) == 1
    assert made[0].SeriesInstanceUID != before.SeriesInstanceUID
    assert made[0].SeriesDescription == "T1 noise added"
    assert made[0].DerivationCodeSequence[0].CodeMeaning == "Noise addition"
    assert "rician" in made[0].DerivationDescription
    text = (tmp_path / "out" / "1.noise.json").read_text()
    for secret in (str(before.PatientName), before.PatientID, before.SOPInstanceUID, before.SeriesInstanceUID, "in/"):
        assert secret not in text
    assert str(tmp_path) not in text


def test_padding_stays_and_clipping_is_counted(medfpl: Run, tmp_path: Path) -> None:
    values = np.full((40, 40), 1000, np.uint16)
    values[:, :6] = 0
    values[10:30, 12:30] = 4090
    ds = make_dicom(
        values, stored=12, PixelPaddingValue=0, RescaleIntercept=-1024, RescaleSlope=1, PixelSpacing=[1.0, 1.0]
    )
    save(ds, tmp_path / "ct.dcm")
    result = medfpl("noise", tmp_path / "ct.dcm", "-t", "gaussian", "--json")
    assert result.code == 0, result.err
    noisy = pydicom.dcmread(tmp_path / "ct_noisy.dcm").pixel_array
    assert (noisy[:, :6] == 0).all()
    assert (noisy[:, 6:] != 0).all()
    assert noisy.max() == 4095
    (row,) = json.loads(result.out)["files"]
    assert row["clipped_pixels"] == record(tmp_path / "ct_noisy.noise.json")["clipped_pixels"]
    # A value 5 under the limit is beyond it in about half of the 360 bright pixels.
    assert 120 < row["clipped_pixels"] < 360


def test_same_result_from_python(medfpl: Run, tmp_path: Path) -> None:
    source = ct_volume(tmp_path / "v.npy")
    for extra, options in (
        ((), {}),
        (("--strength", "0.2", "--seed", "4"), {"strength": 0.2, "seed": 4}),
        (("--set", "mode=ct-texture", "--set", "rays=2e4"), {"mode": "ct-texture", "rays": 2e4}),
    ):
        done = medfpl("noise", source, "-t", "poisson", "--kind", "ct", *extra, "--overwrite")
        assert done.code == 0, done.err
        from_command = np.load(tmp_path / "v_noisy.npy")
        from_array = package.noise(np.load(source), "poisson", kind="ct", **options)
        from_file = package.noise(source, "poisson", kind="ct", **options)
        np.testing.assert_array_equal(from_command, from_array)
        np.testing.assert_array_equal(from_command, from_file.pixels)
        again = package.noise(source, kind="ct", replay=record(tmp_path / "v_noisy.noise.json"))
        np.testing.assert_array_equal(again.pixels, from_command)
    assert package.noise(np.ones((8, 9), np.uint8), "gaussian").shape == (8, 9)


def test_says_where_there_was_nothing_to_change(medfpl: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "air.npy", np.full((2, 16, 16), -1000, np.float32) + np.eye(16, dtype=np.float32))
    result = medfpl("noise", tmp_path / "air.npy", "--kind", "ct", "-t", "chemical-shift")
    assert result.code == 0
    assert "changed no pixel" in result.err


def test_strength_zero_is_the_image(tmp_path: Path) -> None:
    scan = read(ct_volume(tmp_path / "v.npy"), kind="ct")
    noisy = add_noise(scan, NoiseRecipe("motion", 0.0))
    np.testing.assert_array_equal(noisy.scan.pixels, scan.pixels)
    assert noisy.record["psnr"] is None


def test_a_record_of_many_slices_does_not_depend_on_their_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medfpl.pipeline import noise_record

    scan = read(ct_volume(tmp_path / "v.npy", 7), kind="ct")
    whole = add_noise(scan, NoiseRecipe("gaussian"))
    monkeypatch.setattr(noise_record, "BATCH", 2 * 48 * 40)
    parts = add_noise(scan, NoiseRecipe("gaussian"))
    np.testing.assert_array_equal(whole.scan.pixels, parts.scan.pixels)
    assert parts.record == whole.record


def test_psnr_is_that_of_the_noise(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((4, 200, 200), 0.5, np.float32) + np.eye(200, dtype=np.float32))
    scan = read(tmp_path / "flat.npy", kind="mr")
    noisy = add_noise(scan, NoiseRecipe("gaussian", settings={"sigma": 0.1}))
    assert abs(noisy.record["psnr"] - 20.0) < 0.1
    assert noisy.record["strength"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IN"], "--type is needed"),
        ([], "an image or a folder is needed"),
        (["IN", "-t", "gausian"], "no noise is called"),
        (["IN", "-t", "gaussian", "--strength", "1.5"], "strength"),
        (["IN", "-t", "gaussian", "--set", "sgima=1"], "no parameter 'sgima'"),
        (["IN", "-t", "gaussian", "--set", "sigma=x"], "needs a number"),
        (["IN", "-t", "gaussian", "--set", "sigma=-1"], "outside"),
        (["IN", "-t", "motion", "--set", "mode=fast"], "no mode 'fast'"),
        (["IN", "-t", "poisson", "--set", "rays=1e4"], "does not use 'rays'"),
        (["IN", "--list", "--preview", "x.png"], "exclude"),
        (["IN", "--replay", "r.json", "-t", "gaussian"], "exclude"),
        (["IN", "-o", "x.png", "--preview", "y.png"], "writes no noisy image"),
        (["IN", "--preview", "y.jpg"], "is a PNG"),
        (["IN", "-t", "gaussian", "-o", "IN"], "replace an input"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_usage(
    medfpl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = png(tmp_path / "in.png")
    result = medfpl("noise", *[source if a == "IN" else a for a in arguments])
    assert result.code == 2
    assert message in result.err
    assert result.err.count("error:") == 1
    assert tree(tmp_path) == ["in.png"]


def test_outputs_are_not_overwritten(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "in.png")
    assert medfpl("noise", source, "-t", "gaussian").code == 0
    before = (tmp_path / "in_noisy.png").read_bytes()
    refused = medfpl("noise", source, "-t", "speckle")
    assert (refused.code, (tmp_path / "in_noisy.png").read_bytes()) == (1, before)
    assert "output exists" in refused.err
    (tmp_path / "in_noisy.png").unlink()
    assert medfpl("noise", source, "-t", "speckle").code == 1, "the record alone must stay too"
    assert tree(tmp_path) == ["in.png", "in_noisy.noise.json"]
    assert medfpl("noise", source, "-t", "speckle", "--overwrite").code == 0


def test_a_failure_stays_its_own(medfpl: Run, tmp_path: Path) -> None:
    png(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_text("no picture")
    (tmp_path / "in" / "c.txt").write_text("text")
    result = medfpl("noise", tmp_path / "in", "-o", tmp_path / "out", "-t", "gaussian", "--json")
    assert result.code == 3
    report = json.loads(result.out)
    assert report["counts"] == {"done": 1, "failed": 1, "skipped": 1}
    assert tree(tmp_path / "out") == ["a.noise.json", "a.png"]
    assert [bool(row["error"]) for row in report["files"]] == [False, True]
    quiet = medfpl("noise", tmp_path / "in" / "a.png", "-o", tmp_path / "q.png", "-t", "gaussian", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_replay_refuses_what_does_not_belong(medfpl: Run, tmp_path: Path) -> None:
    source, other = png(tmp_path / "in.png"), png(tmp_path / "other.png", 7)
    assert medfpl("noise", source, "-o", tmp_path / "out.png", "-t", "motion").code == 0
    good = record(tmp_path / "out.noise.json")
    wrong = medfpl("noise", other, "-o", tmp_path / "x.png", "--replay", tmp_path / "out.noise.json")
    assert wrong.code == 1
    assert "not the image that the record was made from" in wrong.err
    broken: list[Any] = [[], {}, "x", None, {**good, "format": "medfpl noise 99"}]
    broken += [
        {k: v for k, v in good.items() if k != name} for name in ("noise", "slices", "context", "source", "values")
    ]
    broken += [{**good, "noise": "static"}, {**good, "slices": []}, {**good, "slices": [{"seed": "x"}]}]
    broken += [
        {**good, "values": {**good["values"], key: value}} for key, value in [("shift", "far"), ("segments", 1e9)]
    ]
    broken += [{**good, "values": {**good["values"], "rotations": "far"}}, {**good, "values": {"mode": "kspace"}}]
    broken += [{**good, "notes": 3}, {**good, "result_sha256": None}, {**good, "context": {"kind": "ct"}}]
    for data in broken:
        (tmp_path / "r.json").write_text(json.dumps(data))
        result = medfpl("noise", source, "-o", tmp_path / "x.png", "--replay", tmp_path / "r.json")
        assert result.code in (1, 2), data
        assert result.err.count("error:") == 1
        assert "unexpected" not in result.err, data
        assert not (tmp_path / "x.png").exists()
    (tmp_path / "r.json").write_bytes(b"\xff{" * 100)
    assert medfpl("noise", source, "-o", tmp_path / "x.png", "--replay", tmp_path / "r.json").code == 1
    assert medfpl("noise", source, "-o", tmp_path / "x.png", "--replay", tmp_path / "none.json").code == 1


def test_replay_says_where_it_is_not_the_same(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "in.png")
    assert medfpl("noise", source, "-o", tmp_path / "out.png", "-t", "gaussian").code == 0
    changed = record(tmp_path / "out.noise.json")
    changed["values"]["sigma"] = 0.2
    (tmp_path / "r.json").write_text(json.dumps(changed))
    result = medfpl("noise", source, "-o", tmp_path / "x.png", "--replay", tmp_path / "r.json")
    assert result.code == 0
    assert "not bit for bit" in result.err
    same = medfpl("noise", source, "-o", tmp_path / "y.png", "--replay", tmp_path / "out.noise.json")
    assert "not bit for bit" not in same.err


def test_a_copy_in_another_format_replays(medfpl: Run, tmp_path: Path) -> None:
    values = np.asarray(Image.open(png(tmp_path / "in.png")))
    Image.fromarray(values).save(tmp_path / "copy.tif")
    made = medfpl("noise", tmp_path / "in.png", "-o", tmp_path / "out.png", "-t", "speckle")
    assert made.code == 0, made.err
    again = medfpl("noise", tmp_path / "copy.tif", "-o", tmp_path / "a.tif", "--replay", tmp_path / "out.noise.json")
    assert again.code == 0, again.err
    np.testing.assert_array_equal(Image.open(tmp_path / "a.tif"), Image.open(tmp_path / "out.png"))


def test_list(medfpl: Run) -> None:
    result = medfpl("noise", "--list")
    assert result.code == 0
    assert all(name in result.out for name in NOISES.names())
    report = json.loads(medfpl("noise", "--list", "--json").out)
    assert [n["name"] for n in report["noises"]] == NOISES.names()
    for noise in report["noises"]:
        assert set(noise) == LISTED
        named = {p["name"] for p in noise["parameters"]}
        assert all(set(mode["defaults"]) <= named for mode in noise["modes"])
        assert {k for mode in noise["modes"] for k in mode["default_for"]} == {"ct", "xray", "mr", "other"}
    one = medfpl("noise", "--list", "-t", "impulse").out
    assert "amount" in one
    assert "0.06" in one


def test_preview(medfpl: Run, tmp_path: Path) -> None:
    source = png(tmp_path / "in.png")
    assert medfpl("noise", source, "--preview", tmp_path / "grid.png").code == 0
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert (grid.ndim, grid.min() < 100, grid.max()) == (2, True, 255)
    assert medfpl("noise", source, "--preview", tmp_path / "grid.png").code == 1
    assert medfpl("noise", "--preview", tmp_path / "modes.png", "-t", "poisson").code == 0
    assert medfpl("noise", "--preview", tmp_path / "none.png", "--kind", "other").code == 2
    assert tree(tmp_path) == ["grid.png", "in.png", "modes.png"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("pattern", "kind"), [("chest_ct/**/*.dcm", "ct"), ("chest_xray/**/*.dcm", "xray"), ("brain_mr/**/*.dcm", "mr")]
)
def test_real_dicom(medfpl: Run, real_data: Path, tmp_path: Path, pattern: str, kind: str) -> None:
    source = sorted(real_data.glob(pattern))[0]
    for name in ("poisson", "motion"):
        target = tmp_path / f"{name}.dcm"
        made = medfpl("noise", source, "-o", target, "-t", name, "--json")
        assert made.code == 0, made.err
        (row,) = json.loads(made.out)["files"]
        assert row["kind"] == kind
        assert 15 < row["psnr"] < 50
        clean, noisy = read(source), read(target)
        assert noisy.geometry.same_as(clean.geometry)
        if clean.valid is not None:
            np.testing.assert_array_equal(noisy.pixels[~clean.valid], clean.pixels[~clean.valid])
        again = tmp_path / f"{name}2.dcm"
        assert medfpl("noise", source, "-o", again, "--replay", tmp_path / f"{name}.noise.json").code == 0
        assert again.read_bytes() == target.read_bytes()


@pytest.mark.real
def test_real_nifti(medfpl: Run, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "brain_mr" / "niivue" / "T2w.nii.gz"
    target = tmp_path / "out.nii.gz"
    made = medfpl("noise", source, "-o", target, "-t", "field-inhomogeneity", "--seed", "3")
    assert made.code == 0, made.err
    clean, noisy = read(source), read(target)
    gain = (
        noisy.pixels[clean.pixels > clean.intensity.white / 4] / clean.pixels[clean.pixels > clean.intensity.white / 4]
    )
    assert 0.55 < gain.min() < 0.9 or 1.1 < gain.max() < 1.7
    assert medfpl("noise", source, "-o", tmp_path / "a.nii.gz", "--replay", tmp_path / "out.noise.json").code == 0
    assert (tmp_path / "a.nii.gz").read_bytes() == target.read_bytes()


def test_replay_from_python_needs_the_same_values(tmp_path: Path) -> None:
    scan = read(ct_volume(tmp_path / "v.npy"), kind="ct")
    noisy = add_noise(scan, NoiseRecipe("gaussian"))
    with pytest.raises(package.MedfplError, match="not the image"):
        replay_noise(scan.with_pixels(scan.pixels + 1), noisy.record)
