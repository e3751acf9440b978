import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_making import CT, DX, make_dicom, save
from dicom_tools import PYDICOM_FILES, complaints, dump
from pydicom.uid import generate_uid

from medfpl.io import read
from medfpl.io.derivation import Derivation
from medfpl.io.series import group_series, read_series
from medfpl.saliency.dicom import SECONDARY_CAPTURE, has_geometry, parametric_maps, secondary_capture, to_bytes
from medfpl.scan import Scan

DERIVATION = Derivation("explained", "guided back-propagation", "small", "ab" * 32, {"scalar": "energy"})
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"


@pytest.fixture
def series(sample_data: Path) -> Scan:
    found = group_series((sample_data / "chest_ct" / "noisy").glob("*.dcm"))
    return read_series(found.series[0])


def values_for(scan: Scan) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, scan.pixels.shape).astype(np.float32)


def write(folder: Path, scan: Scan, values: np.ndarray, name: str = "difference") -> list[Path]:
    paths = []
    for part in parametric_maps(scan, name, values, DERIVATION, WHEN):
        paths.append(folder / f"{part.name}.dcm")
        paths[-1].write_bytes(to_bytes(part.dataset))
    return paths


def test_a_series_comes_back_with_its_values_and_its_place(series: Scan, tmp_path: Path) -> None:
    import highdicom

    values = values_for(series)
    (path,) = write(tmp_path, series, values)
    plain, high = pydicom.dcmread(path), highdicom.imread(path)
    assert (plain.SOPClassUID, plain.BitsAllocated, plain.NumberOfFrames) == (PARAMETRIC_MAP, 32, len(values))
    frames = plain.pixel_array
    assert frames.dtype == np.float32
    sources = {tuple(s.ImagePositionPatient): (z, s) for z, s in enumerate(series.source.native)}
    shared = plain.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, plain.PerFrameFunctionalGroupsSequence, strict=True):
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        z, source = sources.pop(tuple(place))
        np.testing.assert_array_equal(frame, values[z])
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    assert not sources
    volume = high.get_volume(apply_real_world_transform=True)
    back = volume.array if np.allclose(volume.affine[:, 3], series.geometry.affine[:, 3]) else volume.array[::-1]
    np.testing.assert_array_equal(back, values)
    assert plain.FrameOfReferenceUID == series.source.native[0].FrameOfReferenceUID
    mapping = shared.RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert complaints(path) <= complaints(Path(sample(series)))
    dump(path)


def sample(scan: Scan) -> Path:
    return scan.source.path


def test_one_slice(sample_data: Path, tmp_path: Path) -> None:
    scan = read(sample_data / "chest_ct" / "noisy" / "0003.dcm")
    values = values_for(scan)
    (path,) = write(tmp_path, scan, values, "before")
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array.squeeze(), values[0])
    assert complaints(path) <= complaints(scan.source.path)


def test_slices_with_gaps_between_them_still_lie_where_they_lay(series: Scan, sample_data: Path) -> None:
    paths = sorted((sample_data / "chest_ct" / "noisy").glob("*.dcm"))
    scan = read_series(group_series([paths[0], paths[1], paths[5], paths[11]]).series[0])
    assert scan.geometry.affine is None
    assert has_geometry(scan)
    (part,) = parametric_maps(scan, "after", values_for(scan), DERIVATION, WHEN)
    places = {tuple(g.PlanePositionSequence[0].ImagePositionPatient) for g in part.dataset[0x52009230]}
    assert places == {tuple(s.ImagePositionPatient) for s in scan.source.native}


def test_the_same_run_gives_the_same_bytes_and_another_map_another_series(series: Scan) -> None:
    first, again = (parametric_maps(series, "before", values_for(series), DERIVATION, WHEN)[0] for _ in range(2))
    other = parametric_maps(series, "after", values_for(series), DERIVATION, WHEN)[0]
    assert to_bytes(first.dataset) == to_bytes(again.dataset)
    assert first.dataset.SeriesInstanceUID != other.dataset.SeriesInstanceUID
    assert first.dataset.SOPInstanceUID != other.dataset.SOPInstanceUID
    assert first.dataset.StudyInstanceUID == other.dataset.StudyInstanceUID
    assert first.dataset.SeriesInstanceUID != series.source.native[0].SeriesInstanceUID


def test_a_long_series_becomes_several_instances(series: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    from medfpl.saliency import dicom

    monkeypatch.setattr(dicom, "LARGEST_PART", 5 * series.pixels[0].nbytes)
    parts = parametric_maps(series, "before", values_for(series), DERIVATION, WHEN)
    assert [int(p.dataset.NumberOfFrames) for p in parts] == [5, 5, 4]
    assert [p.name for p in parts] == ["before", "before_2", "before_3"]
    assert len({p.dataset.SOPInstanceUID for p in parts}) == 3
    assert len({p.dataset.SeriesInstanceUID for p in parts}) == 1


def test_identity_is_the_sources_and_nothing_is_told_of_it(tmp_path: Path) -> None:
    elements = {
        "PatientName": "a name, with a comma and=odd^signs",
        "PatientID": "42",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "by hand",
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "SliceThickness": 2,
        "FrameOfReferenceUID": generate_uid(),
    }
    source = save(
        make_dicom(np.arange(64 * 64, dtype=np.int16).reshape(64, 64), sop_class=CT, **elements), tmp_path / "s.dcm"
    )
    scan = read(source)
    assert has_geometry(scan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (part,) = parametric_maps(scan, "before", values_for(scan), DERIVATION, WHEN)
    made = part.dataset
    assert (str(made.PatientName), made.PatientID) == (elements["PatientName"], "42")
    assert (made.PatientIdentityRemoved, made.DeidentificationMethod) == ("YES", "by hand")
    assert "a name" not in " ".join(str(made[k].value) for k in ("SeriesDescription", "DerivationDescription"))


def test_without_geometry_there_is_a_secondary_capture(sample_data: Path, tmp_path: Path) -> None:
    scan = read(sample_data / "chest_xray_noisy.dcm")
    assert not has_geometry(scan)
    picture = np.random.default_rng(0).integers(0, 255, (33, 21, 3), np.uint8)
    part = secondary_capture(scan, picture, 0, DERIVATION, WHEN)
    path = tmp_path / f"{part.name}.dcm"
    path.write_bytes(to_bytes(part.dataset))
    made = pydicom.dcmread(path)
    assert made.SOPClassUID == SECONDARY_CAPTURE
    np.testing.assert_array_equal(made.pixel_array, picture)
    source = pydicom.dcmread(scan.source.path, stop_before_pixels=True)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert (made.PatientID, made.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert (made.SOPInstanceUID, made.SeriesInstanceUID) != (source.SOPInstanceUID, source.SeriesInstanceUID)
    assert complaints(path) <= complaints(scan.source.path)
    dump(path)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_pydicoms_own_files(name: str, tmp_path: Path) -> None:
    scan = read(PYDICOM_FILES / name)
    assert has_geometry(scan)
    (path,) = write(tmp_path, scan, values_for(scan))
    assert complaints(path) <= complaints(scan.source.path)


def test_a_lossy_source_stays_lossy_in_its_picture(tmp_path: Path) -> None:
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    lossy = make_dicom(values, sop_class=DX, LossyImageCompression="01", LossyImageCompressionRatio=7.5)
    part = secondary_capture(read(save(lossy, tmp_path / "s.dcm")), np.zeros((2, 2, 3), np.uint8), 0, DERIVATION, WHEN)
    assert part.dataset.LossyImageCompression == "01"
    assert part.dataset.LossyImageCompressionRatio == 7.5
