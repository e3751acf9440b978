"""What is answered before typer is loaded is what the full command line answers."""

import os
import subprocess
import sys

import pytest

from medfpl.cli import app, start


def both(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    outputs = []
    for main in (start.main, app.main):
        capsys.readouterr()
        assert main(arguments) == 0
        outputs.append(capsys.readouterr().out)
    return outputs[0], outputs[1]


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("--version",), ("info",)])
def test_the_short_way_says_the_same(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    quick, full = both(capsys, *arguments)
    assert quick
    assert quick == full


def test_a_narrow_terminal_gets_help_that_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert start.main(["--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_everything_else_goes_the_long_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main(["nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info"]])
def test_the_short_way_loads_no_typer(arguments: list[str]) -> None:
    program = "import sys\nfrom medfpl.cli.start import main\ncode = main(sys.argv[1:])\n"
    program += "sys.exit(code or any(m in sys.modules for m in ('typer', 'rich', 'pydantic', 'importlib.metadata')))"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, env=environment)
    assert done.returncode == 0


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = "import sys, os; from medfpl.cli.start import main; sys.exit(main(['info']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")
