"""What makes a copied data set a derived image: new identity, what was done, by what, from which source.

Sources: PS3.3 C.7.6.1 (General Image), C.7.6.16 (functional groups), C.8.16 (frame types), C.12.1 (SOP Common),
C.12.4 (General Reference); PS3.16 CID 7005, 7202, 7203.
"""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medfpl.io.derivation import Derivation
from medfpl.io.dicom_copy import put
from medfpl.io.dicom_header import is_lossy
from medfpl.scan import Source

_SPACE = uuid.UUID("bfc04a82-b0e8-5636-adfa-4710dcae05c4")
_LARGEST_INTEGER_STRING = 2**31 - 1
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# NM, PET and ophthalmic photographs have no value SECONDARY, nor has anything with functional groups.
_PRIMARY_ONLY = tuple(_STORAGE + number for number in ("20", "128", "77.1.5.1", "77.1.5.2"))

# CID 7203 may be extended and holds no code for noise; a scheme that begins with 99 is private (PS3.16 8.2).
_WHAT_WAS_DONE = {
    "denoised": ("113087", "DCM", "Smoothing"),
    "noise added": ("NOISE-ADDED", "99MEDFPL", "Noise addition"),
}
_FOR_PROCESSING = ("121322", "DCM", "Source image for image processing operation")
_MODIFYING_EQUIPMENT = ("109103", "DCM", "Modifying Equipment")

# True of the source alone: signatures, offsets, pictures and statistics of its pixels, who made and approved it.
_REMOVED = (
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "EncapsulatedPixelDataValueTotalLength",
    "DataSetTrailingPadding",
    "IconImageSequence",
    "HistogramSequence",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "InstanceCreatorUID",
    "SOPInstanceStatus",
    "SOPAuthorizationDateTime",
    "SOPAuthorizationComment",
    "AuthorizationEquipmentCertificationNumber",
)

# The method of C.7.6.1.1.5 behind each transfer syntax that may lose.
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}


def derive(
    dataset: Dataset, source: Source, stored: npt.NDArray[Any], derivation: Derivation, when: datetime | None
) -> None:
    """Turn ``dataset``, a copy of ``source.native``, into the header of the image with pixels ``stored``.

    ``when`` is the time of the derivation (now if None; local if it names no zone). Content date and time stay:
    the standard asks for them where images of a series are related in time, which a filter does not change; the
    time of the work itself stands in the instance's creation and in the contributing equipment.
    """
    when = _in_zone_of(dataset, when)
    text = derivation.describe().encode("ascii", "replace").decode("ascii")
    enhanced = "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    reference = _reference(dataset)
    for keyword in _REMOVED:
        if keyword in dataset:
            delattr(dataset, keyword)
    _mark_lossy(dataset, source, stored.nbytes)
    _set_extremes(dataset, source, stored)
    if enhanced:
        _add_evidence(dataset)
        _derive_frames(dataset, derivation.verb, text)
    _append(dataset, "SourceImageSequence", reference)
    _append(dataset, "DerivationCodeSequence", _code(*_WHAT_WAS_DONE[derivation.verb]))
    put(dataset, "DerivationDescription", _joined(_text(dataset, "DerivationDescription"), "; ", text, 1024))
    _append(dataset, "ContributingEquipmentSequence", _equipment(derivation, text, when))
    put(dataset, "ImageType", _image_type(dataset, enhanced))
    _rename(dataset, source, derivation)
    if "InstanceCreationDate" in dataset or "InstanceCreationTime" in dataset:
        put(dataset, "InstanceCreationDate", when.strftime("%Y%m%d"))
        put(dataset, "InstanceCreationTime", when.strftime("%H%M%S.%f"))


def derived_uid(*facts: str) -> str:
    """Return the UID that belongs to ``facts``: the same anywhere, so a batch needs no table of them."""
    digest = hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()
    return f"2.25.{uuid.uuid5(_SPACE, digest).int}"


def _rename(dataset: Dataset, source: Source, derivation: Derivation) -> None:
    done = derivation.fingerprint()
    series = _text(dataset, "SeriesInstanceUID")
    if not series:
        # Every image needs a series; what would have shared one shares these.
        alike = ("StudyInstanceUID", "FrameOfReferenceUID", "Modality", "SeriesNumber", "SeriesDescription")
        series = "\0".join(_text(dataset, keyword) for keyword in alike)
    instance = derived_uid("instance", _text(dataset, "SOPInstanceUID"), source.sha256, done)
    put(dataset, "SeriesInstanceUID", derived_uid("series", series, done))
    put(dataset, "SOPInstanceUID", instance)
    for keyword in ("ConcatenationUID", "SOPInstanceUIDOfConcatenationSource"):
        if old := _text(dataset, keyword):
            put(dataset, keyword, derived_uid("concatenation", old, done))
    put(dataset, "SeriesDescription", _joined(_text(dataset, "SeriesDescription"), " ", derivation.verb, 64))
    number = _text(dataset, "SeriesNumber").strip()
    # Digits only: what int() makes of other text the standard does not mean.
    if number.lstrip("+-").isdecimal() and number.isascii() and int(number) + 1000 <= _LARGEST_INTEGER_STRING:
        put(dataset, "SeriesNumber", str(int(number) + 1000))


def _image_type(dataset: Dataset, enhanced: bool) -> list[str]:
    values = _values(dataset, "ImageType")
    values += [""] * (2 - len(values))
    primary_only = enhanced or _text(dataset, "SOPClassUID") in _PRIMARY_ONLY
    values[:2] = ["DERIVED", values[1] or "PRIMARY" if primary_only else "SECONDARY"]
    return values


def _derive_frames(dataset: Dataset, verb: str, text: str) -> None:
    """Mark every frame's functional groups: its frame type, and from which frame it was made by what."""
    shared = list(_items(dataset, "SharedFunctionalGroupsSequence"))
    frames = list(_items(dataset, "PerFrameFunctionalGroupsSequence"))
    for group in (*shared, *frames):
        for element in group:
            for item in element.value if element.VR == "SQ" else ():
                if "FrameType" in item:
                    put(item, "FrameType", ["DERIVED", *_values(item, "FrameType")[1:]])
    # A functional group stands in one of the two places, never in both.
    in_shared = not frames or any("DerivationImageSequence" in group for group in shared)
    for number, group in enumerate(shared if in_shared else frames, 1):
        step = Dataset()
        put(step, "DerivationDescription", text)
        put(step, "DerivationCodeSequence", Sequence([_code(*_WHAT_WAS_DONE[verb])]))
        put(step, "SourceImageSequence", Sequence([_reference(dataset, None if in_shared else number)]))
        _append(group, "DerivationImageSequence", step)


def _add_evidence(dataset: Dataset) -> None:
    """List the source under its study and series, as enhanced images must for all they are derived from."""
    study, series = _text(dataset, "StudyInstanceUID"), _text(dataset, "SeriesInstanceUID")
    if not (study and series):
        return
    instance = Dataset()
    put(instance, "ReferencedSOPClassUID", _text(dataset, "SOPClassUID"))
    put(instance, "ReferencedSOPInstanceUID", _text(dataset, "SOPInstanceUID"))
    of_study = _found(dataset, "SourceImageEvidenceSequence", "StudyInstanceUID", study)
    of_series = _found(of_study, "ReferencedSeriesSequence", "SeriesInstanceUID", series)
    _append(of_series, "ReferencedSOPSequence", instance)


def _found(dataset: Dataset, keyword: str, key: str, uid: str) -> Dataset:
    for item in _items(dataset, keyword):
        if _text(item, key) == uid:
            return item
    item = Dataset()
    put(item, key, uid)
    _append(dataset, keyword, item)
    return item


def _mark_lossy(dataset: Dataset, source: Source, native_bytes: int) -> None:
    syntax = str(source.native.file_meta.TransferSyntaxUID)
    if not is_lossy(dataset, syntax) or _text(dataset, "LossyImageCompression") == "01":
        return
    # Only the transfer syntax says so: what it knows of how is stated with it.
    put(dataset, "LossyImageCompression", "01")
    if not _text(dataset, "LossyImageCompressionMethod") and syntax in _LOSSY_METHODS:
        put(dataset, "LossyImageCompressionMethod", _LOSSY_METHODS[syntax])
    if not _text(dataset, "LossyImageCompressionRatio") and (size := _size(source)):
        put(dataset, "LossyImageCompressionRatio", f"{native_bytes / size:.4g}")


def _size(source: Source) -> int:
    # The whole file stands for its compressed pixels: the ratio is defined as approximate.
    try:
        return source.path.stat().st_size
    except OSError:
        return 0


def _set_extremes(dataset: Dataset, source: Source, stored: npt.NDArray[Any]) -> None:
    if np.array_equal(stored, source.stored.values):
        return
    vr = "SS" if stored.dtype.kind == "i" else "US"
    for keyword, value in (("SmallestImagePixelValue", stored.min()), ("LargestImagePixelValue", stored.max())):
        if keyword in dataset:
            put(dataset, keyword, int(value), vr)


def _reference(dataset: Dataset, frame: int | None = None) -> Dataset:
    item = Dataset()
    put(item, "ReferencedSOPClassUID", _text(dataset, "SOPClassUID"))
    put(item, "ReferencedSOPInstanceUID", _text(dataset, "SOPInstanceUID"))
    if frame is not None:
        put(item, "ReferencedFrameNumber", str(frame))
    put(item, "SpatialLocationsPreserved", "YES")
    put(item, "PurposeOfReferenceCodeSequence", Sequence([_code(*_FOR_PROCESSING)]))
    return item


def _equipment(derivation: Derivation, text: str, when: datetime) -> Dataset:
    item = Dataset()
    put(item, "PurposeOfReferenceCodeSequence", Sequence([_code(*_MODIFYING_EQUIPMENT)]))
    put(item, "Manufacturer", "medfpl")
    put(item, "ManufacturerModelName", "medfpl")
    put(item, "SoftwareVersions", derivation.version[:64])
    put(item, "ContributionDateTime", when.strftime("%Y%m%d%H%M%S.%f%z")[:26])
    put(item, "ContributionDescription", text[:1024])
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    put(item, "CodeValue", value)
    put(item, "CodingSchemeDesignator", scheme)
    put(item, "CodeMeaning", meaning)
    return item


def _append(dataset: Dataset, keyword: str, item: Dataset) -> None:
    put(dataset, keyword, Sequence([*_items(dataset, keyword), item]))


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset[keyword].value or ()) if keyword in dataset and dataset[keyword].VR == "SQ" else []


def _values(dataset: Dataset, keyword: str) -> list[str]:
    if keyword not in dataset:
        return []
    value = dataset[keyword].value
    if value is None or value == "" or isinstance(value, bytes):
        return []
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return [str(v) for v in value] if several else [str(value)]


def _text(dataset: Dataset, keyword: str) -> str:
    return " ".join(_values(dataset, keyword))


def _joined(old: str, separator: str, new: str, limit: int) -> str:
    """Return ``old`` and ``new`` in at most ``limit`` characters, ``new`` whole where it can be."""
    new = new[:limit]
    room = limit - len(new) - len(separator)
    return f"{old[:room].rstrip()}{separator}{new}" if old.strip() and room > 0 else new


def _in_zone_of(dataset: Dataset, when: datetime | None) -> datetime:
    """Return ``when`` in the zone that the data set's own dates and times are in."""
    when = (when or datetime.now(UTC)).astimezone()
    offset = _text(dataset, "TimezoneOffsetFromUTC").strip()
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isascii() and offset[1:].isdecimal():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        if minutes < 24 * 60:
            return when.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    return when
