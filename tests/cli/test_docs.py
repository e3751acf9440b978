"""docs/cli.md and the help are what the commands say of themselves."""

import importlib.util
from pathlib import Path
from types import ModuleType

from medfpl.cli.start import HELP

REPOSITORY = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_docs", REPOSITORY / "scripts" / "cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_reference_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "cli.md").read_text("utf-8") == script().page(), "run 'make docs'"


def test_the_help_is_current() -> None:
    assert HELP.read_text("utf-8") == script().help_text(), "run 'make docs'"
