"""Lesion transfer: what is left of planted low-contrast lesions when the same noise is removed with and without."""

from collections.abc import Sequence

import torch

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.planting import (
    DIAMETERS,
    contrast_recovery,
    contrast_text,
    contrasts_of,
    corrupt_with,
    denoise_all,
    disc,
    distances,
    follows,
    leakage,
    plant,
    reach_of,
    sites,
    width_ratio,
    windows,
)

EACH = 5  # places for every diameter
_SEEN = 0.2  # the least recovery in the corrupted image that "kept" can be told from


def run(trial: Trial) -> Sequence[Value]:
    """Plant every contrast into its own copy of the image, at the same places; one value a contrast and diameter."""
    chosen = sites(trial, DIAMETERS, EACH)
    if not chosen:
        return []
    contrasts = contrasts_of(trial.case.intensity.kind)
    places, diameters = [s.place for s in chosen], [float(s.diameter) for s in chosen]
    lesions = torch.cat([plant(trial.clean, places, [c] * len(places), diameters) for c in contrasts])
    corrupted = corrupt_with(trial, lesions, follow=follows(trial, lesions[:1]))
    before, after = corrupted - trial.noisy, denoise_all(trial, corrupted) - trial.denoised
    values = []
    for diameter in sorted(set(DIAMETERS)):
        here = [s.place for s in chosen if s.diameter == diameter]
        if not here:
            continue
        reach = reach_of(diameter)
        profile = disc(distances(reach), diameter)
        for i, contrast in enumerate(contrasts):
            detail = f"{contrast_text(trial, contrast)}, {diameter} px"
            put_in, left = (windows(d[i : i + 1], here, reach)[0] for d in (before, after))
            recovered = float(contrast_recovery(left, contrast * profile).mean())
            in_input = float(contrast_recovery(put_in, contrast * profile).mean())
            values += [
                Value("recovery", recovered, detail),
                Value("recovery_noisy", in_input, detail),
                Value("leakage", float(leakage(left, contrast * profile).square().mean().sqrt()), detail),
            ]
            if in_input > _SEEN:
                values.append(Value("kept", recovered / in_input, detail))
            width = width_ratio(left.mean(0), contrast, diameter)
            if width == width:  # not NaN
                values.append(Value("width", width, detail))
    return values


TASK = Task(
    name="lesions",
    summary="contrast, width and halo of planted low-contrast lesions after denoising",
    source="local response to a small change: Fessler & Rogers 1996, IEEE Trans. Image Process. 5(9); "
    "its dependence on contrast: Richard et al. 2012, Med. Phys. 39(7)",
    measures={
        "recovery": Measure("share of the planted contrast in the output", "", 1.0, "ideal"),
        "recovery_noisy": Measure("share of the planted contrast in the corrupted image", "", 1.0, "ideal"),
        "kept": Measure("recovery over that of the corrupted image", "", 1.0, "ideal"),
        "width": Measure("width of the lesion over the planted one", "", 1.0, "ideal"),
        "leakage": Measure("change about the lesion that is not the lesion, over the lesion", "", 0.0, "less"),
    },
    run=run,
)
