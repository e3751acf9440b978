"""Options that several commands share, each declared once."""

from typing import Annotated, Any

import typer

from medfpl.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel="Output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.", rich_help_panel="Output")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random; recorded.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1, ...; auto says what it chose.",
        rich_help_panel="Method",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="ct, xray, mr or other, where the file does not say or says wrong."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be given again.", rich_help_panel="Method"),
]

KINDS = ("ct", "xray", "mr", "other")


def check_kind(kind: str | None) -> Any:
    """Return ``kind``, None for ``auto``; raise UsageError for an unknown one."""
    if kind in (None, "auto"):
        return None
    if kind not in KINDS:
        raise UsageError(f"--kind {kind} is unknown", f"choose from auto, {', '.join(KINDS)}")
    return kind


def parse_settings(pairs: list[str] | None) -> dict[str, str]:
    """Return ``["a=1", ...]`` as a dictionary; raise UsageError for a pair without '=' or a name given twice."""
    settings: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"--set {pair} is not of the form KEY=VALUE")
        if key in settings:
            raise UsageError(f"--set {key} is given twice")
        settings[key.strip()] = value.strip()
    return settings


def complete_method(incomplete: str) -> list[str]:
    """Return the methods that begin with ``incomplete``, for the shell's completion."""
    from medfpl.denoisers import METHODS

    return [name for name in METHODS.names() if name.startswith(incomplete)]


def complete_noise(incomplete: str) -> list[str]:
    """Return the noises that begin with ``incomplete``, for the shell's completion."""
    from medfpl.noises import NOISES

    return [name for name in NOISES.names() if name.startswith(incomplete)]
