"""Settings chosen for each method, noise and kind of image, so that no method is weak because of its settings.

tuned.csv is made by ``scripts/tune_bench.py`` on validation patients of a prepared store; tuned.json says from what.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

TABLE, ABOUT = "tuned.csv", "tuned.json"
COLUMNS = ("method", "noise", "kind", "settings", "factor", "level", "default_psnr", "psnr", "cases")
ANY = "any"


@dataclass(frozen=True)
class Tuned:
    """A method's settings, and what it is told of the noise: ``factor`` times its level, or ``level`` (working units).

    A ``level`` of its own is for artifacts, which have no standard deviation.
    """

    settings: tuple[tuple[str, Any], ...] = ()
    factor: float = 1.0
    level: float | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], factor: float = 1.0, level: float | None = None) -> "Tuned":
        """Return the settings of a mapping."""
        return cls(tuple(sorted(settings.items())), factor, level)

    def told(self, level: float) -> float:
        """Return the noise level that the method is told where ``level`` is the true or estimated one."""
        return self.factor * level if self.level is None else self.level

    def to_json(self) -> str:
        """Return what differs from the method's defaults as JSON: its settings, and ``noise_level`` where changed."""
        about: dict[str, Any] = dict(self.settings)
        if self.level is not None:
            about["noise_level"] = self.level
        elif self.factor != 1:
            about["noise_level"] = f"x{self.factor:g}"
        return json.dumps(about, sort_keys=True)


def setting_text(name: str, value: Any) -> str:
    """Return a setting as it is written: NAME=VALUE."""
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


TunedTable = Mapping[tuple[str, str, str], Tuned]


def read_tuned() -> dict[tuple[str, str, str], Tuned]:
    """Return (method, noise, kind) -> settings as they are committed; kind "any" is for kinds that have no own row."""
    text = (files("medfpl.bench") / TABLE).read_text("utf-8")
    rows = csv.DictReader(io.StringIO(text))
    return {
        (r["method"], r["noise"], r["kind"]): Tuned.of(
            json.loads(r["settings"]), float(r["factor"]), float(r["level"]) if r["level"] else None
        )
        for r in rows
    }


def about_tuning() -> dict[str, Any]:
    """Return what the table was made from: command, store fingerprint, split, number of cases."""
    return json.loads((files("medfpl.bench") / ABOUT).read_text("utf-8"))


def tuned_for(table: TunedTable, method: str, noise: str, kind: str) -> Tuned:
    """Return the settings for one corrupted image; the method's defaults where the table has none."""
    return table.get((method, noise, kind)) or table.get((method, noise, ANY)) or Tuned()
