"""Identity: a clean image must come out as it went in."""

from collections.abc import Sequence

from medfpl.bench.metrics import psnr
from medfpl.bench.tasks.base import Measure, Task, Trial, Value


def run(trial: Trial) -> Sequence[Value]:
    """Denoise the clean image with the cell's settings and noise level, and compare."""
    out = trial.denoise(trial.clean)
    change = out.double() - trial.clean.double()
    values = [
        Value("psnr", psnr(trial.clean, out)),
        Value("largest", 100 * float(change.abs().max())),
        Value("shift", 100 * float(change.mean())),
    ]
    if trial.case.intensity.kind == "ct":
        values.append(Value("shift_hu", float(change.mean()) * trial.case.intensity.scale))
    return values


TASK = Task(
    name="identity",
    summary="what a method changes in an image without noise",
    source="our own definition",
    measures={
        "psnr": Measure("PSNR of the denoised clean image", "dB", 100.0, "more"),
        "largest": Measure("largest change of a pixel", "% of range", 0.0, "less"),
        "shift": Measure("mean change", "% of range", 0.0, "ideal"),
        "shift_hu": Measure("mean change of a CT", "HU", 0.0, "ideal"),
    },
    run=run,
)
