"""Derived DICOM images: the source's own data set with new pixels, in a series of its own, marked as what it is."""

import threading
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medfpl import __version__
from medfpl.errors import MedfplError, UsageError
from medfpl.io.atomic import atomic_target, check_target
from medfpl.io.derivation import Derivation
from medfpl.io.dicom_copy import explicit_copy, put
from medfpl.io.dicom_derive import derive
from medfpl.scan import Scan

IMPLEMENTATION_CLASS_UID = "2.25.279543316114564759292987260550192227201"
IMPLEMENTATION_VERSION_NAME = f"MEDFPL_{__version__}"[:16]

# Lossless, little endian, and no deflate (few readers have it).
TRANSFER_SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}
_SMALLEST_JPEG_2000 = 32  # the encoder halves an image five times
_JPEG_2000 = threading.Lock()  # two threads in openjpeg's encoder bring the process down


def write_dicom(
    scan: Scan,
    target: Path,
    derivation: Derivation,
    *,
    overwrite: bool = False,
    transfer_syntax: str | None = None,
    drop_private: bool = False,
    when: datetime | None = None,
) -> Path:
    """Write ``scan`` as an image derived from its DICOM source and return ``target``.

    The result has the source's SOP class, geometry, pixel encoding, window and padding, a new instance UID and
    one new series UID for each source series and derivation. Both are made from the source's UIDs and the
    derivation alone: the same on every machine and in every run. ``transfer_syntax`` is a name or a UID of
    TRANSFER_SYNTAXES (explicit VR little endian if None); ``drop_private`` leaves out all private elements;
    ``when`` is the time to state (now if None). Equal arguments give equal bytes.

    Raises UsageError for an unknown transfer syntax or where target and source are one file; TargetExists;
    MedfplError where the pixels cannot be kept without loss or the disk refuses.
    """
    syntax = _syntax(transfer_syntax)
    check_target(target, scan.source.path, overwrite)
    stored = scan.new_stored()
    dataset = explicit_copy(scan.source.native, drop_private=drop_private)
    derive(dataset, scan.source, stored, derivation, when)
    _set_pixels(dataset, stored, syntax)
    dataset.file_meta = _file_meta(dataset, syntax)
    # Into memory first: pydicom wraps the disk's errors in text that quotes elements.
    content = BytesIO()
    pydicom.dcmwrite(content, dataset, enforce_file_format=True)
    with atomic_target(target, overwrite=overwrite) as part:
        part.write_bytes(content.getbuffer())
    return target


def _syntax(name: str | None) -> UID:
    if name is None:
        return ExplicitVRLittleEndian
    found = TRANSFER_SYNTAXES.get(name) or next((uid for uid in TRANSFER_SYNTAXES.values() if uid == name), None)
    if found is None:
        raise UsageError("no such transfer syntax for an output", f"known: {', '.join(TRANSFER_SYNTAXES)}")
    return found


def _file_meta(dataset: Dataset, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    put(meta, "FileMetaInformationVersion", b"\x00\x01")
    put(meta, "MediaStorageSOPClassUID", dataset["SOPClassUID"].value)
    put(meta, "MediaStorageSOPInstanceUID", dataset["SOPInstanceUID"].value)
    put(meta, "TransferSyntaxUID", syntax)
    put(meta, "ImplementationClassUID", IMPLEMENTATION_CLASS_UID)
    put(meta, "ImplementationVersionName", IMPLEMENTATION_VERSION_NAME)
    return meta


def _set_pixels(dataset: Dataset, stored: npt.NDArray[Any], syntax: UID) -> None:
    bits = int(dataset["BitsAllocated"].value)
    if stored.dtype.kind not in "iu" or stored.itemsize * 8 != bits:
        raise ValueError(f"pixels of type {stored.dtype} do not fit {bits} allocated bits")
    frames = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    if syntax == ExplicitVRLittleEndian:
        # A stream, which pydicom copies once and pads to an even length.
        put(dataset, "PixelData", BytesIO(frames.tobytes()), "OB" if bits == 8 else "OW")
        return
    encode = _encoder(dataset, stored, syntax)
    put(dataset, "PixelData", encapsulate([encode(frame.tobytes()) for frame in frames]), "OB")


def _encoder(dataset: Dataset, stored: npt.NDArray[Any], syntax: UID) -> Callable[[bytes], bytes]:
    depth, allocated = int(dataset["BitsStored"].value), stored.itemsize * 8
    signed = stored.dtype.kind == "i"
    if syntax == RLELossless:
        depth = allocated  # RLE packs whole bytes, also those that hold no stored bits
    else:
        low, high = (-(1 << depth - 1), (1 << depth - 1) - 1) if signed else (0, (1 << depth) - 1)
        if np.min(stored) < low or np.max(stored) > high:
            raise MedfplError("its pixels need more bits than it declares", "choose another transfer syntax")
    facts = {
        "rows": stored.shape[1],
        "columns": stored.shape[2],
        "samples_per_pixel": 1,
        "bits_allocated": allocated,
        "bits_stored": depth,
        "pixel_representation": int(signed),
        "photometric_interpretation": str(dataset["PhotometricInterpretation"].value),
    }
    too_small = MedfplError("its images are too small for this transfer syntax", "choose another transfer syntax")
    if syntax == JPEG2000Lossless:
        if min(stored.shape[1:]) < _SMALLEST_JPEG_2000:
            raise too_small
        import openjpeg

        def encode_jpeg_2000(frame: bytes) -> bytes:
            with _JPEG_2000:
                return bytes(openjpeg.encode_pixel_data(frame, **facts))

        return encode_jpeg_2000
    from pydicom.pixels import get_encoder

    plugin = "pydicom" if syntax == RLELossless else "pyjpegls"
    encoder = get_encoder(syntax)

    def encode(frame: bytes) -> bytes:
        try:
            return encoder.encode(frame, encoding_plugin=plugin, number_of_frames=1, **facts)
        except RuntimeError as error:
            # pyjpegls allows the result as many bytes as the frame has.
            raise too_small from error

    return encode
