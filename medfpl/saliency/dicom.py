"""Maps as DICOM: float Parametric Maps where the source lies in space, a Secondary Capture of the picture elsewhere.

Both are new instances in series of their own in the source's study, derived from it and naming it. They hold what
identity the source holds, no more and no less. Sources: PS3.3 A.75 (Parametric Map), A.8.1 (Secondary Capture).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from medfpl import __version__
from medfpl.io.derivation import Derivation
from medfpl.io.dicom_copy import explicit_copy
from medfpl.io.dicom_derive import derived_uid
from medfpl.io.dicom_write import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from medfpl.scan import FloatArray, Scan

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LARGEST_PART = 1 << 28  # bytes of pixels in one Parametric Map: a longer series becomes several instances
UNIT = ("1", "UCUM", "no units")
# What viewers order series by; the source's own number is kept in front.
_SERIES = {"before": 2001, "after": 2002, "difference": 2003, "overlay": 2004}
_TITLES = {
    "before": "features before denoising",
    "after": "features after denoising",
    "difference": "features after minus before denoising",
    "overlay": "features before and after denoising",
}
# Type 2 at most in the source's modules, and type 2 here: empty where the source says nothing.
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_NAMES = ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID")
_DEIDENTIFIED = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)


@dataclass(frozen=True)
class Part:
    """A data set ready to be written, and the name of its file."""

    name: str
    dataset: Dataset


def has_geometry(scan: Scan) -> bool:
    """Whether a Parametric Map can say where the pixels of a DICOM scan lie, as its source says it."""
    sources = natives(scan)
    named = all(s.get(uid) for s in sources for uid in _NAMES)
    # Slices of a series each say where they lie, evenly or not; the frames of one file do if they have an affine.
    placed = all(_placed(s) for s in sources) if len(sources) > 1 else scan.geometry.affine is not None
    return named and placed and ("SharedFunctionalGroupsSequence" in sources[0] or _placed(sources[0]))


def natives(scan: Scan) -> Sequence[Dataset]:
    """Return the data sets of a DICOM scan's file, or files."""
    native = scan.source.native
    return native if isinstance(native, tuple) else (native,)


def parametric_maps(
    scan: Scan, name: str, values: FloatArray, derivation: Derivation, when: datetime | None
) -> list[Part]:
    """Return the map ``values`` (z, y, x) of ``scan`` as Parametric Maps of float32 with its geometry.

    The real-world value is the stored one, dimensionless (1 stands for the scan's working range). UIDs come from the
    source's and the derivation: the same run gives the same.
    """
    sources = natives(scan)
    frames = max(1, LARGEST_PART // values[0].nbytes)
    if len(sources) == 1:  # frames of one file stay together
        frames = len(values)
    parts = []
    for number, first in enumerate(range(0, len(values), frames), 1):
        used = sources if len(sources) == 1 else sources[first : first + frames]
        chosen = np.ascontiguousarray(values[first : first + frames])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom's quote the patient's name
            made = _parametric_map(used, name, chosen, number, derivation, when, scan)
        parts.append(Part(name if number == 1 else f"{name}_{number}", made))
    return parts


def to_bytes(dataset: Dataset) -> bytes:
    """Return a part's data set as the bytes of its file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
    stream = BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _parametric_map(
    sources: Sequence[Dataset],
    name: str,
    values: FloatArray,
    number: int,
    derivation: Derivation,
    when: datetime | None,
    scan: Scan,
) -> Dataset:
    import highdicom

    plain = [_complete(source) for source in sources]
    series, instance = _uids(sources, name, number, derivation, scan)
    low, high = float(values.min()), float(values.max())
    limit = max(abs(low), abs(high)) or 1.0
    known = any(source.get("RecognizableVisualFeatures") == "NO" for source in sources)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="FEATURES",
        lut_explanation="Guided gradient, image range 0 to 1",
        unit=highdicom.sr.CodedConcept(*UNIT),
        value_range=(low, max(high, float(np.nextafter(np.float32(low), np.float32(np.inf))))),
        slope=1,
        intercept=0,
    )
    made = highdicom.pm.ParametricMap(
        plain,
        values[..., None] if len(values) > 1 or "NumberOfFrames" in plain[0] else values[0],
        series_instance_uid=series,
        series_number=_series_number(sources[0], name),
        sop_instance_uid=instance,
        instance_number=number,
        manufacturer="medfpl",
        manufacturer_model_name="medfpl",
        software_versions=__version__,
        device_serial_number="none",
        # A head's outline in the map is as telling as in the image.
        contains_recognizable_visual_features=not known,
        real_world_value_mappings=[[mapping]] if len(values) > 1 or "NumberOfFrames" in plain[0] else [mapping],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(window_center=0.0, window_width=2 * limit)
            if low < 0
            else highdicom.VOILUTTransformation(window_center=limit / 2, window_width=limit)
        ],
        content_description=_TITLES[name].capitalize(),
        content_label="FEATURES",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    made.SeriesDescription = _TITLES[name]
    made.DerivationDescription = _ascii(derivation.describe())
    made.Laterality = ""
    dimensions = derived_uid("dimensions", instance)  # highdicom draws one
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    _keep_deidentified(made, sources[0])
    _state_time(made, when)
    return made


def secondary_capture(
    scan: Scan, picture: npt.NDArray[np.uint8], z: int, derivation: Derivation, when: datetime | None
) -> Part:
    """Return the RGB ``picture`` (H, W, 3) of slice ``z`` of ``scan`` as a Secondary Capture image."""
    from pydicom.sequence import Sequence as Items

    sources = natives(scan)
    source, number = sources[z] if len(sources) > 1 else sources[0], z + 1
    series, instance = _uids([source], "overlay", number, derivation, scan)
    made = Dataset()
    copied = explicit_copy(source, drop_private=True)
    for keyword in ("SpecificCharacterSet", *_PATIENT, *_STUDY, *_DEIDENTIFIED, "StudyInstanceUID", "PatientAge"):
        if keyword in copied:
            made[keyword] = copied[keyword]
    _empty_where_missing(made, (*_PATIENT, *_STUDY))
    made.SOPClassUID, made.SOPInstanceUID = SECONDARY_CAPTURE, instance
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = series, _series_number(source, "overlay"), number
    made.Modality, made.ConversionType = "OT", "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.SeriesDescription = _TITLES["overlay"]
    made.DerivationDescription = _ascii(derivation.describe())
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = "medfpl", "medfpl", __version__
    made.SecondaryCaptureDeviceManufacturer, made.SecondaryCaptureDeviceManufacturerModelName = "medfpl", "medfpl"
    made.SecondaryCaptureDeviceSoftwareVersions = __version__
    made.Laterality, made.PatientOrientation = "", ""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    made.SourceImageSequence = Items([reference])
    # Titles and the scale's numbers are part of the picture; what the source has burned in shows through, too.
    made.BurnedInAnnotation = "YES" if source.get("BurnedInAnnotation") == "YES" else "NO"
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = picture.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = picture.tobytes() + b"\0" * (picture.size % 2)
    made["PixelData"].VR = "OB"
    if source.get("LossyImageCompression") == "01" or scan.meta.get("lossy"):
        made.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in copied:
                made[keyword] = copied[keyword]
    _state_time(made, when)
    return Part("overlay" if len(scan.pixels) == 1 else f"overlay_{z:04d}", made)


def _complete(source: Dataset) -> Dataset:
    """Return a shallow copy of a data set that has the type 2 attributes which highdicom takes for granted."""
    made = Dataset(source)
    made.file_meta = source.file_meta
    _empty_where_missing(made, (*_PATIENT, *_STUDY))
    return made


def _empty_where_missing(dataset: Dataset, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def _placed(source: Dataset) -> bool:
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    return all(source.get(keyword) not in (None, "") for keyword in needed)


def _uids(sources: Sequence[Dataset], name: str, number: int, derivation: Derivation, scan: Scan) -> tuple[str, str]:
    done = derivation.fingerprint()
    series = str(sources[0].get("SeriesInstanceUID") or sources[0].get("StudyInstanceUID") or "")
    instance = derived_uid("map", name, str(number), str(sources[0].SOPInstanceUID), scan.source.sha256, done)
    return derived_uid("maps", name, series, done), instance


def _series_number(source: Dataset, name: str) -> int:
    try:
        number = int(source.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return _SERIES[name] + (number if 0 <= number < 1_000_000 else 0) * 10


def _keep_deidentified(made: Dataset, source: Dataset) -> None:
    copied = explicit_copy(source, drop_private=True)
    for keyword in _DEIDENTIFIED:
        if keyword in copied:
            made[keyword] = copied[keyword]


def _state_time(made: Dataset, when: datetime | None) -> None:
    stated = (when or datetime.now(UTC)).astimezone()
    for item in made.get("ContributingEquipmentSequence", ())[-1:]:  # highdicom's own, which comes last
        item.ContributionDateTime = stated.strftime("%Y%m%d%H%M%S.%f%z")[:26]
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(made, f"{prefix}Date", stated.strftime("%Y%m%d"))
        setattr(made, f"{prefix}Time", stated.strftime("%H%M%S.%f"))


def _ascii(text: str) -> Any:
    return text.encode("ascii", "replace").decode("ascii")[:1024]
