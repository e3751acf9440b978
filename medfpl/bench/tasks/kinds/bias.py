"""Bias: how far the mean of each tissue moves."""

from collections.abc import Sequence

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.regions import classes, plane


def run(trial: Trial) -> Sequence[Value]:
    """Compare the means inside each tissue class before and after; in HU on a CT, else in percent of the range."""
    ct = trial.case.intensity.kind == "ct"
    scale, unit = (trial.case.intensity.scale, "_hu") if ct else (100.0, "")
    clean = plane(trial.clean).astype("float64")
    values: list[Value] = []
    for name, mask in classes(trial.case).items():
        for measure, image in (("shift", trial.denoised), ("shift_noisy", trial.noisy)):
            shift = float((plane(image) - clean)[mask].mean()) * scale
            values.append(Value(measure + unit, shift, name))
    shifts = [abs(v.value) for v in values if v.measure == "shift" + unit]
    if shifts:
        values.append(Value("error" + unit, sum(shifts) / len(shifts)))
    return values


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
