"""Write the command line's reference page and its help from the commands themselves: ``cli_docs.py docs/cli.md``."""

import re
import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from medfpl.cli.app import app
from medfpl.cli.start import HELP, WIDTH

INTRODUCTION = """\
<!-- Made by 'make docs' from the commands: do not edit. -->

# The command line

Results go to standard output, everything else to standard error. `--json` prints one object instead of text, `-q`
errors alone. Nothing is overwritten without `--overwrite`, and nothing ever uses the network.

| exit code | meaning |
| --- | --- |
| 0 | all done |
| 1 | nothing done |
| 2 | the arguments do not fit |
| 3 | some files failed, the others are done |
| 130 | interrupted; nothing half-written is left |

`MEDFPL_HOME` is the folder of your own models, `MEDFPL_DEBUG=1` adds tracebacks to errors, `NO_COLOR=1` removes colour.

"""


def page() -> str:
    """Return the whole page as Markdown."""
    command, context = _command()
    made = get_docs_for_click(obj=command, ctx=context, name="medfpl", indent=1)
    made = made.replace("\b\n", "")  # click's mark for lines that keep their breaks
    made = re.sub(r"^Examples:\n((?:  .*\n)+)", r"**Examples**:\n\n```console\n\1```\n", made, flags=re.MULTILINE)
    return INTRODUCTION + made.strip() + "\n"


def help_text() -> str:
    """Return what ``medfpl --help`` prints on a terminal that is wide enough."""
    command, context = _command()
    return command.get_help(context) + "\n"


def _command() -> tuple[typer.core.TyperGroup, typer.Context]:
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    return command, typer.Context(command, info_name="medfpl", terminal_width=WIDTH - 2, **command.context_settings)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    HELP.write_text(help_text(), encoding="utf-8")
