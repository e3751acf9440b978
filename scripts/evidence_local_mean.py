"""Write docs/evidence/local-mean.md: what it costs to give local means back, and what comes back with them.

    python scripts/evidence_local_mean.py STORE FOLDER [--model NAME] [--split val] [--images 4]

For each kind of image and random noise: PSNR of the experts' result, and how much of the contrast of planted lesions
is in it (the benchmark's task "lesions"); then both for several bounds on how much may come back (nets.give_back).
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from evidence_model import table
from torch import Tensor

from medfpl.bench.cases import Case
from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.tasks.base import Trial
from medfpl.bench.tasks.kinds.lesions import run as lesions
from medfpl.nets.experts import Experts
from medfpl.nets.give_back import MOST, MOST_WITH_OFFSET, POWER, STRONG, without_local_mean
from medfpl.nets.weights import find_model, load_net
from medfpl.noises import NOISES, corrupt
from medfpl.seeds import stable_seed
from medfpl.training.metrics import psnr, ssim

WHITE, MAGNITUDES = ("gaussian", "poisson", "speckle"), ("rician", "noncentral-chi")
STRENGTHS = (0.2, 0.5)
BOUNDS = (0.002, 0.004, 0.007, 0.01)

HEAD = """\
# Giving local means back

Made by `make evidence-local-mean STORE=STORE` (scripts/evidence_local_mean.py): {images} images a kind of the {split}
patients, the experts of {model} alone, nothing undone or corrected. First what comes out without giving anything
back: PSNR in dB, and the recovery of planted lesions (10 to 40 HU on CT, else 1 to 4 % of the range; 4 to 12 pixels).
Then, for each bound on the root mean square of what comes back (working units: 0.001 are 2 HU), PSNR and SSIM less
those before, and the recovery. Chosen: {offset} for magnitude noise; for noise of mean 0 {most} where it is {strong},
and by the power {power} of the ratio more where it is weaker.

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
    model = find_model(given.model)
    net = load_net(model)
    if not isinstance(net, Experts):
        parser.error(f"{model.card.name} is no model of experts")
    cases = [c.load() for c in find_cases(given.store, DataSettings(limit=given.images, split=given.split)).chosen]
    rows = []
    for kind in sorted({c.intensity.kind for c in cases}):
        some = [c for c in cases if c.intensity.kind == kind]
        for noise in (*WHITE, *MAGNITUDES):
            for strength in STRENGTHS:
                ways = [None, *(partial(without_local_mean, most=b) for b in BOUNDS), without_local_mean]
                plain, *others = [scores(some, noise, strength, partial(denoised, net, give)) for give in ways]
                cells = [f"{p - plain[0]:+.2f} {s - plain[1]:+.3f} **{r:.2f}**" for p, s, r in others]
                rows.append((kind, noise, f"{strength:g}", f"{plain[0]:.2f} **{plain[2]:.2f}**", *cells))
                print(" | ".join(rows[-1]), flush=True)
    head = HEAD.format(
        images=given.images,
        split=given.split,
        model=model.card.name,
        most=MOST,
        offset=MOST_WITH_OFFSET,
        strong=STRONG,
        power=POWER,
    )
    columns = ("kind", "noise", "strength", "alone", *(f"{b:g}" for b in BOUNDS), "as chosen")
    (given.docs / "local-mean.md").write_text(head + table(columns, rows), "utf-8")


@torch.inference_mode()
def denoised(net: Experts, give: Callable[..., Tensor] | None, x: Tensor) -> Tensor:
    """Return the experts' result, of whose noise ``give`` gives the local mean back, if it is not None."""
    noise = torch.zeros_like(x)
    for share, expert, offset in zip(net.shares(x).unbind(1), net.experts, net.config.offset, strict=True):
        for i in share.nonzero()[:, 0].tolist():
            part = x[i : i + 1]
            found = expert(part)
            if give is not None:
                found = give(found, part, offset=offset)
            noise[i] += share[i] * found[0]
    return x - noise


def scores(
    cases: list[Case], noise: str, strength: float, denoise: Callable[[Tensor], Tensor]
) -> tuple[float, float, float]:
    """Return the mean PSNR, SSIM and recovery of lesions."""
    quality, recovered = [], []
    for case in cases:
        seed = stable_seed(0, "local mean", noise, case.id)

        def corrupted(x: Tensor, realisation: int = 0, case: Case = case, seed: int = seed) -> Tensor:
            seeds, contexts = [seed + realisation] * len(x), [case.context] * len(x)
            return corrupt(x, NOISES.get(noise), seeds=seeds, strength=strength, contexts=contexts)[0]

        noisy = corrupted(case.image)
        result = denoise(noisy)
        quality.append((float(psnr(result, case.image)), float(ssim(result, case.image))))
        trial = Trial(case, case.image, noisy, result, corrupted, denoise, seed)
        recovered += [v.value for v in lesions(trial) if v.measure == "recovery"]
    return fmean(p for p, _ in quality), fmean(s for _, s in quality), fmean(recovered)


if __name__ == "__main__":
    main()
