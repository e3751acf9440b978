from pathlib import Path

import numpy as np
import pytest
from dicom_making import CT, MR, ON_DISK, make_dicom, save
from pydicom.uid import generate_uid

from medfpl.errors import BadInput
from medfpl.io.dicom_read import read_dicom
from medfpl.io.guard import Limits
from medfpl.io.series import group_series, read_files, read_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]


@pytest.fixture
def series(tmp_path):
    """Write slices of one series at the given places (mm) and return their paths in that order."""
    count = iter(range(1000))

    def series(places, uid=None, name="s", **elements) -> list[Path]:
        uid = uid or generate_uid()
        paths = []
        for i, place in enumerate(places):
            values = np.full((4, 5), next(count), "u2")
            turn = elements.get("ImageOrientationPatient", AXIAL)
            here = {
                "SeriesInstanceUID": uid,
                "InstanceNumber": i + 1,
                "PixelSpacing": [0.5, 0.6],
                "SliceThickness": 2,
                "ImageOrientationPatient": turn,
                "RescaleIntercept": "-1024",
                "ImagePositionPatient": [0, 0, place] if turn == AXIAL else [0, place, 0],
                **elements,
            }
            path = tmp_path / f"{name}{next(count):04}.dcm"
            paths.append(save(make_dicom(values, **{k: v for k, v in here.items() if v != ""}), path))
        return paths

    return series


def test_slices_are_sorted_by_place_whatever_the_order_of_names(series):
    paths = series([4, 0, 2, 6])
    wanted = (paths[1], paths[2], paths[0], paths[3])
    for given in (paths, paths[::-1], [*paths, paths[0]]):
        (found,) = group_series(given)
        assert found.paths == wanted
        assert (found.kind, found.shape, found.spacing, found.gaps) == ("ct", (4, 4, 5), (2, 0.5, 0.6), ())
        assert (found.name, found.notes) == ("series 1", ())
    scan = read_series(found)
    assert np.array_equal(scan.pixels, np.concatenate([read_dicom(p).pixels for p in wanted]))
    assert np.allclose(scan.geometry.affine @ [3, 1, 1, 1], [0.6, 0.5, 6, 1])
    assert np.array_equal(scan.new_stored(), scan.source.stored.values)
    assert len(scan.source.native) == 4
    assert scan.source.path == wanted[0]


def test_missing_slices_are_counted(series):
    (found,) = group_series(series([0, 1, 2, 5, 6, 8]))
    assert found.gaps == ((2, 2), (4, 1))
    assert "3 of its slices are missing" in found.notes
    scan = read_series(found)
    assert scan.geometry.affine is None
    assert scan.meta["gaps"] == found.gaps
    (uneven,) = group_series(series([0, 1, 2, 3.3, 4.3]))
    assert uneven.gaps == ()
    assert "evenly" in uneven.notes[0]


def test_series_orientations_sizes_and_kinds_are_kept_apart(series):
    uid = generate_uid()
    groups = [
        series([0, 1], uid),
        series([0, 1, 2], uid, ImageOrientationPatient=CORONAL),
        series([0, 1], uid, Rows=2, PixelData=np.zeros(10, "u2").tobytes()),
        series([0, 1], uid, PixelRepresentation=1),
        series([0, 1], uid, RescaleType="ED"),
        series([0, 1]),
    ]
    found = group_series(p for group in groups for p in group)
    assert sorted(s.paths for s in found) == sorted(tuple(g) for g in groups)
    assert [s.number for s in found] == list(range(1, 7))
    noted = {s.paths: bool(s.notes) for s in found}
    assert noted[tuple(groups[0])]
    assert not noted[tuple(groups[-1])]


def test_a_jitter_of_the_orientation_is_none(series):
    uid = generate_uid()
    turns = [[1, jitter, 0, -jitter, 1, 0] for jitter in (0, 4e-4, -4e-4, 1e-5)]
    places = [{"ImageOrientationPatient": t, "ImagePositionPatient": [0, 0, i]} for i, t in enumerate(turns)]
    paths = [series([0], uid, **place)[0] for place in places]
    assert [s.paths for s in group_series(paths)] == [tuple(paths)]


def test_localizers_and_odd_files_are_listed_apart(series, tmp_path):
    good = series([0, 1, 2])
    scout = series([9], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    burned = series([9], BurnedInAnnotation="YES")
    copy = tmp_path / "z_copy.dcm"
    copy.write_bytes(good[1].read_bytes())
    (tmp_path / "text.dcm").write_text("no image")
    found = group_series([*good, *scout, *burned, copy, tmp_path / "text.dcm", ON_DISK["rtdose.dcm"]])
    assert [s.paths for s in found] == [tuple(good)]
    assert found.localizers == ((scout[0], "it is a localizer"),)
    reasons = dict(found.odd)
    assert "same instance UID" in reasons[copy]
    assert "not a DICOM file" in reasons[tmp_path / "text.dcm"]
    assert "RT Dose" in reasons[ON_DISK["rtdose.dcm"]]
    assert "burned-in" in reasons[burned[0]]
    assert len(group_series(burned, allow_burned_in=True)) == 1


def test_slices_without_a_place_follow_their_numbers(series):
    uid = generate_uid()
    options = {"ImagePositionPatient": "", "ImageOrientationPatient": ""}
    paths = [series([0], uid, InstanceNumber=n, **options)[0] for n in (3, 1, 10, 2)]
    (found,) = group_series(paths)
    assert found.paths == (paths[1], paths[3], paths[0], paths[2])
    assert "no position" in found.notes[0]


def test_echoes_at_one_place_become_series_of_their_own(series):
    uid = generate_uid()
    late = series([0, 1, 2], uid, name="a", sop_class=MR, EchoTime=80)
    early = series([0, 1, 2], uid, name="b", sop_class=MR, EchoTime=10)
    assert {s.paths for s in group_series(late + early)} == {tuple(early), tuple(late)}


def test_a_file_of_many_frames_is_a_series(tmp_path):
    path = save(make_dicom(np.zeros((3, 4, 5), "u2"), sop_class=CT), tmp_path / "x.dcm")
    (found,) = group_series([path])
    assert (found.shape, found.paths) == ((3, 4, 5), (path,))
    assert read_series(found).pixels.shape == (3, 4, 5)


def test_slopes_may_differ_from_slice_to_slice(series):
    uid = generate_uid()
    paths = [series([i], uid, sop_class=CT.replace(".1.2", ".1.128"), RescaleSlope=i + 1)[0] for i in range(3)]
    scan = read_files(paths)
    assert scan.source.stored.slope.shape == (3, 1, 1)
    assert np.allclose(scan.pixels, np.concatenate([read_dicom(p).pixels for p in paths]))
    assert np.array_equal(scan.new_stored(), scan.source.stored.values)


def test_an_mr_series_has_one_range(series):
    paths = series([0, 1, 2], sop_class=MR, RescaleIntercept="0")
    scan = read_files(paths)
    assert scan.intensity.kind == "mr"
    assert scan.intensity.white == pytest.approx(np.percentile(scan.pixels, 99.9), rel=1e-5)


def test_padding_stays_marked(series):
    paths = series([0, 1])
    odd = read_dicom(paths[0]).source.stored.values[0, 0, 0]
    uid = generate_uid()
    padded = [series([i], uid, PixelPaddingValue=int(odd))[0] for i in (0, 1)]
    scan = read_files(padded)
    assert scan.valid is None
    assert scan.source.stored.forbidden == (odd, odd)
    with pytest.raises(BadInput, match="encoding"):
        read_files([paths[0], padded[0]])


def test_files_that_do_not_fit_together(series):
    with pytest.raises(BadInput, match="no files"):
        read_files([])
    paths = series([0, 1])
    with pytest.raises(BadInput, match="size or type"):
        read_files([paths[0], ON_DISK["CT_small.dcm"]])
    with pytest.raises(BadInput, match="limit of 39"):
        read_files(paths, limits=Limits(max_pixels=39))


def test_names_hold_no_identity(series):
    found = group_series(series([0, 1], PatientName="Secret^Person"))
    shown = f"{found.series[0].name} {found.series[0].notes} {found.odd}"
    assert "Secret" not in shown
    assert "1.2." not in shown


@pytest.mark.real
def test_real_series(real_data):
    found = group_series((real_data / "brain_mr").rglob("*.dcm"))
    assert [len(s.paths) for s in found] == [20, 48]
    assert not found.odd
    scan = read_series(found.series[0])
    import SimpleITK

    volume = SimpleITK.ReadImage([str(p) for p in found.series[0].paths])
    assert np.array_equal(SimpleITK.GetArrayFromImage(volume), scan.pixels)
    assert np.allclose(volume.GetSpacing()[::-1], scan.geometry.spacing, atol=1e-4)
    assert np.allclose(scan.geometry.affine[:3, 0], np.reshape(volume.GetDirection(), (3, 3))[:, 2] * 8.75, atol=1e-3)
