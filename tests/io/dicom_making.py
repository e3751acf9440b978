"""DICOM files for tests, made from numbers."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT, MR, DX, CAPTURE = (UID("1.2.840.10008.5.1.4.1.1." + n) for n in ("2", "4", "1.1", "7"))
MODALITIES = {CT: "CT", MR: "MR", DX: "DX", CAPTURE: "OT"}
# Only what lies on disk: pydicom's own functions for these files download the others.
ON_DISK = {p.name: p for p in (Path(DATA_ROOT) / "test_files").glob("*.dcm")}


def make_dicom(
    values: np.ndarray,
    *,
    sop_class: UID = CT,
    stored: int | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    frames: list[bytes] | None = None,
    **elements: Any,
) -> FileDataset:
    """Return a file of ``values`` (y, x) or (z, y, x); ``frames`` are its compressed frames, ``elements`` are set last.

    An element that is None is left out.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality = MODALITIES.get(sop_class, "OT")
    ds.PatientName, ds.PatientID = "Secret^Person", "S-4711"
    ds.InstanceNumber = 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape[-2:]
    if values.ndim == 3:
        ds.NumberOfFrames = len(values)
    bits = 8 * values.itemsize
    stored = stored or bits
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, stored, stored - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    if frames is None:
        raw = values.tobytes()
        ds.PixelData = raw + b"\0" * (len(raw) % 2)
    else:
        ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR = "OB" if frames is not None or bits == 8 else "OW"
    ds["PixelData"].is_undefined_length = frames is not None
    for keyword, value in elements.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def to_bytes(ds: Dataset) -> bytes:
    """Return the file's bytes, elements as they are, however wrong."""
    stream = BytesIO()
    dcmwrite(stream, ds, enforce_file_format=False)
    return stream.getvalue()


def save(ds: Dataset, path: Path) -> Path:
    """Write the file and return its path."""
    path.write_bytes(to_bytes(ds))
    return path
