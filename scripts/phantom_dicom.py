"""DICOM objects for the phantoms: a CT series and a digital X-ray, of a patient who is no one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from medfpl.scan import FloatArray, Geometry

DAY, TIME = "20260101", "120000"


@dataclass(frozen=True, eq=False)
class Image:
    """Stored values (H, W) of an X-ray with its pixel size in mm; ``name`` tells clean from noisy."""

    values: npt.NDArray[np.uint16]
    pixel_mm: float
    name: str


def uid(*labels: object) -> str:
    """Return a UID that depends on the labels alone."""
    return f"2.25.{int.from_bytes(hashlib.sha256(repr(labels).encode()).digest()[:15], 'big')}"


def _common(name: str, modality: str, series: int) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.InstanceCreationDate, ds.InstanceCreationTime = DAY, TIME
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = DAY
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = TIME
    ds.AccessionNumber = ""
    ds.Modality = modality
    ds.Manufacturer = "medfpl phantom"
    ds.ManufacturerModelName = "thorax"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Phantom chest"
    ds.SeriesDescription = f"phantom {name}"
    ds.PatientName = "Phantom^Thorax"
    ds.PatientID = "PHANTOM-THORAX"
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Not a patient: drawn by a program"
    ds.StudyInstanceUID = uid("study", modality)
    ds.SeriesInstanceUID = uid("series", modality, name)
    ds.StudyID = "1"
    ds.SeriesNumber = series
    ds.BurnedInAnnotation = "NO"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    return ds


def _save(ds: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    ds.file_meta = meta
    ds.save_as(path, enforce_file_format=True)


def write_ct(volume: FloatArray, geometry: Geometry, folder: Path, name: str) -> None:
    """Write a CT series (z, y, x) in HU, one file a slice, 0001.dcm at the feet."""
    assert geometry.spacing is not None
    assert geometry.affine is not None
    for z, pixels in enumerate(volume):
        ds = _common(name, "CT", 1 if name == "clean" else 2)
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid("ct", name, z)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.BodyPartExamined = "CHEST"
        ds.PatientPosition = "HFS"
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid("frame of reference"), ""
        ds.KVP, ds.AcquisitionNumber, ds.InstanceNumber = "120", 1, z + 1
        ds.ConvolutionKernel = "RAMP"
        ds.SliceThickness = str(geometry.spacing[0])
        ds.PixelSpacing = [str(geometry.spacing[1]), str(geometry.spacing[2])]
        position = (geometry.affine @ (z, 0, 0, 1))[:3]
        ds.ImagePositionPatient = [f"{v:.6g}" for v in position]
        ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        ds.SliceLocation = f"{position[2]:.6g}"
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
        ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1500"]
        ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
        ds.PixelData = np.rint(pixels + 1024).astype("<u2").tobytes()
        _save(ds, folder / f"{z + 1:04}.dcm")


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def write_xray(image: Image, path: Path) -> None:
    """Write a digital X-ray, postero-anterior, as For Presentation."""
    ds = _common(image.name, "DX", 1 if image.name == "clean" else 2)
    ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, uid("dx", image.name)
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.BodyPartExamined = "CHEST"
    ds.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
    ds.PositionerType, ds.ViewPosition = "NONE", "PA"
    ds.ViewCodeSequence = [_code("399348003", "SCT", "postero-anterior")]
    ds.ImageLaterality = "U"
    ds.PatientOrientation = ["L", "F"]
    ds.AcquisitionNumber = ds.InstanceNumber = 1
    ds.AcquisitionContextSequence = []
    ds.DetectorType = "DIRECT"
    ds.ImagerPixelSpacing = [str(image.pixel_mm)] * 2
    ds.PixelSpacing = [str(image.pixel_mm)] * 2
    ds.PixelSpacingCalibrationType = "GEOMETRY"
    ds.PixelSpacingCalibrationDescription = "parallel rays"
    ds.KVP = "110"
    ds.Rows, ds.Columns = image.values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", -1  # bright is dense
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.PixelData = image.values.astype("<u2").tobytes()
    _save(ds, path)
