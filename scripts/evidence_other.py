"""Write docs/evidence/other-sources.md: the shipped denoiser on images from sources that its training never saw.

    python scripts/other_sources.py IMAGES
    python scripts/evidence_other.py IMAGES RUN docs/evidence [--model NAME]

Of each image: how much it changes where nothing is wrong with it, and how the benchmark ranks what comes of it. RUN is
the benchmark's folder, which an interrupted run goes on with, and which is removed when the page is written.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from evidence_model import table

from medfpl.bench.cases import Case
from medfpl.bench.data import DataSettings, find_cases
from medfpl.denoisers.methods.medfpl import NetworkDenoiser
from medfpl.nets.experts import Experts
from medfpl.nets.weights import find_model
from medfpl.pipeline import Recipe, load
from medfpl.pipeline.engine import Engine
from medfpl.training.metrics import psnr

CLEAN = ("image", "slices", "denoise", "blind", "believed")
RANKED = ("image", "ahead", "mean lead, dB", "least lead, dB", "in")
SURE = 0.1  # a corrector believed less changes next to nothing

HEAD = """\
# Images from other sources

Made by `make evidence-other`: {images} images of {sources} files that public software packages bring along
(scripts/other_sources.py says which), the model {model}. None of them, and nothing of their sources, was trained on;
the stripped skull, and perhaps the T1 brain, are of a head that was. They were looked at while the correctors' limits
were chosen, so they test the networks and not those limits.

## With nothing wrong

PSNR in dB of the result against the image itself, the least of a file's slices; 100: bit for bit. By `denoise`, which
knows of what kind an image is; and blind, as in the benchmark, with the correctors that were believed then.

{clean}
## In the benchmark

Strength 0.5, rivals tuned and told the noise level. Ahead: of how many corruptions PSNR (SSIM) is better than every
rival's; lead: PSNR over the best rival of each corruption.

{bench}
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--model", default=None, help="default: the one that 'medfpl denoise' takes")
    given = parser.parse_args()
    model = given.model or find_model().card.name
    engine = load(Recipe(model=model))
    files = {path.name: path for path in sorted(given.images.iterdir())}
    cases = {name: [c.load() for c in find_cases(path, DataSettings()).chosen] for name, path in files.items()}
    again = ["--resume"] if (given.run / "run.json").is_file() else []
    subprocess.run(
        [sys.executable, "-m", "medfpl", "bench", "-o", given.run, "--data", given.images, "--model", model, *again],
        check=True,
    )
    page = HEAD.format(
        images=sum(map(len, cases.values())),
        sources=len(files),
        model=model,
        clean=table(CLEAN, [clean(*item, engine) for item in cases.items()]),
        bench=table(RANKED, ranked(cases, given.run / "results.csv")),
    )
    (given.docs / "other-sources.md").write_text(page, "utf-8")
    shutil.rmtree(given.run)  # a later model of this name must not find these rows


def clean(name: str, cases: Sequence[Case], engine: Engine) -> tuple[str, ...]:
    """Return what becomes of a file's slices with nothing wrong with them: a row."""
    known, blind, believed = [], [], set[str]()
    assert isinstance(engine.denoiser, NetworkDenoiser)
    net = engine.denoiser.net
    for case in cases:
        known.append(float(psnr(engine.denoise(case.image, case.intensity), case.image)))
        done = engine.denoiser.restore(case.image)
        blind.append(float(psnr(done.result, case.image)))
        if isinstance(net, Experts):  # restore tells only of those believed by half and more
            with torch.inference_mode():
                found = net.blend(done.undone, lambda part, x: part(x))[1]
            believed |= {artifact for artifact, share in found if float(share) > SURE}
    return name, f"{len(cases)}", f"{min(known):.1f}", f"{min(blind):.1f}", ", ".join(sorted(believed)) or "none"


def ranked(cases: dict[str, list[Case]], results: Path) -> list[tuple[str, ...]]:
    """Return a row for each file of how its cases fared, and one for all."""
    scores: dict[tuple[str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    with results.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scores[row["case"], row["noise"]][row["method"]] = float(row["psnr"]), float(row["ssim"])
    rows, leads = [], []
    for name, some in cases.items():
        ids = {case.id for case in some}
        noises = sorted({noise for case, noise in scores if case in ids})
        if not noises:  # a CT too noisy to be a reference
            rows.append((name, "no clean reference", "", "", ""))
            continue
        ahead = {noise: [lead(scores[i, noise], 0) for i in ids if (i, noise) in scores] for noise in noises}
        alike = {noise: [lead(scores[i, noise], 1) for i in ids if (i, noise) in scores] for noise in noises}
        mean = {noise: fmean(values) for noise, values in ahead.items()}
        worst = min(mean, key=lambda noise: mean[noise])
        leads += mean.values()
        won = [sum(fmean(values) > 0 for values in of.values()) for of in (ahead, alike)]
        rows.append((name, f"{won[0]} ({won[1]}) of {len(noises)}", f"{fmean(mean.values()):+.1f}",
                     f"{mean[worst]:+.1f}", worst))  # fmt: skip
    ahead_in = sum(value > 0 for value in leads)
    return [*rows, ("all", f"{ahead_in} of {len(leads)}", f"{fmean(leads):+.1f}", f"{min(leads):+.1f}", "")]


def lead(of_methods: dict[str, tuple[float, float]], measure: int) -> float:
    """Return by how much medfpl leads the best rival."""
    return of_methods["medfpl"][measure] - max(s[measure] for m, s in of_methods.items() if m != "medfpl")


if __name__ == "__main__":
    main()
