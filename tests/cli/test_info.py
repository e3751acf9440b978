import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_making import CT, make_dicom, save
from pictures import png

Run = Callable[..., Any]


def ct_series(folder: Path, places: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, place in enumerate(places):
        made = make_dicom(
            np.full((16, 16), 1000 + i, np.int16),
            sop_class=CT,
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.3",
            FrameOfReferenceUID="1.2.4",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, 2 * place],
            PixelSpacing=[0.5, 0.5],
            RescaleIntercept=-1024,
            RescaleSlope=1,
        )
        save(made, folder / f"{i}.dcm")


def test_installation(medfpl: Run) -> None:
    shown = json.loads(medfpl("info", "--json").out)
    assert list(shown) == "command version versions devices decoders methods noises models home".split()  # noqa: SIM905
    assert {"mean", "nlm", "medfpl"} <= set(shown["methods"])
    assert {"poisson", "rician"} <= set(shown["noises"])
    assert {d["format"] for d in shown["decoders"] if d["available"]} >= {"RLE", "JPEG", "JPEG 2000"}
    assert medfpl("info").out
    assert medfpl("info", "-q").out == ""


def test_devices_are_those_of_torch(medfpl: Run) -> None:
    assert json.loads(medfpl("info", "--devices", "--json").out)["devices"][0].startswith("cpu (")


def test_settings_of_a_method_and_of_a_noise(medfpl: Run) -> None:
    method = json.loads(medfpl("info", "--method", "mean", "--json").out)
    assert "size" in {s["name"] for s in method["settings"]}
    noise = json.loads(medfpl("info", "--noise", "impulse", "--json").out)
    assert noise["name"] == "salt-pepper"
    assert medfpl("info", "--method", "nosuch").code == 2


def test_one_file(medfpl: Run, tmp_path: Path) -> None:
    result = medfpl("info", png(tmp_path / "a.png"), "--json")
    assert result.code == 0
    facts = json.loads(result.out)
    assert (facts["format"], facts["shape"], facts["treated"]) == ("picture", [48, 48], True)
    assert facts["would"] == "denoise writes a_denoised.png"
    assert "treated: denoise writes a_denoised.png" in medfpl("info", tmp_path / "a.png").out


def test_a_file_that_is_refused(medfpl: Run, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("text")
    result = medfpl("info", tmp_path / "a.dcm")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"error: {tmp_path}/a.dcm: ")
    values = np.zeros((16, 16), np.int16)
    save(make_dicom(values, sop_class=CT, BurnedInAnnotation="YES"), tmp_path / "b.dcm")
    told = medfpl("info", tmp_path / "b.dcm", "--json")
    assert told.code == 1
    assert json.loads(told.out)["treated"] is False


def test_a_folder_of_series_and_strangers(medfpl: Run, tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", [0, 1, 2, 5])
    png(tmp_path / "x.png")
    (tmp_path / "bad.dcm").write_text("text")
    (tmp_path / "notes.txt").write_text("text")
    result = medfpl("info", tmp_path, "--json")
    assert result.code == 3
    facts = json.loads(result.out)
    (series,) = facts["series"]
    assert (series["kind"], series["files"], series["shape"]) == ("ct", 4, [4, 16, 16])
    assert series["gaps"] == [[2, 2]]
    assert [Path(f["file"]).name for f in facts["files"]] == ["x.png"]
    assert [Path(f["file"]).name for f in facts["refused"]] == ["bad.dcm"]
    assert facts["skipped"] == 1
    shown = medfpl("info", tmp_path)
    assert "2 of its slices are missing" in shown.out
    assert "Secret" not in shown.out + result.out


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_tell(medfpl: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = medfpl("info", tmp_path / name)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")


@pytest.mark.real
def test_real_folder(medfpl: Run, real_data: Path) -> None:
    facts = json.loads(medfpl("info", real_data / "brain_mr", "--json").out)
    assert {s["kind"] for s in facts["series"]} == {"mr"}
    assert len(facts["files"]) == 5
