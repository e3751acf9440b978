"""NPY: values as NumPy loads them, bytes as NumPy wrote them; nothing but plain real arrays."""

import io

import numpy as np
import pytest

from medfpl.errors import BadInput
from medfpl.io.derivation import Derivation
from medfpl.io.guard import Limits
from medfpl.io.npy import read_npy, write_npy

MADE = Derivation("denoised", "medfpl")


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def values(shape=(3, 4, 5), dtype="i2"):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (1, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "<u2", "i4", "u4", "i8", "u8", "f2", ">f4", "f8"])
def test_comes_back_byte_for_byte(tmp_path, dtype, order, shape):
    array = np.asarray(values(shape, dtype), order=order)
    (tmp_path / "x.npy").write_bytes(npy(array))
    scan = read_npy(tmp_path / "x.npy")
    np.testing.assert_array_equal(scan.pixels, array.reshape(-1, *shape[-2:]).astype(np.float32))
    assert scan.source.shape == shape
    assert ((scan.intensity.black, scan.intensity.white) == (0, 255)) == (dtype == "u1")
    assert write_npy(scan, tmp_path / "out.npy", MADE) == [tmp_path / "out.npy"]
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_changed_values_are_loaded_by_numpy(tmp_path, order):
    (tmp_path / "x.npy").write_bytes(npy(np.asarray(values(dtype=">f4"), order=order), version=(2, 0)))
    scan = read_npy(tmp_path / "x.npy")
    write_npy(scan.with_pixels(scan.pixels * np.float32(0.5)), tmp_path / "out.npy", MADE)
    after = np.load(tmp_path / "out.npy")
    assert after.dtype == ">f4"
    np.testing.assert_array_equal(after, values() * 0.5)


def test_nan_stays_and_kinds_are_told(tmp_path):
    array = np.where(values() < 50, -1000.0, 40.0)
    array[0, 0, 0] = np.nan
    (tmp_path / "x.npy").write_bytes(npy(array))
    scan = read_npy(tmp_path / "x.npy")
    assert scan.intensity.kind == "ct"
    assert not scan.valid[0, 0, 0]
    write_npy(scan.with_pixels(np.zeros_like(scan.pixels)), tmp_path / "out.npy", MADE)
    assert np.isnan(np.load(tmp_path / "out.npy")[0, 0, 0])
    (tmp_path / "y.npy").write_bytes(npy(values()))
    assert read_npy(tmp_path / "y.npy").intensity.kind == "other"
    assert read_npy(tmp_path / "y.npy", "mr").intensity.kind == "mr"


def header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (npy(values().astype(object), allow_pickle=True), "plain real"),
        (npy(values().astype("c8")), "plain real"),
        (npy(values().astype(bool)), "plain real"),
        (npy(values().astype("U3")), "plain real"),
        (npy(values().astype(np.longdouble)), "plain real"),
        (npy(np.zeros((3, 4), [("a", "i2")])), "plain real"),
        (npy(values((120,))), "1 dimensions"),
        (npy(values((2, 3, 4, 5))), "4 dimensions"),
        (npy(np.zeros((3, 0))), "below 1"),
        (npy(values())[:-1], "shorter"),
        (npy(values()) + b"x", "longer"),
        (npy(values())[:40], "damaged"),
        (b"\x93NUMPY\7\0", "damaged"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 99999, 99999)}"), "limit"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4)}"), "below 1"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4)}"), "damaged|shorter"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4)}"), "plain real"),
        (header("__import__('os').abort()"), "damaged"),
        (header("(" * 9000), "damaged"),
    ],
)
def test_refuses(tmp_path, raw, reason):
    (tmp_path / "x.npy").write_bytes(raw)
    with pytest.raises(BadInput, match=reason):
        read_npy(tmp_path / "x.npy")


def test_the_pixel_limit_holds(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy(values()))
    with pytest.raises(BadInput, match="limit"):
        read_npy(tmp_path / "x.npy", limits=Limits(max_pixels=59))
