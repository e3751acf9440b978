"""``medfpl bench``: corrupt clean images, run every method on them, and say who is how far from the truth."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medfpl import __version__
from medfpl.cli import options
from medfpl.cli.output import Output
from medfpl.errors import EXIT_OK, EXIT_SOME_FAILED, BadInput, UsageError, escape

if TYPE_CHECKING:
    from medfpl.bench.outputs import Printed
    from medfpl.bench.plan import BenchSettings, Plan
    from medfpl.bench.run import BenchResult

WHAT, IMAGES, HOW, FILES = "What is compared", "Images", "Where and how", "Files"

Target = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the rows, tables, figures and the page.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="PATH", help="A store, folder or file; default: sample data.", rich_help_panel=IMAGES
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=0,
        metavar="N",
        help="Cases a kind, patients in turn; 0: all. Default: 4 of the sample data, else all.",
        rich_help_panel=IMAGES,
    ),
]
Size = Annotated[
    int,
    typer.Option(
        "--size",
        min=0,
        max=4096,
        metavar="N",
        help="Longest side in pixels; larger images are shrunk. 0: native.",
        rich_help_panel=IMAGES,
    ),
]
SplitName = Annotated[
    str, typer.Option("--split", metavar="NAME", help="Of a store: test, val or train.", rich_help_panel=IMAGES)
]
MaxNoise = Annotated[
    float,
    typer.Option(
        "--max-noise", min=0, metavar="HU", help="A CT noisier than this is no clean reference.", rich_help_panel=IMAGES
    ),
]
MethodNames = Annotated[
    str | None,
    typer.Option(
        "--methods",
        "-m",
        metavar="A,B",
        help="Default: all. medfpl=RUN is a model of yours; mean:size=5 has a setting.",
        rich_help_panel=WHAT,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Of medfpl: a name or run folder.", rich_help_panel=WHAT),
]
NoiseNames = Annotated[
    str | None,
    typer.Option(
        "--noises",
        "-n",
        metavar="A,B",
        help="Names, noise/mode, all; default: the paper's 13.",
        rich_help_panel=WHAT,
    ),
]
Strengths = Annotated[
    str, typer.Option("--strengths", metavar="S,S", help="0 to 1, as in 'medfpl noise'.", rich_help_panel=WHAT)
]
PsnrName = Annotated[
    str,
    typer.Option(
        "--psnr", metavar="KIND", help="true, or uint8-wrapped: what published tables hold.", rich_help_panel=WHAT
    ),
]
AllTasks = Annotated[
    bool, typer.Option("--tasks", help="Measure what PSNR cannot see: lesions, edges, ...", rich_help_panel=WHAT)
]
TaskNames = Annotated[
    str | None,
    typer.Option("--task", metavar="A,B", help="Some of the tasks alone.", rich_help_panel=WHAT),
]
Features = Annotated[
    str | None,
    typer.Option("--features", metavar="NAME", help="Network whose features the tasks compare.", rich_help_panel=WHAT),
]
TuningName = Annotated[
    str, typer.Option("--tuning", metavar="KIND", help="tuned for each noise and kind, or none.", rich_help_panel=WHAT)
]
Compared = Annotated[
    str | None,
    typer.Option("--compare", metavar="WITH", help="paper: its numbers beside ours.", rich_help_panel=WHAT),
]
ShardPart = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Do one part; --resume joins them.", rich_help_panel=HOW),
]
ExecutorName = Annotated[
    str,
    typer.Option("--executor", metavar="NAME", help="processes, serial, dask, dask:HOST:PORT.", rich_help_panel=HOW),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", min=1, max=1024, help="Processes; default: one a core.", rich_help_panel=HOW),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.", rich_help_panel=FILES)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in DIR.", rich_help_panel=FILES)]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bench")(bench)


def bench(
    output: Target,
    data: Data = None,
    limit: Limit = None,
    size: Size = 256,
    split: SplitName = "test",
    kind: options.Kind = None,
    max_noise: MaxNoise = 12.0,
    methods: MethodNames = None,
    model: ModelName = None,
    noises: NoiseNames = None,
    strengths: Strengths = "0.5",
    psnr: PsnrName = "true",
    tasks: AllTasks = False,
    task: TaskNames = None,
    features: Features = None,
    tuning: TuningName = "tuned",
    compare: Compared = None,
    seed: options.Seed = 0,
    shard: ShardPart = None,
    executor: ExecutorName = "processes",
    workers: Workers = None,
    device: options.Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Corrupt clean images, denoise them with every method, and score the results against the truth.

    A number is the same whatever the workers, shards and interruptions. Ctrl-C keeps what is done for --resume.

    \b
    Examples:
      medfpl bench -o bench
      medfpl bench -o bench --data store --tasks
      medfpl bench -o bench --data ct/ --limit 2 --methods medfpl,nlm --noises gaussian,poisson/ct-texture
    """
    from medfpl.pipeline.jobs import Shard
    from medfpl.store.store import SPLITS

    if split not in SPLITS:
        raise UsageError(f"--split {split} is unknown", f"choose from {', '.join(SPLITS)}")
    if compare not in (None, "paper"):
        raise UsageError(f"--compare {compare} is unknown", "paper is all there is to compare with")
    part = Shard.parse(shard) if shard else None
    settings = _settings(methods, model, noises, strengths, psnr, tasks, task, features, tuning, seed, device)
    from medfpl.bench.data import DataSettings
    from medfpl.bench.run import run_bench

    most = (4 if data is None else None) if limit is None else limit or None
    choice = DataSettings(most, size, split, options.check_kind(kind), max_noise)
    out = Output(as_json=as_json, quiet=quiet)
    out.say("looking for images")
    view = _View(out)
    try:
        with view:
            result = run_bench(
                output,
                data,
                settings=settings,
                choice=choice,
                shard=part,
                executor=executor,
                workers=workers,
                resume=resume,
                overwrite=overwrite,
                compare_paper=compare == "paper",
                planned=view.planned,
                report=view.report,
            )
    except KeyboardInterrupt:
        out.say("stopped; go on with --resume")
        raise
    return _tell(out, output, result)


class _View(ExitStack):
    """The progress bar, which begins when the number of units is known."""

    def __init__(self, out: Output) -> None:
        super().__init__()
        self._out = out
        self._bar: Callable[[float], None] = lambda done: None

    def planned(self, plan: "Plan", units: int) -> None:
        """Say what will be done, and begin the bar."""
        from medfpl.pipeline.devices import choose_device, describe_device

        methods, device = len(plan.settings.entries), choose_device(plan.settings.device)
        if device != "cpu":
            self._out.say(f"networks on {describe_device(device)}")
        self._out.say(
            f"{len(plan.cases)} cases, {units} corrupted images, {methods} methods on each: {units * methods} results"
        )
        self._bar = self.enter_context(self._out.progress(units, "corrupted images"))

    def report(self, done: int) -> None:
        """Move the bar."""
        self._bar(done)


def _settings(
    methods: str | None,
    model: str | None,
    noises: str | None,
    strengths: str,
    psnr: str,
    tasks: bool,
    task: str | None,
    features: str | None,
    tuning: str,
    seed: int,
    device: str,
) -> "BenchSettings":
    from medfpl.bench.plan import BenchSettings, Corruption, Entry, default_corruptions, default_entries
    from medfpl.bench.tasks import TASKS

    for name, given, known in (("psnr", psnr, ("true", "uint8-wrapped")), ("tuning", tuning, ("tuned", "none"))):
        if given not in known:
            raise UsageError(f"--{name} {given} is unknown", f"choose {' or '.join(known)}")
    try:
        levels = tuple(float(s) for s in _names(strengths))
    except ValueError:
        raise UsageError(f"--strengths {strengths} are no numbers", "--strengths 0.25,0.5,0.75") from None
    if methods is None:
        entries = default_entries(model)
    else:
        entries = tuple(map(Entry.parse, _names(methods)))
        if model is not None:
            ours = [e for e in entries if e.method == "medfpl" and e.model is None]
            if not ours:
                raise UsageError("--model is for medfpl, which is not among --methods")
            entries = tuple(replace(e, model=model) if e in ours else e for e in entries)
    every = noises in (None, "all")
    corruptions = default_corruptions(noises == "all") if every else tuple(map(Corruption.parse, _names(noises or "")))
    wanted = [TASKS.resolve(name) for name in _names(task or "")] or (TASKS.names() if tasks else [])
    return BenchSettings(
        entries,
        corruptions,
        levels,
        seed,
        psnr,  # type: ignore[arg-type]
        tuning,  # type: ignore[arg-type]
        tuple(wanted),
        features,
        device,
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tell(out: Output, folder: Path, result: "BenchResult") -> int:
    from medfpl.bench.plan import describe

    for name, reason in result.cases.refused:
        out.error(BadInput(reason), name)
    for note in result.cases.notes:
        out.warn(note)
    failed = sum(bool(r.error) for r in result.results.rows)
    if result.printed is not None:
        columns, rows = result.printed.columns, result.printed.rows
        out.table(columns, rows, right=tuple(range(1, len(columns))))
        for line in result.printed.notes:
            out.text(line)
    kept = f", {result.kept} kept" if result.kept else ""
    out.say(f"{result.done} corrupted images done{kept}, {result.seconds:.1f} s, written to {escape(folder)}")
    if result.printed is None:
        out.say("when all parts are done: the same command with --resume and without --shard joins them")
    if failed:
        out.warn(f"{failed} results failed: see the column 'error'")
    out.result(
        {
            "command": "bench",
            "version": __version__,
            "output": folder.as_posix(),
            "cases": {c.id: c.intensity.kind for c in result.plan.cases.values()},
            "settings": describe(result.plan.settings),
            "seed": result.plan.settings.seed,
            "done": result.done,
            "kept": result.kept,
            "results": len(result.results.rows),
            "failed": failed,
            "refused": [{"file": name, "reason": reason} for name, reason in result.cases.refused],
            "notes": list(result.cases.notes),
            "seconds": round(result.seconds, 3),
            "table": None if result.printed is None else _rows(result.printed),
        }
    )
    return EXIT_SOME_FAILED if failed or result.cases.refused else EXIT_OK


def _rows(printed: "Printed") -> dict[str, Any]:
    return {"columns": list(printed.columns), "rows": [list(row) for row in printed.rows]}
