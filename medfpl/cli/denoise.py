"""``medfpl denoise``: files, folders and series in, derived copies out."""

from pathlib import Path
from typing import Annotated

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import UsageError

FILES, DICOM = options.FILES, options.DICOM

Inputs = Annotated[list[Path], typer.Argument(metavar="IN", help="Images, and folders of images.")]
Target = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="OUT", help="A file or a folder. Default: NAME_denoised beside IN."),
]
Residual = Annotated[
    bool, typer.Option("--residual", help="Also write what was removed, in HU or grey levels.", rich_help_panel=FILES)
]
NoiseMap = Annotated[
    bool, typer.Option("--noise-map", help="Also write how strong the noise was where.", rich_help_panel=FILES)
]
Saliency = Annotated[
    bool,
    typer.Option("--saliency", help="Also write feature maps, and flag what may be lost.", rich_help_panel=FILES),
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Also write a PNG of before, after and residual.", rich_help_panel=FILES)
]
ReportPage = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Also write one page to look through: before, after, flags, noise. No names in it.",
        rich_help_panel=FILES,
    ),
]
ShardText = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Do part I of N, one on each machine.", rich_help_panel=FILES)
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, max=64, help="Files denoised at the same time.", rich_help_panel=FILES)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; write nothing.", rich_help_panel=FILES)
]
Syntax = Annotated[
    str | None,
    typer.Option("--transfer-syntax", metavar="NAME", help="Compress, always without loss.", rich_help_panel=DICOM),
]
DropPrivate = Annotated[bool, typer.Option("--drop-private", help="Leave private elements out.", rich_help_panel=DICOM)]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("denoise")(denoise)


def denoise(
    inputs: Inputs,
    output: Target = None,
    method: options.MethodName = "medfpl",
    settings: options.Set = None,
    model: options.Model = None,
    device: options.Device = "auto",
    kind: options.Kind = None,
    noise_level: options.Level = "auto",
    strength: options.Strength = 1.0,
    residual: Residual = False,
    noise_map: NoiseMap = False,
    preview: Preview = False,
    saliency: Saliency = False,
    explain: options.Explain = None,
    report: ReportPage = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    shard: ShardText = "1/1",
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    allow_burned_in: options.BurnedIn = False,
    transfer_syntax: Syntax = None,
    drop_private: DropPrivate = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Denoise medical images. Every copy keeps its format and geometry and says what was done to it.

    A folder keeps its tree; a DICOM series becomes one new series. Nothing is overwritten unless asked.

    \b
    Examples:
      medfpl denoise scan.dcm
      medfpl denoise study/ -o denoised/ --resume
      medfpl denoise study/ -o denoised/ --report denoised/report.html
      medfpl denoise ct.nii.gz -o out.nii.gz --method nlm --noise-level 25 --residual
    """
    from medfpl.cli._denoise_report import reporting
    from medfpl.cli._denoise_run import run, show_plan
    from medfpl.pipeline.engine import NoiseLevel, Recipe
    from medfpl.pipeline.jobs import Shard, plan
    from medfpl.pipeline.run import Wishes

    if explain and not saliency:
        raise UsageError("--explain is for --saliency", "add --saliency")
    if overwrite and resume:
        raise UsageError("--overwrite and --resume exclude each other")
    recipe = Recipe(
        method=method,
        model=model,
        device=device,
        settings=options.parse_settings(settings),
        noise_level=NoiseLevel.parse(noise_level),
        strength=strength,
    )
    wishes = Wishes(
        kind=options.check_kind(kind),
        residual=residual,
        noise_map=noise_map,
        preview=preview,
        saliency=saliency,
        explain=explain,
        overwrite=overwrite,
        resume=resume,
        allow_burned_in=allow_burned_in,
        transfer_syntax=transfer_syntax,
        drop_private=drop_private,
    )
    part = Shard.parse(shard)
    work = plan(inputs, output, "denoised", wishes.by_products)
    out = Output(as_json=as_json, quiet=quiet)
    if dry_run:
        return show_plan(out, work.shard(part), wishes)
    mine = work.shard(part)
    with reporting(report, mine, wishes) as page:
        return run(out, mine, recipe, wishes, part, jobs, seed, page)
