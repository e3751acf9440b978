"""docs/cli.md is what the commands say of themselves."""

import importlib.util
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_reference_page_is_current() -> None:
    spec = importlib.util.spec_from_file_location("cli_docs", REPOSITORY / "scripts" / "cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = (REPOSITORY / "docs" / "cli.md").read_text("utf-8")
    assert written == script.page(), "run 'make docs'"
