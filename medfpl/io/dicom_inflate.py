"""The deflated data set of a DICOM file, inflated within a limit."""

import zlib
from collections.abc import Iterator
from io import BytesIO

from medfpl.errors import BadInput


def inflate_data_set(raw: bytes, begin: int, limit: int) -> bytes:
    """Return what is deflated in ``raw`` from ``begin`` on; BadInput if it is damaged or larger than ``limit`` bytes.

    It is counted first, without being kept, so that a bomb costs nothing.
    """
    for _ in _inflated(raw, begin, limit):
        pass
    # Gives its bytes away without a second copy.
    whole = BytesIO()
    whole.writelines(_inflated(raw, begin, limit))
    return whole.getvalue()


def _inflated(raw: bytes, begin: int, limit: int) -> Iterator[bytes]:
    stream, feed, total = zlib.decompressobj(-15), memoryview(raw)[begin:], 0
    step = 1 << 18
    try:
        while not stream.eof:
            block = stream.unconsumed_tail or bytes(feed[:step])
            if not stream.unconsumed_tail:
                feed = feed[step:]
            part = stream.decompress(block, 1 << 20)
            if not block and not part:
                raise BadInput("its deflated data is cut short")
            total += len(part)
            if total > limit:
                raise BadInput(f"its deflated data is larger than the limit of {limit} bytes")
            yield part
    except zlib.error:
        raise BadInput("its deflated data is damaged") from None
