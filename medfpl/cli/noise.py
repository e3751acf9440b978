"""``medfpl noise``: add a noise or an artifact to images, show all of them, or make a recorded one again."""

from pathlib import Path
from typing import Annotated

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import UsageError

NOISE = "Noise"

Inputs = Annotated[list[Path] | None, typer.Argument(metavar="IN", help="Images, and folders of images.")]
Target = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="OUT", help="A file or a folder. Default: NAME_noisy beside IN."),
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type",
        "-t",
        metavar="NAME",
        help="See --list.",
        rich_help_panel=NOISE,
        autocompletion=options.complete_noise,
    ),
]
Strength = Annotated[
    float | None,
    typer.Option("--strength", min=0, max=1, help="0 none, 0.5 usual (the default), 1 severe.", rich_help_panel=NOISE),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A physical parameter, or mode=NAME; may be given again.",
        rich_help_panel=NOISE,
    ),
]
Show = Annotated[bool, typer.Option("--list", help="List the noises; with --type, one noise's modes and parameters.")]
Preview = Annotated[
    Path | None,
    typer.Option(
        "--preview",
        metavar="FILE.png",
        help="Draw all noises (with --type: its modes) on IN, or on a sample of --kind, and do nothing else.",
    ),
]
Replay = Annotated[
    Path | None,
    typer.Option("--replay", metavar="RECORD.json", help="Make the noise of a record again on its clean image."),
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("noise")(noise)


def noise(
    inputs: Inputs = None,
    output: Target = None,
    type: Type = None,
    strength: Strength = None,
    settings: Set = None,
    seed: options.Seed = 0,
    show: Show = False,
    preview: Preview = None,
    replay: Replay = None,
    kind: options.Kind = None,
    overwrite: options.Overwrite = False,
    allow_burned_in: options.BurnedIn = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Add noise or an artifact to medical images, in the format of each, with a record that makes it again.

    Slices of a volume or of a DICOM series share what belongs to the volume (a motion, a field map).

    \b
    Examples:
      medfpl noise ct.nii.gz -o noisy.nii.gz --type poisson --set mode=ct --seed 1
      medfpl noise study/ -o noisy/ --type motion --strength 0.3
      medfpl noise ct.nii.gz -o again.nii.gz --replay noisy.noise.json
      medfpl noise --preview noises.png
    """
    from medfpl.cli import _noise_run as act

    out = Output(as_json=as_json, quiet=quiet)
    files, given = inputs or [], options.parse_settings(settings)
    asked = {"--type": type, "--strength": strength, "--set": settings}
    what = [
        name for name, on in (("--list", show), ("--preview", preview), ("--replay", replay)) if on not in (None, False)
    ]
    if len(what) > 1:
        raise UsageError(f"{what[0]} and {what[1]} exclude each other")
    foreign = {"--list": ("--strength", "--set"), "--preview": ("--strength", "--set"), "--replay": tuple(asked)}
    for name in foreign[what[0]] if what else ():
        if asked[name] is not None:
            raise UsageError(f"{what[0]} and {name} exclude each other")
    if what in (["--list"], ["--preview"]) and output is not None:
        raise UsageError(f"{what[0]} writes no noisy image", "leave -o away")
    if show:
        return act.show_list(out, type)
    if preview is not None:
        return act.show_preview(out, files, preview, type, seed, options.check_kind(kind), overwrite, allow_burned_in)
    if not files:
        raise UsageError("an image or a folder is needed", "medfpl noise IN -o OUT --type NAME")
    wishes = act.wishes(options.check_kind(kind), overwrite, allow_burned_in)
    if replay is not None:
        return act.replay(out, files, output, replay, wishes)
    if type is None:
        raise UsageError("--type is needed", "see 'medfpl noise --list'")
    return act.run(out, files, output, act.recipe(type, strength, given, seed), wishes)
