"""Detectability: how well a model observer finds a planted lesion in the noise, before and after denoising."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from medfpl.bench.tasks.base import Measure, Task, Trial, Value
from medfpl.bench.tasks.observers import Readings, dense_dog_channels, detectability, respond, template_snr
from medfpl.bench.tasks.planting import (
    DIAMETERS,
    Site,
    contrast_text,
    contrasts_of,
    corrupt_with,
    disc,
    distances,
    follows,
    plant,
    reach_of,
    sites,
    windows,
)

EACH = 5  # places for every diameter
REALISATIONS, REALISATIONS_LARGE, LARGE = 12, 6, 2**17  # images of more than LARGE pixels are drawn less often
REACH = reach_of(max(DIAMETERS))


def run(trial: Trial) -> Sequence[Value]:
    """Draw the noise again and again, with lesions of the middle contrast and without: 24 slices are denoised."""
    chosen = sites(trial, DIAMETERS, EACH)
    chosen = [s for s in chosen if _inside(s, trial.clean)]
    realisations = REALISATIONS if trial.clean[0, 0].numel() <= LARGE else REALISATIONS_LARGE
    channels = dense_dog_channels(REACH)
    if len(chosen) * (realisations - 1) < 3 * channels.shape[1]:
        return []
    contrast = contrasts_of(trial.case.intensity.kind)[1]
    before, after = _windows(trial, chosen, contrast, realisations)
    values = []
    for diameter in DIAMETERS:
        here = [i for i, s in enumerate(chosen) if s.diameter == diameter]
        if not here:
            continue
        template = disc(distances(REACH), diameter).reshape(-1, 1)
        detail = f"{contrast_text(trial, contrast)}, {diameter} px"
        for observer, filters, measure in (("cho", channels, detectability), ("npw", template, template_snr)):
            scores = []
            for pair in (before, after):
                noise = Readings(*(respond(w, filters) for w in pair))
                scores.append(measure(Readings(noise.absent[:, here], noise.present[:, here]), noise))
            noisy, denoised = scores
            found = {f"{observer}_noisy": noisy, observer: denoised}
            if noisy > 0:
                found[f"{observer}_efficiency"] = denoised / noisy
            values += [Value(name, v, detail) for name, v in found.items() if isfinite(v)]
    return values


def _inside(site: Site, image: Tensor) -> bool:
    return all(REACH <= p < n - REACH for p, n in zip(site.place, image.shape[-2:], strict=True))


def _windows(
    trial: Trial, chosen: Sequence[Site], contrast: float, realisations: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the windows (K, L, P, P) without and with lesions, of the corrupted images and of the denoised."""
    places = [s.place for s in chosen]
    lesions = plant(trial.clean, places, [contrast] * len(places), [float(s.diameter) for s in chosen])
    follow = follows(trial, lesions)
    before, after = [], []
    for k in range(realisations):
        pair = torch.cat([trial.corrupt(trial.clean, k), corrupt_with(trial, lesions, k, follow=follow)])
        before.append(windows(pair, places, REACH))
        after.append(windows(trial.denoise(pair), places, REACH))
    noisy, denoised = (torch.stack(w).unbind(1) for w in (before, after))
    return (noisy[0], noisy[1]), (denoised[0], denoised[1])


_BETTER = {"cho": "channelised Hotelling observer", "npw": "non-prewhitening matched filter"}

TASK = Task(
    name="detectability",
    summary="d' of model observers for planted lesions, before and after denoising",
    source="Barrett et al. 1993, PNAS 90(21); channels: Abbey & Barrett 2001, J. Opt. Soc. Am. A 18(3); "
    "bias of the estimate: Wunderlich & Noo 2009, Phys. Med. Biol. 54(17)",
    measures={
        name: measure
        for key, observer in _BETTER.items()
        for name, measure in {
            key: Measure(f"d' of the {observer}", "", float("inf"), "more"),
            f"{key}_noisy": Measure(f"d' of the {observer} before denoising", "", float("inf"), "more"),
            f"{key}_efficiency": Measure(f"d' of the {observer} over that before denoising", "", 1.0, "more"),
        }.items()
    },
    run=run,
)
