"""What was undone or corrected is said in the file it befell, and does not tear its series apart."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import torch
from typer.testing import CliRunner

from medfpl.cli.app import app
from medfpl.noises import NOISES, corrupt


def test_a_striped_slice_says_so_and_stays_in_its_series(tmp_path: Path, sample_data: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    whole, striped = (study / name for name in ("0006.dcm", "0007.dcm"))
    for path in (whole, striped):
        shutil.copy(sample_data / "chest_ct" / "clean" / path.name, path)
    dataset = pydicom.dcmread(striped)
    pixels = dataset.pixel_array
    wave = 150 * np.sin(2 * np.pi * np.arange(pixels.shape[1]) / 31)
    dataset.PixelData = (pixels + wave).clip(0, None).astype(pixels.dtype).tobytes()
    dataset.save_as(striped)
    told = CliRunner().invoke(app, ["denoise", str(study), "-o", str(tmp_path / "out"), "--json"])
    assert told.exit_code == 0, told.output
    rows = {Path(row["input"]).name: row for row in json.loads(told.stdout)["files"]}
    assert rows["0007.dcm"]["notes"][-1] == "stripes found and undone"
    assert not any("undone" in note for note in rows["0006.dcm"]["notes"])
    first, second = (pydicom.dcmread(next((tmp_path / "out").rglob(path.name))) for path in (whole, striped))
    assert second.DerivationDescription.endswith("; stripes found and undone")
    assert "undone" not in first.DerivationDescription
    assert first.SeriesInstanceUID == second.SeriesInstanceUID


def test_folded_slices_are_counted_in_record_report_and_file(tmp_path: Path, sample_data: Path) -> None:
    clean = nib.load(sample_data / "brain_mr_clean.nii.gz").slicer[:, :, 8:11]
    pixels = clean.get_fdata(dtype=np.float32)
    one = torch.from_numpy(pixels[None, None, ..., 1] / pixels.max())
    folded, _ = corrupt(one, NOISES.get("wrap-around"), seeds=[0], strength=0.5)
    pixels[..., 1] = folded[0, 0] * pixels.max()
    source, target, page = (tmp_path / name for name in ("mr.nii", "out.nii", "report.html"))
    nib.save(nib.Nifti1Image(pixels.round().astype(np.int16), clean.affine), source)
    asked = ["denoise", str(source), "-o", str(target), "--kind", "mr", "--report", str(page), "--json"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    remark = "wrap-around corrected in 1 of 3 slices"
    assert json.loads(told.stdout)["files"][0]["notes"] == [remark]
    assert remark in page.read_text("utf-8")
    assert remark in target.with_suffix(".json").read_text("utf-8")
