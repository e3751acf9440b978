"""What this installation can do: versions, devices, decoders, methods, noises, models. Loads nothing heavy."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import Any

from medfpl import __version__, manifest
from medfpl.denoisers import METHODS
from medfpl.errors import escape
from medfpl.nets.weights import home, list_models
from medfpl.noises import NOISES

# What DICOM pixels may be compressed with, the module that decodes it, and how to get that.
DECODERS = (
    ("RLE", "pydicom", "pydicom"),
    ("JPEG", "PIL", "pillow"),
    ("lossless JPEG", "gdcm", "python-gdcm"),
    ("JPEG-LS", "jpeg_ls", "pyjpegls"),
    ("JPEG 2000", "openjpeg", "pylibjpeg-openjpeg"),
    ("12-bit JPEG", "libjpeg", "'medfpl[jpeg12]'"),
)
GAP = 2
NARROWEST = 20


def installation(devices: list[str] | None = None) -> dict[str, Any]:
    """Return the facts as plain values; ``devices`` as torch names them, None to ask the operating system alone."""
    return {
        "command": "info",
        "version": __version__,
        "versions": manifest.versions(),
        "devices": devices or _devices(),
        "decoders": [
            {"format": name, "available": find_spec(module) is not None, "install": f"pip install {package}"}
            for name, module, package in DECODERS
        ],
        "methods": METHODS.names(),
        "noises": NOISES.names(),
        "models": [m.card.name for m in list_models()],
        "home": str(home()),
    }


def as_text(facts: dict[str, Any], width: int | None) -> str:
    """Return the facts as two columns, folded to ``width`` characters (None: not folded)."""
    missing = {d["format"]: d["install"] for d in facts["decoders"] if not d["available"]}
    rows = [
        ("medfpl", facts["version"]),
        ("libraries", ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if k != "medfpl")),
        ("devices", ", ".join(facts["devices"])),
        ("decoders", ", ".join(d["format"] for d in facts["decoders"] if d["available"])),
        *(("missing", f"{name}: {install}") for name, install in missing.items()),
        ("methods", ", ".join(facts["methods"])),
        ("noises", ", ".join(facts["noises"])),
        ("models", ", ".join(facts["models"]) or "none"),
        ("your models", escape(Path(facts["home"]) / "models")),
    ]
    first = max(len(name) for name, _ in rows) + GAP
    room = None if width is None else max(width - first, NARROWEST)
    lines = []
    for name, value in rows:
        parts = [value] if room is None else wrap(value, room, break_on_hyphens=False) or [""]
        lines += [f"{name:<{first}}{parts[0]}", *(" " * first + part for part in parts[1:])]
    return "\n".join(lines)


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None for a pipe or a file, which have no width."""
    if not sys.stdout.isatty():
        return None
    named = os.environ.get("COLUMNS", "")
    return int(named) if named.isdigit() and int(named) else os.get_terminal_size(sys.stdout.fileno()).columns


def _devices() -> list[str]:
    found = [f"cpu ({os.cpu_count()} cores)"]
    if Path("/proc/driver/nvidia/version").exists():
        found.append("an NVIDIA GPU")
    return [*found, "more with --devices"]
