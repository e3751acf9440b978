"""Invention: structure of a lesion's size in an output where a clean, lesion-free input has none."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
import torch
from scipy.signal import oaconvolve
from torch import Tensor

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.planting import contrast_text, contrasts_of, denoise_all, disc, distances
from medfpl.bench.tasks.regions import homogeneous, plane, tissue

DIAMETER = 8  # pixels: the lesion that is looked for
FLAT_REALISATIONS, REALISATIONS = 6, 4
MARGIN = 16  # pixels at the border of the flat image that do not count
_REACH = ceil(DIAMETER / 2) + 4


def lesion_responses(images: Tensor) -> Tensor:
    """Return at each pixel of (B, 1, H, W) the contrast of an 8-pixel lesion that the image seems to hold there.

    A matched filter: the smooth disc less its mean over the window, scaled so that a lesion of contrast c answers c at
    its centre and a level answers 0. Float64; the border continues by reflection.
    """
    profile = disc(distances(_REACH), DIAMETER)
    template = profile - profile.mean()
    template = template / (template * profile).sum()
    x = torch.nn.functional.pad(images.double(), (_REACH,) * 4, mode="reflect").cpu().numpy()
    return torch.from_numpy(oaconvolve(x, template.numpy()[None, None], mode="valid", axes=(-2, -1)))


def persistent(images: Tensor) -> float:
    """Return the root mean square of what the lesion responses of (B, 1, H, W) have in common, B at least 2.

    From the products of different images alone, out of which independent noise drops on average; 0 where their mean
    is negative.
    """
    responses = lesion_responses(images)
    n = len(responses)
    products = responses.sum(0).square() - responses.square().sum(0)
    return sqrt(max(0.0, float(products.mean()) / (n * (n - 1))))


def false_lesions(responses: Tensor, where: Tensor, threshold: float) -> float:
    """Return the bright spots above ``threshold`` per 1000 pixels of ``where`` (H, W) in responses (B, 1, H, W)."""
    peaks = torch.nn.functional.max_pool2d(responses, DIAMETER + 1, stride=1, padding=DIAMETER // 2) == responses
    found = int((peaks & (responses > threshold))[:, 0, where].sum())
    return 1000 * found / (len(responses) * int(where.sum()))


def run(trial: Trial) -> Sequence[Value]:
    """Look for lesions in a flat image and in homogeneous tissue of the real one, over some realisations each."""
    return [*_flat(trial), *_tissue(trial)]


def _flat(trial: Trial) -> list[Value]:
    inside = tissue(trial.case)
    level = float(np.median(plane(trial.clean)[inside])) if inside.any() else 0.5
    flat = torch.full_like(trial.clean, level)
    noisy = torch.cat([trial.corrupt(flat, k) for k in range(FLAT_REALISATIONS)])
    if min(noisy.shape[-2:]) <= 2 * MARGIN + 2 * _REACH:
        return []
    core = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    images = {"flat_structure_noisy": noisy, "flat_structure": denoise_all(trial, noisy)}
    return [Value(name, 100 * persistent((x - flat)[core])) for name, x in images.items()]


def _tissue(trial: Trial) -> list[Value]:
    where = torch.from_numpy(homogeneous(trial.case, DIAMETER + 5)[0])
    if not bool(where.any()):
        return []
    noisy = torch.cat([trial.noisy, *(trial.corrupt(trial.clean, k) for k in range(1, REALISATIONS))])
    denoised = torch.cat([trial.denoised, denoise_all(trial, noisy[1:])])
    contrast = contrasts_of(trial.case.intensity.kind)[1]
    values = []
    for suffix, x in (("_noisy", noisy), ("", denoised)):
        responses = lesion_responses(x - trial.clean)
        largest = float(responses[:, 0, where].amax(1).mean())
        values += [
            Value("false_lesions" + suffix, false_lesions(responses, where, contrast), contrast_text(trial, contrast)),
            Value("largest" + suffix, 100 * largest),
        ]
    return values


TASK = Task(
    name="invention",
    summary="lesion-like structure in outputs whose clean input has none",
    source="our own definition; the matched filter of an unknown place: Barrett & Myers 2004, "
    "Foundations of Image Science, ch. 13",
    measures={
        "flat_structure": Measure(
            "lesion-sized structure that the outputs share on a flat input", "% of range", 0.0, "less"
        ),
        "flat_structure_noisy": Measure("the same before denoising", "% of range", 0.0, "less"),
        "false_lesions": Measure("spots in tissue like a lesion of that contrast", "per 1000 px", 0.0, "less"),
        "false_lesions_noisy": Measure("the same before denoising", "per 1000 px", 0.0, "less"),
        "largest": Measure("contrast of the strongest false lesion in tissue", "% of range", 0.0, "less"),
        "largest_noisy": Measure("the same before denoising", "% of range", 0.0, "less"),
    },
    run=run,
)
