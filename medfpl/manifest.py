"""run.json: what a run was asked, with which versions, and what it made. No identity, no absolute path."""

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medfpl import __version__
from medfpl.errors import BadInput, TargetExists

FORMAT = "medfpl run 1"
_METADATA = (".dist-info", ".egg-info")
LIBRARIES = ("numpy", "scipy", "torch", "pydicom", "nibabel", "SimpleITK", "pillow", "scikit-image", "PyWavelets")


def versions() -> dict[str, str]:
    """Return the versions of medfpl, Python and the libraries results depend on, without importing them."""
    installed = _installed()
    found = {"medfpl": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    return found | {name: installed.get(_canonical(name), "missing") for name in LIBRARIES}


def _installed() -> dict[str, str]:
    """Return the version of each installed package, from the names of their metadata folders.

    importlib.metadata says the same, but loads the mail and archive libraries to do so.
    """
    found: dict[str, str] = {}
    for folder in map(Path, sys.path):
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(_METADATA)]
        except OSError:  # not a folder: an archive, or gone
            continue
        for name in names:
            package, _, rest = name.partition("-")
            version = rest.removesuffix(".dist-info").removesuffix(".egg-info").partition("-py")[0]
            found.setdefault(_canonical(package), version)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_name(index: int, count: int) -> str:
    """Return the manifest's file name; the shards of one run write one each."""
    return "run.json" if count == 1 else f"run-{index}-of-{count}.json"


def load_runs(path: Path) -> list[dict[str, Any]]:
    """Return the runs that ``path`` records, none if it is missing.

    Raises:
        TargetExists: if ``path`` exists and is not a manifest of medfpl.
        BadInput: if it cannot be read.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{path.name} cannot be read: {error.strerror}") from None
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("runs"), list):
        raise TargetExists(f"the output folder holds a {path.name} that medfpl did not write", "choose another -o")
    return data["runs"]


def time_to_state(earlier: Sequence[Mapping[str, Any]], *, resume: bool) -> datetime:
    """Return the one time that all files of a run carry: that of the run which ``resume`` goes on with, else now.

    So a resumed run gives the bytes that the interrupted one would have given. SOURCE_DATE_EPOCH overrides it.
    """
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    if fixed.isascii() and fixed.isdigit():
        return datetime.fromtimestamp(int(fixed), UTC)
    if resume and earlier:
        try:
            return datetime.fromisoformat(str(earlier[-1].get("stated")))
        except ValueError:
            pass
    return datetime.now(UTC).replace(microsecond=0)


def describe_run(
    command: str, arguments: Mapping[str, Any], *, seed: int, started: datetime, stated: datetime
) -> dict[str, Any]:
    """Return the record of a run that begins; ``stated`` is the time that its files carry."""
    return {
        "command": command,
        "arguments": dict(arguments),
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "seed": seed,
        "started": started.isoformat(),
        "stated": stated.isoformat(),
        "finished": False,
        "files": [],
    }


def finish_run(run: Mapping[str, Any], *, seconds: float, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record of a run that ended; ``files`` is one row a file, paths relative to the record."""
    return {**run, "finished": True, "seconds": round(seconds, 3), "files": list(files)}


def manifest_bytes(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the manifest's bytes: earlier runs first, so that a resumed folder tells its whole history."""
    return (json.dumps({"format": FORMAT, "runs": list(runs)}, indent=2) + "\n").encode()
