"""The denoisers: one module of ``methods`` each, all behind one contract (base.py)."""

from medfpl.denoisers.base import Denoiser, Method, Setting
from medfpl.registry import Registry

METHODS: Registry[Method] = Registry("method", "medfpl.denoisers.methods", "METHOD")

__all__ = ["METHODS", "Denoiser", "Method", "Setting"]
