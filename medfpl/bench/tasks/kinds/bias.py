"""Bias: how far the mean of each tissue moves."""

from collections.abc import Sequence

import torch

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.planting import denoise_all
from medfpl.bench.tasks.regions import classes, plane

REALISATIONS = 4


def run(trial: Trial) -> Sequence[Value]:
    """Compare the means inside each tissue class, over four realisations; in HU on a CT, else percent of the range."""
    ct = trial.case.intensity.kind == "ct"
    scale, unit = (trial.case.intensity.scale, "_hu") if ct else (100.0, "")
    found = classes(trial.case)
    if not found:
        return []
    others = torch.cat([trial.corrupt(trial.clean, k) for k in range(1, REALISATIONS)])
    images = {
        "shift": torch.cat([trial.denoised, denoise_all(trial, others)]),
        "shift_noisy": torch.cat([trial.noisy, others]),
    }
    change = {name: plane((x.double() - trial.clean.double()).mean(0, keepdim=True)) for name, x in images.items()}
    values = [
        Value(measure + unit, float(change[measure][mask].mean(dtype="float64")) * scale, name)
        for name, mask in found.items()
        for measure in change
    ]
    shifts = [abs(v.value) for v in values if v.measure == "shift" + unit]
    return [*values, Value("error" + unit, sum(shifts) / len(shifts))]


TASK = Task(
    name="bias",
    summary="shift of the mean value of each tissue",
    source="CT number accuracy: IEC 61223-3-5:2019; AAPM Report 233, 2019",
    measures={
        "shift": Measure("mean of denoised less clean", "% of range", 0.0, "ideal"),
        "shift_noisy": Measure("mean of noisy less clean", "% of range", 0.0, "ideal"),
        "error": Measure("mean over the tissues of the size of the shift", "% of range", 0.0, "less"),
        "shift_hu": Measure("mean of denoised less clean", "HU", 0.0, "ideal"),
        "shift_noisy_hu": Measure("mean of noisy less clean", "HU", 0.0, "ideal"),
        "error_hu": Measure("mean over the tissues of the size of the shift", "HU", 0.0, "less"),
    },
    run=run,
)
