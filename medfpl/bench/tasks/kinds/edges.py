"""Edges: how much wider the edges of anatomy become, and how well a planted disc's edge is passed on."""

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np
import torch

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.planting import (
    contrast_text,
    corrupt_with,
    denoise_all,
    disc,
    distances,
    follows,
    plant,
    windows,
)
from medfpl.bench.tasks.profiles import Array, find_edges, fitted_width, profiles_of, transfer_f50
from medfpl.bench.tasks.regions import plane, spread
from medfpl.seeds import numpy_generator

STRONG, FAINT = 0.15, (0.03, 0.1)  # working units: from 300 HU; 60 to 200 HU
FEWEST, MOST, REALISATIONS = 20, 300, 3
PARTS, UNSURE = 10, 0.25
DISC, DISC_EDGE, DISCS = 20, 0.5, 3  # diameter and softness in pixels, places
DISC_CONTRASTS = (0.02, 0.1)
REACH = DISC // 2 + 8


def run(trial: Trial) -> Sequence[Value]:
    """Measure the mean profiles of strong and faint edges, and the f50 of discs of two contrasts."""
    return [*_real(trial), *_planted(trial)]


def _real(trial: Trial) -> list[Value]:
    clean = plane(trial.clean)
    rng = numpy_generator(trial.seed, "edges", trial.case.id)
    edges = find_edges(clean, rng, faintest=FAINT[0])
    groups = {"strong": edges.rise >= STRONG, "faint": edges.rise <= FAINT[1]}
    if max(chosen.sum() for chosen in groups.values()) < FEWEST:
        return []
    others = torch.cat([trial.corrupt(trial.clean, k) for k in range(1, REALISATIONS)])
    images = {
        "width": torch.cat([trial.denoised, denoise_all(trial, others)]),
        "width_noisy": torch.cat([trial.noisy, others]),
    }
    values = []
    for name, chosen in groups.items():
        if chosen.sum() < FEWEST:
            continue
        some = edges.where(chosen & (np.cumsum(chosen) <= MOST))
        before = profiles_of(clean, some)
        for measure, x in images.items():
            after = np.mean([profiles_of(plane(one), some) for one in x], 0)
            ratio = width_ratio(before, after)
            if isfinite(ratio):
                values.append(Value(measure, ratio, name))
    return values


def width_ratio(before: Array, after: Array) -> float:
    """Return the width of the mean of the profiles ``after`` (n, samples) over that of ``before``.

    NaN where its standard error is above a quarter of it, by leaving out each tenth of the edges in turn: more noise
    than so few or so faint edges can bear.
    """
    parts = np.arange(len(before)) * PARTS // len(before)
    whole = fitted_width(after.mean(0)) / fitted_width(before.mean(0))
    less = [fitted_width(after[parts != p].mean(0)) / fitted_width(before[parts != p].mean(0)) for p in range(PARTS)]
    error = sqrt((PARTS - 1) * float(np.var(less)))
    return whole if error <= UNSURE * whole else float("nan")


def _planted(trial: Trial) -> list[Value]:
    rng = numpy_generator(trial.seed, "discs", trial.case.id)
    places = [p for p in spread(rng, trial.case, [REACH] * DISCS, [DISC // 2] * DISCS) if p is not None]
    if not places:
        return []
    size = len(places)
    discs = torch.cat([plant(trial.clean, places, [c] * size, [DISC] * size, DISC_EDGE) for c in DISC_CONTRASTS])
    corrupted = corrupt_with(trial, discs, follow=follows(trial, discs[:1]))
    left = windows(denoise_all(trial, corrupted) - trial.denoised, places, REACH).mean(1)
    values = []
    for contrast, mean in zip(DISC_CONTRASTS, left, strict=True):
        f50 = transfer_f50(mean, contrast * disc(distances(REACH), DISC, DISC_EDGE), DISC / 2)
        if isfinite(f50):
            values.append(Value("f50", f50, contrast_text(trial, contrast)))
    return values


TASK = Task(
    name="edges",
    summary="width of real edges and transfer function of a planted edge",
    source="10-90 % rise: ISO 12233; task transfer function: Richard et al. 2012, Med. Phys. 39(7); "
    "AAPM Report 233, 2019",
    measures={
        "width": Measure("10-90 % width of the mean edge over that in the clean image", "", 1.0, "ideal"),
        "width_noisy": Measure("the same before denoising", "", 1.0, "ideal"),
        "f50": Measure("frequency at which a planted edge's transfer function is one half", "cycles/px", 0.5, "more"),
    },
    run=run,
)
