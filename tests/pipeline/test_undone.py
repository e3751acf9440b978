"""What was undone is said in the file it was undone in, and does not tear its series apart."""

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
from typer.testing import CliRunner

from medfpl.cli.app import app


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
