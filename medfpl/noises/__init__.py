"""The noises and artifacts: one module of ``kinds`` each, all behind one contract (base.py)."""

from medfpl.noises.base import Context, Noise, Parameter, Record, corrupt, replay
from medfpl.registry import Registry

NOISES: Registry[Noise] = Registry("noise", "medfpl.noises.kinds", "NOISE", aliases={"impulse": "salt-pepper"})

__all__ = ["NOISES", "Context", "Noise", "Parameter", "Record", "corrupt", "replay"]
