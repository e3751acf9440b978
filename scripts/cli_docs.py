"""Write the command line's reference page from the commands themselves: ``cli_docs.py docs/cli.md``."""

import re
import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from medfpl.cli.app import app

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
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="medfpl", **command.context_settings)
    made = get_docs_for_click(obj=command, ctx=context, name="medfpl", indent=1)
    made = made.replace("\b\n", "")  # click's mark for lines that keep their breaks
    made = re.sub(r"^Examples:\n((?:  .*\n)+)", r"**Examples**:\n\n```console\n\1```\n", made, flags=re.MULTILINE)
    return INTRODUCTION + made.strip() + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
