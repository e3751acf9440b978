"""A walk over the structure of a DICOM file before any parser sees it: no recursion, no copies, every length checked.

It finds where the meta group, the data set and the pixels lie, and refuses what would cost a parser its memory or its
stack. It follows pydicom in what counts as a sequence, so that nothing nests deeper there than was seen here.
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache

from medfpl.errors import BadInput
from medfpl.io.dicom_inflate import inflate_data_set
from medfpl.io.guard import DEFAULT_LIMITS, Limits

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = (PIXEL_DATA, 0x7FE00008, 0x7FE00009)  # integer, float and double pixels

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_META_LIMIT = 1 << 20
_CUT = "it is cut short"
_DAMAGED = "its DICOM structure is damaged"


class NeedMore(Exception):
    """The head of a file that was given does not reach as far as the walk."""


@dataclass(frozen=True)
class Pixels:
    """Where the pixel element lies in the data set: from ``start`` to ``end`` with its header.

    ``value`` is where its value begins. ``fragments`` are (offset, length) of the compressed items after the
    offset table, which is ``table``; they are None for native pixels.
    """

    tag: int
    start: int
    value: int
    end: int
    table: tuple[int, int] | None = None
    fragments: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """A DICOM file's parts. ``data`` holds the data set from ``begin`` to ``end``, inflated where it was deflated.

    ``meta`` is (begin, end) of the meta group in the file, (0, 0) without one. ``syntax`` is the transfer
    syntax, deduced where the file does not name it.
    """

    data: bytes
    begin: int
    end: int
    meta: tuple[int, int]
    syntax: str
    explicit: bool
    little: bool
    pixels: Pixels | None


def scan_tags(raw: bytes, limits: Limits = DEFAULT_LIMITS, size: int | None = None) -> Layout:
    """Walk the structure of a DICOM file and return where its parts lie.

    ``raw`` may be the head of a file of ``size`` bytes: the walk then ends at the pixels, and NeedMore is raised
    if the head does not reach them. BadInput for whatever is no DICOM, is damaged or goes beyond ``limits``.
    """
    total = len(raw) if size is None else size
    data, head_only = raw, total > len(raw)
    begin, meta, named = _meta_group(raw, total)
    if named == DEFLATED:
        if head_only:
            raise NeedMore
        data = inflate_data_set(raw, begin, limits.max_inflated)
        begin, total = 0, len(data)
    if head_only and len(data) < begin + 8:
        raise NeedMore
    explicit, little = _encoding(data, begin, named)
    end, pixels = _Walk(data, total, little, limits, head_only).run(begin, explicit)
    beside = end - begin - (pixels.end - pixels.start if pixels else 0)
    if beside > limits.max_header:
        raise BadInput(f"it has {beside} bytes beside its pixels, more than the limit of {limits.max_header}")
    syntax = named or (IMPLICIT_LITTLE if not explicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG)
    return Layout(data, begin, end, meta, syntax, explicit, little, pixels)


def _meta_group(raw: bytes, total: int) -> tuple[int, tuple[int, int], str]:
    """Return where the data set begins, where the meta group lies, and the transfer syntax it names ("" if none)."""
    start = at = 132 if raw[128:132] == b"DICM" else 0
    if not start and not _may_begin(raw):
        raise BadInput("it is empty" if not raw else "it is not a DICOM file")
    named = b""
    while raw[at : at + 2] == b"\2\0":
        if at + 8 > len(raw):
            raise BadInput(_CUT) if len(raw) == total else NeedMore
        vr, value = raw[at + 4 : at + 6], at + 8
        if vr in _LONG:
            value, length = at + 12, int.from_bytes(raw[at + 8 : at + 12], "little")
        elif vr.isalpha():
            length = int.from_bytes(raw[at + 6 : at + 8], "little")
        else:
            raise BadInput("its DICOM meta group is damaged")
        if value + length > total or value + length - start > _META_LIMIT:
            raise BadInput(_CUT if value + length > total else "its DICOM meta group is damaged")
        if value + length > len(raw):
            raise NeedMore
        if raw[at : at + 4] == b"\2\0\x10\0":
            named = raw[value : value + length]
        at = value + length
    syntax = named.rstrip(b"\0 ").decode("ascii", "replace")
    return at, (start, at) if at > start else (0, 0), syntax


def _may_begin(raw: bytes) -> bool:
    # Without preamble a file begins with a low element of the meta group or of group 8, in either byte order.
    group, element = raw[:2], raw[2:4]
    if len(raw) < 8 or group not in (b"\2\0", b"\x08\0", b"\0\x08"):
        return False
    return int.from_bytes(element, "big" if group == b"\0\x08" else "little") <= 0x0100


def _encoding(data: bytes, begin: int, syntax: str) -> tuple[bool, bool]:
    """Return (explicit VR, little endian): as the transfer syntax says, corrected by what the first element shows."""
    if len(data) < begin + 8:
        raise BadInput("it holds no data set" if len(data) == begin else _CUT)
    little = syntax != EXPLICIT_BIG if syntax else data[begin : begin + 2] != b"\0\x08"
    return _is_vr(data[begin + 4 : begin + 6]), little


def _is_vr(pair: bytes) -> bool:
    return len(pair) == 2 and 0x40 < pair[0] < 0x5B and 0x40 < pair[1] < 0x5B


@dataclass
class _Level:
    """A data set or a sequence being walked: it ends at ``end``, or by a delimiter where that is None.

    ``bound`` is the nearest end that is known. ``creators`` are a data set's private creators by block.
    """

    items: bool
    end: int | None
    bound: int
    explicit: bool
    creators: dict[int, str] = field(default_factory=dict)


class _Walk:
    def __init__(self, data: bytes, total: int, little: bool, limits: Limits, head_only: bool) -> None:
        self.data, self.total, self.limits, self.head_only = data, total, limits, head_only
        order = "<" if little else ">"
        self.tag = struct.Struct(order + "HH").unpack_from
        self.short = struct.Struct(order + "H").unpack_from
        self.long = struct.Struct(order + "I").unpack_from
        self.elements = self.items = 0
        self.pixels: Pixels | None = None

    def run(self, begin: int, explicit: bool) -> tuple[int, Pixels | None]:
        """Walk the data set at ``begin``; return where it ends and where its pixels lie."""
        at, stack = begin, [_Level(False, self.total, self.total, explicit)]
        while stack:
            level = stack[-1]
            if at == level.end:
                stack.pop()
            elif len(stack) == 1 and self._only_zeros(at):
                break
            elif level.items:
                at = self._item(at, level, stack)
            else:
                at = self._element(at, level, stack)
            if self.head_only and self.pixels:
                break
        return at, self.pixels

    def _only_zeros(self, at: int) -> bool:
        """Whether only a little padding follows, as some archives leave it after the last element."""
        return not self.head_only and self.total - at < 1 << 16 and not any(self.data[at : self.total])

    def _need(self, at: int, count: int, bound: int) -> None:
        """Make sure that ``count`` bytes at ``at`` lie within ``bound`` and are there."""
        if at + count > bound:
            raise BadInput(_CUT if bound == self.total else _DAMAGED)
        if at + count > len(self.data):
            raise NeedMore

    def _read_tag(self, at: int) -> int:
        group, element = self.tag(self.data, at)
        return int(group << 16 | element)

    def _item(self, at: int, level: _Level, stack: list[_Level]) -> int:
        self._need(at, 8, level.bound)
        tag, length = self._read_tag(at), self.long(self.data, at + 4)[0]
        at += 8
        if tag == _SEQUENCE_END:
            if level.end is not None:
                raise BadInput(_DAMAGED)
            stack.pop()
            return at
        if tag != _ITEM:
            raise BadInput(_DAMAGED)
        self.items += 1
        if self.items > self.limits.max_items:
            raise BadInput(f"it has more than {self.limits.max_items} sequence items")
        inner = _Level(False, None, level.bound, level.explicit)
        if length != _UNDEFINED:
            if at + length > level.bound:
                raise BadInput(_CUT if level.bound == self.total else _DAMAGED)
            inner.end = inner.bound = at + length
        if level.explicit and (length > 0):
            # Sequences in an explicit data set may still be implicit inside.
            self._need(at, 6, inner.bound)
            inner.explicit = _is_vr(self.data[at + 4 : at + 6])
        stack.append(inner)
        return at

    def _element(self, at: int, level: _Level, stack: list[_Level]) -> int:
        start = at
        self._need(at, 8, level.bound)
        tag = self._read_tag(at)
        if tag >> 16 == 0xFFFE:
            if tag == _ITEM_END and level.end is None:
                stack.pop()
                return at + 8
            raise BadInput(_DAMAGED)
        self.elements += 1
        if self.elements > self.limits.max_elements:
            raise BadInput(f"it has more than {self.limits.max_elements} elements")
        vr: bytes | None = None
        if level.explicit and _is_vr(pair := self.data[at + 4 : at + 6]):
            vr = pair
            if vr in _LONG:
                self._need(at, 12, level.bound)
                at, length = at + 12, self.long(self.data, at + 8)[0]
            else:
                at, length = at + 8, self.short(self.data, at + 6)[0]
        else:
            at, length = at + 8, self.long(self.data, at + 4)[0]
        if tag in PIXEL_TAGS and len(stack) == 1:
            return self._take_pixels(tag, start, at, length)
        if length != _UNDEFINED and at + length > level.bound:
            raise BadInput(_CUT if level.bound == self.total else _DAMAGED)
        if length == _UNDEFINED and tag == PIXEL_DATA:
            return self._fragments(at, level.bound)[0]  # an icon's
        if not self._is_sequence(tag, vr, at, length, level):
            if length == _UNDEFINED:
                raise BadInput(_DAMAGED)
            if tag & 0x1FF00 == 0x10000 and tag & 0xFF >= 0x10:
                self._need(at, length, level.bound)
                level.creators[tag & 0xFF] = self.data[at : at + length].decode("latin-1").strip(" \0")
            return at + length
        if len(stack) > 2 * self.limits.max_depth:
            raise BadInput(f"its sequences are nested more than {self.limits.max_depth} deep")
        end = None if length == _UNDEFINED else at + length
        stack.append(_Level(True, end, level.bound if end is None else end, level.explicit))
        return at

    def _is_sequence(self, tag: int, vr: bytes | None, at: int, length: int, level: _Level) -> bool:
        if vr not in (None, b"UN"):
            return vr == b"SQ"
        if length == _UNDEFINED:
            return True
        if tag >> 16 & 1:
            return _private_vr(tag, level.creators.get(tag >> 8 & 0xFF, "")) == "SQ"
        return _public_vr(tag) == "SQ"

    def _take_pixels(self, tag: int, start: int, at: int, length: int) -> int:
        if self.pixels:
            raise BadInput("it has two sets of pixels")
        if length != _UNDEFINED:
            if at + length > self.total:
                raise BadInput("its pixel data is cut short")
            self.pixels = Pixels(tag, start, at, at + length)
        elif self.head_only:
            self.pixels = Pixels(tag, start, at, self.total, None, ())
        else:
            end, items = self._fragments(at, self.total)
            self.pixels = Pixels(tag, start, at, end, items[0], tuple(items[1:]))
        return self.pixels.end

    def _fragments(self, at: int, bound: int) -> tuple[int, list[tuple[int, int]]]:
        """Return the end of the compressed pixels at ``at`` and their items, the offset table first."""
        found: list[tuple[int, int]] = []
        while True:
            if at + 8 > bound:
                raise BadInput("its pixel data is cut short")
            self._need(at, 8, bound)
            tag, length = self._read_tag(at), self.long(self.data, at + 4)[0]
            at += 8
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM or length == _UNDEFINED:
                raise BadInput("its compressed pixel data is damaged")
            if at + length > bound:
                raise BadInput("its pixel data is cut short")
            found.append((at, length))
            if len(found) > self.limits.max_elements:
                raise BadInput(f"its pixel data has more than {self.limits.max_elements} fragments")
            at += length
        if len(found) < 2 or not any(length for _, length in found[1:]):
            raise BadInput("its compressed pixel data is empty")
        return at, found


@lru_cache(4096)
def _public_vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


@lru_cache(4096)
def _private_vr(tag: int, creator: str) -> str:
    from pydicom.datadict import private_dictionary_VR

    try:
        return private_dictionary_VR(tag, creator)
    except KeyError:
        return ""
