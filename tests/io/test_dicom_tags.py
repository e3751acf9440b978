import contextlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from dicom_making import ON_DISK, make_dicom, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medfpl.errors import BadInput
from medfpl.io.dicom_tags import EXPLICIT_LITTLE, IMPLICIT_LITTLE, NeedMore, scan_tags
from medfpl.io.guard import DEFAULT_LIMITS, Limits

HEAD = b"\0" * 128 + b"DICM"
CT_SMALL = ON_DISK["CT_small.dcm"].read_bytes()
DEFLATED = DeflatedExplicitVRLittleEndian.encode()


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    size = b"\0\0" + struct.pack("<I", length) if long else struct.pack("<H", length)
    return struct.pack("<HH", group, number) + vr + size + value


def meta(syntax: bytes) -> bytes:
    return HEAD + element(2, 0x10, b"UI", syntax + b"\0" * (len(syntax) % 2))


def item(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value) if length is None else length) + value


def nested(depth: int, value: bytes = b"") -> bytes:
    for _ in range(depth):
        value = element(0x0040, 0xA730, b"SQ", item(value))
    return value


def nested_open(depth: int) -> bytes:
    start = element(0x0040, 0xA730, b"SQ", b"", 0xFFFFFFFF) + item(b"", 0xFFFFFFFF)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return start * depth + end * depth


EXPLICIT = meta(EXPLICIT_LITTLE.encode())


def refused(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Scan, and return the reason for refusing; it must cost little memory."""
    tracemalloc.start()
    with pytest.raises(BadInput) as caught:
        scan_tags(raw, limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    return caught.value.message


def test_parts_of_a_good_file():
    layout = scan_tags(CT_SMALL)
    assert (layout.syntax, layout.explicit, layout.little) == (EXPLICIT_LITTLE, True, True)
    assert layout.pixels is not None
    assert layout.pixels.end - layout.pixels.value == 128 * 128 * 2
    assert layout.end == len(CT_SMALL)
    assert CT_SMALL[layout.pixels.start : layout.pixels.start + 4] == b"\xe0\x7f\x10\0"


def test_a_head_is_enough_and_a_shorter_one_asks_for_more():
    start = scan_tags(CT_SMALL).pixels.start
    layout = scan_tags(CT_SMALL[: start + 12], size=len(CT_SMALL))
    assert layout.pixels.start == start
    for length in (150, 200, 336, 1000, start + 4):
        with pytest.raises(NeedMore):
            scan_tags(CT_SMALL[:length], size=len(CT_SMALL))


@pytest.mark.parametrize("cut", [1, 7, 100, 131, 132, 140, 300, 336, 500, 1000, 4000, 6000, 39000])
def test_truncation_is_a_refusal(cut):
    assert refused(CT_SMALL[: len(CT_SMALL) - cut] if cut > 132 else CT_SMALL[:cut])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_is_a_refusal_or_a_layout_within_the_file(data):
    raw = bytearray(CT_SMALL[: data.draw(st.integers(0, len(CT_SMALL)))])
    for at in data.draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=5)):
        if raw:
            raw[at] = data.draw(st.integers(0, 255))
    try:
        layout = scan_tags(bytes(raw))
    except BadInput:
        return
    assert 0 <= layout.begin <= layout.end <= len(layout.data)
    if layout.pixels:
        assert layout.begin <= layout.pixels.start < layout.pixels.value <= layout.pixels.end <= layout.end


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_is_no_dicom(noise):
    for raw in (noise, HEAD + noise, EXPLICIT + noise, meta(IMPLICIT_LITTLE.encode()) + noise):
        with contextlib.suppress(BadInput):
            scan_tags(raw)


def test_what_is_no_dicom():
    assert refused(b"") == "it is empty"
    for raw in (b"hello, this is a text called scan.dcm", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"DICM"):
        assert "not a DICOM file" in refused(raw)
    assert "no data set" in refused(HEAD)


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFF, 9])
def test_lengths_beyond_the_file(length):
    assert "cut short" in refused(EXPLICIT + element(8, 8, b"UT", b"12345678", length))
    assert "pixel data is cut short" in refused(EXPLICIT + element(0x7FE0, 0x10, b"OW", b"12345678", length))


def test_lengths_beyond_the_item():
    inner = element(8, 0x60, b"CS", b"CT", 40)
    assert "damaged" in refused(
        EXPLICIT + element(8, 0x1140, b"SQ", item(inner)) + element(0x20, 0x13, b"IS", b"1 " * 40)
    )


def test_nested_sequences_are_refused():
    assert "nested" in refused(EXPLICIT + nested(3000))
    assert "nested" in refused(EXPLICIT + nested_open(3000))


@pytest.mark.parametrize("make", [nested, nested_open])
def test_the_depth_limit(make):
    assert scan_tags(EXPLICIT + make(16)).explicit
    assert "nested more than 16 deep" in refused(EXPLICIT + make(17))


def test_nesting_hidden_in_unknown_and_implicit_elements_counts():
    hidden = b""
    for _ in range(40):
        body = item(hidden)
        hidden = struct.pack("<HHI", 0x0040, 0xA730, len(body)) + body
    assert "nested" in refused(meta(IMPLICIT_LITTLE.encode()) + hidden)
    assert "nested" in refused(EXPLICIT + element(0x0040, 0xA730, b"UN", item(hidden)))


def test_a_private_sequence_is_one_for_its_creator_alone():
    # (0029,xx40) of this creator is a sequence in pydicom's private dictionary.
    creator = struct.pack("<HHI", 0x29, 0x10, 22) + b"SIEMENS MEDCOM HEADER "
    odd = struct.pack("<HHI", 0x29, 0x1040, 8) + b"no items"
    implicit = meta(IMPLICIT_LITTLE.encode())
    assert "damaged" in refused(implicit + creator + odd)
    assert scan_tags(implicit + creator.replace(b"SIEMENS", b"NOTHING") + odd).end


def test_many_items_and_many_elements_are_refused():
    assert "sequence items" in refused(EXPLICIT + element(8, 0x1140, b"SQ", item(b"") * 100_001))
    few = Limits(max_elements=100)
    assert "more than 100 elements" in refused(EXPLICIT + element(8, 0x60, b"CS", b"CT") * 101, few)


def test_a_header_has_a_limit_and_the_pixels_another():
    raw = EXPLICIT + element(8, 8, b"UT", bytes(1000)) + element(0x7FE0, 0x10, b"OW", bytes(5000))
    assert "1012 bytes beside its pixels" in refused(raw, Limits(max_header=1000))
    assert scan_tags(raw, Limits(max_header=1012)).pixels


def test_compressed_pixels_need_fragments():
    start = element(0x7FE0, 0x10, b"OB", b"", 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    raw = meta(b"1.2.840.10008.1.2.4.90") + element(8, 0x60, b"CS", b"CT") + start
    assert "empty" in refused(raw + end)
    assert "empty" in refused(raw + item(b"") + end)
    assert "empty" in refused(raw + item(b"") + item(b"") + end)
    assert "cut short" in refused(raw + item(b"") + item(b"abcd"))
    assert "cut short" in refused(raw + item(b"") + item(b"abcd", 400) + end)
    assert "damaged" in refused(raw + item(b"") + item(b"abcd", 0xFFFFFFFF) + end)
    assert "damaged" in refused(raw + item(b"") + b"12345678" + end)
    layout = scan_tags(raw + item(b"1234") + item(b"ab") + item(b"cdef") + end)
    assert [layout.data[a : a + n] for a, n in layout.pixels.fragments] == [b"ab", b"cdef"]


def test_two_sets_of_pixels_are_refused():
    pixels = element(0x7FE0, 0x10, b"OW", b"1234")
    assert "two sets" in refused(EXPLICIT + element(8, 0x60, b"CS", b"CT") + pixels * 2)


def test_zeros_after_the_last_element_are_padding():
    raw = EXPLICIT + element(8, 0x60, b"CS", b"CT")
    assert scan_tags(raw + b"\0" * 100).end == len(raw)


def test_a_deflated_file_is_inflated():
    raw = to_bytes(make_dicom(np.arange(12, dtype="<u2").reshape(3, 4), syntax=DeflatedExplicitVRLittleEndian))
    layout = scan_tags(raw)
    assert layout.data[layout.pixels.value : layout.pixels.end] == np.arange(12, dtype="<u2").tobytes()
    for cut in (2, 10, 100):  # the last byte may be padding
        assert "deflated data" in refused(raw[:-cut])
    flipped = raw[:-60] + bytes(255 - b for b in raw[-60:-50]) + raw[-50:]
    assert refused(flipped)


def test_a_deflate_bomb_costs_nothing():
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    assert len(bomb) < 1.1e6
    assert "larger than the limit" in refused(meta(DEFLATED) + bomb)
