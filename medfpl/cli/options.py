"""Options that several commands share, each declared once."""

from typing import Annotated, Any

import typer

from medfpl.errors import UsageError

METHOD, FILES, DICOM, OUTPUT = "Method", "Files", "DICOM", "Output"


def complete_method(incomplete: str) -> list[str]:
    """Return the methods that begin with ``incomplete``, for the shell's completion."""
    from medfpl.denoisers import METHODS

    return [name for name in METHODS.names() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.", rich_help_panel=OUTPUT)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random; recorded.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1, ...; auto says what it chose.",
        rich_help_panel=METHOD,
    ),
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="ct, xray, mr or other, where the file does not say or says wrong."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be given again.", rich_help_panel=METHOD),
]
MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        help="See 'medfpl info'.",
        rich_help_panel=METHOD,
        autocompletion=complete_method,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="A model's name or run folder.", rich_help_panel=METHOD)
]
Level = Annotated[
    str,
    typer.Option(
        "--noise-level",
        metavar="SD",
        help="auto; or the noise in HU or grey levels; or in percent of the range, as in 2.5%.",
        rich_help_panel=METHOD,
    ),
]
Strength = Annotated[
    float, typer.Option("--strength", min=0, max=1, help="How much of the change to keep.", rich_help_panel=METHOD)
]
Explain = Annotated[
    str | None,
    typer.Option("--explain", metavar="NAME", help="The explained network, or its run folder.", rich_help_panel=METHOD),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=FILES)]
Resume = Annotated[bool, typer.Option("--resume", help="Skip what an earlier run has done.", rich_help_panel=FILES)]
BurnedIn = Annotated[
    bool, typer.Option("--allow-burned-in", help="Also DICOM images with burned-in text.", rich_help_panel=DICOM)
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


def complete_noise(incomplete: str) -> list[str]:
    """Return the noises that begin with ``incomplete``, for the shell's completion."""
    from medfpl.noises import NOISES

    return [name for name in NOISES.names() if name.startswith(incomplete)]
