"""The noises and artifacts: one module of ``kinds`` each, all behind one contract (base.py)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medfpl.registry import Registry

if TYPE_CHECKING:
    from medfpl.noises.base import Context, Noise, Parameter, Record, corrupt, replay

NOISES: Registry["Noise"] = Registry("noise", "medfpl.noises.kinds", "NOISE", aliases={"impulse": "salt-pepper"})

__all__ = ["NOISES", "Context", "Noise", "Parameter", "Record", "corrupt", "replay"]


def __getattr__(name: str) -> Any:
    # base.py needs torch; the names of the noises do not.
    if name not in __all__:
        raise AttributeError(f"module 'medfpl.noises' has no attribute {name!r}")
    return getattr(import_module("medfpl.noises.base"), name)
