"""Write docs/evidence/benchmark.md and its figures by ``medfpl bench``: ``evidence_benchmark.py FOLDER [IMAGES]``.

Runs on the sample data with true PSNR and all tasks; where given, on a prepared store or folder with true PSNR, and on
a few of its images with the tasks that tell most. Both again with the published tables' wrapped PSNR to set beside
them. Nothing is written unless every run succeeds; an interrupted
run goes on where it was (runs/evidence), and is removed when the page is written.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from medfpl.bench.plan import default_entries

REPOSITORY = Path(__file__).resolve().parent.parent
RUNS = REPOSITORY / "runs" / "evidence"
# Of each data set's figures, those that say most; the run's own page has all.
FIGURES = ("psnr-*.png", "ssim-*.png", "speed-*.png", "task-lesions-recovery-*.png", "task-detectability-cho-*.png")
# On images whose truth is unknown but for what is planted; all tasks would take hours.
FEW_TASKS, FEW = "lesions,edges,bias", "8"
# Beside the default: all that a local mean holds.
FAINT = "medfpl:faint=3"
TASK_TABLES = r"^## (CT|X-ray|MR): (over all noises|PSNR|task)"
COLOURS = 96  # of a PNG's palette: a third of the bytes, and no difference to be seen

HEAD = """\
# The benchmark

Made by `make evidence`{images}: every method on the noises of the paper's Table I, corrupted with known truth. How to
read the tables is in [benchmark-report.md](../benchmark-report.md).
"""
WRAPPED = """\
The same images scored as the published tables were: the PSNR of 8-bit squares modulo 256, which is not a PSNR and
serves this comparison alone.
"""


def bench(name: str, data: Path | None, *options: str) -> Path:
    """Run ``medfpl bench`` into a folder of its own, or go on with the run there; return the folder."""
    folder = RUNS / name
    source = [] if data is None else ["--data", str(data)]
    again = ["--resume"] if (folder / "run.json").is_file() else []
    subprocess.run(
        [sys.executable, "-m", "medfpl", "bench", "-o", str(folder), *source, *options, *again],
        check=True,
        cwd=REPOSITORY,
    )
    return folder


def tables(folder: Path, wanted: str) -> str:
    """Return the parts of a run's table.md whose headings match ``wanted``, one level lower."""
    parts = re.split(r"^(?=## )", (folder / "table.md").read_text("utf-8"), flags=re.MULTILINE)
    return "".join("#" + part for part in parts[1:] if re.search(wanted, part.splitlines()[0]))


def notes(folder: Path) -> str:
    """Return the lines at the head of a run's table.md."""
    head = re.split(r"^## ", (folder / "table.md").read_text("utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    return head.split("\n", 2)[2]


def figures(folder: Path, target: Path, name: str) -> str:
    """Save the chosen figures of a run in ``target`` and return the Markdown that shows them."""
    lines = []
    for pattern in FIGURES:
        for path in sorted((folder / "figures").glob(pattern)):
            saved = target / f"{name}-{path.name}"
            with Image.open(path) as image:
                image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(saved, optimize=True)
            lines.append(f"![{path.stem}]({target.name}/{saved.name})\n")
    return "\n".join(lines)


def section(title: str, name: str, data: Path | None, target: Path) -> str:
    """Run the benchmarks on ``data`` and return what the page says of them."""
    limit = ["--limit", "12"] if data else []
    true = bench(name, data, *([] if data else ["--tasks"]))
    wrapped = bench(f"{name}-wrapped", data, "--psnr", "uint8-wrapped", "--compare", "paper", *limit)
    parts = [f"## {title}\n", notes(true), figures(true, target, name), tables(true, "")]
    if data:
        methods = ",".join([FAINT, *(e.label for e in default_entries())])
        tasks = bench(f"{name}-tasks", data, "--task", FEW_TASKS, "--limit", FEW, "--methods", methods)
        parts += [f"### {title}: tasks, on at most {FEW} of a kind\n", tables(tasks, TASK_TABLES)]
    beside = tables(wrapped, "beside the paper")
    parts += [f"### {title}: beside the paper\n", WRAPPED, beside] if beside else []
    return "\n".join(parts)


def main(docs: Path, images: Path | None) -> None:
    """Write ``docs``/benchmark.md and ``docs``/benchmark/."""
    made = RUNS / "benchmark"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    parts = [HEAD.format(images=" IMAGES=..." if images else ""), section("Sample data", "sample", None, made)]
    if images:
        parts.append(section("Held-out images", "images", images, made))
    shutil.rmtree(docs / "benchmark", ignore_errors=True)
    shutil.copytree(made, docs / "benchmark")
    (docs / "benchmark.md").write_text("\n".join(parts), "utf-8")
    shutil.rmtree(RUNS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None)
