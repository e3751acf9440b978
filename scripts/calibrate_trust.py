"""Find the thresholds of the trust measure, and how well it sees planted faults.

    calibrate_trust.py OUT.md THRESHOLDS.json [--data STORE] [--limit N]

Good denoising (the clean image itself, the shipped network, half of its change, non-local means) and faulty denoising
(erased and added lesions, blur) of phantoms, and of a store's validation patients where one is given. Patients that a
hash chooses set the thresholds, so that 1 in 20 good slices is flagged; the others test them.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.stats import rankdata
from torch import Tensor

from medfpl import __version__
from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.tasks.planting import plant
from medfpl.denoisers import METHODS
from medfpl.denoisers.sigma import estimate_noise
from medfpl.io import read
from medfpl.noises import NOISES, Context, corrupt
from medfpl.pipeline import Recipe, load
from medfpl.saliency.maps import Explainer, explain_pair, load_explainer
from medfpl.saliency.trust import Thresholds, assess
from medfpl.sample import sample_path
from medfpl.scan import FloatArray, Intensity
from medfpl.seeds import stable_seed

ALLOWED = 0.05
DIAMETERS, CONTRASTS = (6, 10, 16), (0.5, 1.0, 2.0, 4.0)
BLUR = (0.8, 1.5, 2.5)
# Of the lesions, so many for each noisy image; and of those, these contrasts are also added.
LESIONS, ADDED = 5, (1.0, 2.0)
# What was not chosen is measured on one trial in so many.
ONE_IN = 4
# What the thresholds are for, and what was tried beside it (docs/decisions/trust-measure.md).
MEASURES = ("structure", "edges_lost_nearby", "edges_lost")
OTHERS = ("feature distance", "map x change", "whiteness", "beyond noise", "correlation")


@dataclass(frozen=True)
class Slice:
    """A clean slice (1, 1, H, W), working units; ``own`` is the same with the noise of its file's pair."""

    patient: str
    clean: Tensor
    context: Context
    own: Tensor | None = None


@dataclass(frozen=True)
class Trial:
    """A slice before and after what is known to be ``good`` denoising, or to have a fault of a ``group``."""

    patient: str
    kind: str
    good: bool
    group: str
    noise: str
    before: FloatArray
    after: FloatArray
    at: tuple[float, float] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("thresholds", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=4, help="slices a kind")
    given = parser.parse_args()
    torch.set_num_threads(1)
    explainer = load_explainer()
    rows = []
    for one in slices(given.data, given.limit):
        for trial in trials(one):
            rows.append(measure(trial) | (others(trial, explainer) if len(rows) % ONE_IN == 0 else {}))
        print(f"{len(rows)} trials", flush=True)
    half = [r for r in rows if calibrates(r["patient"]) and ordinary(r)]
    limits = together(half)
    chosen = Thresholds(*(round(limits[name], 4) for name in MEASURES))
    command = f"scripts/calibrate_trust.py{' --data STORE' if given.data else ''} --limit {given.limit}"
    made = {
        "thresholds": vars(chosen),
        "above": ALLOWED,
        "good_slices": len(half),
        "patients": len({r["patient"] for r in half}),
        "made_by": command,
        "version": __version__,
    }
    given.thresholds.write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    given.page.write_text(page(rows, chosen, command), "utf-8")


def ordinary(row: dict[str, Any]) -> bool:
    """Whether a row is good denoising of noise. Impulses, and what a network does to a clean image, are only told."""
    return row["good"] and row["noise"] not in ("salt-pepper", "none")


def together(good: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return thresholds of all measures, each above the same share of good slices, which together flag ALLOWED."""
    values = np.array([[row[name] for name in MEASURES] for row in good])
    shares = np.linspace(ALLOWED / len(MEASURES), ALLOWED, 200)
    limits = [np.quantile(values, 1 - share, axis=0) for share in shares]
    flagged = [float((values > limit).any(1).mean()) for limit in limits]
    fitting = [limit for limit, share in zip(limits, flagged, strict=True) if share <= ALLOWED]
    return dict(zip(MEASURES, (fitting or limits)[-1 if fitting else 0].tolist(), strict=True))


def calibrates(patient: str) -> bool:
    """Whether a patient's images set the thresholds; the others test them."""
    return stable_seed(0, patient, "calibrate") % 2 == 0


def slices(data: Path | None, limit: int) -> Iterator[Slice]:
    """Yield the clean slices: pairs of the sample data, whose noise is reconstructed, then a store's."""
    folder = sample_path()
    for name in ("chest_ct/{}/0005.dcm", "chest_ct/{}/0010.dcm", "abdomen_ct_{}.nii.gz", "brain_mr_{}.nii.gz"):
        kind = "mr" if "mr" in name else "ct"
        clean, noisy = (read(folder / name.format(which), kind=kind) for which in ("clean", "noisy"))
        for z in {len(clean.pixels) // 3, len(clean.pixels) // 2}:
            pair = [torch.from_numpy(clean.intensity.to_working(s.pixels[z]))[None, None] for s in (clean, noisy)]
            context = Context(kind, clean.intensity.black, clean.intensity.white)
            yield Slice(f"phantom {name}", pair[0], context, pair[1])
    if data:
        for chosen in find_cases(data, DataSettings(limit=limit, split="val")).chosen:
            case = chosen.load()
            yield Slice(case.patient, case.image, case.context)


def trials(one: Slice) -> Iterator[Trial]:
    """Yield good and faulty denoisings of a slice."""
    engine, nlm = load(Recipe(device="cpu")), METHODS.get("nlm").make()
    kind, clean = one.context.kind, one.clean
    intensity = Intensity(kind, "HU" if kind == "ct" else "1", one.context.black, one.context.white)  # type: ignore[arg-type]

    def trial(good: bool, group: str, noise: str, pair: Sequence[Tensor], at: Any = None) -> Trial:
        return Trial(one.patient, kind, good, group, noise, pair[0][0, 0].numpy(), pair[1][0, 0].numpy(), at)

    yield trial(True, "identity", "none", (clean, clean))

    yield trial(True, "network", "none", (clean, engine.denoise(clean, intensity)))
    rng = np.random.default_rng(stable_seed(0, f"{one.patient} {float(clean.sum()):.3f}", "faults"))
    for name, noisy in noisy_copies(one, rng):
        denoised = engine.denoise(noisy, intensity)
        yield trial(True, "truth", name, (noisy, clean))
        yield trial(True, "network", name, (noisy, denoised))
        if name == "salt-pepper":
            continue
        yield trial(True, "half the network's change", name, (noisy, (noisy + denoised) / 2))
        yield trial(True, "nlm", name, (noisy, nlm.denoise(noisy, noise_level=None)))
        for sigma in BLUR:
            yield trial(False, f"blur {sigma:g}", name, (noisy, _blurred(denoised, sigma)))
        yield trial(False, "blur 2.5 in 64 x 64 px", name, (noisy, region_blurred(denoised, one.clean, rng)))
        yield from lesions(one, name, noisy, denoised, rng, trial)


def noisy_copies(one: Slice, rng: np.random.Generator) -> Iterator[tuple[str, Tensor]]:
    """Yield noisy versions of a slice: the file's own pair, and three or four drawn noises."""
    if one.own is not None:
        yield "own", one.own
    drawn = [("gaussian", 0.15), ("gaussian", 0.4), ("poisson", 0.35), ("salt-pepper", 0.3)]
    drawn.append(("rician", 0.3) if one.context.kind == "mr" else ("speckle", 0.4))
    for name, strength in drawn:
        seed = int(rng.integers(1 << 31))
        made, _ = corrupt(one.clean, NOISES.get(name), seeds=[seed], strength=strength, contexts=[one.context])
        yield name, made


def lesions(
    one: Slice, name: str, noisy: Tensor, denoised: Tensor, rng: np.random.Generator, trial: Callable[..., Trial]
) -> Iterator[Trial]:
    """Yield lesions that denoising erased or added; their contrast is in standard deviations of the local noise."""
    clean = one.clean[0, 0].numpy()
    local = np.sqrt(gaussian_filter((noisy - one.clean)[0, 0].numpy() ** 2, 6))
    body = gaussian_filter(clean, 4) > clean.min() + 0.15
    body[:16], body[-16:], body[:, :16], body[:, -16:] = False, False, False, False
    places = np.argwhere(body)
    if not len(places):
        return
    chosen = rng.permutation(len(DIAMETERS) * len(CONTRASTS))[:LESIONS]
    for contrast, diameter in (divmod(int(i), len(DIAMETERS)) for i in chosen):
        contrast, diameter = CONTRASTS[contrast], DIAMETERS[diameter]
        at = tuple(float(v) for v in places[rng.integers(len(places))])
        size = float(rng.choice((-1, 1)) * contrast * local[int(at[0]), int(at[1])])
        lesion = plant(one.clean, [at], [size], [diameter])
        what = f"{contrast:g} sd, {diameter} px"
        # The network never saw it: what it gives without the lesion is what a network that erases it gives.
        yield trial(False, f"erased, {what}", name, (noisy + lesion, denoised), at)
        if contrast in ADDED:
            yield trial(False, f"added, {what}", name, (noisy, denoised + lesion), at)


def region_blurred(x: Tensor, clean: Tensor, rng: np.random.Generator) -> Tensor:
    """Return ``x`` with one square blurred, drawn among those with at least the median of edges in the body."""
    slope = uniform_filter(np.hypot(*np.gradient(gaussian_filter(clean[0, 0].numpy(), 1.5))), 64)[32:-32, 32:-32]
    places = np.argwhere(slope >= np.median(slope[slope > 0.2 * slope.max()]))
    row, column = places[rng.integers(len(places))]
    made = x.clone()
    made[..., row : row + 64, column : column + 64] = _blurred(x, 2.5)[..., row : row + 64, column : column + 64]
    return made


def _blurred(x: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(x[0, 0].numpy(), sigma))[None, None]


def measure(trial: Trial) -> dict[str, Any]:
    """Return a trial's facts and everything measured on it."""
    found = assess(trial.before[None], trial.after[None], limits=Thresholds(1, 1, 1)).slices[0]
    lesion = None
    if trial.at is not None:
        inside = [t for t in found.tiles if _near(t.box, trial.at)]
        lesion = max(found.structure == t.score for t in inside)
    row = {name: getattr(trial, name) for name in ("patient", "kind", "good", "group", "noise")}
    return {**row, **{m: getattr(found, m) for m in MEASURES}, "strongest there": lesion}


def _near(box: tuple[int, int, int, int], at: tuple[float, float]) -> bool:
    return box[0] - 8 <= at[0] < box[1] + 8 and box[2] - 8 <= at[1] < box[3] + 8


def others(trial: Trial, explainer: Explainer) -> dict[str, float]:
    """Return the candidates that were not chosen, each the larger the more it suspects."""
    pair = [torch.from_numpy(image.copy())[None, None] for image in (trial.before, trial.after)]
    maps = explain_pair(explainer.net, *pair, explainer.rules)
    change = trial.before - trial.after
    energy = float((change**2).mean()) or 1e-12
    strong = np.abs(maps.before[0])
    fine = change - uniform_filter(change, 3)
    tiles = uniform_filter(change**2, 32)
    noise = float(estimate_noise(pair[0])[0]) or 1e-6
    detail = trial.after - gaussian_filter(trial.after, 2)
    shared = float(np.abs((change * detail).mean()) / np.sqrt(energy * float((detail**2).mean()) + 1e-20))
    return {
        "feature distance": float(maps.distance[0]),
        "map x change": float((strong * change**2).mean() / (float(strong.mean()) * energy + 1e-20)),
        "whiteness": 1 - float((fine**2).mean()) / energy,
        "beyond noise": float(np.sqrt(tiles.max()) / noise),
        "correlation": shared,
    }


def area(good: Sequence[float], bad: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often a faulty slice has the larger value."""
    ranks = rankdata([*good, *bad])[len(good) :]
    return float((ranks.sum() - len(bad) * (len(bad) + 1) / 2) / (len(good) * len(bad)))


def page(rows: Sequence[dict[str, Any]], limits: Thresholds, command: str) -> str:
    """Return the evidence page."""
    for row in rows:
        row["score"] = max(row[m] / getattr(limits, m.replace("lost_nearby", "nearby").replace("lost", "slice"))
                           for m in MEASURES)  # fmt: skip
    test = [r for r in rows if not calibrates(r["patient"])]
    good = [r for r in test if ordinary(r)]
    patients = {True: set(), False: set()}
    for row in rows:
        patients[calibrates(row["patient"])].add(row["patient"])
    lines = [
        "# What the trust measure finds",
        "",
        f"Written by `{command}`. Thresholds from {len(patients[True])} phantoms and patients, everything below from "
        f"{len(patients[False])} others ({len(test)} trials). They are made so that {ALLOWED:.0%} of good slices are "
        "flagged; a lesion's contrast is in standard deviations of the noise about it.",
        "",
        "## Planted faults",
        "",
        "Area under the ROC curve against the good slices (0.5: chance, 1: all), share of faulty slices that are "
        "flagged, and of those with a lesion, how often the strongest blob of the slice is the lesion.",
        "",
        "| fault | trials | AUC | flagged | strongest there |",
        "| --- | --- | --- | --- | --- |",
    ]
    for group in sorted({r["group"] for r in test if not r["good"]}, key=_order):
        bad = [r for r in test if r["group"] == group and not r["good"]]
        there = [r["strongest there"] for r in bad if r["strongest there"] is not None]
        found = area([r["score"] for r in good], [r["score"] for r in bad])
        at = f"{np.mean(there):.0%}" if there else ""
        lines.append(f"| {group} | {len(bad)} | {found:.3f} | {np.mean([r['score'] > 1 for r in bad]):.0%} | {at} |")
    lines += ["", "## Good denoising", "", "| denoiser | noise | trials | flagged |", "| --- | --- | --- | --- |"]
    fine = [r for r in test if r["good"]]
    for group, noise in sorted({(r["group"], r["noise"]) for r in fine}):
        here = [r["score"] > 1 for r in fine if (r["group"], r["noise"]) == (group, noise)]
        lines.append(f"| {group} | {noise} | {len(here)} | {np.mean(here):.0%} |")
    lines += ["", "## One measure alone, and what else was tried", ""]
    lines += [f"AUC of each by fault; those from 'feature distance' on from one trial in {ONE_IN}.", ""]
    groups = {
        "erased, 1 sd": "erased, 1 sd",
        "erased, 2 sd": "erased, 2 sd",
        "erased, 4 sd": "erased, 4 sd",
        "added": "added",
        **{f"blur {s:g}": f"blur {s:g}" for s in BLUR},
        "region": "blur 2.5 in",
    }
    lines += ["| measure | " + " | ".join(groups) + " |", "| --- " * (len(groups) + 1) + "|"]
    for name in (*MEASURES, "score", *OTHERS):
        cells = []
        for start in groups.values():
            exact = start.startswith("blur") and not start.endswith("in")
            fits = (lambda g, s=start: g == s) if exact else (lambda g, s=start: g.startswith(s))
            bad = [r[name] for r in test if not r["good"] and fits(r["group"]) and name in r]
            cells.append(f"{area([r[name] for r in good if name in r], bad):.2f}" if bad else "")
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _order(group: str) -> tuple[str, float, float]:
    words = group.replace(",", "").split()
    numbers = [float(w) for w in words if w[0].isdigit()]
    return (words[0], *numbers, 0.0)[:3]  # type: ignore[return-value]


if __name__ == "__main__":
    main()
