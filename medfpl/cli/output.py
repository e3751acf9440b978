"""The only place that prints: results on stdout, everything else on stderr."""

import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from medfpl.errors import MedfplError, escape

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 10_000


class Output:
    """Where a command's words go: human text, one JSON object (``as_json``) or errors alone (``quiet``)."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._hints: set[str] = set()
        self._bar: Console | None = None

    def say(self, text: str) -> None:
        """Tell the person at the terminal what happens (stderr; silent in quiet and JSON mode)."""
        if not (self.quiet or self.as_json):
            self._line(text, sys.stderr)

    def warn(self, text: str) -> None:
        """Print one ``warning:`` line on stderr, also in JSON mode."""
        if not self.quiet:
            self._line(f"warning: {text}", sys.stderr)

    def error(self, error: BaseException, name: str = "") -> None:
        """Print one ``error:`` line, with the escaped name of the file it is about, and each hint once."""
        known = as_known(error)
        subject = f"{escape(name)}: " if name else ""
        self._line(f"error: {subject}{escape(known.message)}", sys.stderr)
        if known.hint and known.hint not in self._hints:
            self._hints.add(known.hint)
            self._line(f"hint: {escape(known.hint)}", sys.stderr)
        if debugging():
            # Never with local variables: they hold patient data.
            traceback.print_exception(error, file=sys.stderr)

    def result(self, data: Any) -> None:
        """Print ``data`` as one JSON object on stdout, in JSON mode only."""
        if self.as_json:
            sys.stdout.write(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")

    def event(self, data: Any) -> None:
        """Print ``data`` as one line of JSON on stdout, in JSON mode only, at once."""
        if self.as_json:
            sys.stdout.write(json.dumps(_finite(data), allow_nan=False) + "\n")
            sys.stdout.flush()

    def text(self, text: str = "") -> None:
        """Print a line of the result on stdout (human mode only)."""
        if not (self.quiet or self.as_json):
            self._line(text, sys.stdout)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print a table on stdout (human mode only); the columns numbered in ``right`` are right-aligned."""
        if self.quiet or self.as_json or not rows:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(columns))
        for i, name in enumerate(columns):
            table.add_column(name, justify="right" if i in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(escape(cell)) for cell in row))
        console = _console(sys.stdout)
        with console.capture() as shown:
            console.print(table)
        # Without the blanks that fill the last column: a narrow terminal would wrap them.
        sys.stdout.write("".join(line.rstrip() + "\n" for line in shown.get().splitlines()))

    @contextmanager
    def progress(self, total: int, what: str) -> Iterator[Callable[[float], None]]:
        """Show a bar on stderr if that is a terminal; yields a function that sets how many are done (with parts)."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield lambda done: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
            task = bar.add_task(what, total=total)
            self._bar = bar.console
            try:
                yield lambda done: bar.update(task, completed=done)
            finally:
                self._bar = None

    @contextmanager
    def live(self) -> Iterator[Callable[[Any], None] | None]:
        """Yield a function that shows what it is given on stderr in place of the last; None off a terminal."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield None
            return
        from rich.live import Live

        with Live(console=_console(sys.stderr), refresh_per_second=4) as live:
            self._bar = live.console
            try:
                yield live.update
            finally:
                self._bar = None

    def _line(self, text: str, stream: TextIO) -> None:
        if self._bar is not None:
            # Above the bar rather than through it.
            self._bar.print(text, soft_wrap=True, markup=False, highlight=False)
        else:
            stream.write(text + "\n")


def debugging() -> bool:
    """Whether MEDFPL_DEBUG asks for tracebacks."""
    return os.environ.get("MEDFPL_DEBUG", "0") not in ("", "0")


def as_known(error: BaseException) -> MedfplError:
    """Return ``error`` as something to show; an unexpected one loses its text, which may hold patient data."""
    if isinstance(error, MedfplError):
        return error
    if isinstance(error, MemoryError):
        return MedfplError("not enough memory")
    if isinstance(error, OSError) and error.errno is not None:
        return MedfplError(os.strerror(error.errno))
    return MedfplError(
        f"unexpected problem ({type(error).__name__})", "set MEDFPL_DEBUG=1 to see where it happened, and report it"
    )


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    # A pipe has no width: nothing is folded in a file.
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(k): _finite(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(v) for v in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
