"""``medfpl saliency``: feature maps before and after denoising, and what can be trusted of the change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfpl import __version__
from medfpl.cli import options
from medfpl.cli.output import Output, as_known
from medfpl.errors import (
    EXIT_NOTHING_DONE,
    EXIT_OK,
    EXIT_SOME_FAILED,
    BadInput,
    UsageError,
)

Inputs = Annotated[list[Path], typer.Argument(metavar="IN", help="Images, series, and folders of them.")]
Target = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Gets a folder for each file or series.")]
Denoised = Annotated[
    Path | None,
    typer.Option(
        "--denoised", metavar="PATH", help="The result of IN, if it is to be judged.", rich_help_panel=options.METHOD
    ),
]
Slices = Annotated[
    str | None,
    typer.Option(
        "--slices",
        metavar="LIST",
        help="To draw: all, or as in 3,10,20 from 0. Default: the middle one and the worst flagged.",
        rich_help_panel=options.FILES,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("saliency")(saliency)


def saliency(
    inputs: Inputs,
    output: Target,
    method: options.MethodName = "medfpl",
    settings: options.Set = None,
    model: options.Model = None,
    explain: options.Explain = None,
    denoised: Denoised = None,
    device: options.Device = "auto",
    kind: options.Kind = None,
    noise_level: options.Level = "auto",
    strength: options.Strength = 1.0,
    slices: Slices = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    allow_burned_in: options.BurnedIn = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show what denoising keeps: feature maps before and after, their difference, and where to look.

    Each folder gets overlay pictures, the maps as NIfTI, NPZ and DICOM, and saliency.json with a feature distance,
    noise and flags for each slice.

    \b
    Examples:
      medfpl saliency ct.nii.gz -o maps/
      medfpl saliency series/ -o maps/ --slices all
      medfpl saliency scan.dcm -o maps/ --denoised other.dcm
    """
    if overwrite and resume:
        raise UsageError("--overwrite and --resume exclude each other")
    chosen = parse_slices(slices)
    from medfpl.pipeline.engine import NoiseLevel, Recipe

    recipe = Recipe(method, model, device, options.parse_settings(settings), NoiseLevel.parse(noise_level), strength)
    checked = options.check_kind(kind)
    from medfpl.pipeline.run import EngineOnDemand, ExplainerOnDemand, FailedToLoad
    from medfpl.saliency.run import Item, Result, Writing, explain_items, plan_items

    out = Output(as_json=as_json, quiet=quiet)
    items, work = plan_items(inputs, output, allow_burned_in=allow_burned_in)
    results = [Result(Item(str(p), (p,), output), "failed", error=e) for p, e in work.refused]
    engine = EngineOnDemand(recipe)
    with out.progress(len(items), "explaining") as show:
        try:
            for result in explain_items(
                items,
                engine,
                ExplainerOnDemand(explain, recipe.device),
                Writing(overwrite, chosen),
                kind=checked,
                denoised=denoised,
                resume=resume,
                allow_burned_in=allow_burned_in,
                watch=lambda number, share: show(number + share),
            ):
                results.append(result)
        except FailedToLoad as failure:
            raise failure.cause from None
    for result in results:
        if result.error is not None:
            out.error(result.error, result.item.name)
    _tell(out, recipe, engine, explain, results, len(work.skipped))
    return _exit_code(out, results)


def parse_slices(text: str | None) -> tuple[int, ...] | Literal["all"] | None:
    """Return the slices of ``3,10,20``, or ``all``; raise UsageError for anything else."""
    if text is None:
        return None
    if text == "all":
        return "all"
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise UsageError(f"--slices {text} is no list of slices", "all, or numbers from 0 as in 3,10,20")
    return tuple(int(part) for part in parts)


def _tell(out: Output, recipe: Any, engine: Any, explain: str | None, results: Sequence[Any], skipped: int) -> None:
    loaded = engine.engine
    out.result(
        {
            "command": "saliency",
            "version": __version__,
            "method": recipe.method,
            "model": loaded.derivation.model if loaded else "",
            "device": loaded.device if loaded else "",
            "counts": {
                **{s: sum(r.status == s for r in results) for s in ("done", "kept", "failed")},
                "skipped": skipped,
            },
            "files": [_row(r) for r in results],
        }
    )
    done = [r for r in results if r.status == "done"]
    out.table(
        ("what", "slices", "noise", "feature distance", "flagged slices", "time", "written to"),
        [
            (
                r.item.name,
                str(r.slices),
                f"{r.noise[0]:.3g} -> {r.noise[1]:.3g}{f' {r.unit}' if r.unit != '1' else ''}",
                f"{r.feature_distance:.3f}",
                f"{len(r.flagged)}" + (f": {_short(r.flagged)}" if r.flagged and r.slices > 1 else ""),
                f"{r.seconds:.1f} s",
                f"{r.item.folder}/",
            )
            for r in done
        ],
        right=(1, 3, 5),
    )
    kept = sum(r.status == "kept" for r in results)
    out.say(f"{len(done)} explained" + (f", {kept} kept from before" if kept else ""))
    if any(r.flagged for r in done):
        out.say("flagged slices show more than noise in what was removed: see their pictures")


def _short(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")


def _row(result: Any) -> dict[str, Any]:
    error = None if result.error is None else as_known(result.error)
    return {
        "input": [str(p) for p in result.item.paths],
        "status": result.status,
        "folder": str(result.item.folder),
        "outputs": [str(p) for p in result.outputs],
        "kind": result.kind,
        "slices": result.slices,
        "unit": result.unit,
        "noise_before": result.noise[0] if result.noise else None,
        "noise_after": result.noise[1] if result.noise else None,
        "feature_distance": result.feature_distance,
        "flagged_slices": list(result.flagged),
        "seconds": round(result.seconds, 3),
        "error": None if error is None else error.message,
        "hint": None if error is None else error.hint,
    }


def _exit_code(out: Output, results: Sequence[Any]) -> int:
    failed = sum(r.status == "failed" for r in results)
    if not results:
        out.error(BadInput("no image found", "a folder's files are images by their suffix or their content"))
        return EXIT_NOTHING_DONE
    if failed:
        return EXIT_SOME_FAILED if failed < len(results) else EXIT_NOTHING_DONE
    return EXIT_OK
