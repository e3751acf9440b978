"""The errors a user may meet: one line each, an optional hint, an exit code."""

EXIT_OK = 0
EXIT_NOTHING_DONE = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130


class MedfplError(Exception):
    """Something a user can act on.

    ``message`` is one line without patient data; ``hint`` names what mends it.
    """

    exit_code = EXIT_NOTHING_DONE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadInput(MedfplError):
    """A file that is refused: damaged, hostile, or of a kind medfpl does not treat."""


class TargetExists(MedfplError):
    """An output that exists and was not to be overwritten."""


class UsageError(MedfplError):
    """Arguments that do not fit together."""

    exit_code = EXIT_USAGE


class MissingDependency(MedfplError):
    """An optional package is needed; the hint names the extra to install."""


def escape(text: object) -> str:
    """Return ``text`` as one printable line: control and separator characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in _safe(str(text)))


def _safe(text: str) -> str:
    # File names may hold bytes that are no UTF-8 (lone surrogates), which no terminal prints.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
