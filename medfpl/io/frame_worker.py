"""The process that decodes compressed frames, run as a script by medfpl.io.frames.

C decoders crash, hang, print and allocate on hostile data; here that costs nobody anything. It imports nothing of
medfpl. A request is a line of JSON and the frame's bytes, a reply is one status byte, a length and the pixels.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import struct
import sys
from io import BytesIO
from typing import IO, Any

DONE, REFUSED, MISSING = b"+", b"-", b"?"


def decode_jpeg8(frame: bytes, wanted: dict[str, Any]) -> bytes:
    """8-bit sequential JPEG, by Pillow."""
    from PIL import Image

    with Image.open(BytesIO(frame), formats=["JPEG"]) as image:
        if image.mode != "L":
            raise ValueError
        return image.tobytes()


def decode_jpeg12(frame: bytes, wanted: dict[str, Any]) -> bytes:
    """12-bit sequential JPEG, by the optional pylibjpeg-libjpeg."""
    import libjpeg

    return bytes(libjpeg.decode_pixel_data(frame, version=2))


def decode_j2k(frame: bytes, wanted: dict[str, Any]) -> bytes:
    """JPEG 2000 and HTJ2K, by pylibjpeg-openjpeg."""
    import openjpeg

    return bytes(openjpeg.decode_pixel_data(frame, version=2))


def decode_jls(frame: bytes, wanted: dict[str, Any]) -> bytes:
    """JPEG-LS, by pyjpegls."""
    import jpeg_ls

    return bytes(jpeg_ls.decode_pixel_data(frame)[0])


def decode_lossless(frame: bytes, wanted: dict[str, Any]) -> bytes:
    """JPEG lossless (process 14), by GDCM."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((wanted["columns"], wanted["rows"], 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(wanted["syntax"])))
    precision = wanted["precision"]
    image.SetPixelFormat(gdcm.PixelFormat(1, 8 * wanted["itemsize"], precision, precision - 1, 0))
    # SWIG gives the bytes as text.
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))


def decode_rle(frame: bytes, wanted: dict[str, Any]) -> bytes:
    """DICOM's own run lengths, by pydicom."""
    import warnings

    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import RLELossless

    warnings.simplefilter("ignore")
    bits = 8 * wanted["itemsize"]
    pixels, _ = get_decoder(RLELossless).as_buffer(
        encapsulate([frame]),
        index=0,
        decoding_plugin="pydicom",
        transfer_syntax_uid=RLELossless,
        rows=wanted["rows"],
        columns=wanted["columns"],
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        number_of_frames=1,
        pixel_keyword="PixelData",
    )
    return bytes(pixels)


# Each with the library that it needs.
DECODERS = {
    "jpeg8": ("PIL.JpegImagePlugin", decode_jpeg8),
    "jpeg12": ("libjpeg", decode_jpeg12),
    "j2k": ("openjpeg", decode_j2k),
    "jls": ("jpeg_ls", decode_jls),
    "lossless": ("gdcm", decode_lossless),
    "rle": ("pydicom.pixels", decode_rle),
}


def limit(wanted: dict[str, Any]) -> None:
    """Allow this frame its share of address space and of CPU time, whatever earlier frames used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + wanted["seconds"]) + 1)
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
        _set_limit(resource.RLIMIT_AS, min(now + wanted["memory"], wanted["most_memory"]))


def _set_limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    # Not every system has these limits or lets them be set.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def answer(wanted: dict[str, Any], frame: bytes) -> tuple[bytes, bytes]:
    """Return the status and the pixels of one frame."""
    library, decode = DECODERS[wanted["decoder"]]
    try:
        # Loaded before the limit is set, which is for the frame alone.
        importlib.import_module(library)
    except ImportError:
        return MISSING, b""
    try:
        limit(wanted)
        return DONE, decode(frame, wanted)
    except Exception:
        return REFUSED, b""


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until the other end closes, as it does when that process dies."""
    while line := requests.readline():
        wanted = json.loads(line)
        frame = requests.read(wanted["size"])
        if len(frame) < wanted["size"]:
            return
        status, pixels = answer(wanted, frame)
        replies.write(status + struct.pack("<Q", len(pixels)))
        replies.write(pixels)
        replies.flush()


def main() -> None:
    """Serve on standard input and output, with nothing that a C library prints in between."""
    # Ctrl-C is for the parent, which may still want its current frame.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _set_limit(resource.RLIMIT_CORE, 0)
    replies = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, replies)
    os._exit(0)


if __name__ == "__main__":
    main()
