"""Write docs/evidence/local-mean.md: what it costs to give local means back, and what comes back with them.

    python scripts/evidence_local_mean.py STORE FOLDER [--model NAME] [--split val] [--images 4]

For each kind of image and random noise: PSNR of the experts' result, and how much of the contrast of planted lesions
is in it (the benchmark's task "lesions"); then both for several values of the setting "faint" (nets.give_back).
"""

import argparse
from pathlib import Path
from statistics import fmean

from evidence_model import table
from torch import Tensor

from medfpl.bench.cases import Case
from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.tasks.base import Trial
from medfpl.bench.tasks.kinds.lesions import run as lesions
from medfpl.denoisers import METHODS, Denoiser
from medfpl.nets.give_back import (
    MOST,
    MOST_WITH_OFFSET,
    NARROWEST,
    POWER,
    SHARE,
    STRONG,
    STRONGER,
    STRONGEST,
    WIDTHS,
)
from medfpl.noises import NOISES, corrupt
from medfpl.seeds import stable_seed
from medfpl.training.metrics import psnr, ssim

NOISES_TAKEN = ("gaussian", "poisson", "speckle", "rician", "noncentral-chi")
STRENGTHS = (0.2, 0.5)
FAINT = ("0.2", "0.4", "0.7", "1", "2", "3")

HEAD = """\
# Giving local means back

Made by `make evidence-local-mean STORE=STORE` (scripts/evidence_local_mean.py): {images} images a kind of the {split}
patients, the experts of {model} alone, nothing undone or corrected. First what comes out without giving anything
back (`--set faint=0`): PSNR in dB, and the recovery of planted lesions (10 to 40 HU on CT, else 1 to 4 % of the
range; 4 to 12 pixels). Then PSNR and SSIM less those before, and the recovery, where the mean over the narrowest of
{widths} pixels comes back whose root mean square is at most so many percent of the
working range (`--set faint=0.4`: 8 HU), and as is the default: from {narrowest:g} pixels on, at most {offset:g} % of
magnitude noise; of noise of mean 0 at most {most:g} % where it is {strong:g} %, by the power {power} of the ratio
more where it is weaker, and {share:g} % of it. Of what the expert for white noise in CT and MR took, more comes back
where it is {stronger:g} to {strongest:g} %, by a mean from {narrower:g} pixel on; and what is smooth and next to
nothing comes back whole.

"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--model", default=None, help="of experts; default: the one that 'medfpl denoise' takes")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--images", type=int, default=4)
    given = parser.parse_args()
    settings = {"model": given.model, "correct": "none", "undo": "none"}
    ways = [METHODS.get("medfpl").make(faint=faint, **settings) for faint in ("0", *FAINT, "auto")]
    cases = [c.load() for c in find_cases(given.store, DataSettings(limit=given.images, split=given.split)).chosen]
    rows = []
    for kind in sorted({c.intensity.kind for c in cases}):
        some = [c for c in cases if c.intensity.kind == kind]
        for noise in NOISES_TAKEN:
            for strength in STRENGTHS:
                plain, *others = [scores(some, noise, strength, way) for way in ways]
                cells = [f"{p - plain[0]:+.2f} {s - plain[1]:+.3f} **{r:.2f}**" for p, s, r in others]
                rows.append((kind, noise, f"{strength:g}", f"{plain[0]:.2f} **{plain[2]:.2f}**", *cells))
                print(" | ".join(rows[-1]), flush=True)
    head = HEAD.format(
        images=given.images,
        split=given.split,
        model=ways[0].model.card.name,
        widths=", ".join(f"{w:g}" for w in WIDTHS),
        narrowest=NARROWEST,
        most=100 * MOST,
        offset=100 * MOST_WITH_OFFSET,
        strong=100 * STRONG,
        power=POWER,
        share=100 * SHARE,
        stronger=100 * STRONGER[0],
        strongest=100 * STRONGEST[1],
        narrower=WIDTHS[0],
    )
    columns = ("kind", "noise", "strength", "0", *FAINT, "default")
    (given.docs / "local-mean.md").write_text(head + table(columns, rows), "utf-8")


def scores(cases: list[Case], noise: str, strength: float, way: Denoiser) -> tuple[float, float, float]:
    """Return the mean PSNR, SSIM and recovery of lesions."""
    quality, recovered = [], []
    for case in cases:
        seed = stable_seed(0, "local mean", noise, case.id)

        def corrupted(x: Tensor, realisation: int = 0, case: Case = case, seed: int = seed) -> Tensor:
            seeds, contexts = [seed + realisation] * len(x), [case.context] * len(x)
            return corrupt(x, NOISES.get(noise), seeds=seeds, strength=strength, contexts=contexts)[0]

        noisy = corrupted(case.image)
        result = way.denoise(noisy)
        quality.append((float(psnr(result, case.image)), float(ssim(result, case.image))))
        trial = Trial(case, case.image, noisy, result, corrupted, way.denoise, seed)
        recovered += [v.value for v in lesions(trial) if v.measure == "recovery"]
    return fmean(p for p, _ in quality), fmean(s for _, s in quality), fmean(recovered)


if __name__ == "__main__":
    main()
