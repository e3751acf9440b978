"""The front door of medfpl.io: formats are told apart, names follow their rules, damage is always a clean refusal."""

import gzip
import io
import os
import struct
import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medfpl.errors import BadInput, MedfplError, TargetExists, UsageError
from medfpl.io import READABLE_SUFFIXES, Derivation, Limits, default_target, read, sniff, suffix_of, write
from medfpl.scan import Scan

MADE = Derivation("denoised", "medfpl")
VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def _itk(name: str, packed: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(sitk.GetImageFromArray(VOLUME), Path(folder, name), packed)
        return Path(folder, name).read_bytes()


def _picture(format: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((VOLUME[0] * 9).astype(np.uint8)).save(stream, format, **options)
    return stream.getvalue()


def _tiff(**options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, VOLUME, photometric="minisblack", **options)
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, VOLUME)
    return stream.getvalue()


def _png16() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(VOLUME[1].astype(np.uint16) * 999).save(stream, "PNG", dpi=(72, 72))
    return stream.getvalue()


NIFTI = nib.Nifti1Image(VOLUME, np.diag([2.0, 3, 4, 1])).to_bytes()
SAMPLES = {
    "a.nii": NIFTI,
    "a.nii.gz": gzip.compress(NIFTI, mtime=0),
    "b.nii": nib.Nifti2Image(VOLUME.astype(np.float32), np.eye(4)).to_bytes(),
    "a.nrrd": _itk("a.nrrd", False),
    "b.nrrd": _itk("b.nrrd", True),
    "a.mha": _itk("a.mha", False),
    "b.mha": _itk("b.mha", True),
    "a.png": _picture("PNG"),
    "b.png": _png16(),
    "a.jpg": _picture("JPEG"),
    "a.tif": _tiff(),
    "b.tif": _tiff(compression="zlib", tile=(16, 16)),
    "c.tif": _picture("TIFF", compression="tiff_lzw"),
    "d.tif": _picture("TIFF", compression="packbits"),
    "a.npy": _npy(),
}
FORMATS = {".nii": "nifti", ".gz": "nifti", ".nrrd": "itk", ".mha": "itk", ".npy": "npy"}


def format_of(name: str) -> str:
    return FORMATS.get(Path(name).suffix, "picture")


@pytest.mark.parametrize("name", SAMPLES)
def test_content_tells_the_format_whatever_the_name(tmp_path, name):
    for given_name in (name, "no_suffix", "wrong.dcm", "1.2.840.10008"):
        (tmp_path / given_name).write_bytes(SAMPLES[name])
        assert sniff(tmp_path / given_name) == format_of(name)
        assert read(tmp_path / given_name).source.format == format_of(name)


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (bytes(128) + b"DICM", "dicom"),
        (b"II*\0" + bytes(124) + b"DICM", "dicom"),  # a TIFF in the preamble
        (b"\x08\0\5\0CS\x0a\0ISO_IR 100", "dicom"),
        (b"\x08\0\5\0\x0a\0\0\0ISO_IR 100", "dicom"),
        (b"\2\0\0\0UL\4\0" + bytes(4), "dicom"),
        (b"\0\x08\0\5CS\0\x0aISO_IR 100", "dicom"),
    ],
)
def test_dicom_is_told_with_and_without_preamble(tmp_path, head, format):
    (tmp_path / "x").write_bytes(head)
    assert sniff(tmp_path / "x") == format


def test_the_suffix_tells_where_the_content_does_not(tmp_path):
    for suffix, format in {".dcm": "dicom", ".nii": "nifti", ".png": "picture", ".npy": "npy", ".MHD": "itk"}.items():
        (tmp_path / f"x{suffix}").write_bytes(b"only some text\n")
        assert sniff(tmp_path / f"x{suffix}") == format
        with pytest.raises(BadInput):
            read(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("raw", [b"", b"text", bytes(300), gzip.compress(b"text", mtime=0), b"\x1f\x8b", b"PK\3\4"])
def test_unknown_content_is_refused(tmp_path, raw):
    (tmp_path / "x.bin").write_bytes(raw)
    with pytest.raises(BadInput):
        sniff(tmp_path / "x.bin")


def test_an_npz_is_refused_with_the_way_out(tmp_path):
    np.savez(tmp_path / "x.npz", VOLUME)
    with pytest.raises(BadInput) as caught:
        read(tmp_path / "x.npz")
    assert ".npy" in caught.value.hint


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    for name in ("pipe.nii", "folder.png", "loop.npy", "absent.tif", "nul\0.png"):
        with pytest.raises(BadInput):
            read(tmp_path / name)


def test_limits_and_kind_reach_every_reader(tmp_path):
    for name, raw in SAMPLES.items():
        (tmp_path / name).write_bytes(raw)
        assert read(tmp_path / name, kind="xray").intensity.kind == "xray"
        with pytest.raises(BadInput, match="limit"):
            read(tmp_path / name, limits=Limits(max_pixels=19))
        with pytest.raises(BadInput, match="limit"):
            read(tmp_path / name, limits=Limits(max_bytes=len(raw) - 1))


@pytest.mark.parametrize("name", SAMPLES)
def test_write_gives_back_the_format_of_the_source(tmp_path, name):
    (tmp_path / name).write_bytes(SAMPLES[name])
    scan = read(str(tmp_path / name))
    target = default_target(tmp_path / name)
    assert write(scan, str(target), MADE)[0] == target
    again = read(target)
    assert again.source.format == scan.source.format
    np.testing.assert_array_equal(again.pixels, scan.pixels)
    assert again.geometry.same_as(scan.geometry)
    with pytest.raises(TargetExists):
        write(scan, target, MADE)
    write(scan, target, MADE, overwrite=True)
    link = target.with_name("link" + target.name)
    link.hardlink_to(tmp_path / name)
    with pytest.raises(UsageError, match="input itself"):
        write(scan, link, MADE, overwrite=True)


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        ("a.nii", ["x.nii", "x.nii.gz", "x.NII.GZ", "x"], ["x.dcm", "x.png", "x.nrrd"]),
        ("a.nrrd", ["x.nrrd", "x.part2"], ["x.mha", "x.nhdr", "x.nii"]),
        ("a.mha", ["x.mha"], ["x.mhd", "x.nrrd"]),
        ("a.png", ["x.png", "x"], ["x.jpg", "x.tif", "x.dcm"]),
        ("a.jpg", ["x.png"], ["x.jpg", "x.JPEG", "x.tif"]),
        ("a.tif", ["x.tif", "x.tiff"], ["x.png", "x.npy"]),
        ("a.npy", ["x.npy"], ["x.nii.gz"]),
    ],
)
def test_a_target_that_names_another_format_is_a_usage_error(tmp_path, source, good, bad):
    (tmp_path / source).write_bytes(SAMPLES[source])
    scan = read(tmp_path / source)
    for name in good:
        assert (tmp_path / "out" / name) in write(scan, tmp_path / "out" / name, MADE)
        for path in (tmp_path / "out").iterdir():
            path.unlink()
    for name in bad:
        with pytest.raises(UsageError, match="is written as"):
            write(scan, tmp_path / name, MADE)
        assert not (tmp_path / name).exists()


def test_options_go_to_the_format_that_has_them(tmp_path):
    for name in ("a.nii", "a.png"):
        (tmp_path / name).write_bytes(SAMPLES[name])
    write(read(tmp_path / "a.nii"), tmp_path / "x.nii", MADE, as_float=True)
    assert nib.load(tmp_path / "x.nii").get_data_dtype() == np.float32
    with pytest.raises(UsageError, match="as_float"):
        write(read(tmp_path / "a.png"), tmp_path / "x.png", MADE, as_float=True)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("scan.dcm", "scan_denoised.dcm"),
        ("x.nii.gz", "x_denoised.nii.gz"),
        ("X.NII.GZ", "X_denoised.NII.GZ"),
        ("x.jpg", "x_denoised.png"),
        ("x.JPEG", "x_denoised.png"),
        ("a.b.tiff", "a.b_denoised.tiff"),
        ("IM0001", "IM0001_denoised"),
        ("1.2.840.113", "1.2.840.113_denoised"),
        (".png", ".png_denoised"),
        ("x\ny é.mhd", "x\ny é_denoised.mhd"),
    ],
)
def test_default_targets(name, target):
    assert default_target(Path("/some/where") / name) == Path("/some/where") / target
    assert default_target(name, "noisy") == Path(target.replace("denoised", "noisy"))


def test_readable_suffixes_are_what_suffix_of_knows():
    assert {".dcm", ".nii", ".nii.gz", ".nrrd", ".mhd", ".png", ".jpg", ".tif", ".npy"} <= READABLE_SUFFIXES
    assert all(suffix_of(Path(f"name{s.upper()}")) == s for s in READABLE_SUFFIXES)


@st.composite
def damage(draw):
    """A cut and some bytes to replace, both as fractions of a file not known yet."""
    spots = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6))
    early = draw(st.booleans())  # headers are where damage matters most
    return draw(st.sampled_from([1.0, 1.0]) | st.floats(0, 1)), spots, early


@pytest.mark.parametrize("name", SAMPLES)
@given(damage())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_damaged_files_give_a_scan_or_one_clean_error(fuzz_folder, name, how):
    keep, spots, early = how
    raw = bytearray(SAMPLES[name])
    for place, value in spots:
        raw[int(place * (min(len(raw), 400) if early else len(raw)))] = value
    path = fuzz_folder / name
    path.write_bytes(raw[: int(keep * len(raw))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = read_or_error(path)
        if isinstance(result, MedfplError):
            assert result.message.isprintable()
            assert str(fuzz_folder) not in result.message
            return
        assert write(result, fuzz_folder / "out", MADE, overwrite=True)[0].exists()


def read_or_error(path: Path) -> Scan | MedfplError:
    try:
        return read(path, limits=Limits(max_pixels=1 << 20))
    except MedfplError as error:
        return error


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def test_many_byte_values_at_every_place_of_a_nifti_header(fuzz_folder):
    for place in range(348):
        for value in (0, 1, 127, 128, 255):
            raw = bytearray(NIFTI)
            raw[place] = value
            (fuzz_folder / "x.nii").write_bytes(raw)
            result = read_or_error(fuzz_folder / "x.nii")
            assert isinstance(result, MedfplError) or result.pixels.size == 60


def test_a_pair_whose_header_lies_about_the_size_of_its_data(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), tmp_path / "x.mhd")
    (tmp_path / "x.raw").write_bytes(struct.pack("<h", 1))
    with pytest.raises(BadInput, match="shorter"):
        read(tmp_path / "x.mhd")
