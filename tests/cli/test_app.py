import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import png, tree

import medfpl as package
from medfpl.cli import app as app_module

Run = Callable[..., Any]


def test_version_and_help(medfpl: Run) -> None:
    assert medfpl("--version").out == f"medfpl {package.__version__}\n"
    for arguments in ((), ("--help",), ("-h",)):
        shown = medfpl(*arguments)
        assert shown.code == 0
        assert all(name in shown.out for name in app_module.COMMANDS)
    assert "--resume" in medfpl("denoise", "--help").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nosuch",), "No such command 'nosuch'"),
        (("denois",), "denoise"),
        (("denoise",), "Missing argument"),
        (("info", "--nosuch"), "No such option"),
        (("denoise", "x", "--strength", "much"), "--strength"),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(medfpl: Run, arguments: tuple[str, ...], told: str) -> None:
    result = medfpl(*arguments)
    assert (result.code, result.out) == (2, "")
    error, hint = result.err.splitlines()
    assert error.startswith("error: ")
    assert told in error
    assert hint.startswith("hint: see 'medfpl")


def test_an_empty_argument_is_not_the_current_folder(medfpl: Run) -> None:
    result = medfpl("denoise", "")
    assert (result.code, result.out) == (2, "")
    assert "error: an argument is empty" in result.err


def test_a_group_without_a_command_shows_its_help(medfpl: Run) -> None:
    result = medfpl("models")
    assert result.code == 2
    assert "where" in result.out + result.err
    assert "error" not in result.err


def test_unexpected_errors_are_one_line(medfpl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("Doe^Jane")

    monkeypatch.setattr("medfpl.manifest.versions", broken)
    result = medfpl("info")
    assert result.code == 1
    assert result.err.startswith("error: unexpected problem (RuntimeError)\nhint: set MEDFPL_DEBUG=1")
    assert "Doe" not in result.err + result.out


def test_debug_adds_a_traceback_without_local_variables() -> None:
    secret = "Doe" + "^" + "Jane"
    code = (
        "import sys\nimport medfpl.manifest\n"
        "def broken():\n    patient = sys.argv[1]\n    raise RuntimeError\n"
        "medfpl.manifest.versions = broken\nfrom medfpl.cli.app import main\nsys.exit(main(['info']))"
    )
    environment = {**os.environ, "MEDFPL_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, secret], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert secret not in done.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "medfpl", "info"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""


def test_an_encoding_without_the_letters_is_no_failure(tmp_path: Path) -> None:
    png(tmp_path / "Bär→.png")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "medfpl", "denoise", str(tmp_path), "--dry-run"]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0
    assert b"B\\xe4r\\u2192.png" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_cleanly(tmp_path: Path, number: int) -> None:
    for i in range(200):
        png(tmp_path / "in" / f"{i:03}.png", i)
    command = [sys.executable, "-m", "medfpl", "denoise", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "-m", "mean"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "002.png").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err.splitlines()[-1].startswith("interrupted: ")) == ("", True)
    made = tree(tmp_path / "out")
    assert len(made) < 200
    assert not [name for name in made if Path(name).name.startswith(".")]


def test_completion_knows_commands_and_methods() -> None:
    def complete(words: str) -> set[str]:
        environment = {
            **os.environ,
            "_MEDFPL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        command = [sys.executable, "-c", "from medfpl.cli.app import main; main()"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        return set(done.stdout.split())

    assert complete("medfpl den") == {"denoise"}
    assert complete("medfpl denoise --method me") == {"mean", "median", "medfpl"}
