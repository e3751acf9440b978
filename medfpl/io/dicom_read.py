"""DICOM images: every check before the first pixel is decoded, then a scan from which a derived object can be written.

``Scan.source.native`` is pydicom's Dataset without the pixels; its ``file_meta`` holds the source's transfer syntax.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medfpl.errors import BadInput, MedfplError
from medfpl.io import dicom_header as header
from medfpl.io.dicom_geometry import frame_groups, read_geometry
from medfpl.io.dicom_header import PixelFormat
from medfpl.io.dicom_tags import Layout, NeedMore, scan_tags
from medfpl.io.frames import decode_frame
from medfpl.io.guard import DEFAULT_LIMITS, Limits, open_regular, read_bytes
from medfpl.scan import Kind, Scan, Source, Stored, choose_intensity

_HEAD = 1 << 18
# Below this no reconstruction goes: what lies there was painted outside the field of view.
_BELOW_AIR = -1100.0


def read_dicom(
    path: Path, *, kind: Kind | None = None, limits: Limits = DEFAULT_LIMITS, allow_burned_in: bool = False
) -> Scan:
    """Read a DICOM image of one or many frames.

    Pixels are real units (HU for CT), also where MONOCHROME1 shows low values white: ``meta["inverted"]`` says so.
    ``valid`` is False at padding and outside a CT's field of view. ``meta`` also holds ``modality``,
    ``transfer_syntax``, ``lossy`` (compressed with loss at any time), ``photometric`` and ``bits_stored``.

    BadInput for whatever is damaged, hostile, beyond ``limits`` or no greyscale image of 8- or 16-bit integers, and
    for burned-in text unless ``allow_burned_in``; MissingDependency for 12-bit JPEG without its decoder.
    """
    raw, sha256 = read_bytes(path, limits)
    layout = scan_tags(raw, limits)
    dataset = header.parse_header(raw, layout)
    pixel_format = checked_format(dataset, layout, limits, allow_burned_in)
    frames = pixel_format.shape[0]
    slope, intercept = _rescale(dataset, frames)
    forbidden = _padding(dataset, pixel_format)
    notes = _notes(dataset)
    values = _read_values(dataset, layout, pixel_format, limits)
    cleared = _clear_unused(values, pixel_format)
    if cleared is not values:
        _keep_overlays(dataset, values)
        notes.append("bits beyond the stored ones were ignored")
    stored = Stored(cleared, slope, intercept, pixel_format.low, pixel_format.high, forbidden)
    pixels = stored.real()
    if not np.isfinite(pixels).all():
        raise BadInput("its values span more than 32-bit numbers hold")
    kind = kind or header.kind_of(dataset, pixel_format.stored)
    valid = _valid(cleared, pixels, forbidden, kind)
    full = _full_range(pixel_format, stored) if kind != "ct" else None
    intensity = choose_intensity(kind, pixels if valid is None else pixels[valid], full)
    if kind == "ct" and not any(keyword in dataset for keyword in ("RescaleIntercept", *_GROUPS)):
        notes.append("it has no rescale values; its numbers are taken as HU")
    source = Source(path, "dicom", stored, cleared.shape, sha256, dataset, tuple(notes))
    return Scan(pixels, intensity, read_geometry(dataset, frames), source, valid, _meta(dataset, layout, pixel_format))


def describe_dicom(path: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Return what a DICOM file is, from its header alone and without identity, as plain values.

    ``treated`` says whether medfpl would treat it, ``reason`` why not. BadInput where it is no DICOM at all.
    """
    dataset, layout = read_header(path, limits)
    facts: dict[str, Any] = {
        "format": "dicom",
        "object": _class_name(dataset),
        "modality": header.text(dataset, "Modality"),
        "transfer_syntax": dataset.file_meta.TransferSyntaxUID.name,
    }
    try:
        pixel_format = checked_format(dataset, layout, limits, allow_burned_in=False)
        _rescale(dataset, pixel_format.shape[0])
        geometry = read_geometry(dataset, pixel_format.shape[0])
    except MedfplError as error:
        return {**facts, "treated": False, "reason": error.message}
    facts |= {
        "kind": header.kind_of(dataset, pixel_format.stored),
        "shape": list(pixel_format.shape),
        "spacing": list(geometry.spacing) if geometry.spacing else None,
        **_meta(dataset, layout, pixel_format),
        "notes": _notes(dataset),
    }
    return {**facts, "treated": True, "reason": ""}


def read_header(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[Dataset, Layout]:
    """Return the data set without pixels, and the file's layout, from as few of its bytes as reach the pixels."""
    with open_regular(path) as (stream, size):
        if size > limits.max_bytes:
            raise BadInput(f"it has {size} bytes, more than the limit of {limits.max_bytes}")
        raw = stream.read(_HEAD)
        while True:
            try:
                layout = scan_tags(raw, limits, size)
                break
            except NeedMore:
                more = stream.read(3 * len(raw))
                if not more:
                    raise BadInput("its size changed while it was read") from None
                raw += more
    return header.parse_header(raw, layout), layout


def checked_format(dataset: Dataset, layout: Layout, limits: Limits, allow_burned_in: bool) -> PixelFormat:
    """Return how the pixels are stored, all being well; BadInput for every reason to refuse that a header can give."""
    header.check_object(dataset, layout)
    pixel_format = header.pixel_format(dataset, limits)
    header.check_identity(dataset, allow_burned_in)
    pixels = layout.pixels
    assert pixels is not None
    if pixels.fragments is None:
        expected = _native_size(pixel_format)
        length = pixels.end - pixels.value
        # An odd length is padded to an even one, and that byte alone is allowed.
        if not expected <= length <= expected + expected % 2:
            raise BadInput(f"its pixel data is {'shorter' if length < expected else 'longer'} than its header says")
    return pixel_format


def _native_size(pixel_format: PixelFormat) -> int:
    frames, rows, columns = pixel_format.shape
    return frames * rows * columns * pixel_format.allocated // 8


_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "ModalityLUTSequence")


def _rescale(dataset: Dataset, frames: int) -> tuple[Any, Any]:
    """Return slope and intercept, as numbers or, where frames differ, as arrays (z, 1, 1)."""
    if "ModalityLUTSequence" in dataset:
        return _linear_lut(dataset)
    groups = frame_groups(dataset, frames)
    places = [dataset] if groups is None else [_transform_of(group, dataset) for group in groups]
    pairs = [_slope_of(place) for place in places]
    if all(pair == pairs[0] for pair in pairs):
        return pairs[0]
    slopes, intercepts = np.array(pairs, np.float64).T.reshape(2, -1, 1, 1)
    return slopes, intercepts


def _transform_of(groups: tuple[Dataset, ...], otherwise: Dataset) -> Dataset:
    found = (header.items(group, "PixelValueTransformationSequence") for group in groups)
    return next((items[0] for items in found if items), otherwise)


def _slope_of(place: Dataset) -> tuple[float, float]:
    slope, intercept = header.number(place, "RescaleSlope"), header.number(place, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not np.isfinite(slope) or slope == 0:
        raise BadInput("its rescale slope is 0 or not finite")
    if not np.isfinite(intercept):
        raise BadInput("its rescale intercept is not finite")
    return slope, intercept


def _linear_lut(dataset: Dataset) -> tuple[float, float]:
    """Return the line that a modality look-up table is; BadInput for any other, which cannot be undone exactly."""
    lut = next(iter(header.items(dataset, "ModalityLUTSequence")), Dataset())
    descriptor, data = lut.get("LUTDescriptor"), lut.get("LUTData")
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2", len(data) // 2)
    try:
        count, first = int(descriptor[0]) or 65536, int(descriptor[1])
        table = np.asarray(data, np.float64)
    except (TypeError, ValueError, IndexError):
        raise BadInput("its modality look-up table is damaged") from None
    if table.shape != (count,) or count < 2:
        raise BadInput("its modality look-up table is damaged")
    steps = np.diff(table)
    if steps[0] == 0 or (steps != steps[0]).any():
        raise BadInput("its modality look-up table is not a line, so that results could not be stored")
    return float(steps[0]), float(table[0] - steps[0] * first)


def _padding(dataset: Dataset, pixel_format: PixelFormat) -> tuple[int, int] | None:
    """Return the stored values that mean padding, smallest and largest, or None."""
    if header.number(dataset, "PixelPaddingValue") is None:
        return None
    first = header.integer(dataset, "PixelPaddingValue")
    ends = [_wrapped(n, pixel_format) for n in (first, header.integer(dataset, "PixelPaddingRangeLimit", first))]
    return min(ends), max(ends)


def _wrapped(value: int, pixel_format: PixelFormat) -> int:
    # Some writers encode the padding value with the other sign: 63536 for -2000.
    span = 1 << pixel_format.allocated
    value &= span - 1
    return value - span if pixel_format.signed and value >= span >> 1 else value


def _read_values(
    dataset: Dataset, layout: Layout, pixel_format: PixelFormat, limits: Limits
) -> npt.NDArray[np.integer[Any]]:
    """Return the values (frame, row, column) as the container holds them, in the machine's byte order."""
    pixels, data = layout.pixels, layout.data
    assert pixels is not None
    if pixels.fragments is None:
        count = int(np.prod(pixel_format.shape))
        swapped = not layout.little and data[pixels.start + 4 : pixels.start + 6] == b"OW"
        if pixel_format.allocated == 8 and swapped:
            words = np.frombuffer(data, ">u2", (pixels.end - pixels.value) // 2, pixels.value).astype("<u2")
            return words.view(pixel_format.dtype)[:count].reshape(pixel_format.shape)
        dtype = pixel_format.dtype.newbyteorder("<" if layout.little else ">")
        values = np.frombuffer(data, dtype, count, pixels.value).reshape(pixel_format.shape)
        return values.astype(pixel_format.dtype, copy=False)
    frames = _frames(dataset, layout, pixel_format.shape[0])
    _, rows, columns = pixel_format.shape
    bits = pixel_format.allocated, pixel_format.stored
    decoded = []
    for parts in frames:
        frame = b"".join(data[at : at + length] for at, length in parts)
        decoded.append(decode_frame(frame, layout.syntax, (rows, columns), bits, pixel_format.signed, limits))
    return np.stack(decoded)


def _frames(dataset: Dataset, layout: Layout, count: int) -> list[list[tuple[int, int]]]:
    """Return the fragments of each frame."""
    pixels = layout.pixels
    assert pixels is not None
    assert pixels.fragments is not None
    assert pixels.table is not None
    fragments = [f for f in pixels.fragments if f[1]]
    if count == 1:
        return [fragments]
    if len(fragments) == count:
        return [[f] for f in fragments]
    at, length = pixels.table
    starts = set(header.frame_offsets(dataset, layout.data[at : at + length]))
    first = pixels.fragments[0][0]
    if not starts:  # a frame begins where the coding's first marker stands
        starts = {at - first for at, _ in fragments if layout.data[at : at + 2] in (b"\xff\xd8", b"\xff\x4f")}
    frames: list[list[tuple[int, int]]] = []
    for fragment in fragments:
        if fragment[0] - first in starts:
            frames.append([])
        if frames:
            frames[-1].append(fragment)
    if len(frames) != count:
        raise BadInput("its pixel data does not hold as many frames as its header says")
    return frames


def _clear_unused(values: npt.NDArray[Any], pixel_format: PixelFormat) -> npt.NDArray[Any]:
    """Return the values of the stored bits alone, with their sign; the array itself if nothing else was there."""
    shift = pixel_format.allocated - pixel_format.stored
    if not shift:
        return values
    cleared = (values << shift) >> shift
    return values if np.array_equal(cleared, values) else cleared


def _keep_overlays(dataset: Dataset, values: npt.NDArray[Any]) -> None:
    """Move overlays that lie in unused bits of the pixels into elements of their own, as is done since 2004."""
    bits = values.view(f"u{values.itemsize}")
    for group in range(0x6000, 0x6020, 2):
        position = dataset.get((group, 0x0102))
        if (group, 0x0010) not in dataset or (group, 0x3000) in dataset or position is None or not position.value:
            continue
        plane = np.packbits(bits >> int(position.value) & 1, bitorder="little").tobytes()
        dataset.add_new((group, 0x0100), "US", 1)
        dataset.add_new((group, 0x0102), "US", 0)
        dataset.add_new((group, 0x3000), "OW", plane + b"\0" * (len(plane) % 2))


def _valid(
    values: npt.NDArray[Any], pixels: npt.NDArray[np.float32], forbidden: tuple[int, int] | None, kind: Kind
) -> npt.NDArray[np.bool_] | None:
    """Return where pixels are pixels, None if everywhere."""
    valid = np.ones(values.shape, bool)
    if forbidden is not None:
        valid = (values < forbidden[0]) | (values > forbidden[1])
    if kind == "ct" and valid.any():
        lowest = pixels.min(where=valid, initial=np.inf)
        corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        if lowest < _BELOW_AIR and (corners == lowest).any():
            valid &= pixels != lowest
    return None if valid.all() else valid


def _full_range(pixel_format: PixelFormat, stored: Stored) -> tuple[float, float] | None:
    """Return the range of unsigned 8-bit values in real units, None for others."""
    if pixel_format.allocated != 8 or pixel_format.signed or np.ndim(stored.slope):
        return None
    ends = sorted(float(stored.slope * v + stored.intercept) for v in (pixel_format.low, pixel_format.high))
    return ends[0], ends[1]


def _notes(dataset: Dataset) -> list[str]:
    return ["a filter was applied to it before, as its header says"] if header.is_filtered(dataset) else []


def _meta(dataset: Dataset, layout: Layout, pixel_format: PixelFormat) -> dict[str, Any]:
    photometric = header.text(dataset, "PhotometricInterpretation")
    return {
        "modality": header.text(dataset, "Modality"),
        "transfer_syntax": layout.syntax,
        "lossy": header.is_lossy(dataset, layout.syntax),
        "photometric": photometric,
        "inverted": photometric == "MONOCHROME1",
        "bits_stored": pixel_format.stored,
    }


def _class_name(dataset: Dataset) -> str:
    name = UID(str(dataset.get("SOPClassUID") or "")).name
    return name if "Storage" in name else "unknown"
