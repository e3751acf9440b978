"""Helpers for tests of DICOM files: outside validators, and a comparison of two data sets element by element."""

import re
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def need(tool: str) -> str:
    """Return the path of a program, or skip the test."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed (Debian packages dicom3tools and dcmtk)")
    return found


def complaints(path: Path) -> set[str]:
    """Return the kinds of errors that dciodvfy sees in a file, without values, item numbers and UIDs."""
    done = subprocess.run(
        [need("dciodvfy"), "-new", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    return {_kind(line) for line in lines if line.startswith("Error")}


def _kind(line: str) -> str:
    # </SourceImageSequence(0008,2112)[1]/...> -> <SourceImageSequence/...>
    line = re.sub(r"</?([^<>]*)>", lambda m: "<" + re.sub(r"\(.*?\)|\[.*?\]", "", m[1]) + ">", line)
    line = re.sub(r"\b\d+(\.\d+)+\b", "UID", line)
    return re.sub(r"(0x)?\b[0-9a-fA-F]+\b|\[.*?\]", "N", line).strip()


def dump(path: Path) -> str:
    """Return what dcmdump prints of a file; fails where it cannot read it."""
    done = subprocess.run(
        [need("dcmdump"), "-q", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw_bytes(dataset: Dataset, tag: int) -> bytes:
    """Return an element's value as it stands in the file, without its padding; of a sequence all of its items'."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and element.VR != "SQ" and element.length != 0xFFFFFFFF:
        value = element.value or b""
        return value[:-1] if value[-1:] in (b" ", b"\0") and len(value) % 2 == 0 else value
    element = dataset[tag]
    if element.VR == "SQ":
        parts = [[(t, raw_bytes(item, t)) for t in sorted(item.keys()) if t & 0xFFFF] for item in element.value]
        return repr(parts).encode()
    value = element.value
    return value.rstrip(b"\0 ") if isinstance(value, bytes) else repr(value).encode()


def changed(before: Dataset, after: Dataset) -> set[str]:
    """Return the keywords (or tags, of private elements) that two data sets do not share, or differ in."""
    tags = {t for t in (*before.keys(), *after.keys()) if t & 0xFFFF}
    different = [t for t in tags if t not in before or t not in after or not _same(before[t], after[t])]
    return {pydicom.datadict.keyword_for_tag(tag) or str(tag) for tag in different}


def _same(before: DataElement, after: DataElement) -> bool:
    if before.VR != "SQ" or after.VR != "SQ":
        return before.value == after.value
    pairs = zip(before.value, after.value, strict=False)
    return len(before.value) == len(after.value) and not any(changed(a, b) for a, b in pairs)
