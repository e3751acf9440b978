"""A DICOM file's header: parsed by pydicom after the walk over its structure, and judged: is it treated, as what?"""

import re
import struct
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medfpl.errors import BadInput
from medfpl.io.dicom_tags import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, PIXEL_DATA, Layout
from medfpl.io.frames import CODINGS
from medfpl.io.guard import Limits
from medfpl.scan import Kind

# pydicom's warnings quote values, which may be a patient's; they must not reach a terminal or a log.
warnings.filterwarnings("ignore", module=r"pydicom\.")

NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)
_CLASS = "1.2.840.10008.5.1.4.1.1."
_CT = {_CLASS + n for n in ("2", "2.1", "2.2")}
_MR = {_CLASS + n for n in ("4", "4.1", "4.4")}
_PROJECTION = "1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 12.1 12.1.1 12.2 12.2.1 13.1.3 13.1.4 13.1.5 481.1"
_XRAY = {_CLASS + n for n in _PROJECTION.split()}
_CAPTURE = {_CLASS + n for n in ("7", "7.2", "7.3")}
_XRAY_MODALITIES = {"CR", "DX", "MG", "XA", "RF", "PX", "IO", "RG", "RTIMAGE"}
_NOT_GREY = ("Color", "Video", "Whole Slide", "Single Bit", "Tiled")
_NOT_HU = ("OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
_UID_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_FILTERED = re.compile(r"denois|noise reduc|smooth|filter|medfpl", re.IGNORECASE)


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels are stored: frames, rows, columns; bits allocated and stored; signed or not."""

    shape: tuple[int, int, int]
    allocated: int
    stored: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The integer type of the container, in the machine's byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def low(self) -> int:
        """The smallest value that the stored bits hold."""
        return -(1 << self.stored - 1) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value that the stored bits hold."""
        return (1 << self.stored - self.signed) - 1


def parse_header(raw: bytes, layout: Layout) -> Dataset:
    """Return the data set without its pixels, with ``file_meta``; BadInput if pydicom cannot read it.

    Elements stay undecoded, byte for byte, but for those of a big endian file, which are all decoded, since
    nothing writes big endian. An element whose value does not fit its VR becomes UN and keeps its bytes. SOP UIDs that
    a de-identification emptied are taken from the meta group, which must hold the same two.
    """
    try:
        return _parse(raw, layout)
    except Exception:  # pydicom raises of every kind
        raise BadInput("its DICOM elements are damaged") from None


def _parse(raw: bytes, layout: Layout) -> Dataset:
    pixels, data = layout.pixels, layout.data
    body = data[layout.begin : layout.end]
    if pixels:
        body = data[layout.begin : pixels.start] + data[pixels.end : layout.end]
    dataset = read_dataset(BytesIO(body), not layout.explicit, layout.little)
    meta = read_dataset(BytesIO(raw[slice(*layout.meta)]), False, True)
    _settle(dataset)
    _settle(meta)
    if not layout.little:
        dataset = _decoded(dataset)
    dataset.file_meta = FileMetaDataset(meta)
    dataset.file_meta.TransferSyntaxUID = UID(layout.syntax)
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        known = dataset.file_meta.get("MediaStorage" + keyword)
        if keyword in dataset and not dataset[keyword].value and known:
            setattr(dataset, keyword, known)
    return dataset


def _settle(dataset: Dataset) -> None:
    """Make sure that every element can be decoded later, by whoever writes the data set."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            try:
                decoded = convert_raw_data_element(element, encoding=dataset._character_set, ds=dataset)
            except Exception:
                dataset[tag] = DataElement(tag, "UN", element.value or b"")
                continue
            if decoded.VR != "SQ":
                continue
            dataset[tag] = decoded
            element = decoded
        if element.VR == "SQ":
            for item in element.value:
                _settle(item)


def _decoded(dataset: Dataset) -> Dataset:
    """Return a fresh little endian data set with all elements of a big endian one."""
    fresh = Dataset()
    for element in dataset:
        value = element.value
        if element.VR == "SQ":
            value = Sequence([_decoded(item) for item in value])
        elif element.VR in _WORDS and isinstance(value, bytes):
            size = _WORDS[element.VR]
            whole = len(value) // size * size
            value = np.frombuffer(value, f"u{size}", whole // size).byteswap().tobytes() + value[whole:]
        fresh.add(DataElement(element.tag, element.VR, value))
    return fresh


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """Return an element's values as text in upper case, [] where it is absent."""
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue) else [value]
    return [str(v).strip().upper() for v in values if v not in (None, "", b"")]


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element's first value as text in upper case, "" where it is absent."""
    return next(iter(texts(dataset, keyword)), "")


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, [] where it is absent or, in a damaged file, is none."""
    value = dataset.get(keyword)
    return list(value) if isinstance(value, Sequence) else []


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return an element's value as a number (may be NaN or Inf), None where it is absent or empty.

    BadInput if it is there and is no number.
    """
    value = dataset.get(keyword)
    if value is None or value == "" or value == b"":
        return None
    try:
        if isinstance(value, bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"its {keyword} is not a number") from None


def integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """Return an element's value as an integer; BadInput if it is none, or is absent and has no ``default``."""
    value = number(dataset, keyword)
    if value is None:
        if default is None:
            raise BadInput(f"it has no {keyword}")
        return default
    if not np.isfinite(value) or value != int(value):
        raise BadInput(f"its {keyword} is not a whole number")
    return int(value)


def pixel_format(dataset: Dataset, limits: Limits) -> PixelFormat:
    """Return how the pixels are stored; BadInput for what is missing, contradicts itself or is not treated."""
    samples, photometric = integer(dataset, "SamplesPerPixel", 1), text(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        raise BadInput("its pixels are colours of a palette")
    if samples != 1 or photometric.startswith(("RGB", "YBR", "HSV", "ARGB", "CMYK", "XYB")):
        raise BadInput("it is a colour image")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadInput("its photometric interpretation is missing or unknown")
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    frames = integer(dataset, "NumberOfFrames", 1)
    if rows < 1 or columns < 1 or frames < 1:
        raise BadInput("one of its dimensions is below 1")
    if rows * columns * frames > limits.max_pixels:
        raise BadInput(f"it declares {rows * columns * frames} pixels, more than the limit of {limits.max_pixels}")
    allocated, stored = integer(dataset, "BitsAllocated"), integer(dataset, "BitsStored")
    if allocated not in (8, 16):
        raise BadInput(f"its pixels have {allocated} bits; 8 and 16 are treated")
    if not 2 <= stored <= allocated:
        raise BadInput("its bits stored do not fit its bits allocated")
    if integer(dataset, "HighBit", stored - 1) != stored - 1:
        raise BadInput("its high bit is not the highest bit stored")
    sign = integer(dataset, "PixelRepresentation")
    if sign not in (0, 1):
        raise BadInput("its pixel representation is neither signed nor unsigned")
    return PixelFormat((frames, rows, columns), allocated, stored, bool(sign))


def check_object(dataset: Dataset, layout: Layout) -> None:
    """Raise BadInput for whatever is no greyscale image of integers in a transfer syntax that is read."""
    sop_class = UID(str(dataset.get("SOPClassUID") or ""))
    name = sop_class.name
    if not sop_class:
        raise BadInput("it does not say what it is: it has no SOP class")
    if sop_class == "1.2.840.10008.1.3.10":
        raise BadInput("it is a DICOMDIR, a list of files")
    if name == sop_class:
        raise BadInput("its SOP class is not a standard one")
    if "Image Storage" not in name or any(word in name for word in _NOT_GREY):
        raise BadInput(f"it is a DICOM {name.removesuffix(' Storage')}, which is not treated")
    if layout.syntax not in NATIVE and layout.syntax not in CODINGS:
        known = UID(layout.syntax).name
        video = any(word in known for word in ("MPEG", "HEVC"))
        reason = "it is a video" if video else "its transfer syntax is not one that medfpl reads"
        raise BadInput(reason)
    if layout.pixels is None:
        raise BadInput("it holds no pixel data")
    if layout.pixels.tag != PIXEL_DATA:
        raise BadInput("its pixels are floating point numbers")
    if (layout.pixels.fragments is None) == (layout.syntax in CODINGS):
        raise BadInput("its pixel data is not packed as its transfer syntax says")


def check_identity(dataset: Dataset, allow_burned_in: bool) -> None:
    """Raise BadInput for missing or illegal UIDs and for text burned into the pixels."""
    if not dataset.get("SOPInstanceUID"):
        raise BadInput("it has no SOPInstanceUID")
    for keyword in _UID_KEYWORDS:
        value = dataset.get(keyword)
        if value and not (isinstance(value, UID) and value.is_valid):
            raise BadInput(f"its {keyword} is not a legal UID")
    if text(dataset, "BurnedInAnnotation") == "YES" and not allow_burned_in:
        raise BadInput("its pixels hold burned-in text, which could be altered", "--allow-burned-in treats it anyway")


def kind_of(dataset: Dataset, stored_bits: int) -> Kind:
    """Return what the numbers of an image are, by its SOP class and, for a secondary capture, its modality."""
    sop_class, modality = str(dataset.get("SOPClassUID")), text(dataset, "Modality")
    unit = text(dataset, "RescaleType")
    if sop_class in _CT:
        if "LOCALIZER" in texts(dataset, "ImageType"):  # a projection, whose numbers are not HU
            return "xray"
        # Writers spell HU in many ways; what is none is named by a term of PS3.3 C.11.1.1.2.
        return "other" if unit in _NOT_HU else "ct"
    if sop_class in _MR:
        return "mr"
    if sop_class in _XRAY:
        return "xray"
    if sop_class in _CAPTURE:
        if modality in _XRAY_MODALITIES:
            return "xray"
        if stored_bits > 8 and modality == "MR":
            return "mr"
        if stored_bits > 8 and modality == "CT" and unit == "HU":
            return "ct"
    return "other"


def is_lossy(dataset: Dataset, syntax: str) -> bool:
    """Whether the pixels were ever compressed with loss, as far as header and transfer syntax tell."""
    said = text(dataset, "LossyImageCompression")
    loses = CODINGS.get(syntax, ("", False))[1]
    return said == "01" or (said != "00" if loses is None else loses)


def is_filtered(dataset: Dataset) -> bool:
    """Whether the header says that the image was made by a filter."""
    if text(dataset, "ImageType") != "DERIVED":
        return False
    smoothed = any(text(item, "CodeValue") == "113087" for item in items(dataset, "DerivationCodeSequence"))
    return smoothed or bool(_FILTERED.search(text(dataset, "DerivationDescription")))


def frame_offsets(dataset: Dataset, table: bytes) -> list[int]:
    """Return where each compressed frame begins, by the extended or the basic offset table, [] without either."""
    extended = dataset.get("ExtendedOffsetTable")
    if isinstance(extended, bytes) and extended:
        return [n for (n,) in struct.iter_unpack("<Q", extended[: len(extended) // 8 * 8])]
    return [n for (n,) in struct.iter_unpack("<I", table[: len(table) // 4 * 4])]
