import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_making import CAPTURE, CT, DX, MR, ON_DISK, make_dicom, save, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from medfpl.errors import BadInput, MedfplError
from medfpl.io.dicom_read import describe_dicom, read_dicom
from medfpl.io.guard import Limits

# pydicom quotes what it finds in damaged files; outside pytest medfpl.io.dicom_header keeps it quiet.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

GENERATOR = np.random.default_rng(0)
SMALL = GENERATOR.integers(0, 2000, (6, 8), np.uint16)
SECRETS = ("Secret", "Person", "4711")


def refusal(path: Path, **options) -> str:
    with pytest.raises(BadInput) as caught:
        read_dicom(path, **options)
    message = caught.value.message
    assert "\n" not in message
    assert not any(secret in message for secret in (*SECRETS, path.name))
    return message


@pytest.fixture
def write(tmp_path):
    def write(values=SMALL, **options) -> Path:
        return save(make_dicom(values, **options), tmp_path / "scan.dcm")

    return write


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda s: s.keyword
)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_native_values_of_every_type_and_syntax(write, syntax, dtype):
    info = np.iinfo(dtype)
    values = GENERATOR.integers(info.min, info.max, (5, 7), dtype, endpoint=True)
    swapped = values.astype(values.dtype.newbyteorder(">")) if syntax is ExplicitVRBigEndian else values
    scan = read_dicom(write(swapped, sop_class=CAPTURE, syntax=syntax))
    assert np.array_equal(scan.source.stored.values[0], values)
    assert scan.source.stored.values.dtype == np.dtype(dtype)
    assert np.array_equal(scan.pixels[0], values.astype(np.float32))
    assert (scan.source.stored.low, scan.source.stored.high) == (info.min, info.max)
    assert scan.meta["transfer_syntax"] == syntax
    assert scan.source.format == "dicom"
    assert scan.source.shape == (1, 5, 7)


def test_eight_bit_pixels_in_big_endian_words(write):
    values = np.arange(8, dtype="u1").reshape(2, 4)
    ds = make_dicom(values.reshape(-1, 2)[:, ::-1].reshape(2, 4), sop_class=CAPTURE, syntax=ExplicitVRBigEndian)
    ds["PixelData"].VR = "OW"
    path = write()
    save(ds, path)
    assert np.array_equal(read_dicom(path).source.stored.values[0], values)


def test_a_big_endian_data_set_comes_decoded(write):
    lut = np.array([1, 2, 300], ">u2").tobytes()
    ds = make_dicom(SMALL.astype(">u2"), syntax=ExplicitVRBigEndian, PixelSpacing=[0.5, 0.25])
    ds.add(DataElement(0x00291010, "OW", lut))
    ds.private_block(0x29, "TEST", create=True)
    item = Dataset()
    item.add(DataElement(0x00280010, "US", 77))
    ds.ReferencedImageSequence = Sequence([item])
    native = read_dicom(save(ds, write())).source.native
    assert native[0x0029, 0x1010].value == np.array([1, 2, 300], "<u2").tobytes()
    assert native.ReferencedImageSequence[0].Rows == 77
    assert not any(native.get_item(tag).is_raw for tag in native.keys())  # noqa: SIM118


def test_the_data_set_is_kept_whole_without_its_pixels(write):
    ds = make_dicom(SMALL, SliceThickness="2.50", InstitutionName="ö", SpecificCharacterSet="ISO_IR 100")
    block = ds.private_block(0x0009, "ACME", create=True)
    block.add_new(1, "UN", b"\1\2\3\4")
    after = ds.private_block(0x7FE1, "ACME", create=True)
    after.add_new(1, "OB", b"behind the pixels!")
    ds.add(DataElement(0xFFFCFFFC, "OB", b"\0\0"))
    native = read_dicom(save(ds, write())).source.native
    assert native.get_item(0x00180050).value == b"2.50"
    del ds.PixelData
    assert native == ds
    assert native.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    assert "PixelData" not in native


def test_an_element_that_cannot_be_decoded_keeps_its_bytes(write):
    ds = make_dicom(SMALL)
    ds.private_block(0x0009, "ACME", create=True).add_new(1, "SH", "2.5")
    path = write()
    path.write_bytes(to_bytes(ds).replace(b"\x09\0\1\x10SH", b"\x09\0\1\x10XX"))
    element = read_dicom(path).source.native[0x0009, 0x1001]
    assert (element.VR, element.value) == ("UN", b"2.5 ")


@pytest.mark.parametrize("signed", [False, True])
def test_unused_high_bits_are_cleared(write, signed):
    clean = GENERATOR.integers(-2048 * signed, 4096 - 2048 * signed, (4, 4)).astype("i2" if signed else "u2")
    dirty = ((clean.view("u2") & 0x0FFF) | 0xA000).astype("u2").view(clean.dtype)
    scan = read_dicom(write(dirty, stored=12))
    assert np.array_equal(scan.source.stored.values[0], clean)
    assert (scan.source.stored.low, scan.source.stored.high) == ((-2048, 2047) if signed else (0, 4095))
    assert any("bits" in note for note in scan.source.notes)
    assert not any("bits" in note for note in read_dicom(write(clean, stored=12)).source.notes)


def test_an_overlay_in_the_high_bits_moves_to_its_own_element(write):
    plane = GENERATOR.integers(0, 2, (4, 6), "u2")
    values = GENERATOR.integers(0, 4096, (4, 6), "u2")
    ds = make_dicom(values | plane << 13, stored=12)
    for element, vr, value in ((0x10, "US", 4), (0x11, "US", 6), (0x40, "CS", "G"), (0x50, "SS", [1, 1])):
        ds.add_new((0x6000, element), vr, value)
    ds.add_new((0x6000, 0x100), "US", 16)
    ds.add_new((0x6000, 0x102), "US", 13)
    scan = read_dicom(save(ds, write()))
    assert np.array_equal(scan.source.stored.values[0], values)
    assert np.array_equal(scan.source.native.overlay_array(0x6000), plane)
    assert scan.source.native[0x6000, 0x0102].value == 0


def test_ct_is_in_hounsfield_units(write):
    scan = read_dicom(write(RescaleSlope="1.5", RescaleIntercept="-1024", RescaleType="HU"))
    assert np.allclose(scan.pixels[0], SMALL * 1.5 - 1024)
    assert (scan.intensity.kind, scan.intensity.unit, scan.intensity.black) == ("ct", "HU", -1000)
    assert np.array_equal(scan.new_stored()[0], SMALL)
    assert any("taken as HU" in note for note in read_dicom(write()).source.notes)


def test_kinds(write):
    kinds = {
        (CT, None): "ct",
        (MR, None): "mr",
        (DX, None): "xray",
        (CAPTURE, "DX"): "xray",
        (CAPTURE, "OT"): "other",
        (CT.replace(".1.2", ".1.128"), "PT"): "other",
    }
    for (sop_class, modality), kind in kinds.items():
        options = {"Modality": modality} if modality else {}
        assert read_dicom(write(sop_class=sop_class, RescaleIntercept="0", **options)).intensity.kind == kind
    assert read_dicom(write(sop_class=CT), kind="mr").intensity.kind == "mr"
    assert read_dicom(write(RescaleType="Z_EFF")).intensity.kind == "other"
    assert read_dicom(write(RescaleType="Houndsfield Unit")).intensity.kind == "ct"
    assert read_dicom(write(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])).intensity.kind == "xray"


def test_eight_bit_images_use_their_whole_range(write):
    scan = read_dicom(write(SMALL.astype("u1"), sop_class=CAPTURE))
    assert (scan.intensity.black, scan.intensity.white) == (0, 255)
    scan = read_dicom(write(SMALL.astype("u1"), sop_class=CAPTURE, RescaleSlope="-2", RescaleIntercept="10"))
    assert (scan.intensity.black, scan.intensity.white) == (-500, 10)


def test_monochrome1_keeps_its_values(write):
    scan = read_dicom(write(sop_class=DX, PhotometricInterpretation="MONOCHROME1"))
    assert scan.meta["inverted"] is True
    assert np.array_equal(scan.pixels[0], SMALL.astype(np.float32))
    assert scan.source.native.PhotometricInterpretation == "MONOCHROME1"
    assert scan.intensity.black < scan.intensity.white
    assert read_dicom(write(sop_class=DX)).meta["inverted"] is False


def test_padding_is_not_valid_and_its_values_are_forbidden(write):
    values = SMALL.astype("i2")
    values[0, :3] = [-2000, -1990, -1989]
    scan = read_dicom(write(values, sop_class=MR, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990))
    assert scan.source.stored.forbidden == (-2000, -1990)
    assert not scan.valid[0, 0, :2].any()
    assert scan.valid.sum() == values.size - 2


def test_a_padding_value_of_the_wrong_sign(write):
    values = SMALL.astype("i2")
    values[0, 0] = -2000
    ds = make_dicom(values)
    ds.add(DataElement(0x00280120, "US", 63536))
    scan = read_dicom(save(ds, write()))
    assert scan.source.stored.forbidden == (-2000, -2000)
    assert np.argwhere(~scan.valid).tolist() == [[0, 0, 0]]


def test_outside_the_field_of_view_of_a_ct(write):
    values = GENERATOR.integers(-1000, 500, (16, 16)).astype("i2")
    values[:3] = -3024
    values[10, 10] = -1150
    scan = read_dicom(write(values, RescaleIntercept="0"))
    assert np.array_equal(scan.valid[0], values != -3024)
    values[:3] = 0
    values[8, 8] = -3024  # not in a corner: an odd pixel, not a border
    assert read_dicom(write(values, RescaleIntercept="0")).valid is None
    values[0, 0] = -1024  # a corner of air
    values[8, 8] = 0
    assert read_dicom(write(values, RescaleIntercept="0")).valid is None


def test_geometry_of_a_slice(write):
    elements = {"PixelSpacing": [0.5, 0.25], "SliceThickness": 3, "ImagePositionPatient": [1, 2, 3]}
    scan = read_dicom(write(ImageOrientationPatient=[0, 1, 0, 0, 0, -1], **elements))
    assert scan.geometry.spacing == (3, 0.5, 0.25)
    here = scan.geometry.affine @ [0, 2, 4, 1]  # two rows down, four columns on
    assert np.allclose(here, [1, 2 + 4 * 0.25, 3 - 2 * 0.5, 1])
    assert np.allclose(scan.geometry.affine[:3, 0], [-3, 0, 0])
    for wrong in ([0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1]):
        scan = read_dicom(write(ImageOrientationPatient=wrong, **elements))
        assert scan.geometry.affine is None
    assert read_dicom(write()).geometry.spacing is None
    assert read_dicom(write(sop_class=DX, ImagerPixelSpacing=[0.1, 0.2])).geometry.spacing == (1, 0.1, 0.2)


def enhanced(count: int, **per_frame) -> Dataset:
    values = GENERATOR.integers(0, 1000, (count, 4, 5), "u2")
    ds = make_dicom(values, sop_class=CT + ".1")
    shared, measures, turn = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.7], 5
    turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turn]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for i in range(count):
        group, place, transform = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 2.5 * i + per_frame.get("uneven", 0) * (i == 1)]
        transform.RescaleSlope, transform.RescaleIntercept = per_frame.get("slopes", [1] * count)[i], -1024
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [transform]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return ds


def test_an_enhanced_image(write):
    ds = enhanced(3, slopes=[1, 2, 4])
    values = np.frombuffer(ds.PixelData, "<u2").reshape(3, 4, 5)
    scan = read_dicom(save(ds, write()))
    assert np.allclose(scan.pixels, values * np.reshape([1, 2, 4], (3, 1, 1)) - 1024.0)
    assert scan.intensity.kind == "ct"
    assert scan.geometry.spacing == (2.5, 0.7, 0.7)
    assert np.allclose(scan.geometry.affine @ [2, 0, 0, 1], [0, 0, 5, 1])
    assert np.array_equal(scan.new_stored(), values)
    assert scan.source.notes == ()
    assert np.ndim(read_dicom(save(enhanced(3), write())).source.stored.slope) == 0
    assert read_dicom(save(enhanced(3, uneven=1), write())).geometry.affine is None
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:2]
    assert "per-frame groups" in refusal(save(ds, write()))
    assert "slope" in refusal(save(enhanced(2, slopes=[1, 0]), write()))


def lut(table: np.ndarray, first: int = 0) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(table), first, 16])
    item.ModalityLUTType = "HU"
    item.add_new(0x00283006, "OW", table.astype("<u2").tobytes())
    return Sequence([item])


def test_a_modality_look_up_table_is_applied_if_it_is_a_line(write):
    scan = read_dicom(write(ModalityLUTSequence=lut(7 + 2 * np.arange(2000), 10)))
    assert (scan.source.stored.slope, scan.source.stored.intercept) == (2, -13)
    assert "not a line" in refusal(write(ModalityLUTSequence=lut(np.arange(100) ** 2)))
    assert "not a line" in refusal(write(ModalityLUTSequence=lut(np.zeros(100))))


def test_lossy_history(write):
    assert read_dicom(write()).meta["lossy"] is False
    assert read_dicom(write(LossyImageCompression="01")).meta["lossy"] is True


def test_an_image_that_was_filtered_is_noted(write):
    kept = {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "RescaleIntercept": "0"}
    assert read_dicom(write(**kept)).source.notes == ()
    assert "filter" in read_dicom(write(DerivationDescription="denoised by x", **kept)).source.notes[0]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113087", "DCM"
    assert "filter" in read_dicom(write(DerivationCodeSequence=[code], **kept)).source.notes[0]


def test_burned_in_text_needs_a_word(write):
    path = write(BurnedInAnnotation="YES")
    assert "burned-in" in refusal(path)
    assert read_dicom(path, allow_burned_in=True).pixels.shape == (1, 6, 8)
    assert read_dicom(write(BurnedInAnnotation="NO"))


def test_uids_that_were_emptied_come_from_the_meta_group(write):
    ds = make_dicom(SMALL, SOPInstanceUID="", SOPClassUID="")
    native = read_dicom(save(ds, write())).source.native
    assert native.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
    assert native.SOPClassUID == CT


REFUSED = {
    "colour": {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
    "palette": {"PhotometricInterpretation": "PALETTE COLOR"},
    "photometric": {"PhotometricInterpretation": None},
    "Segmentation": {"SOPClassUID": CT.replace(".1.2", ".1.66.4")},
    "RT Dose": {"SOPClassUID": CT.replace(".1.2", ".1.481.2")},
    "Softcopy Presentation": {"SOPClassUID": CT.replace(".1.2", ".1.11.1")},
    "Encapsulated PDF": {"SOPClassUID": CT.replace(".1.2", ".1.104.1")},
    "Waveform": {"SOPClassUID": CT.replace(".1.2", ".1.9.1.1")},
    "Comprehensive SR": {"SOPClassUID": CT.replace(".1.2", ".1.88.33")},
    "Parametric Map": {"SOPClassUID": CT.replace(".1.2", ".1.30")},
    "DICOMDIR": {"SOPClassUID": "1.2.840.10008.1.3.10"},
    "not a standard one": {"SOPClassUID": "1.2.3.4"},
    "no SOP class": {"SOPClassUID": None},
    "no pixel data": {"PixelData": None},
    "32 bits": {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31},
    " 1 bits": {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
    "bits stored": {"BitsStored": 17},
    "high bit": {"BitsStored": 12, "HighBit": 15},
    "no SOPInstanceUID": {"SOPInstanceUID": None},
    "SOPInstanceUID is not a legal": {"SOPInstanceUID": "../../etc/passwd"},
    "SeriesInstanceUID is not a legal": {"SeriesInstanceUID": "1.2." + "3" * 70},
    "no Rows": {"Rows": None},
    "no Columns": {"Columns": None},
    "no BitsAllocated": {"BitsAllocated": None},
    "below 1": {"Rows": 0},
    "pixel data is shorter": {"Rows": 65535, "Columns": 65},
    "more than the limit": {"Rows": 65535, "Columns": 65535},
    "signed nor unsigned": {"PixelRepresentation": 2},
    "slope is 0 or not finite": {"RescaleSlope": "0"},
    "intercept is not finite": {"RescaleSlope": "1", "RescaleIntercept": "1e400"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(tmp_path, reason):
    ds = make_dicom(SMALL)
    for keyword, value in REFUSED[reason].items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    path = save(ds, tmp_path / "scan.dcm")
    assert reason in refusal(path)
    described = describe_dicom(path)
    assert described["treated"] is False
    assert reason in described["reason"]


@pytest.mark.parametrize("slope", ["nan", "inf", "-inf", "NaN "])
def test_slopes_that_are_no_numbers(write, slope):
    path = write(RescaleSlope="1.25", RescaleIntercept="0")
    path.write_bytes(path.read_bytes().replace(b"DS\4\0" + b"1.25", b"DS\4\0" + slope.ljust(4).encode()[:4]))
    assert "slope" in refusal(path)


def test_float_pixels_are_refused(write):
    ds = make_dicom(SMALL, PixelData=None)
    ds.FloatPixelData = np.zeros(48, "f4").tobytes()
    assert "floating point" in refusal(save(ds, write()))


def test_videos_and_unknown_syntaxes_are_refused(write):
    path = write()
    for uid, reason in (("1.2.840.10008.1.2.4.102", "video"), ("1.2.840.10008.1.2.4.94", "transfer syntax")):
        ds = make_dicom(SMALL, frames=[b"xx"], syntax="1.2.840.10008.1.2.4.90")
        padded = uid.encode() + b"\0" * (len(uid) % 2)
        raw = to_bytes(ds).replace(
            b"\2\0\x10\0UI\x16\0" + b"1.2.840.10008.1.2.4.90", b"\2\0\x10\0UI" + bytes([len(padded), 0]) + padded
        )
        path.write_bytes(raw)
        assert reason in refusal(path)


def test_pixel_data_must_have_its_exact_length(write):
    odd = np.arange(9, dtype="u1").reshape(3, 3)
    ds = make_dicom(odd, sop_class=CAPTURE)
    assert len(ds.PixelData) == 10
    assert np.array_equal(read_dicom(save(ds, write())).source.stored.values[0], odd)
    for extra, word in ((b"\0\0", "longer"), (b"\0" * 128, "longer")):
        assert word in refusal(save(make_dicom(SMALL, PixelData=SMALL.tobytes() + extra), write()))
    assert "shorter" in refusal(save(make_dicom(SMALL, PixelData=SMALL.tobytes()[:-2]), write()))


def test_the_pixel_budget(write):
    assert "more than the limit of 47" in refusal(write(), limits=Limits(max_pixels=47))
    assert read_dicom(write(), limits=Limits(max_pixels=48))


def test_what_is_no_file_or_no_dicom(tmp_path):
    (tmp_path / "text.dcm").write_text("Dear doctor, ...")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "folder.dcm").mkdir()
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop.dcm").symlink_to("loop.dcm")
    for path in tmp_path.iterdir():
        assert refusal(path)
        with pytest.raises(BadInput):
            describe_dicom(path)


def test_without_preamble_and_meta_group(write):
    raw = to_bytes(make_dicom(SMALL, syntax=ImplicitVRLittleEndian))
    path = write()
    path.write_bytes(raw[132:])
    assert np.array_equal(read_dicom(path).source.stored.values[0], SMALL)
    begin = raw.index(b"\x08\0\x16\0")
    path.write_bytes(raw[begin:])
    scan = read_dicom(path)
    assert np.array_equal(scan.source.stored.values[0], SMALL)
    assert scan.meta["transfer_syntax"] == ImplicitVRLittleEndian


@pytest.mark.parametrize("cut", range(0, 39206, 1307))
def test_a_cut_file_is_refused(tmp_path, cut):
    path = tmp_path / "cut.dcm"
    path.write_bytes(ON_DISK["CT_small.dcm"].read_bytes()[:cut])
    assert refusal(path)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_is_a_refusal_or_a_scan(tmp_path_factory, data):
    raw = bytearray(ON_DISK["MR_small.dcm"].read_bytes())
    start = raw.index(b"\x7f\x10\0OW")
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(132, start + 12))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(raw)
    try:
        scan = read_dicom(path)
    except MedfplError as error:
        assert "\n" not in error.message  # noqa: PT017
        return
    assert np.isfinite(scan.pixels).all()


FUZZED = {
    "PixelSpacing": [1, 2],
    "SliceThickness": 3,
    "SpacingBetweenSlices": 2,
    "ImagePositionPatient": [1, 2, 3],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "RescaleSlope": "1",
    "RescaleIntercept": "0",
    "RescaleType": "HU",
    "PixelPaddingValue": 7,
    "PixelPaddingRangeLimit": 9,
    "ImageType": ["DERIVED", "PRIMARY"],
    "NumberOfFrames": 1,
    "DerivationDescription": "text",
    "DerivationCodeSequence": [],
    "LossyImageCompression": "00",
    "BurnedInAnnotation": "NO",
    "FrameOfReferenceUID": "1.2.3",
    "SharedFunctionalGroupsSequence": [],
}
LONG = ("OB", "SQ", "UN")


@pytest.mark.parametrize("vr", ["AT", "DS", "FD", "IS", "LO", "OB", "SQ", "UI", "UN", "US", "XX"])
def test_elements_of_a_wrong_vr(write, vr):
    path = write()
    whole = make_dicom(SMALL, **FUZZED)
    for tag in [element.tag for element in whole if element.keyword != "PixelData"]:
        for value in (b"", b"1\\2\\3 ", b"\xfe\xff\0\xe0\0\0\0\0", b"nan "):
            ds = Dataset(whole)
            ds.file_meta = whole.file_meta
            ds.add(DataElement(tag, "OB", b"right here"))
            head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
            placed = head + b"OB\0\0\x0a\0\0\0right here"
            size = b"\0\0" + len(value).to_bytes(4, "little") if vr in LONG else len(value).to_bytes(2, "little")
            raw = to_bytes(ds)
            assert raw.count(placed) == 1
            path.write_bytes(raw.replace(placed, head + vr.encode() + size + value))
            with contextlib.suppress(MedfplError):
                assert np.isfinite(read_dicom(path).pixels).all()
            with contextlib.suppress(BadInput):
                assert describe_dicom(path)["treated"] in (True, False)


def test_description(write):
    found = describe_dicom(write(PixelSpacing=[1, 2], SliceThickness=3, RescaleIntercept="0"))
    assert found["treated"] is True
    assert (found["object"], found["kind"], found["shape"]) == ("CT Image Storage", "ct", [1, 6, 8])
    assert found["spacing"] == [3, 1, 2]
    assert not any(secret in str(found) for secret in SECRETS)


def test_a_bad_value_is_not_printed(write):
    ds = make_dicom(SMALL)
    ds.add(DataElement(0x00100010, "PN", b"Secret^Person"))
    raw = to_bytes(ds).replace(b"\x10\0\x20\0LO", b"\x10\0\x20\0DA")
    path = write()
    path.write_bytes(raw)
    code = (
        "import sys, pathlib; from medfpl.io.dicom_read import read_dicom\n"
        "s = read_dicom(pathlib.Path(sys.argv[1])); [str(e) for e in s.source.native]"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


TREATED = {
    "693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm",
    "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "examples_overlay.dcm",
    "image_dfl.dcm",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TREATED))
def test_pydicoms_images_agree_with_gdcm(name):
    import SimpleITK

    scan = read_dicom(ON_DISK[name])
    assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(ON_DISK[name])), scan.pixels)
    assert np.array_equal(scan.new_stored(), scan.source.stored.values)
    assert describe_dicom(ON_DISK[name])["treated"] is True


@pytest.mark.parametrize("name", sorted(set(ON_DISK) - TREATED))
def test_pydicoms_other_files_are_refused_or_lack_a_decoder(name):
    with pytest.raises(MedfplError) as caught:
        read_dicom(ON_DISK[name])
    assert "\n" not in caught.value.message


@pytest.mark.real
def test_real_images_agree_with_gdcm(real_data):
    import SimpleITK

    for path in sorted(real_data.rglob("*.dcm"))[::12]:
        scan = read_dicom(path)
        image = SimpleITK.ReadImage(path)
        assert np.allclose(SimpleITK.GetArrayFromImage(image), scan.pixels, rtol=0, atol=1e-3)
        assert np.array_equal(scan.new_stored(), scan.source.stored.values)
        if scan.geometry.affine is not None:
            turn = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
            assert np.allclose(scan.geometry.affine[:3, 3], image.GetOrigin(), atol=1e-4)
            assert np.allclose(scan.geometry.affine[:3, [2, 1]], turn[:, :2], atol=1e-4)
