"""``medfpl train``: a store in, a restoration network and a denoiser out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_OK, UsageError

WHAT, WHERE, HOW = "What is trained", "Where", "How long"

Target = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="RUN", help="The run's folder: weights, cards, log, curves.")
]
Data = Annotated[Path | None, typer.Option("--data", metavar="STORE", help="What 'medfpl prepare' made.")]
StageName = Annotated[
    str | None,
    typer.Option(
        "--stage", metavar="NAME", help="all, restoration, denoiser or prior; default: all.", rich_help_panel=WHAT
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.toml", help="Settings; default: the run's own.", rich_help_panel=WHAT),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings as TOML and end.", rich_help_panel=WHAT)
]
FplWeight = Annotated[
    float | None,
    typer.Option(
        "--fpl-weight", min=0, metavar="X", help="Of the feature preserving loss; 0: without.", rich_help_panel=WHAT
    ),
]
Noises = Annotated[
    str | None,
    typer.Option("--noises", metavar="A,B", help="Train a specialist for these; default: all.", rich_help_panel=WHAT),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="In all.", rich_help_panel=HOW)]
Minutes = Annotated[float | None, typer.Option("--minutes", metavar="M", help="In all.", rich_help_panel=HOW)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in RUN stopped.", rich_help_panel=HOW)]
Devices = Annotated[
    int | None,
    typer.Option("--devices", min=1, metavar="N", help="Processes a machine, one a GPU.", rich_help_panel=WHERE),
]
Nodes = Annotated[int | None, typer.Option("--nodes", min=1, metavar="N", help="Machines.", rich_help_panel=WHERE)]
PrecisionName = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="auto, 32, bf16 or 16.", rich_help_panel=WHERE)
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random; recorded. Default: 0.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines on stdout.", rich_help_panel="Output")]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train")(train)


def train(
    output: Target = None,
    data: Data = None,
    stage: StageName = None,
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    settings: options.Set = None,
    fpl_weight: FplWeight = None,
    noises: Noises = None,
    steps: Steps = None,
    minutes: Minutes = None,
    resume: Resume = False,
    device: options.Device = "auto",
    devices: Devices = None,
    nodes: Nodes = None,
    precision: PrecisionName = "auto",
    seed: Seed = None,
    as_json: Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Train the restoration network and the denoiser on a store's images.

    Ctrl-C saves, and --resume goes on to the same weights. RUN is a model: medfpl denoise --model RUN. The stage prior
    trains that of --method dpir.

    \b
    Examples:
      medfpl train -o run --data store --minutes 60
      medfpl train -o run --data store --minutes 120 --resume
      medfpl train -o rician --data store --noises rician --steps 20000 --set net.width=64
      medfpl train -o prior --data store --stage prior --minutes 60
    """
    given = {
        "stage": stage,
        "fpl.weight": fpl_weight,
        "data.noises": None if noises is None else [name.strip() for name in noises.split(",") if name.strip()],
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
    }
    from medfpl.training.config import read_config
    from medfpl.training.toml import to_toml

    changes = _changes(settings, {key: value for key, value in given.items() if value is not None})
    # Before torch is loaded: a wrong setting is told at once.
    chosen = read_config(output, config, changes)
    if print_config:
        Output().text(to_toml(chosen).rstrip("\n"))
        return EXIT_OK
    if output is None or data is None:
        raise UsageError("train needs -o RUN and --data STORE", "see 'medfpl train --help'")
    from medfpl.cli._train_view import TrainView
    from medfpl.training.run import train as run

    out = Output(as_json=as_json, quiet=quiet)
    try:
        with out.live() as show:
            run(
                data,
                output,
                config=chosen,
                resume=resume,
                device=device,
                devices=devices,
                nodes=nodes,
                precision=precision,
                report=TrainView(out, show),
            )
    except KeyboardInterrupt:
        out.say("stopped; go on with --resume")
        raise
    return EXIT_OK


def _changes(pairs: list[str] | None, given: dict[str, Any]) -> dict[str, Any]:
    from medfpl.training.toml import parse_value

    changes = {key: parse_value(value) for key, value in options.parse_settings(pairs).items()}
    twice = sorted(set(changes) & set(given))
    if twice:
        raise UsageError(f"{twice[0]} is given twice, as an option and with --set")
    return changes | given
