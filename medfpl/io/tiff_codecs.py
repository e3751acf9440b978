"""TIFF's two own compressions, bounded: no output is ever longer than asked for."""

from medfpl.errors import BadInput

_CLEAR, _END, _FIRST, _MOST_CODES = 256, 257, 258, 4096


def unpack_lzw(raw: bytes, size: int) -> bytes:
    """Return at most ``size`` bytes of LZW data (TIFF 6.0, section 13); BadInput for an impossible code."""
    single = [bytes([i]) for i in range(256)] + [b"", b""]
    table, out = single.copy(), bytearray()
    width, bits, have, previous = 9, 0, 0, b""
    for byte in raw:
        bits, have = bits << 8 | byte, have + 8
        if have < width:
            continue
        have -= width
        code, bits = bits >> have, bits & ((1 << have) - 1)
        if code == _CLEAR:
            table, width, previous = single.copy(), 9, b""
            continue
        if code == _END:
            break
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise BadInput("its LZW data is damaged")
        if previous:
            if len(table) == _MOST_CODES:
                raise BadInput("its LZW data is damaged")
            table.append(previous + entry[:1])
            # TIFF widens one code early.
            if len(table) >= (1 << width) - 1 and width < 12:
                width += 1
        out += entry
        previous = entry
        if len(out) >= size:
            break
    return bytes(out[:size])


def unpack_packbits(raw: bytes, size: int) -> bytes:
    """Return at most ``size`` bytes of PackBits data (TIFF 6.0, section 9)."""
    out, at = bytearray(), 0
    while at < len(raw) and len(out) < size:
        head = raw[at]
        if head < 128:
            out += raw[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            out += raw[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    return bytes(out[:size])
