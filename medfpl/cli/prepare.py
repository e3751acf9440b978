"""``medfpl prepare``: trees of scans in, a training store out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_NOTHING_DONE, EXIT_OK, EXIT_SOME_FAILED, BadInput, UsageError

if TYPE_CHECKING:
    from medfpl.store.ingest import Outcome

CHOICE, SPLIT = "What goes in", "Split"

Sources = Annotated[list[str], typer.Argument(metavar="SRC", help="Images and folders, or KIND=FOLDER, as in xray=a/.")]
Target = Annotated[Path, typer.Option("--output", "-o", metavar="STORE", help="The folder of the store.")]
PresetName = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="lidc, rsna or lits.", rich_help_panel=CHOICE)
]
Size = Annotated[
    int,
    typer.Option(
        "--size", min=0, max=4096, help="Longer side of a slice in pixels; 0: native.", rich_help_panel=CHOICE
    ),
]
Planes = Annotated[
    str,
    typer.Option(
        "--planes",
        metavar="WHICH",
        help="acquired, or all: of volumes with nearly cubic voxels the two planes across, too.",
        rich_help_panel=CHOICE,
    ),
]
Train = Annotated[
    int | None, typer.Option("--train", min=1, metavar="N", help="At most N training slices.", rich_help_panel=SPLIT)
]
Test = Annotated[
    int | None, typer.Option("--test", min=1, metavar="N", help="At most N test slices.", rich_help_panel=SPLIT)
]
SplitBy = Annotated[str, typer.Option("--split", metavar="BY", help="patient or image.", rich_help_panel=SPLIT)]
TablePath = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE.csv",
        help="Columns path, patient and maybe kind, split and group, where files do not say.",
        rich_help_panel=SPLIT,
    ),
]
Workers = Annotated[int, typer.Option("--workers", "-j", min=1, max=256, help="Images converted at the same time.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a store that was begun.")]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("prepare")(prepare)


def prepare(
    sources: Sources,
    output: Target,
    kind: options.Kind = None,
    preset: PresetName = None,
    size: Size = 256,
    planes: Planes = "acquired",
    train: Train = None,
    test: Test = None,
    split: SplitBy = "patient",
    table: TablePath = None,
    seed: options.Seed = 0,
    workers: Workers = 1,
    resume: Resume = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Put images into a training store, split by patient into train, val and test.

    Reads DICOM (each series one volume), NIfTI, NRRD, MHA and pictures. Patients are kept as salted hashes.

    \b
    Examples:
      medfpl prepare LIDC-IDRI/ -o store --preset lidc
      medfpl prepare ct/ mr/ xray=pictures/ -o store --size 0 --workers 8
    """
    from medfpl.store.find import PRESETS, Settings, parse_source, read_table
    from medfpl.store.ingest import fill_store, plan_store

    if preset is not None and preset not in PRESETS:
        raise UsageError(f"--preset {preset} is unknown", f"choose from {', '.join(PRESETS)}")
    if split not in ("patient", "image"):
        raise UsageError(f"--split {split} is unknown", "choose patient or image")
    if planes not in ("acquired", "all"):
        raise UsageError(f"--planes {planes} is unknown", "choose acquired or all")
    chosen = PRESETS.get(preset or "")
    settings = Settings(
        size=size,
        kind=options.check_kind(kind) or (chosen.kind if chosen else None),
        split_by=split,
        seed=seed,
        train=train,
        test=test,
        skip=chosen.skip if chosen else "",
        planes=planes,
    )
    out = Output(as_json=as_json, quiet=quiet)
    known = read_table(table) if table else None
    out.say("looking for images")
    todo, outcome = plan_store([parse_source(s) for s in sources], output, settings, table=known, resume=resume)
    with out.progress(len(todo), "images") as advance:
        fill_store(todo, outcome, output, settings, workers=workers, report=advance)
    for name, reason in outcome.refused:
        out.error(BadInput(reason), name)
    _show(out, outcome)
    if not outcome.done and not outcome.kept:
        return EXIT_NOTHING_DONE
    return EXIT_SOME_FAILED if outcome.refused else EXIT_OK


def _show(out: Output, outcome: "Outcome") -> None:
    from medfpl.store.store import SPLITS

    assert outcome.store is not None
    items = outcome.store.items
    rows, counts = [], {}
    for kind in sorted({i.kind for i in items}):
        for split in SPLITS:
            of = [i for i in items if i.kind == kind and i.split == split]
            numbers = {
                "images": len(of),
                "slices": sum(i.slices for i in of),
                "patients": len({i.patient for i in of}),
            }
            counts[f"{kind}/{split}"] = numbers
            rows.append((kind, split, *(str(n) for n in numbers.values())))
    out.table(("kind", "split", "images", "slices", "patients"), rows, right=(2, 3, 4))
    skipped = f", {outcome.skipped} other files skipped" if outcome.skipped else ""
    refused = f", {len(outcome.refused)} refused" if outcome.refused else ""
    out.say(f"{outcome.done} images added, {outcome.kept} kept{refused}{skipped}")
    out.result(
        {
            "store": counts,
            "added": outcome.done,
            "kept": outcome.kept,
            "skipped": outcome.skipped,
            "refused": [{"file": name, "reason": reason} for name, reason in outcome.refused],
            "fingerprint": outcome.store.fingerprint(),
        }
    )
