"""Noise texture: how strong the noise that is left is, and whether it is coarser than the noise that was there."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.regions import spread
from medfpl.bench.tasks.spectra import mean_frequency, power_spectrum
from medfpl.seeds import numpy_generator

SIDE, REGIONS = 32, 12
_NOISELESS = 1e-6  # working units


def run(trial: Trial) -> Sequence[Value]:
    """Compare the spectra of half the difference of two realisations, before and after, in homogeneous regions."""
    rng = numpy_generator(trial.seed, "noise", trial.case.id)
    half = SIDE // 2
    places = [p for p in spread(rng, trial.case, [half] * REGIONS, [half // 2] * REGIONS) if p is not None]
    if not places:
        return []
    other = trial.corrupt(trial.clean, 1)
    pairs = {"noisy": (trial.noisy, other), "denoised": (trial.denoised, trial.denoise(other))}
    spectra = {}
    for name, (a, b) in pairs.items():
        noise = ((a - b) / sqrt(2))[0, 0]
        spectra[name] = power_spectrum(_regions(noise, places, half))
    before, after = (float(s.mean().sqrt()) for s in (spectra["noisy"], spectra["denoised"]))
    if before < _NOISELESS:
        return []
    values = [Value("noise", after / before)]
    if after >= _NOISELESS:
        values.append(Value("frequency", mean_frequency(spectra["denoised"]) / mean_frequency(spectra["noisy"])))
    return values


def _regions(noise: Tensor, places: Sequence[tuple[int, int]], half: int) -> Tensor:
    return torch.stack([noise[r - half : r + half, c - half : c + half] for r, c in places])


TASK = Task(
    name="noise-texture",
    summary="magnitude and mean frequency of the noise that is left",
    source="Siewerdsen et al. 2002, Med. Phys. 29(11); IEC 62220-1-1:2015; AAPM Report 233, 2019",
    measures={
        "noise": Measure("standard deviation of the noise over that before denoising", "", 0.0, "less"),
        "frequency": Measure("mean frequency of the noise over that before denoising", "", 1.0, "ideal"),
    },
    run=run,
)
