"""Running the command line in-process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from medfpl.cli.app import main


@dataclass(frozen=True)
class Result:
    """What a command gave: its exit code and both streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def medfpl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``medfpl ARGS...`` and return its Result."""
    monkeypatch.delenv("MEDFPL_DEBUG", raising=False)

    def run(*arguments: Any) -> Result:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Result(code, *capsys.readouterr())

    return run
