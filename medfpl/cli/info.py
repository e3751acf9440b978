"""``medfpl info``: what this installation can do, or what a file is and what would be done with it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_OK

Files = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Images or folders to look at.")]
Devices = Annotated[bool, typer.Option("--devices", help="Ask torch for the devices, which takes seconds.")]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", "-m", metavar="NAME", help="Show a method's settings.", autocompletion=options.complete_method
    ),
]
NoiseName = Annotated[
    str | None,
    typer.Option("--noise", metavar="NAME", help="Show a noise's parameters.", autocompletion=options.complete_noise),
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("info")(info)


def info(
    files: Files = None,
    devices: Devices = False,
    method: MethodName = None,
    noise: NoiseName = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show what is installed, or what a file is.

    Without FILE: versions, devices, decoders, methods, noises and models. With FILE: format, kind, size, series,
    and what denoise would do with it.

    \b
    Examples:
      medfpl info
      medfpl info study/
      medfpl info --method nlm
    """
    out = Output(as_json=as_json, quiet=quiet)
    if method or noise:
        return _show_plugin(out, method, noise)
    if files:
        from medfpl.cli._info_files import show_files

        return show_files(out, files)
    return _show_installation(out, devices)


def _show_plugin(out: Output, method: str | None, noise: str | None) -> int:
    found: Any
    if method:
        from medfpl.denoisers import METHODS

        found = METHODS.get(method)
        rows = [(k, _default(s), _range(s), s.meaning) for k, s in found.settings.items()]
    else:
        from medfpl.noises import NOISES

        found = NOISES.get(str(noise))
        rows = [(k, p.unit, _range(p), p.meaning) for k, p in found.parameters.items()]
    second = "default" if method else "unit"
    named = [dict(zip(("name", second, "range", "meaning"), row, strict=True)) for row in rows]
    out.result(
        {"command": "info", "name": found.name, "summary": found.summary, "source": found.source, "settings": named}
    )
    out.text(f"{found.name}: {found.summary}\n{found.source}")
    out.table(("setting", second, "range", "meaning"), rows)
    return EXIT_OK


def _default(setting: Any) -> str:
    if setting.default is None:
        return "none" if setting.text else "auto"
    return str(setting.default)


def _range(setting: Any) -> str:
    if setting.choices:
        return ", ".join(setting.choices)
    low, high = setting.low, setting.high
    if low == -float("inf") and high == float("inf"):
        return ""
    if high == float("inf"):
        return f"from {low:g}"
    return f"to {high:g}" if low == -float("inf") else f"{low:g} to {high:g}"


def _show_installation(out: Output, ask_torch: bool) -> int:
    from medfpl.cli.installation import as_text, installation, terminal_width

    devices = None
    if ask_torch:
        from medfpl.pipeline.devices import list_devices

        devices = list_devices()
    facts = installation(devices)
    out.result(facts)
    out.text(as_text(facts, terminal_width()))
    return EXIT_OK
