"""NIfTI: read as nibabel reads it, written back byte for byte but for the voxels."""

import gzip
import json
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfpl.errors import BadInput, TargetExists
from medfpl.io.derivation import Derivation
from medfpl.io.guard import Limits
from medfpl.io.nifti import read_nifti, side_car_path, write_nifti

MADE = Derivation("denoised", "medfpl", "net-1", "ab" * 32, {"strength": 0.5})
AFFINE = np.array([[-0.8, 0.1, 0, 12], [0.1, 0.9, 0.2, -30], [0, -0.2, 2.5, 7], [0, 0, 0, 1.0]])
DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def voxels(shape=(4, 5, 6), dtype="i2", seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 100, shape) if np.dtype(dtype).kind in "iu" else rng.normal(50, 20, shape)).astype(dtype)


def build(array, affine=AFFINE, version=1, order="<", extensions=(), **fields) -> bytes:
    """A NIfTI file by nibabel, then with header fields set behind its back."""
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    image = kind(array, affine, header)
    for text in extensions:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", text))
    raw = bytearray(image.to_bytes())
    layout = kind.header_class.template_dtype.newbyteorder(order)
    record = np.frombuffer(raw, layout, count=1)
    for name, value in fields.items():
        record[name] = value
    return bytes(raw)


def saved(tmp_path: Path, raw: bytes, name="in.nii") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    return path


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.name.endswith("gz") else path.read_bytes()


@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_as_nibabel_and_identity_is_byte_identical(tmp_path, dtype, version, order, name):
    raw = build(voxels(dtype=dtype), version=version, order=order, extensions=[b"kept"], descrip=b"by a scanner")
    path = saved(tmp_path, raw, name)
    scan = read_nifti(path)
    oracle = nib.load(path)
    np.testing.assert_array_equal(scan.pixels, np.asarray(oracle.dataobj).T.astype(np.float32))
    lps = np.diag([-1, -1, 1, 1]) @ oracle.affine
    np.testing.assert_allclose(scan.geometry.affine, lps[:, [2, 1, 0, 3]])
    np.testing.assert_allclose(scan.geometry.spacing, oracle.header.get_zooms()[::-1], rtol=1e-6)
    assert scan.source.shape == (4, 5, 6)
    assert scan.valid is None
    target = tmp_path / name.replace("in", "out")
    assert write_nifti(scan, target, MADE) == [target, tmp_path / "out.json"]
    assert content(target) == raw


@pytest.mark.parametrize("scaling", [(2.5, -1024.0), (0.0, 7.0), (float("nan"), float("nan")), (1.0, 0.0), (-0.5, 3.0)])
def test_scaling_is_applied_and_kept_bit_for_bit(tmp_path, scaling):
    raw = build(voxels(dtype="i2"), scl_slope=scaling[0], scl_inter=scaling[1])
    scan = read_nifti(saved(tmp_path, raw))
    slope, inter = scaling if scaling[0] and np.isfinite(scaling[0]) else (1.0, 0.0)
    np.testing.assert_allclose(scan.pixels, voxels().T * slope + inter)
    changed = scan.with_pixels(scan.pixels + np.float32(10))
    write_nifti(changed, tmp_path / "out.nii", MADE)
    after = (tmp_path / "out.nii").read_bytes()
    assert after[:352] == raw[:352]
    assert abs(nib.load(tmp_path / "out.nii").get_fdata().T - changed.pixels).max() <= abs(slope) / 2 + 1e-4


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (4, 5, 3, 7), (4, 5, 1, 3), (4, 5, 3, 1, 1)])
def test_other_ranks_fold_into_z_and_come_back(tmp_path, shape):
    array = voxels(shape)
    raw = build(array)
    scan = read_nifti(saved(tmp_path, raw))
    assert scan.pixels.shape == (int(np.prod(shape[2:])), shape[1], shape[0])
    assert scan.source.shape == shape
    if len(shape) == 4:  # slice z of time t lies at t * depth + z
        z, t = shape[2] - 1, shape[3] - 1
        np.testing.assert_array_equal(scan.pixels[t * shape[2] + z], array[:, :, z, t].T)
    new = scan.with_pixels(scan.pixels[::-1].copy())
    write_nifti(new, tmp_path / "out.nii", MADE)
    after = nib.load(tmp_path / "out.nii")
    assert after.shape == shape
    np.testing.assert_array_equal(np.asarray(after.dataobj).T.reshape(new.pixels.shape), new.pixels)


def test_nan_and_inf_stay_and_are_marked(tmp_path):
    array = voxels(dtype="f4")
    array[0, 0, 0], array[1, 2, 3], array[3, 0, 5] = np.nan, np.inf, -np.inf
    raw = build(array)
    scan = read_nifti(saved(tmp_path, raw))
    np.testing.assert_array_equal(scan.valid, np.isfinite(array.T))
    assert np.isfinite([scan.intensity.black, scan.intensity.white]).all()
    write_nifti(scan.with_pixels(np.zeros_like(scan.pixels)), tmp_path / "out.nii", MADE)
    after = np.asarray(nib.load(tmp_path / "out.nii").dataobj)
    np.testing.assert_array_equal(after[~np.isfinite(array)], array[~np.isfinite(array)])
    assert not after[np.isfinite(array)].any()


def test_doubles_beyond_float32_stay_as_they_are(tmp_path):
    array = voxels(dtype="f8")
    array[0, 0, 0] = 1e300
    raw = build(array)
    scan = read_nifti(saved(tmp_path, raw))
    assert not scan.valid[0, 0, 0]
    write_nifti(scan, tmp_path / "out.nii", MADE)
    assert (tmp_path / "out.nii").read_bytes() == raw


def test_gzip_follows_the_target_name_and_is_reproducible(tmp_path):
    raw = build(voxels())
    scan = read_nifti(saved(tmp_path, raw, "in.nii.gz"))
    for name in ("a.nii.gz", "b.nii.gz", "c.nii", "d"):
        write_nifti(scan, tmp_path / name, MADE)
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "b.nii.gz").read_bytes()
    assert first[3:8] == bytes(5)  # no name, no time
    assert (tmp_path / "c.nii").read_bytes() == raw
    assert gzip.decompress((tmp_path / "d").read_bytes()) == raw  # as the source


@pytest.mark.parametrize("step", [7, 400, 10_000])
@pytest.mark.parametrize("padding", [0, 8, 600])
def test_gzip_of_several_members_is_read(tmp_path, step, padding):
    raw = build(voxels())
    path = tmp_path / "in.nii.gz"
    members = [gzip.compress(raw[at : at + step]) for at in range(0, len(raw), step)]
    path.write_bytes(b"".join(members) + bytes(padding))
    np.testing.assert_array_equal(read_nifti(path).pixels, voxels().T)
    path.write_bytes(b"".join(members) + bytes(padding) + b"x")
    with pytest.raises(BadInput, match=r"damaged|cut short"):
        read_nifti(path)


@pytest.mark.parametrize("scaling", [(2.5, -1024.0), (0.0, 0.0), (1.0, 0.0)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_as_float_writes_real_values(tmp_path, order, scaling):
    raw = build(voxels(dtype="i2"), order=order, scl_slope=scaling[0], scl_inter=scaling[1], extensions=[b"kept"])
    scan = read_nifti(saved(tmp_path, raw))
    new = scan.with_pixels(scan.pixels + np.float32(0.25))
    write_nifti(new, tmp_path / "out.nii", MADE, as_float=True)
    image = nib.load(tmp_path / "out.nii")
    assert image.get_data_dtype() == np.dtype(order + "f4")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, new.pixels)
    offset = int(image.header["vox_offset"])
    differ = {
        i for i, (a, b) in enumerate(zip(raw[:offset], (tmp_path / "out.nii").read_bytes(), strict=False)) if a != b
    }
    assert differ <= {*range(70, 74), *(range(112, 120) if scaling[0] == 2.5 else ())}


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.sampled_from([-1, 0, 1]), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_qform_alone_gives_nibabels_affine(tmp_path_factory, quaternion, qfac, code):
    quaternion = np.array(quaternion) / max(1.0, float(np.linalg.norm(quaternion)) * 1.001)
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), quaternion, strict=True))
    fields |= {"sform_code": 0, "qform_code": code, "qoffset_x": -3, "qoffset_y": 4.5, "qoffset_z": 6}
    raw = build(voxels((3, 4, 5)), np.diag([0.7, 0.8, 2, 1]), pixdim=[qfac, 0.7, 0.8, 2, 1, 1, 1, 1], **fields)
    path = saved(tmp_path_factory.mktemp("q"), raw)
    geometry = read_nifti(path).geometry
    np.testing.assert_allclose(geometry.spacing, (2, 0.8, 0.7), rtol=1e-5)
    if code == 0:
        assert geometry.affine is None
    else:
        lps = np.diag([-1, -1, 1, 1]) @ nib.load(path).affine
        np.testing.assert_allclose(geometry.affine, lps[:, [2, 1, 0, 3]], atol=1e-5)


def test_units_become_millimetres(tmp_path):
    scan = read_nifti(saved(tmp_path, build(voxels(), np.diag([1e-3, 2e-3, 3e-3, 1]), xyzt_units=1)))
    np.testing.assert_allclose(scan.geometry.spacing, (3, 2, 1), rtol=1e-6)


def test_the_kind_is_guessed_from_air_and_can_be_given(tmp_path):
    rng = np.random.default_rng(0)
    body = np.where(rng.random((20, 20, 20)) < 0.5, -1000, 40) + rng.normal(0, 20, (20, 20, 20))
    body[0, :3] = -3024  # padding
    ct = saved(tmp_path, build(body.astype("i2")), "ct.nii")
    phase = saved(tmp_path, build(rng.integers(-4096, 4096, (20, 20, 20)).astype("i2")), "phase.nii")
    magnitude = saved(tmp_path, build(voxels()), "mr.nii")
    assert [read_nifti(p).intensity.kind for p in (ct, phase, magnitude)] == ["ct", "mr", "mr"]
    assert read_nifti(magnitude, "ct").intensity.unit == "HU"
    assert read_nifti(ct, "other").intensity.kind == "other"


def test_the_side_car_names_sources_by_hash_and_nothing_else(tmp_path):
    scan = read_nifti(saved(tmp_path, build(voxels())))
    write_nifti(scan, tmp_path / "sub-1_bold.nii.gz", MADE)
    text = (tmp_path / "sub-1_bold.json").read_text()
    told = json.loads(text)
    assert told["Sources"] == [f"sha256:{scan.source.sha256}"]
    assert told["GeneratedBy"][0]["WeightsSHA256"] == "ab" * 32
    assert told["GeneratedBy"][0]["Parameters"] == {"strength": 0.5}
    assert str(tmp_path) not in text
    assert "in.nii" not in text
    assert side_car_path(Path("a/X.NII.GZ")) == Path("a/X.json")


def test_nothing_is_replaced_unasked_and_nothing_half_written(tmp_path):
    scan = read_nifti(saved(tmp_path, build(voxels())))
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(TargetExists):
        write_nifti(scan, tmp_path / "out.nii", MADE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.nii", "out.json"]
    write_nifti(scan, tmp_path / "out.nii", MADE, overwrite=True)
    assert json.loads((tmp_path / "out.json").read_text())["Description"] == "denoised"


def dims(*sides):
    return np.array([len(sides), *sides, *[1] * (7 - len(sides))])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dim": dims(4, -5, 6)}, "below 1"),
        ({"dim": dims(4, 0, 6)}, "below 1"),
        ({"dim": dims(32767, 32767, 32767)}, "limit"),
        ({"dim": dims(4, 5, 7)}, "shorter"),
        ({"dim": dims(4, 5, 5)}, "longer"),
        ({"dim": dims(4, 5, 1, 1, 6)}, "four dimensions"),
        ({"dim": dims(120)}, "two dimensions"),
        ({"dim": np.array([-3, 4, 5, 6, 1, 1, 1, 1])}, "dimensions"),
        ({"datatype": 32}, "complex"),
        ({"datatype": 128}, "colour"),
        ({"datatype": 999}, "999"),
        ({"intent_code": 1002}, "label"),
        ({"magic": b"ni1"}, "pair"),
        ({"magic": b"xyz"}, "header"),
        ({"sizeof_hdr": 7}, "header"),
        ({"vox_offset": np.nan}, "offset"),
        ({"vox_offset": 0}, "offset"),
        ({"vox_offset": 352.5}, "offset"),
        ({"vox_offset": 1e30}, "offset"),
        ({"srow_x": 0}, "singular"),
        ({"srow_x": np.nan}, "singular"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "scaling"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 5}, "rotation"),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "singular"),
    ],
)
@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
def test_refuses(tmp_path, fields, reason, name):
    path = saved(tmp_path, build(voxels(), **fields), name)
    with pytest.raises(BadInput, match=reason):
        read_nifti(path)


def test_refuses_what_is_not_finite_at_all(tmp_path):
    with pytest.raises(BadInput, match="finite"):
        read_nifti(saved(tmp_path, build(np.full((3, 4, 5), np.nan, "f4"))))


@pytest.mark.filterwarnings("error")
def test_refuses_a_span_that_float32_cannot_hold(tmp_path):
    array = np.linspace(-3e38, 3e38, 120).reshape(4, 5, 6)
    with pytest.raises(BadInput, match="span"):
        read_nifti(saved(tmp_path, build(array)))


def test_a_gzip_bomb_stops_at_the_declared_size(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(build(voxels()) + bytes(200_000_000), 9))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="longer"):
            read_nifti(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [3, 20, 100, -9, -1])
def test_truncated_gzip(tmp_path, keep):
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(build(voxels()))[:keep])
    with pytest.raises(BadInput):
        read_nifti(path)


def test_a_wrong_checksum_is_refused(tmp_path):
    packed = bytearray(gzip.compress(build(voxels())))
    packed[-8:-4] = struct.pack("<I", 1)
    (tmp_path / "in.nii.gz").write_bytes(packed)
    with pytest.raises(BadInput, match="damaged"):
        read_nifti(tmp_path / "in.nii.gz")


def test_the_pixel_limit_holds(tmp_path):
    path = saved(tmp_path, build(voxels()))
    assert read_nifti(path, limits=Limits(max_pixels=120)).pixels.size == 120
    with pytest.raises(BadInput, match="limit"):
        read_nifti(path, limits=Limits(max_pixels=119))


@pytest.mark.real
def test_real_volumes_come_back_byte_for_byte(real_data, tmp_path):
    kinds = {}
    for path in sorted(real_data.glob("*/**/*.nii.gz")):
        scan = read_nifti(path)
        kinds[path.relative_to(real_data).parts[0]] = scan.intensity.kind
        np.testing.assert_array_equal(scan.pixels[7], np.asarray(nib.load(path).dataobj[:, :, 7]).T)
        write_nifti(scan, tmp_path / "out.nii", MADE, overwrite=True)
        assert content(tmp_path / "out.nii") == content(path)
    assert kinds == {"abdomen_ct": "ct", "chest_ct": "ct", "brain_mr": "mr"}
