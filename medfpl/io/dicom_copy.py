"""A copy of a data set for Explicit VR little endian, with every value's bytes as the source has them.

Elements that were never decoded are not decoded here either: those of implicit sources only get their VR named. So
text in a broken character set, odd numbers and private elements come through as they were.
"""

import copy
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

_PIXEL_REPRESENTATION = 0x00280103
_UNDEFINED = 0xFFFFFFFF


def explicit_copy(source: Dataset, *, drop_private: bool = False) -> Dataset:
    """Return ``source`` as a data set that pydicom writes in Explicit VR little endian without decoding it.

    ``source`` is little endian and keeps its elements as they are. Group lengths and what belongs to the header of
    a file or a message are left out; with ``drop_private`` so are all private elements, in nested items too.
    """
    return _copy(source, "iso8859", False, drop_private)


def _copy(source: Dataset, parent: Any, signed: bool, drop_private: bool) -> Dataset:
    if _PIXEL_REPRESENTATION in source:
        signed = source[_PIXEL_REPRESENTATION].value == 1
    named = source.get("SpecificCharacterSet")
    encoding = convert_encodings(named) if named else parent
    kept = {BaseTag(element.tag): element for element in source.elements()}
    elements = {
        tag: _element(element, source, encoding, signed, drop_private)
        for tag, element in kept.items()
        if tag.element != 0 and tag.group > 6 and not (drop_private and tag.is_private)
    }
    # The dict goes in whole: setting items one by one would decode private ones.
    result = Dataset(elements, parent_encoding=parent)
    result.set_original_encoding(False, True, encoding)
    return result


def _element(
    element: DataElement | RawDataElement, owner: Dataset, encoding: Any, signed: bool, drop_private: bool
) -> DataElement | RawDataElement:
    vr = _plain_vr(BaseTag(element.tag), element.VR, signed)
    if isinstance(element, RawDataElement):
        if vr != "SQ":
            return _raw(element, vr)
        element = convert_raw_data_element(element, encoding=encoding, ds=owner)
    if vr == "SQ":
        items = [_copy(item, encoding, signed, drop_private) for item in element.value or ()]
        return DataElement(element.tag, "SQ", Sequence(items))
    element = copy.copy(element)
    element.VR = vr
    return element


def _raw(element: RawDataElement, vr: str) -> RawDataElement:
    value = element.value or b""
    if vr not in EXPLICIT_VR_LENGTH_32 and len(value) > 0xFFFF:
        vr = "UN"  # as PS3.5 6.2.2 wants it: the length field of others does not hold so much
    length = element.length if element.length == _UNDEFINED else len(value)
    return element._replace(VR=vr, length=length, value=value, is_implicit_VR=False)


def _plain_vr(tag: BaseTag, vr: str | None, signed: bool) -> str:
    """Return the two letters to write: the file's own, the dictionary's, or UN for what nobody knows."""
    if vr is None:
        known = not tag.is_private and dictionary_has_tag(tag)
        vr = dictionary_VR(tag) if known else "LO" if tag.is_private_creator else "UN"
    if len(vr) == 2:
        return str(vr)
    # "US or SS" follows the pixels; all others of the dictionary may be OW.
    return ("SS" if signed else "US") if vr == "US or SS" else "OW"


def put(dataset: Dataset, keyword: str, value: Any, vr: str | None = None) -> None:
    """Set an element as it is: what a source holds may break the rules that pydicom would enforce."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    dataset[tag] = DataElement(tag, vr or dictionary_VR(tag), value, validation_mode=config.IGNORE)
