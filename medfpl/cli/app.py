"""The command line: its commands and the one place where errors end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Annotated

import typer

from medfpl import __version__
from medfpl.cli.output import Output
from medfpl.errors import EXIT_INTERRUPTED, EXIT_NOTHING_DONE, EXIT_OK, EXIT_USAGE, MedfplError, UsageError

# One file a command, in the order of the help text; each adds itself through ``register(app)``.
COMMANDS = ("denoise", "saliency", "noise", "prepare", "train", "bench", "info", "models")

app = typer.Typer(
    name="medfpl",
    help="Denoise medical images (CT, X-ray, MR) and show that what matters was kept.",
    epilog="Try: medfpl denoise scan.dcm",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        Output().text(f"medfpl {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        Output().text(context.get_help())


for _name in COMMANDS:
    import_module(f"medfpl.cli.{_name}").register(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves it."""
    _forgiving_streams()
    output = Output()
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        if "" in arguments:  # as a path it would be the current folder, and all in it
            raise UsageError("an argument is empty", "is a variable of the shell not set?")
        with _terminate_like_interrupt():
            code = app(args=arguments, prog_name="medfpl", standalone_mode=False)
        sys.stdout.flush()
        return int(code or EXIT_OK)
    except MedfplError as error:
        output.error(error)
        return error.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "medfpl"
        message = error.format_message()
        if message.startswith("Usage:"):  # a group without a command answers with its help
            output.say(message)
        else:
            output.error(UsageError(message, f"see '{command} --help'"))
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_went_away()
    except SystemExit as error:  # typer's answer to a closed pipe
        return error.code if isinstance(error.code, int) else EXIT_NOTHING_DONE
    except Exception as error:
        output.error(error)
        return EXIT_NOTHING_DONE


def _reader_went_away() -> int:
    # The interpreter flushes stdout once more at its end: give it somewhere to write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_NOTHING_DONE


def _forgiving_streams() -> None:
    """A name that the terminal's encoding lacks is shown escaped instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Within, SIGTERM cleans up as Ctrl-C does (a batch system's time limit, 'docker stop')."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
