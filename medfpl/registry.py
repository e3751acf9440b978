"""Plug-ins found by file name: one module of a folder is one noise or one denoiser.

Names are known without importing anything; a module is imported when it is asked for.
"""

import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module, util
from typing import Generic, TypeVar

from medfpl.errors import UsageError

T = TypeVar("T")


@cache
def _modules_of(package: str) -> tuple[str, ...]:
    spec = util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(package)
    found = pkgutil.iter_modules(list(spec.submodule_search_locations))
    return tuple(sorted(m.name.replace("_", "-") for m in found if not m.name.startswith("_")))


class Registry(Generic[T]):
    """The modules of ``package``; each holds its plug-in under the name ``attribute``.

    A module ``salt_pepper.py`` is the entry ``salt-pepper``. ``aliases`` maps other
    names to entries. Modules whose name begins with an underscore are helpers.
    """

    def __init__(self, kind: str, package: str, attribute: str, aliases: dict[str, str] | None = None) -> None:
        self.kind = kind
        self._package = package
        self._attribute = attribute
        self.aliases = dict(aliases or {})

    def names(self) -> list[str]:
        """Return the entries' names, sorted, without importing them."""
        return list(_modules_of(self._package))

    def resolve(self, name: str) -> str:
        """Return the entry's name for ``name`` or its alias; raise UsageError if there is none."""
        wanted = self.aliases.get(name, name)
        names = self.names()
        if wanted in names:
            return wanted
        from difflib import get_close_matches  # only for a mistake: it is slow to load

        close = get_close_matches(name, [*names, *self.aliases], n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
        raise UsageError(f"no {self.kind} is called {name!r}", hint)

    def get(self, name: str) -> T:
        """Import and return the entry called ``name``."""
        module = import_module(f"{self._package}.{self.resolve(name).replace('-', '_')}")
        return getattr(module, self._attribute)

    def __iter__(self) -> Iterator[T]:
        return (self.get(name) for name in self.names())
