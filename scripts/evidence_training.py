"""Write docs/evidence/training.md: what ``medfpl train --minutes 20`` gives on a store, with its defaults.

    python scripts/evidence_training.py STORE FOLDER [--minutes 20]

Trains into runs/evidence-training (or goes on there), and writes the scores of the run's card, which are of the store's
validation patients, and a picture: for each kind of image one frame corrupted in four ways, and what comes out.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from evaluate_model import draw, table
from PIL import Image

from medfpl.denoisers import METHODS
from medfpl.nets.weights import find_model
from medfpl.noises import NOISES, corrupt
from medfpl.seeds import stable_seed
from medfpl.store.store import Store, open_store

REPOSITORY = Path(__file__).resolve().parent.parent
RUN = REPOSITORY / "runs" / "evidence-training"
IMAGES = 15  # to validate on: the default's eight are few to tell noises by
SHOWN = ("gaussian", "rician", "wrap-around", "susceptibility")
KINDS = ("ct", "xray", "mr")
COLOURS = 96  # of the picture's palette

HEAD = """\
# What {minutes:g} minutes of training give

Made by `make evidence-training STORE=STORE` (scripts/evidence_training.py), which runs
`medfpl train -o RUN --data STORE --minutes {minutes:g} --set validation_images={images}` with every other setting
at its default, on {cores} processor cores: {steps} steps of the denoiser. Mean PSNR in dB and SSIM of the corrupted and
of the denoised image, {images} frames of patients that the run did not learn from, strength 0.5. Artifacts are what
[follows the denoiser](../training.md#what-follows-the-denoiser), and stripes what is [undone first](../methods.md).
Each corruption is measured in frames that it changes: of an X-ray without what chemical shift takes for fat another is
drawn.

"""


def main() -> None:
    """Train, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    args = parser.parse_args()
    again = ["--resume"] if RUN.exists() else []
    command = ["train", "-o", str(RUN), "--data", str(args.store), "--minutes", str(args.minutes)]
    command += ["--set", f"validation_images={IMAGES}", *again]
    subprocess.run([sys.executable, "-m", "medfpl", *command], check=True, cwd=REPOSITORY)
    card = find_model(RUN).card
    training = card.training
    head = HEAD.format(
        minutes=args.minutes,
        cores=os.cpu_count(),
        steps=training["steps"],
        images=training["config"]["validation_images"],
    )
    args.docs.mkdir(parents=True, exist_ok=True)
    picture(open_store(args.store), args.docs / "training.png")
    shown = ", ".join(SHOWN)
    tables = {kind: card.metrics[kind] for kind in KINDS if kind in card.metrics}
    foot = f"\n![corrupted and denoised images](training.png)\n\nCorrupted by {shown} (above), and denoised (below).\n"
    (args.docs / "training.md").write_text(head + table(tables) + gains(tables) + foot, "utf-8")


def gains(tables: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return a sentence: what each noise gains in the mean over the kinds, the least first."""
    noises = [noise for noise in next(iter(tables.values())) if noise not in ("clean", "mean")]
    gained = {n: fmean(t[n]["psnr"] - t[n]["input_psnr"] for t in tables.values()) for n in noises}
    listed = ", ".join(f"{n} {gained[n]:+.1f}" for n in sorted(gained, key=lambda n: gained[n]))
    return f"\nGained in the mean over the kinds, dB: {listed}.\n"


def picture(store: Store, target: Path) -> None:
    """Draw for each kind a row of corrupted images above one of denoised ones, over the working range."""
    denoiser = METHODS.get("medfpl").make(model=str(RUN))
    rows = []
    for kind in KINDS:
        clean, contexts = draw(store, "val", kind, 1)
        noisy = [
            corrupt(clean, NOISES.get(n), seeds=[stable_seed(0, "picture", n)], strength=0.5, contexts=contexts)[0]
            for n in SHOWN
        ]
        rows += [torch.cat([x[0, 0] for x in noisy], 1), torch.cat([denoiser.denoise(x)[0, 0] for x in noisy], 1)]
    grey = np.rint(255 * torch.cat(rows).clamp(0, 1).numpy()).astype(np.uint8)
    Image.fromarray(grey).quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
