"""The console script. What people ask most, the help and the installation, is answered before typer is loaded."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

HELP = Path(__file__).with_name("help.txt")  # written by 'make docs', compared with the commands by a test
WIDTH = 80  # what the help is folded to


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves it."""
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    answer = _answer(arguments)
    if answer is not None:
        try:
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
            return 0
        except UnicodeEncodeError:
            pass
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    from medfpl.cli.app import main as full

    return full(arguments)


def _answer(arguments: tuple[str, ...]) -> str | None:
    """Return the answer to the commonest questions, as the full command line would give it; None for all others."""
    if arguments in ((), ("-h",), ("--help",)) and not _narrow():
        return HELP.read_text("utf-8").rstrip("\n")
    if arguments == ("--version",):
        from medfpl import __version__

        return f"medfpl {__version__}"
    if arguments == ("info",):
        from medfpl.cli.installation import as_text, installation, terminal_width

        try:
            return as_text(installation(), terminal_width())
        except Exception:
            return None  # the full command line meets the same, and knows how to say it
    return None


def _narrow() -> bool:
    if "COLUMNS" in os.environ:
        return True
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns < WIDTH
    except (OSError, ValueError):
        return False
