"""What was done to a scan: the text and codes that a derived file carries."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from medfpl import __version__


@dataclass(frozen=True)
class Derivation:
    """How a derived file was made. Nothing here may hold identity or a path.

    ``verb`` names the result in a series description ("denoised", "noise added"); ``method`` and ``model``
    name the algorithm and its weights; ``weights_sha256`` is "" for a method without weights;
    ``parameters`` are plain numbers and strings. ``remarks`` say what befell this one image; they are no part of how
    a series was processed, whose images may differ in them.
    """

    verb: str
    method: str
    model: str = ""
    weights_sha256: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
    remarks: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return one sentence for a description field."""
        name = f"{self.method} {self.model}".strip()
        weights = f", weights sha256 {self.weights_sha256[:16]}" if self.weights_sha256 else ""
        settings = ", ".join(f"{k}={v}" for k, v in sorted(self.parameters.items()))
        return (
            f"{self.verb} by medfpl {self.version}: {name}{weights}"
            + (f" ({settings})" if settings else "")
            + "".join(f"; {remark}" for remark in self.remarks)
        )

    def fingerprint(self) -> str:
        """Return a hash of everything here: equal for equal processing, so that names made from it are stable."""
        facts = [self.verb, self.method, self.model, self.weights_sha256, self.parameters, self.version]
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
