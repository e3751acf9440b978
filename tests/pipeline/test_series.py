"""DICOM series through the whole pipeline: one scale, one new series, the same bytes whatever the shard."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_making import CT, MR, make_dicom, save

from medfpl.cli.app import main
from medfpl.io import read
from medfpl.pipeline.scale import SeriesScale

UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


def mr_series(folder: Path, count: int = 9) -> list[Path]:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        # Dark at both ends, bright in the middle, as a head is.
        bright = 100 + 900 * np.sin(np.pi * (i + 0.5) / count)
        values = np.clip(bright + generator.normal(0, 20, (32, 40)), 0, 4095).astype(np.uint16)
        values[:4] = 10
        made = make_dicom(
            values,
            sop_class=MR,
            stored=12,
            SOPInstanceUID=f"1.2.3.4.{i + 1}",
            InstanceNumber=i + 1,
            ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, 3 * i],
            PixelSpacing=[1, 1],
            SliceThickness=3,
            **UIDS,
        )
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        # Names that do not sort as the slices lie.
        paths.append(save(made, folder / f"IM{(i * 7) % count:03}.dcm"))
    return paths


def test_slices_of_an_mr_series_share_one_range(tmp_path: Path) -> None:
    paths = mr_series(tmp_path / "mr")
    alone = {read(p).intensity.white for p in paths}
    assert len(alone) == len(paths)
    shared = {SeriesScale(paths).apply(read(p)).intensity for p in paths}
    assert len(shared) == 1
    white = shared.pop().white
    middle = [read(p).pixels for p in paths[2:7]]
    assert white == pytest.approx(np.percentile(np.stack(middle), 99.9), rel=1e-5)


def test_the_range_depends_on_the_siblings_alone(tmp_path: Path) -> None:
    paths = mr_series(tmp_path / "mr")
    whole = SeriesScale(paths)
    backwards = SeriesScale(paths[::-1])
    for path in paths:
        assert whole.apply(read(path)).intensity == backwards.apply(read(path)).intensity
    assert SeriesScale(paths[:1]).apply(read(paths[0])).intensity == read(paths[0]).intensity
    paths[4].write_bytes(b"damaged")
    assert len({SeriesScale(paths).apply(read(p)).intensity for p in paths if p != paths[4]}) == 1


def test_other_images_keep_their_range(tmp_path: Path) -> None:
    values = np.arange(1024, dtype=np.int16).reshape(32, 32)
    elements: dict[str, Any] = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "RescaleIntercept": -1024, **UIDS}
    paths = [
        save(make_dicom(values + i, sop_class=CT, ImagePositionPatient=[0, 0, i], **elements), tmp_path / f"{i}.dcm")
        for i in range(3)
    ]
    scale = SeriesScale(paths)
    for path in paths:
        scan = read(path)
        assert scale.apply(scan) is scan


def run(*arguments: object) -> int:
    return main([str(a) for a in (*arguments, "--method", "gaussian", "-q")])


def test_series_in_shards_gives_the_bytes_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    mr_series(tmp_path / "in" / "mr")
    assert run("denoise", tmp_path / "in", "-o", tmp_path / "whole") == 0
    for i in (1, 2, 3):
        assert run("denoise", tmp_path / "in", "-o", tmp_path / "parts", "--shard", f"{i}/3", "-j", i) == 0
    made = sorted((tmp_path / "whole" / "mr").iterdir())
    assert len(made) == 9
    for path in made:
        assert path.read_bytes() == (tmp_path / "parts" / "mr" / path.name).read_bytes()
    headers = [pydicom.dcmread(p) for p in made]
    assert len({h.SeriesInstanceUID for h in headers}) == 1
    assert len({h.SOPInstanceUID for h in headers}) == 9
    assert {h.SeriesInstanceUID for h in headers} != {UIDS["SeriesInstanceUID"]}
    assert all(h.ImageType[0] == "DERIVED" for h in headers)
    assert all(h.StudyInstanceUID == "1.2.3" for h in headers)


def test_resumed_files_state_the_time_of_the_run_they_belong_to(tmp_path: Path) -> None:
    mr_series(tmp_path / "in", 3)
    out = tmp_path / "out"
    assert run("denoise", tmp_path / "in", "-o", out) == 0
    record = json.loads((out / "run.json").read_text())
    record["runs"][0]["stated"] = "2001-02-03T04:05:06+00:00"
    (out / "run.json").write_text(json.dumps(record))
    (out / "IM000.dcm").unlink()
    assert run("denoise", tmp_path / "in", "-o", out, "--resume") == 0
    told = str(pydicom.dcmread(out / "IM000.dcm").ContributingEquipmentSequence[-1].ContributionDateTime)
    assert told.startswith("200102")


def test_padding_of_a_ct_stays_bit_for_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(1040, 30, (64, 64)).astype(np.int16)
    y, x = np.mgrid[:64, :64] - 31.5
    values[np.hypot(x, y) > 31] = -2000
    made = make_dicom(values, sop_class=CT, PixelPaddingValue=-2000, RescaleIntercept=-1024, RescaleSlope=1, **UIDS)
    source = save(made, tmp_path / "a.dcm")
    assert run("denoise", source, "--residual") == 0
    after = pydicom.dcmread(tmp_path / "a_denoised.dcm").pixel_array
    outside = values == -2000
    assert (after[outside] == -2000).all()
    # Nothing of the padding leaked in: the rim is as bright as the middle.
    assert abs(float(after[~outside].mean()) - 1040) < 3
    assert after[~outside].min() > 900
    assert after[~outside].std() < 0.6 * values[~outside].std()


def test_residual_of_a_dicom_lies_where_the_image_lies(tmp_path: Path) -> None:
    import nibabel

    paths = mr_series(tmp_path / "in", 2)
    assert run("denoise", paths[1], "--residual") == 0
    target = paths[1].with_name(paths[1].stem + "_denoised.dcm")
    image = nibabel.load(target.with_name(target.stem + "_residual.nii.gz"))
    removed = np.asarray(image.dataobj)
    assert removed.shape == (40, 32, 1)
    assert removed.dtype == np.float32
    before, after = (pydicom.dcmread(p).pixel_array.astype(float) for p in (paths[1], target))
    np.testing.assert_allclose(removed[:, :, 0].T, before - after, atol=0.5001)
    # DICOM (x right to left, y to the back) against NIfTI (the other way round): row 5, column 7, slice at 3 mm.
    np.testing.assert_allclose(image.affine @ [7, 5, 0, 1], [-7, -5, 3, 1], atol=1e-6)


def test_burned_in_text_needs_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(2).integers(0, 4000, (32, 32)).astype(np.uint16)
    source = save(make_dicom(values, sop_class=MR, stored=12, BurnedInAnnotation="YES", **UIDS), tmp_path / "a.dcm")
    assert run("denoise", source) == 1
    assert "burned" in capsys.readouterr().err
    assert run("denoise", source, "--allow-burned-in") == 0
    assert pydicom.dcmread(tmp_path / "a_denoised.dcm").BurnedInAnnotation == "YES"


def test_transfer_syntax(tmp_path: Path) -> None:
    source = mr_series(tmp_path / "in", 1)[0]
    assert run("denoise", source, "-o", tmp_path / "x.dcm", "--transfer-syntax", "nosuch") == 2
    assert not (tmp_path / "x.dcm").exists()
    assert run("denoise", source, "-o", tmp_path / "x.dcm", "--transfer-syntax", "rle") == 0
    assert pydicom.dcmread(tmp_path / "x.dcm").file_meta.TransferSyntaxUID.name == "RLE Lossless"


def test_a_warning_is_told_once_for_a_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    assert main(["denoise", str(mr_series(folder, 4)[0].parent), "-o", str(tmp_path / "once"), "-m", "mean"]) == 0
    capsys.readouterr()
    assert main(["denoise", str(tmp_path / "once"), "-o", str(tmp_path / "twice"), "-m", "mean"]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "IM000.dcm and 3 more: a filter was applied" in warning
