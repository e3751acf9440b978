"""NRRD and MetaImage: read as SimpleITK reads them, written so that SimpleITK reads the same image."""

import gzip
import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from medfpl.errors import BadInput, TargetExists, UsageError
from medfpl.io.derivation import Derivation
from medfpl.io.guard import Limits
from medfpl.io.itk import read_itk, write_itk

MADE = Derivation("denoised", "medfpl")
NAMES = ["x.nrrd", "x.nhdr", "x.mha", "x.mhd"]
TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def voxels(shape=(3, 4, 5), dtype="int16", seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def image_of(array, turned=True) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    if turned and array.ndim == 3:
        image.SetDirection(TURN.ravel())
        image.SetSpacing((0.5, 0.75, 2.0))
        image.SetOrigin((-10.0, 20.5, 300.0))
    image.SetMetaData("Scanner", "kept as it is")
    return image


def same_place(scan, image) -> bool:
    """Whether index (z, y, x) lies at the same point for both."""
    spots = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 3, 4)]
    ours = [(scan.geometry.affine @ [*spot, 1])[:3] for spot in spots]
    return np.allclose(ours, [image.TransformIndexToPhysicalPoint(spot[::-1]) for spot in spots], atol=1e-9)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_reads_as_simpleitk_and_identity_keeps_header_and_values(tmp_path, name, packed, dtype):
    image = image_of(voxels(dtype=dtype))
    path = tmp_path / name
    sitk.WriteImage(image, path, packed)
    scan = read_itk(path)
    np.testing.assert_array_equal(scan.pixels, voxels().astype(np.float32))
    assert scan.source.stored.values.dtype == dtype
    assert same_place(scan, image)
    np.testing.assert_allclose(scan.geometry.spacing, (2, 0.75, 0.5))
    written = write_itk(scan, tmp_path / f"out{path.suffix}", MADE)
    assert len(written) == (2 if name in ("x.nhdr", "x.mhd") else 1)
    after = sitk.ReadImage(written[0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), voxels(dtype=dtype))
    assert after.GetDirection() == sitk.ReadImage(path).GetDirection()
    assert after.GetOrigin() == image.GetOrigin()
    assert after.GetMetaData("Scanner") == "kept as it is"
    variable = rb"(?m)^(CompressedDataSize = |ElementDataFile = (?!LOCAL)|data file: ).*$"
    ours, theirs = (re.sub(variable, b"", p.read_bytes())[:250] for p in (written[0], path))
    assert ours == theirs
    if not packed:
        assert written[-1].read_bytes() == (path if len(written) == 1 else tmp_path / "x.raw").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_changed_values_are_read_back_by_simpleitk(tmp_path, name):
    sitk.WriteImage(image_of(voxels()), tmp_path / name, True)
    scan = read_itk(tmp_path / name)
    noise = np.random.default_rng(1).normal(0, 30, scan.pixels.shape).astype(np.float32)
    written = write_itk(scan.with_pixels(scan.pixels + noise), tmp_path / f"out{name[1:]}", MADE)
    after = sitk.GetArrayFromImage(sitk.ReadImage(written[0]))
    assert abs(after - (scan.pixels + noise)).max() <= 0.5001


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5, 6)])
def test_two_and_four_dimensions(tmp_path, name, shape):
    array = voxels(shape)
    image = image_of(array) if len(shape) == 2 else sitk.JoinSeries([image_of(a, False) for a in array])
    image.SetSpacing((0.5, 0.75, 2.0, 1.0)[: len(shape)])
    sitk.WriteImage(image, tmp_path / name)
    scan = read_itk(tmp_path / name)
    np.testing.assert_array_equal(scan.pixels, array.reshape(-1, *shape[-2:]))
    assert scan.source.shape == shape
    assert scan.geometry.spacing[1:] == (0.75, 0.5)
    assert (scan.geometry.affine is None) == (len(shape) == 2)
    write_itk(scan, tmp_path / f"out{name[1:]}", MADE)
    assert (tmp_path / f"out{name[1:]}").read_bytes() == (tmp_path / name).read_bytes()


def nrrd(array, **fields) -> bytes:
    order = "big" if array.dtype.byteorder == ">" else "little"
    lines = {
        "type": {"float32": "float"}.get(array.dtype.name, array.dtype.name),
        "dimension": array.ndim,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, array.shape[::-1])),
        "space directions": "(0.5,0,0) (0,0.75,0) (0.5,0.25,2)",
        "space origin": "(1,-2,3)",
        "endian": order,
        "encoding": "raw",
    }
    lines = {k: v for k, v in (lines | fields).items() if v is not None}
    text = "NRRD0005\n# a comment\n" + "".join(f"{k}: {v}\n" for k, v in lines.items()) + "author:=nobody\n\n"
    return text.encode() + array.tobytes()


def meta(array, drop=(), **fields) -> bytes:
    names = {"i2": "MET_SHORT", "u1": "MET_UCHAR", "f4": "MET_FLOAT", "i4": "MET_LONG", "u4": "MET_ULONG"}
    lines = {
        "ObjectType": "Image",
        "NDims": array.ndim,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": array.dtype.byteorder == ">",
        "ElementSpacing": "0.5 0.75 2",
        "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": names[array.dtype.str[1:]],
    }
    lines |= fields
    data_file = lines.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{k} = {v}\n" for k, v in lines.items() if k not in drop)
    return f"{text}ElementDataFile = {data_file}\n".encode() + array.tobytes()


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "RAS", "LAS", "scanner-xyz"])
def test_named_spaces_lie_where_simpleitk_puts_them(tmp_path, space):
    path = tmp_path / "x.nrrd"
    path.write_bytes(nrrd(voxels(), space=space))
    scan = read_itk(path)
    assert same_place(scan, sitk.ReadImage(path))
    write_itk(scan, tmp_path / "out.nrrd", MADE)
    assert (tmp_path / "out.nrrd").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<i4", ">u4"])
@pytest.mark.parametrize("build", [nrrd, meta])
def test_byte_orders_and_met_long_as_simpleitk(tmp_path, build, dtype):
    path = tmp_path / f"x.{'nrrd' if build is nrrd else 'mha'}"
    path.write_bytes(build(voxels(dtype=dtype)))
    scan = read_itk(path)
    np.testing.assert_array_equal(scan.pixels, sitk.GetArrayFromImage(sitk.ReadImage(path)))
    write_itk(scan, tmp_path / f"out{path.suffix}", MADE)
    assert (tmp_path / f"out{path.suffix}").read_bytes() == path.read_bytes()


def test_spacings_without_directions(tmp_path):
    path = tmp_path / "x.nrrd"
    path.write_bytes(nrrd(voxels(), **{"space": None, "space directions": None, "spacings": "1 2 3"}))
    geometry = read_itk(path).geometry
    assert geometry.spacing == (3, 2, 1)
    assert geometry.affine is None


def test_ct_is_told_by_its_values(tmp_path):
    air = np.where(voxels((10, 10, 10)) < 50, -1000, 30).astype("i2")
    (tmp_path / "x.mha").write_bytes(meta(air))
    assert read_itk(tmp_path / "x.mha").intensity.kind == "ct"
    assert read_itk(tmp_path / "x.mha", "mr").intensity.kind == "mr"


REFUSED_NRRD = [
    ({"sizes": "5 4 4"}, "shorter"),
    ({"sizes": "5 4 2"}, "longer"),
    ({"sizes": "50000 50000 50000"}, "limit"),
    ({"sizes": "5 -4 3"}, "below 1"),
    ({"sizes": "5 4"}, "damaged"),
    ({"sizes": "5 4 x"}, "damaged"),
    ({"sizes": "9" * 5000 + " 4 3"}, "damaged"),
    ({"dimension": 9}, "damaged"),
    ({"type": "block"}, "plain number"),
    ({"type": None}, "damaged"),
    ({"endian": "middle"}, "damaged"),
    ({"encoding": "bzip2"}, "raw nor gzip"),
    ({"encoding": "gzip"}, "damaged"),
    ({"kinds": "vector domain domain"}, "vectors"),
    ({"kinds": "complex domain domain"}, "vectors"),
    ({"kinds": "RGB-color domain domain"}, "vectors"),
    ({"kinds": "domain"}, "damaged"),
    ({"space directions": "(1,0,0) (2,0,0) (0,0,1)"}, "singular"),
    ({"space directions": "(0,0,0) (0,1,0) (0,0,1)"}, "singular"),
    ({"space directions": "(nan,0,0) (0,1,0) (0,0,1)"}, "singular"),
    ({"space directions": "(1,0) (0,1,0) (0,0,1)"}, "damaged"),
    ({"line skip": 3}, "skip"),
    ({"byte skip": -1}, "skip"),
    ({"data file": "../x.raw"}, "same folder"),
    ({"data file": "/etc/passwd"}, "same folder"),
    ({"data file": ".."}, "same folder"),
    ({"data file": "sub/x.raw"}, "same folder"),
    ({"data file": "..\\x.raw"}, "same folder"),
    ({"data file": "a\0b"}, "same folder"),
    ({"data file": ""}, "same folder"),
    ({"data file": "LIST"}, "several files"),
    ({"data file": "x%d.raw 1 3 1"}, "several files"),
    ({"data file": "absent.raw"}, "its data file"),
    ({"Sizes": "5 4 3 1"}, "twice"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED_NRRD)
def test_refuses_nrrd(tmp_path, fields, reason):
    path = tmp_path / "x.nrrd"
    path.write_bytes(nrrd(voxels(), **fields))
    with pytest.raises(BadInput, match=reason):
        read_itk(path)


REFUSED_META = [
    ({"DimSize": "5 4 4"}, "shorter"),
    ({"DimSize": "60000 60000 60000"}, "limit"),
    ({"DimSize": "5 0 3"}, "below 1"),
    ({"NDims": 2}, "damaged"),
    ({"ElementNumberOfChannels": 3}, "vectors"),
    ({"ElementType": "MET_OTHER"}, "plain number"),
    ({"ObjectType": "Tube"}, "no image"),
    ({"BinaryData": "False"}, "binary"),
    ({"HeaderSize": -1}, "binary"),
    ({"CompressedData": "True"}, "damaged"),
    ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
    ({"TransformMatrix": "1 0"}, "damaged"),
    ({"ElementDataFile": "../x.raw"}, "same folder"),
    ({"ElementDataFile": "/etc/passwd"}, "same folder"),
    ({"ElementDataFile": "LIST"}, "several files"),
    ({"ElementDataFile": "x%03d.raw 1 3 1"}, "several files"),
    ({"ElementDataFile": "absent.raw"}, "its data file"),
    ({"ElementDataFile": ""}, "same folder"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED_META)
def test_refuses_metaimage(tmp_path, fields, reason):
    path = tmp_path / "x.mha"
    path.write_bytes(meta(voxels(), **fields))
    with pytest.raises(BadInput, match=reason):
        read_itk(path)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
def test_refuses_vectors_that_simpleitk_wrote(tmp_path, name):
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.float32), isVector=True)
    sitk.WriteImage(image, tmp_path / name)
    with pytest.raises(BadInput, match="vectors"):
        read_itk(tmp_path / name)


def test_bombs_and_limits(tmp_path):
    head = nrrd(voxels(), encoding="gzip").removesuffix(voxels().tobytes())
    (tmp_path / "x.nrrd").write_bytes(head + gzip.compress(bytes(50_000_000)))
    with pytest.raises(BadInput, match="longer"):
        read_itk(tmp_path / "x.nrrd")
    head = meta(voxels(), CompressedData="True").removesuffix(voxels().tobytes())
    (tmp_path / "x.mha").write_bytes(head + zlib.compress(bytes(50_000_000)))
    with pytest.raises(BadInput, match="longer"):
        read_itk(tmp_path / "x.mha")
    (tmp_path / "y.mha").write_bytes(meta(voxels()))
    with pytest.raises(BadInput, match="limit"):
        read_itk(tmp_path / "y.mha", limits=Limits(max_pixels=59))


def test_header_without_end(tmp_path):
    (tmp_path / "x.nrrd").write_bytes(nrrd(voxels())[:60])
    (tmp_path / "x.mha").write_bytes(meta(voxels())[:60])
    for name in ("x.nrrd", "x.mha"):
        with pytest.raises(BadInput, match="no end"):
            read_itk(tmp_path / name)


def test_pairs_never_replace_a_source_or_another_file(tmp_path):
    sitk.WriteImage(image_of(voxels()), tmp_path / "x.mhd")
    scan = read_itk(tmp_path / "x.mhd")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError):  # its data would be x.raw
        write_itk(scan, tmp_path / "x.MHD", MADE, overwrite=True)
    (tmp_path / "y.raw").write_bytes(b"mine")
    with pytest.raises(TargetExists):
        write_itk(scan, tmp_path / "y.mhd", MADE)
    with pytest.raises(UsageError, match="names its data file"):
        write_itk(scan, tmp_path / "a\nb.mhd", MADE)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before | {"y.raw": b"mine"}
    written = write_itk(scan, tmp_path / "ünï 1.mhd", MADE)
    np.testing.assert_array_equal(read_itk(written[0]).pixels, scan.pixels)
