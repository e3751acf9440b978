"""medfpl: denoise medical images and show that what matters was kept.

Public names are loaded on first use, so that ``import medfpl`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "read": "medfpl.io",
    "write": "medfpl.io",
    "denoise": "medfpl.pipeline",
    "explain_scan": "medfpl.saliency.run",
    "noise": "medfpl.pipeline.noise",
    "train": "medfpl.training.run",
    "Scan": "medfpl.scan",
    "Intensity": "medfpl.scan",
    "Geometry": "medfpl.scan",
    "MedfplError": "medfpl.errors",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medfpl' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
