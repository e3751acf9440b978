import csv
import re
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_tools import PYDICOM_FILES, changed, complaints, dump, raw_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medfpl.errors import MedfplError, TargetExists, UsageError
from medfpl.io.derivation import Derivation
from medfpl.io.dicom_read import read_dicom
from medfpl.io.dicom_write import IMPLEMENTATION_CLASS_UID, TRANSFER_SYNTAXES, write_dicom

DENOISED = Derivation("denoised", "medfpl", "unet-ct", "ab" * 32, {"tile": 256})
NOISY = Derivation("noise added", "poisson", parameters={"photons": 1e5, "seed": 3})
WHEN = datetime(2024, 5, 6, 7, 8, 9, 125, UTC)

READABLE = [
    *("693_J2KI", "CT_small", "JPEG2000", "JPEGLSNearLossless_08", "JPEGLSNearLossless_16", "MR_small", "MR_small_RLE"),
    *("MR_small_bigendian", "MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"),
    *("examples_overlay", "image_dfl"),
]
FILES = [PYDICOM_FILES / f"{name}.dcm" for name in READABLE]
FILES += sorted(PYDICOM_FILES.glob("dicomdirtests/*/*/*"))[::4]

ALWAYS_NEW = {
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "DerivationDescription",
    "DerivationCodeSequence",
    "SourceImageSequence",
    "ContributingEquipmentSequence",
}
MAY_CHANGE = ALWAYS_NEW | {
    "ImageType",
    "SeriesNumber",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "PixelData",
    "LossyImageCompression",
    "LossyImageCompressionMethod",
    "LossyImageCompressionRatio",
    "IconImageSequence",
    "DataSetTrailingPadding",
}
# The pixels of a file that names no SOP class are read as what its modality says, and so named in the result.
NAMED_BY_THE_READER = {"SOPClassUID"}


def real_files(folder: Path) -> list[Path]:
    """One DICOM file for each collection and transfer syntax."""
    with (folder / "manifest.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["transfer_syntax"]]
    return [folder / row["path"] for row in {(r["collection"], r["transfer_syntax"]): r for r in rows}.values()]


def check_derived(source: Path, target: Path) -> None:
    """Write the identity of ``source`` and check everything that holds for any file."""
    scan = read_dicom(source, allow_burned_in=True)
    assert write_dicom(scan, target, DENOISED, when=WHEN) == target
    before, after = pydicom.dcmread(source), pydicom.dcmread(target)
    assert target.read_bytes()[:132] == b"\0" * 128 + b"DICM"

    difference = changed(before, after)
    allowed = MAY_CHANGE if before.get("SOPClassUID") else MAY_CHANGE | NAMED_BY_THE_READER
    assert difference <= allowed
    assert difference >= ALWAYS_NEW

    again = read_dicom(target, allow_burned_in=True)
    assert np.array_equal(again.source.stored.values, scan.source.stored.values)
    assert again.source.stored.values.dtype == scan.source.stored.values.dtype
    assert again.geometry.same_as(scan.geometry)
    assert np.array_equal(again.pixels, scan.pixels)

    for tag in [element.tag for element in scan.source.native.elements()]:
        if tag.is_private and tag & 0xFFFF:
            assert raw_bytes(after, tag) == raw_bytes(before, tag)

    assert after.ImageType[0] == "DERIVED"
    assert list(after.ImageType[2:]) == list(before.get("ImageType", [])[2:])
    assert after.SeriesDescription.endswith("denoised")
    assert len(after.SeriesDescription) <= 64
    if before.get("SeriesNumber") is not None:
        assert int(after.SeriesNumber) == int(before.SeriesNumber) + 1000
    reference = after.SourceImageSequence[-1]
    assert reference.ReferencedSOPInstanceUID == scan.source.native.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == after.SOPClassUID
    check_meta(after)


def check_with_validators(source: Path, target: Path) -> None:
    """Check that another reader takes the file, and that a validator has no more to say than of its source."""
    dump(target)
    seen = complaints(source)
    # Where the validator gives up on a source, there is nothing to compare.
    if not any("read failed" in line or "Information Object Not found" in line for line in seen):
        assert without_place(complaints(target)) <= without_place(seen)


def without_place(lines: set[str]) -> set[str]:
    # An illegal UID of the source is named once more, as the source's.
    return {re.sub(r"<.*?> - (?=Illegal root)", "", line) for line in lines}


def check_meta(after: Dataset) -> None:
    meta = after.file_meta
    assert meta.MediaStorageSOPClassUID == after.SOPClassUID
    assert meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert set(meta.keys()) <= {0x00020000 + n for n in (0, 1, 2, 3, 0x10, 0x12, 0x13)}
    assert all(uid.is_valid for uid in (meta.ImplementationClassUID, after.SOPInstanceUID, after.SeriesInstanceUID))


@pytest.mark.parametrize("source", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_only_what_must_change_changes(source, tmp_path):
    check_derived(source, tmp_path / "o.dcm")
    check_with_validators(source, tmp_path / "o.dcm")


@pytest.mark.real
def test_only_what_must_change_changes_in_real_images(real_data, tmp_path):
    files = real_files(real_data)
    assert len(files) > 8
    for number, source in enumerate(files):
        check_derived(source, tmp_path / f"{number}.dcm")
    for number, source in enumerate(files):
        check_with_validators(source, tmp_path / f"{number}.dcm")


@pytest.fixture
def ct():
    return read_dicom(PYDICOM_FILES / "CT_small.dcm")


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a scan and returns the file as pydicom reads it."""

    def write(scan, derivation=DENOISED, **wishes) -> Dataset:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        write_dicom(scan, target, derivation, when=WHEN, **wishes)
        return pydicom.dcmread(target)

    return write


def with_header(scan, **elements):
    """Return the scan as if its file had these elements; None takes one away."""
    native = pydicom.dcmread(scan.source.path, stop_before_pixels=True)
    for keyword, value in elements.items():
        if value is None:
            delattr(native, keyword)
        else:
            setattr(native, keyword, value)
    return replace(scan, source=replace(scan.source, native=native))


def test_the_header_says_what_was_done_and_by_what(ct, written):
    after = written(ct)
    assert after.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert after.DerivationDescription == DENOISED.describe()
    assert "ab" * 8 in after.DerivationDescription
    code = after.DerivationCodeSequence[-1]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("113087", "DCM", "Smoothing")
    purpose = after.SourceImageSequence[-1].PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
    assert after.SourceImageSequence[-1].SpatialLocationsPreserved == "YES"
    tool = after.ContributingEquipmentSequence[-1]
    assert tool.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
    assert (tool.Manufacturer, tool.SoftwareVersions) == ("medfpl", DENOISED.version)
    assert tool.ContributionDescription == DENOISED.describe()
    assert datetime.strptime(tool.ContributionDateTime, "%Y%m%d%H%M%S.%f%z") == WHEN
    assert after.Manufacturer == ct.source.native.Manufacturer
    assert (after.StudyInstanceUID, after.InstanceNumber) == (
        ct.source.native.StudyInstanceUID,
        ct.source.native.InstanceNumber,
    )


def test_added_noise_is_not_called_smoothing(ct, written):
    after = written(ct, NOISY)
    code = after.DerivationCodeSequence[-1]
    assert (code.CodeMeaning, code.CodingSchemeDesignator) == ("Noise addition", "99MEDFPL")
    assert after.SeriesDescription.endswith("noise added")
    assert "photons=100000.0" in after.DerivationDescription


def test_the_history_of_the_source_is_kept_in_front(ct, written):
    first = written(ct)
    again = read_dicom(Path(first.filename))
    second = written(again, NOISY)
    for keyword in ("SourceImageSequence", "DerivationCodeSequence", "ContributingEquipmentSequence"):
        assert list(second[keyword].value)[: len(first[keyword].value)] == list(first[keyword].value)
        assert len(second[keyword].value) == len(first[keyword].value) + 1
    assert second.DerivationDescription == f"{DENOISED.describe()}; {NOISY.describe()}"
    assert second.SeriesNumber == ct.source.native.SeriesNumber + 2000


def test_long_texts_are_cut_in_the_source_not_in_ours(ct, written):
    after = written(with_header(ct, DerivationDescription="x" * 1024, SeriesDescription="y" * 64))
    assert len(after.DerivationDescription) == 1024
    assert after.DerivationDescription.endswith("x; " + DENOISED.describe())
    assert after.SeriesDescription == "y" * 55 + " denoised"
    endless = replace(DENOISED, parameters={f"parameter{n}": n for n in range(200)})
    after = written(ct, endless)
    assert len(after.DerivationDescription) == 1024
    assert len(after.ContributingEquipmentSequence[-1].ContributionDescription) == 1024


@pytest.mark.parametrize(
    ("number", "expected"),
    [(5, 1005), (-3, 997), (2**31 - 1, 2**31 - 1), (2**31 - 1001, 2**31 - 1), ("", None), (None, "absent")],
)
def test_series_numbers(ct, written, number, expected):
    after = written(with_header(ct, SeriesNumber=number))
    assert after.get("SeriesNumber", "absent") == expected


@pytest.mark.parametrize(
    ("character_set", "text"),
    [("ISO_IR 192", "Größe 頭部 " * 12), (["", "ISO 2022 IR 87"], "頭部単純" * 16), ("ISO_IR 100", "Schädel " * 8)],
)
def test_texts_in_other_alphabets(ct, written, character_set, text):
    scan = with_header(ct, SpecificCharacterSet=character_set, SeriesDescription=text, PatientName="山田^太郎")
    after = written(scan)
    assert after.SeriesDescription == text[:55].rstrip() + " denoised"


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "ISO 2022 IR 87", "GB18030", "no such set"])
def test_text_that_breaks_its_character_set_is_left_as_it_is(ct, tmp_path, character_set):
    source, broken = tmp_path / "in.dcm", b"M\xfcller\xff^\xc3\x28"
    native = pydicom.dcmread(ct.source.path)
    native.SpecificCharacterSet = character_set
    for tag in (0x00080080, 0x0008103E, 0x00081030):
        native[tag] = pydicom.dataelem.DataElement(tag, "LO", broken)
    native.save_as(source)
    assert source.read_bytes().count(b"LO\n\0" + broken) == 3
    write_dicom(read_dicom(source), tmp_path / "o.dcm", DENOISED)
    after = pydicom.dcmread(tmp_path / "o.dcm")
    assert after.get_item(0x00080080).value == broken
    assert after.get_item(0x00081030).value == broken
    assert after.SeriesDescription.endswith("denoised")


def test_uids_are_stable_and_one_new_series_for_each_source_series_and_method(tmp_path, written):
    first, second = (PYDICOM_FILES / "dicomdirtests/98892001/CT5N" / n for n in ("2062", "2392"))
    a, b = written(read_dicom(first)), written(read_dicom(second))
    assert a.SeriesInstanceUID == b.SeriesInstanceUID
    assert a.SOPInstanceUID != b.SOPInstanceUID
    assert written(read_dicom(first)).SOPInstanceUID == a.SOPInstanceUID
    other = written(read_dicom(first), replace(DENOISED, parameters={"tile": 128}))
    assert other.SeriesInstanceUID != a.SeriesInstanceUID
    assert other.SOPInstanceUID != a.SOPInstanceUID
    changed_file = read_dicom(first)
    changed_file = replace(changed_file, source=replace(changed_file.source, sha256="00" * 32))
    assert written(changed_file).SOPInstanceUID != a.SOPInstanceUID
    assert written(changed_file).SeriesInstanceUID == a.SeriesInstanceUID


def test_the_same_arguments_give_the_same_bytes(ct, tmp_path):
    files = [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    for target in files:
        write_dicom(read_dicom(ct.source.path), target, DENOISED, when=WHEN)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_source_without_a_series_gets_one_by_its_study(ct, written):
    bare = [with_header(ct, SeriesInstanceUID=None, SeriesNumber=n) for n in (1, 1, 2)]
    first, same, other = (written(scan).SeriesInstanceUID for scan in bare)
    assert first.is_valid
    assert first == same != other


def test_what_a_source_lacks_is_not_made_up(ct, written):
    gone = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate")
    after = written(with_header(ct, **dict.fromkeys(gone)))
    assert not [keyword for keyword in gone if keyword in after]


def test_creation_times_are_told_in_the_time_zone_of_the_file(ct, written):
    after = written(with_header(ct, TimezoneOffsetFromUTC="-0930", InstanceCreationDate="20010101"))
    assert (after.InstanceCreationDate, after.InstanceCreationTime) == ("20240505", "213809.000125")
    assert after.ContributingEquipmentSequence[-1].ContributionDateTime == "20240505213809.000125-0930"
    assert (after.ContentDate, after.ContentTime) == (ct.source.native.ContentDate, ct.source.native.ContentTime)
    after = written(with_header(ct, InstanceCreationDate=None, InstanceCreationTime=None))
    assert "InstanceCreationDate" not in after


@pytest.mark.parametrize(
    ("syntax", "declared", "expected"),
    [
        ("1.2.840.10008.1.2.4.50", None, ("01", "ISO_10918_1")),
        ("1.2.840.10008.1.2.4.51", "00", ("01", "ISO_10918_1")),
        ("1.2.840.10008.1.2.4.81", None, ("01", "ISO_14495_1")),
        ("1.2.840.10008.1.2.4.91", None, ("01", "ISO_15444_1")),
        ("1.2.840.10008.1.2.4.91", "00", ("00", None)),
        ("1.2.840.10008.1.2.4.90", None, (None, None)),
        ("1.2.840.10008.1.2", "01", ("01", None)),
        ("1.2.840.10008.1.2.1", None, (None, None)),
    ],
)
def test_once_lossy_always_lossy(ct, written, syntax, declared, expected):
    scan = with_header(ct)
    scan.source.native.file_meta.TransferSyntaxUID = syntax
    if declared:
        scan.source.native.LossyImageCompression = declared
    after = written(scan)
    assert (after.get("LossyImageCompression"), after.get("LossyImageCompressionMethod")) == expected
    if expected[1]:
        ratio = scan.pixels.size * 2 / scan.source.path.stat().st_size
        assert float(after.LossyImageCompressionRatio) == pytest.approx(ratio, rel=1e-3)


def test_what_holds_for_the_source_alone_goes(ct, written):
    item = Dataset()
    item.Rows = 1
    stale = {
        "IconImageSequence": [item],
        "DigitalSignaturesSequence": [item],
        "MACParametersSequence": [item],
        "HistogramSequence": [item],
        "ExtendedOffsetTable": b"\0" * 8,
        "ExtendedOffsetTableLengths": b"\0" * 8,
        "EncapsulatedPixelDataValueTotalLength": 8,
        "DataSetTrailingPadding": b"\0" * 8,
        "SmallestPixelValueInSeries": 1,
        "LargestPixelValueInSeries": 2,
        "InstanceCreatorUID": generate_uid(),
        "SOPInstanceStatus": "AO",
        "SOPAuthorizationDateTime": "20200101000000",
        "SOPAuthorizationComment": "approved",
        "AuthorizationEquipmentCertificationNumber": "1",
    }
    scan = with_header(ct, **stale)
    assert all(keyword in scan.source.native for keyword in stale)
    assert not [keyword for keyword in stale if keyword in written(scan)]


@pytest.mark.parametrize("signed", [True, False])
def test_the_smallest_and_largest_value_follow_the_pixels(ct, written, signed):
    scan = with_header(ct, SmallestImagePixelValue=77, LargestImagePixelValue=99)
    same = written(scan)
    assert (same.SmallestImagePixelValue, same.LargestImagePixelValue) == (77, 99)
    values = scan.source.stored.values.astype("i2" if signed else "u2")
    scan.source.native.PixelRepresentation = int(signed)
    stored = replace(scan.source.stored, values=values, low=-(2**15) if signed else 0, high=2**15 - 1)
    scan = replace(scan, source=replace(scan.source, stored=stored))
    after = written(scan.with_pixels(scan.pixels + 9))
    expected = "SS" if signed else "US"
    assert expected == after["SmallestImagePixelValue"].VR
    assert after.SmallestImagePixelValue == after.pixel_array.min() == values.min() + 9
    assert after.LargestImagePixelValue == after.pixel_array.max() == values.max() + 9


def test_private_elements_go_whole_or_not_at_all(ct, written):
    inner = Dataset()
    inner.add_new((0x0009, 0x0010), "LO", "SOMEBODY")
    inner.add_new((0x0009, 0x1001), "UN", b"secret")
    inner.CodeValue = "1"
    scan = with_header(ct, ProcedureCodeSequence=[inner])
    kept = written(scan)
    assert kept.ProcedureCodeSequence[0][0x00091001].value == b"secret"
    assert any(element.tag.is_private for element in kept)
    dropped = written(scan, drop_private=True)
    tags = [element.tag for element in dropped.iterall()]
    assert not [tag for tag in tags if tag.is_private]
    assert dropped.ProcedureCodeSequence[0].CodeValue == "1"
    assert b"secret" not in Path(dropped.filename).read_bytes()
    public = [element.tag for element in kept if not element.tag.is_private]
    assert public == [element.tag for element in dropped]


def test_nothing_of_the_patient_enters_new_text(ct, written):
    identity = {"PatientName": "ZZNAME^X", "PatientID": "ZZID", "AccessionNumber": "ZZACC"}
    scan = with_header(ct, **identity)
    scan = replace(scan, source=replace(scan.source, path=Path("/zzhome/ZZPATH.dcm")))
    after = written(scan)
    new = " ".join(str(after[keyword]) for keyword in sorted(ALWAYS_NEW))
    assert "ZZ" not in new.upper()
    assert (after.PatientName, after.PatientID) == ("ZZNAME^X", "ZZID")


def test_an_implicit_source_gets_the_right_vrs(tmp_path):
    explicit, implicit = (read_dicom(PYDICOM_FILES / f"MR_small{kind}.dcm") for kind in ("", "_implicit"))
    for scan, name in ((explicit, "e"), (implicit, "i")):
        write_dicom(scan, tmp_path / name, DENOISED, when=WHEN)
    one, two = pydicom.dcmread(tmp_path / "e"), pydicom.dcmread(tmp_path / "i")
    for tag in set(one.keys()) & set(two.keys()):
        if not tag.is_private:
            assert one[tag].VR == two[tag].VR
    assert {"SS", "US", "OW", "DS"} <= {element.VR for element in two}


def test_a_value_too_long_for_its_vr_becomes_unknown_and_stays_whole(ct, tmp_path):
    native = pydicom.dcmread(ct.source.path)
    native.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    native.ImageComments = "c" * 70_000
    native.save_as(tmp_path / "in.dcm", implicit_vr=True)
    write_dicom(read_dicom(tmp_path / "in.dcm"), tmp_path / "o.dcm", DENOISED)
    after = pydicom.dcmread(tmp_path / "o.dcm")
    assert after.get_item("ImageComments").VR == "UN"
    assert after.get_item("ImageComments").value == b"c" * 70_000
    assert np.array_equal(after.pixel_array, native.pixel_array)


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@st.composite
def encodings(draw):
    """A CT-like image: bits allocated and stored, sign, shape, slope, padding and values."""
    allocated, signed = draw(st.sampled_from([8, 16])), draw(st.booleans())
    stored = draw(st.integers(max(2, allocated - 8), allocated))
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    shape = draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.integers(low, high, shape, endpoint=True).astype(f"{'i' if signed else 'u'}{allocated // 8}")
    padding = draw(st.one_of(st.none(), st.integers(low, high)))
    slope = draw(st.sampled_from([1.0, 0.5, 2.0, -1.0, 0.1]))
    return values, stored, slope, draw(st.sampled_from([0.0, -1024.0, 3.5])), padding, draw(st.floats(0.1, 2.0))


def image_file(folder: Path, values, bits_stored, slope, intercept, padding) -> Path:
    """Write an MR image with these stored values and return its path."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "MR"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * values.itemsize, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    if padding is not None:
        dataset.add_new("PixelPaddingValue", "SS" if dataset.PixelRepresentation else "US", padding)
    data = values.tobytes()
    dataset.add_new("PixelData", "OB" if values.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / "in.dcm"
    dataset.save_as(path, enforce_file_format=True, overwrite=True)
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(encodings(), st.sampled_from(["explicit", "rle", "jpeg-ls"]))
def test_any_change_of_pixels_comes_back_within_half_a_stored_unit(tmp_path, encoding, syntax):
    values, bits_stored, slope, intercept, padding, reach = encoding
    if syntax == "jpeg-ls":  # which has no room for its own header in the smallest images
        values = np.tile(values, (1, 12, 12))
    source, target = image_file(tmp_path, values, bits_stored, slope, intercept, padding), tmp_path / "o.dcm"
    scan = read_dicom(source)
    span = np.ptp(scan.pixels) + 4 * abs(slope)
    noise = np.random.default_rng(0).normal(0, reach * span / 3, scan.pixels.shape).astype(np.float32)
    noise[..., 0] = 0
    wanted = scan.pixels + noise
    write_dicom(scan.with_pixels(wanted), target, DENOISED, transfer_syntax=syntax, overwrite=True)
    after = pydicom.dcmread(target)
    assert after.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[syntax]
    got = read_dicom(target)
    stored = got.source.stored.values

    low, high = scan.source.stored.low, scan.source.stored.high
    assert stored.min() >= low
    assert stored.max() <= high
    kept = noise == 0
    if padding is not None:
        kept |= values == padding
        assert not ((stored == padding) & (values != padding)).any()
    assert np.array_equal(stored[kept], values[kept])

    exact = np.clip((wanted.astype(np.float64) - intercept) / slope, low, high)
    tolerance = 0.5 + 1e-3 + (0 if padding is None else (np.abs(stored - np.float64(padding)) == 1) * 1.0)
    assert (np.abs(stored - exact)[~kept] <= np.broadcast_to(tolerance, stored.shape)[~kept]).all()
    assert np.array_equal(after.pixel_array.reshape(stored.shape), stored)


def test_many_threads_may_write_jpeg_2000(tmp_path):
    source = image_file(tmp_path, np.arange(4096, dtype="u2").reshape(1, 64, 64), 16, 1, 0, None)
    code = (  # in a process of its own, which is lost if two threads meet in the encoder
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from medfpl.io.derivation import Derivation\n"
        "from medfpl.io.dicom_read import read_dicom\n"
        "from medfpl.io.dicom_write import write_dicom\n"
        "sys.setswitchinterval(1e-6)\n"
        "scan, folder = read_dicom(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "def work(i):\n"
        "    for n in range(12):\n"
        "        target = folder / f'{i}-{n}.dcm'\n"
        "        write_dicom(scan, target, Derivation('denoised', 'mean'), transfer_syntax='jpeg-2000')\n"
        "threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
    )
    folder = tmp_path / "out"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", code, str(source), str(folder)], check=True, timeout=120)
    written = sorted(folder.iterdir())
    assert len(written) == 96
    assert np.array_equal(read_dicom(written[-1]).pixels, read_dicom(source).pixels)


@pytest.mark.parametrize(("dtype", "bits"), [("i2", 16), ("i2", 12), ("u2", 16), ("u2", 10), ("u1", 8), ("i1", 8)])
def test_jpeg_2000_keeps_every_value(tmp_path, dtype, bits):
    import openjpeg

    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype[0] == "i" else (0, (1 << bits) - 1)
    values = np.random.default_rng(bits).integers(low, high, (2, 40, 33), endpoint=True).astype(dtype)
    scan = read_dicom(image_file(tmp_path, values, bits, 1, 0, None))
    write_dicom(scan, tmp_path / "o.dcm", DENOISED, transfer_syntax="jpeg-2000")
    assert np.array_equal(read_dicom(tmp_path / "o.dcm").source.stored.values, values)
    frames = pydicom.encaps.generate_frames(pydicom.dcmread(tmp_path / "o.dcm").PixelData, number_of_frames=2)
    assert np.array_equal(np.stack([openjpeg.decode(frame) for frame in frames]), values)


@pytest.mark.parametrize(("side", "syntax"), [(31, "jpeg-2000"), (2, "jpeg-ls")])
def test_an_image_too_small_for_a_coding_is_refused(tmp_path, side, syntax, capfd):
    scan = read_dicom(image_file(tmp_path, np.zeros((1, side, side), "u1"), 8, 1, 0, None))
    with pytest.raises(MedfplError, match="small"):
        write_dicom(scan, tmp_path / "o.dcm", DENOISED, transfer_syntax=syntax)
    assert not (tmp_path / "o.dcm").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", sorted(TRANSFER_SYNTAXES))
@pytest.mark.parametrize("name", ["CT_small", "MR_small", "examples_overlay", "image_dfl"])
def test_gdcm_sees_the_same_pixels_in_every_transfer_syntax(tmp_path, name, syntax):
    gdcm = pytest.importorskip("gdcm")
    scan = read_dicom(PYDICOM_FILES / f"{name}.dcm")
    write_dicom(scan, tmp_path / "o.dcm", DENOISED, transfer_syntax=syntax)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(tmp_path / "o.dcm"))
    assert reader.Read()
    image = reader.GetImage()
    values = scan.source.stored.values
    data = image.GetBuffer().encode("utf-8", "surrogateescape")
    assert image.GetDimension(0) == values.shape[2]
    assert np.array_equal(np.frombuffer(data, values.dtype)[: values.size].reshape(values.shape), values)


@pytest.mark.parametrize("name", ["CT_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_jp2klossless"])
def test_simpleitk_sees_the_new_pixels_where_the_old_ones_lay(tmp_path, name):
    sitk = pytest.importorskip("SimpleITK")
    source = PYDICOM_FILES / f"{name}.dcm"
    scan = read_dicom(source)
    moved = np.where(scan.pixels > np.median(scan.pixels), scan.pixels - 3, scan.pixels + 1).astype(np.float32)
    write_dicom(scan.with_pixels(moved), tmp_path / "o.dcm", DENOISED)
    before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / "o.dcm"))
    for what in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert np.allclose(getattr(after, what)(), getattr(before, what)())
    got = sitk.GetArrayFromImage(after).astype(np.float32)
    valid = np.ones(moved.shape, bool) if scan.valid is None else scan.valid
    assert np.array_equal(got[valid], moved[valid])
    assert np.array_equal(got[~valid], scan.pixels[~valid])


def test_an_image_that_overflows_its_declared_bits_is_not_squeezed(ct, tmp_path):
    scan = with_header(ct, BitsStored=8, HighBit=7)
    with pytest.raises(MedfplError, match="more bits"):
        write_dicom(scan, tmp_path / "o.dcm", DENOISED, transfer_syntax="jpeg-ls")
    assert list(tmp_path.iterdir()) == []


def test_targets_and_transfer_syntaxes_are_checked_first(ct, tmp_path):
    target = tmp_path / "o.dcm"
    for wrong in ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "deflated", ""):
        with pytest.raises(UsageError, match="transfer syntax"):
            write_dicom(ct, target, DENOISED, transfer_syntax=wrong)
    write_dicom(ct, target, DENOISED, transfer_syntax="1.2.840.10008.1.2.5")
    with pytest.raises(TargetExists):
        write_dicom(ct, target, DENOISED)
    write_dicom(ct, target, NOISY, overwrite=True)
    with pytest.raises(UsageError, match="input itself"):
        write_dicom(read_dicom(target), target, NOISY, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["o.dcm"]


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(ct, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
    try:
        with pytest.raises(MedfplError, match="larger than its disk"):
            write_dicom(ct, tmp_path / "o.dcm", DENOISED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


# Images with functional groups.


def legacy_ct(folder: Path) -> Path:
    """Write a multi-frame CT of five slices, with one functional group of each kind that counts here."""
    legacy = pytest.importorskip("highdicom.legacy")
    slices = [pydicom.dcmread(f) for f in sorted((PYDICOM_FILES / "dicomdirtests/98892001/CT5N").iterdir())]
    image = legacy.LegacyConvertedEnhancedCTImage(slices, generate_uid(), 7, generate_uid(), 1)
    image.save_as(folder / "in.dcm", enforce_file_format=True)
    return folder / "in.dcm"


def test_frames_of_an_enhanced_image_are_marked_one_by_one(tmp_path):
    source, target = legacy_ct(tmp_path), tmp_path / "o.dcm"
    scan = read_dicom(source)
    write_dicom(scan, target, DENOISED, when=WHEN)
    before, after = pydicom.dcmread(source), pydicom.dcmread(target)
    groups = {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SourceImageEvidenceSequence"}
    assert changed(before, after) <= MAY_CHANGE | groups
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", *before.ImageType[2:]]
    assert complaints(target) <= complaints(source)
    assert len(after.PerFrameFunctionalGroupsSequence) == 5
    for number, (old, new) in enumerate(
        zip(before.PerFrameFunctionalGroupsSequence, after.PerFrameFunctionalGroupsSequence, strict=True), 1
    ):
        assert changed(old, new) == {"DerivationImageSequence"}
        step = new.DerivationImageSequence[-1]
        assert step.DerivationCodeSequence[0].CodeValue == "113087"
        (origin,) = step.SourceImageSequence
        assert origin.ReferencedFrameNumber == number
        assert origin.ReferencedSOPInstanceUID == before.SOPInstanceUID
    shared = after.SharedFunctionalGroupsSequence[0]
    assert changed(before.SharedFunctionalGroupsSequence[0], shared) == {"CTImageFrameTypeSequence"}
    assert shared.CTImageFrameTypeSequence[0].FrameType[:2] == ["DERIVED", "PRIMARY"]
    study = after.SourceImageEvidenceSequence[-1]
    series = study.ReferencedSeriesSequence[-1]
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (before.StudyInstanceUID, before.SeriesInstanceUID)
    assert series.ReferencedSOPSequence[-1].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert np.array_equal(read_dicom(target).pixels, scan.pixels)


def test_evidence_of_one_series_is_listed_once(tmp_path):
    scan = read_dicom(legacy_ct(tmp_path))
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = scan.source.native.SOPClassUID, generate_uid()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = scan.source.native.SeriesInstanceUID, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = scan.source.native.StudyInstanceUID, [series]
    scan.source.native.SourceImageEvidenceSequence = [study]
    write_dicom(scan, tmp_path / "o.dcm", DENOISED)
    (one,) = pydicom.dcmread(tmp_path / "o.dcm").SourceImageEvidenceSequence
    assert len(one.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 2
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 1


def test_a_derivation_shared_by_all_frames_stays_shared(tmp_path):
    scan = read_dicom(legacy_ct(tmp_path))
    earlier = Dataset()
    earlier.DerivationDescription = "averaged"
    scan.source.native.SharedFunctionalGroupsSequence[0].DerivationImageSequence = [earlier]
    scan.source.native.ConcatenationUID = generate_uid()
    write_dicom(scan, tmp_path / "o.dcm", DENOISED)
    after = pydicom.dcmread(tmp_path / "o.dcm")
    steps = after.SharedFunctionalGroupsSequence[0].DerivationImageSequence
    assert [step.DerivationDescription for step in steps] == ["averaged", DENOISED.describe()]
    assert "ReferencedFrameNumber" not in steps[1].SourceImageSequence[0]
    assert not any("DerivationImageSequence" in group for group in after.PerFrameFunctionalGroupsSequence)
    assert after.ConcatenationUID != scan.source.native.ConcatenationUID


@pytest.mark.parametrize(
    ("sop_class", "before", "after"),
    [
        ("2", ["ORIGINAL", "PRIMARY", "AXIAL", ""], ["DERIVED", "SECONDARY", "AXIAL", ""]),
        ("1.1", ["ORIGINAL", "PRIMARY", ""], ["DERIVED", "SECONDARY", ""]),
        ("20", ["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"], ["DERIVED", "PRIMARY", "STATIC", "EMISSION"]),
        ("128", ["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"]),
        ("4", ["ORIGINAL"], ["DERIVED", "SECONDARY"]),
        ("7", None, ["DERIVED", "SECONDARY"]),
    ],
)
def test_image_types(ct, written, sop_class, before, after):
    scan = with_header(ct, SOPClassUID="1.2.840.10008.5.1.4.1.1." + sop_class, ImageType=before)
    assert list(written(scan).ImageType) == after
