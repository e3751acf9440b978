"""Does the feature preserving loss earn its place? Train, measure and write docs/evidence/feature-preserving-loss.md.

    python scripts/evidence_fpl.py STORE RUNS [--steps 300] [--seeds 3] [--images 6]

RUNS keeps every run (log, card, curves, rows of the benchmark): what is there is not done again. Networks learn from
the store's training patients; everything is measured on its validation patients.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from medfpl.bench.data import DataSettings
from medfpl.bench.plan import BenchSettings, Corruption, Entry
from medfpl.bench.run import run_bench
from medfpl.bench.tasks.planting import disc
from medfpl.explain.guided import Rules, frozen, guided_map
from medfpl.explain.loss import feature_distance, quiet_level
from medfpl.nets.weights import find_model, load_net
from medfpl.noises import NOISES as NOISE_TYPES
from medfpl.noises import corrupt
from medfpl.seeds import numpy_generator, stable_seed, torch_generator
from medfpl.store.store import open_store
from medfpl.training.config import DataConfig
from medfpl.training.data import Frames
from medfpl.training.run import train

PAGE = Path(__file__).resolve().parent.parent / "docs" / "evidence" / "feature-preserving-loss.md"
NOISES = ["gaussian", "poisson", "rician", "speckle"]
SMALL = {"data.patch": 128, "data.frame": 128, "data.workers": 0, "warmup": 100, "learning_rate": 1e-3}
# The networks that are explained: what restoration.* they have, and how long they learn.
EXPLAINED: dict[str, tuple[dict[str, Any], int]] = {
    "restoration": ({"restoration.features": 0.0}, 1500),
    "without-top-skips": ({"restoration.features": 0.0, "restoration.net.skips": 2}, 1500),
    "features": ({}, 4000),
}
# The denoiser's arms: the explained network, and the settings of the loss.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("", {"fpl.weight": 0.0}),
    "published": ("restoration", {"fpl.weight": 0.1, "fpl.scalar": "energy", "fpl.layer": "image"}),
    "features": ("features", {"fpl.weight": 0.1, "fpl.layer": "up.2"}),
    "last level": ("features", {"fpl.weight": 0.1, "fpl.layer": "up.3"}),
    "last level x10": ("features", {"fpl.weight": 1.0, "fpl.layer": "up.3"}),
    "last level alone": ("features", {"fpl.weight": 100.0, "fpl.layer": "up.3"}),
}
MSE = 2e-5
SIDE = 256
KINDS = ("ct", "xray", "mr")


@dataclass(frozen=True)
class Form:
    """A way to explain a network: which, and by what rules."""

    label: str
    network: str
    rules: Rules


FORMS = (
    Form("restoration, input gradient of the sum (published)", "restoration", Rules("sum")),
    Form("restoration, input gradient of the energy", "restoration", Rules("energy")),
    Form("the same, smooth gates", "restoration", Rules("energy", "smooth")),
    Form("without the two top skips, energy", "without-top-skips", Rules("energy")),
    Form("features, input gradient of the evidence", "features", Rules("evidence")),
    Form("the same, smooth gates", "features", Rules("evidence", "smooth")),
    Form("features, gradient at the first level (down.0)", "features", Rules("evidence", layer="down.0")),
    Form("features, at the third level (down.2)", "features", Rules("evidence", layer="down.2")),
    Form("features, in the decoder (up.1)", "features", Rules("evidence", layer="up.1")),
    Form("features, in the decoder (up.2)", "features", Rules("evidence", layer="up.2")),
    Form("**features, in the decoder (up.3)**", "features", Rules("evidence", layer="up.3")),
)


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Return (B, 1, H, W) after a Gaussian filter of ``sigma`` pixels."""
    reach = int(4 * sigma + 1)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    wide = F.pad(x, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(wide, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def shifted(x: Tensor, pixels: float) -> Tensor:
    """Return (B, 1, H, W) moved along its rows by a part of a pixel (Fourier)."""
    phase = torch.exp(-2j * torch.pi * torch.fft.fftfreq(x.shape[-1]) * pixels)
    return torch.fft.ifft(torch.fft.fft(x, dim=-1) * phase, dim=-1).real


def of_equal_error(x: Tensor, change: Any, high: float) -> Tensor:
    """Return ``change(x, s)`` of each item with the s in 0..high that makes its mean squared error MSE."""
    found = []
    for item in x.split(1):
        low, top = 0.02, high
        for _ in range(20):
            middle = (low + top) / 2
            low, top = (low, middle) if (change(item, middle) - item).square().mean() > MSE else (middle, top)
        found.append(change(item, (low + top) / 2))
    return torch.cat(found)


def drawn_bodies(store: Path, count: int) -> Iterator[tuple[np.random.Generator, Tensor]]:
    """Yield validation images (1, SIDE, SIDE), each with the generator that drew it."""
    frames = Frames(open_store(store), "val", DataConfig(frame=SIDE))
    for i in range(count):
        rng = numpy_generator(0, "diagnosis", i)
        while True:  # slices beyond the body have nothing to lose
            image = frames.draw(rng, SIDE, KINDS[i % len(KINDS)])[0]  # type: ignore[arg-type]
            if (image > 0.05).float().mean() > 0.2:
                break
        yield rng, image


def perturbed(images: Iterable[tuple[np.random.Generator, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the images with eight faint lesions each, and copies that are wrong in one way, all by MSE."""
    clean, without = [], []
    y, x = np.mgrid[:SIDE, :SIDE]
    for rng, image in images:
        lesions, tissue, planted = np.zeros((SIDE, SIDE)), smooth(image[None], 3)[0, 0].numpy(), 0
        while planted < 8:
            place, radius, sign = rng.uniform(20, SIDE - 20, 2), rng.uniform(4, 10), rng.choice((-1, 1))
            if tissue[int(place[0]), int(place[1])] > 0.03:
                distance = torch.from_numpy(np.hypot(y - place[0], x - place[1]))
                lesions += sign * disc(distance, 2 * radius).numpy()
                planted += 1
        faint = np.sqrt(MSE / np.square(lesions).mean()) * lesions
        without.append(image)
        clean.append(image + torch.from_numpy(faint).float())
    whole, bare = torch.stack(clean), torch.stack(without)
    white = torch.randn(whole.shape, generator=torch_generator(0, "white"))
    correlated = smooth(white, 1.5)

    def scaled(noise: Tensor) -> Tensor:
        return whole + noise * (MSE / noise.square().mean((1, 2, 3), keepdim=True)).sqrt()

    return whole, {
        "white noise": scaled(white),
        "correlated noise": scaled(correlated),
        "blur": of_equal_error(whole, smooth, 4.0),
        "shift": of_equal_error(whole, shifted, 3.0),
        "erased lesions": bare,
    }


def diagnose(store: Path, nets: dict[str, torch.nn.Module], count: int) -> str:
    """Return the table of how far each form sees each perturbation, white noise = 1."""
    clean, copies = perturbed(drawn_bodies(store, count))
    others = [name for name in copies if name != "white noise"]
    lines = [
        "| explained network and map | white noise | " + " | ".join(others) + " |",
        "| --- |" + " --- |" * len(copies),
    ]
    for form in FORMS:
        net = nets[form.network]
        found = {}
        for name, copy in copies.items():
            pairs = zip(copy.split(4), clean.split(4), strict=True)
            maps = [feature_distance(guided_map(net, a, form.rules), guided_map(net, b, form.rules)) for a, b in pairs]
            found[name] = float(torch.cat(maps).sqrt().median())
        white = found["white noise"]
        lines.append(f"| {form.label} | {white:.3f} | " + " | ".join(f"{found[n] / white:.2f}" for n in others) + " |")
    return "\n".join(lines)


def trained(store: Path, folder: Path, stage: str, steps: int, **settings: Any) -> Path:
    """Train one run unless it is there; return its folder."""
    if not (folder / stage / "card.json").is_file():
        changes = {**settings, "validate_every": steps, "validation_images": 3}
        train(store, folder, settings=changes, stage=stage, steps=steps, precision="bf16", resume=folder.exists())
    return folder


def denoiser_settings() -> dict[str, Any]:
    """Return what all arms share: they go on from the shipped U-Net, half of the images with planted features."""
    shape = find_model("medfpl-base").card.architecture
    net = {f"net.{name}": shape[name] for name in ("width", "depth", "unshuffle", "norm")}
    return {
        **SMALL, **net, "net.type": "unet", "init": "medfpl-base", "data.frame": 224, "data.plant": 0.5,
        "data.noises": NOISES, "learning_rate": 2e-4, "warmup": 20, "decay": 0.6, "ema": 0.99,
    }  # fmt: skip


def measured(store: Path, runs: Path, arms: dict[str, list[Path]], images: int) -> list[dict[str, Any]]:
    """Run the benchmark with every trained denoiser on validation patients; return its rows and task rows as dicts."""
    entries = tuple(Entry.parse(f"medfpl={folder}") for folders in arms.values() for folder in folders)
    settings = BenchSettings(
        entries,
        tuple(map(Corruption.parse, NOISES[:3])),
        strengths=(0.4,),
        tuning="none",
        tasks=("edges", "lesions"),
    )
    choice = DataSettings(limit=images, split="val")
    run_bench(runs / "bench", store, settings=settings, choice=choice, resume=(runs / "bench").exists())
    scores = pq.read_table(runs / "bench" / "results.parquet").to_pylist()
    tasks = pq.read_table(runs / "bench" / "tasks.parquet").to_pylist()
    flat = [{**row, "measure": name, "value": row[name]} for row in scores for name in ("psnr", "ssim")]
    return flat + [{**row, "measure": f"{row['task']} {row['measure']}"} for row in tasks]


SHOWN = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 4),
    "published map": ("feature distance, published map", 4),
    "up.2": ("feature distance, features at up.2", 4),
    "up.3": ("feature distance, features at up.3", 4),
    "lesions recovery": ("lesion contrast recovery", 3),
    "lesions width": ("lesion width ratio", 3),
    "edges width": ("edge width ratio", 3),
    "edges f50": ("edge f50, cycles/px", 4),
}


# The maps by which what a denoiser kept is measured: the explained network of each, and its rules.
MAPS = {
    "published map": ("restoration", Rules("energy")),
    "up.2": ("features", Rules("evidence", layer="up.2")),
    "up.3": ("features", Rules("evidence", layer="up.3")),
}


def distances(
    store: Path, nets: dict[str, torch.nn.Module], arms: dict[str, list[Path]], images: int
) -> list[dict[str, Any]]:
    """Return rows of the feature distance of each denoiser's images by each of MAPS, as the loss measures it.

    An image stands for its patient. The noisy images themselves are the rows of the prior "noisy".
    """
    frames = Frames(open_store(store), "val", DataConfig(frame=SIDE))
    kinds = [kind for kind in KINDS for _ in range(images)]
    drawn = [frames.draw(numpy_generator(0, "distances", i), SIDE, kind) for i, kind in enumerate(kinds)]  # type: ignore[arg-type]
    clean, contexts = torch.stack([x for x, _ in drawn]), [c for _, c in drawn]
    known = {name: guided_map(nets[net], clean, rules) for name, (net, rules) in MAPS.items()}
    quiet = {name: quiet_level(nets[net], clean, rules) for name, (net, rules) in MAPS.items()}
    denoisers = {f.name: load_net(find_model(f)) for folders in arms.values() for f in folders}
    rows = []
    for noise in NOISES[:3]:
        seeds = [stable_seed(0, "distances", noise, i) for i in range(len(clean))]
        noisy, _ = corrupt(clean, NOISE_TYPES.get(noise), seeds=seeds, strength=0.4, contexts=contexts)
        made = {"noisy": noisy}
        with torch.inference_mode():
            made |= {name: torch.cat([x - net(x) for x in noisy.split(4)]) for name, net in denoisers.items()}
        for prior, image in made.items():
            for name, (net, rules) in MAPS.items():
                parts = [guided_map(nets[net], x.clone(), rules) for x in image.split(4)]
                found = feature_distance(torch.cat(parts), known[name], quiet[name]).sqrt().tolist()
                rows += [{"prior": prior, "measure": name, "patient": i, "value": v} for i, v in enumerate(found)]
    return rows


def compare(rows: list[dict[str, Any]], arms: dict[str, list[Path]]) -> str:
    """Return the table: mean of each arm, and its paired difference to "none" with a 95 % interval.

    The unit is (patient, seed): within it values are averaged first, then differences are taken with the run of the
    same seed and resampled over patients and seeds.
    """
    place = {folder.name: (arm, seed) for arm, folders in arms.items() for seed, folder in enumerate(folders)}
    values: dict[tuple[str, str, int, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["prior"] not in place:
            continue
        arm, seed = place[row["prior"]]
        if row["measure"] in SHOWN and np.isfinite(row["value"]):
            values[row["measure"], arm, seed, row["patient"]].append(row["value"])
    head = "| | none | " + " | ".join(f"{arm} | difference" for arm in arms if arm != "none") + " |"
    lines = [head, "| --- | --- |" + " --- | --- |" * (len(arms) - 1)]
    for name, (title, digits) in SHOWN.items():
        means = {key[1:]: float(np.mean(found)) for key, found in values.items() if key[0] == name}
        if not means:
            continue
        base = [v for (arm, _, _), v in means.items() if arm == "none"]
        cells = [f"{np.mean(base):.{digits}f}"]
        for arm in arms:
            if arm == "none":
                continue
            pairs = {
                (seed, patient): value - means["none", seed, patient]
                for (of, seed, patient), value in means.items()
                if of == arm and ("none", seed, patient) in means
            }
            low, high = interval(pairs)
            mine = np.mean([value for (of, _, _), value in means.items() if of == arm])
            gain = np.mean([*pairs.values()])
            cells += [f"{mine:.{digits}f}", f"{gain:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(pairs: dict[tuple[int, str], float], draws: int = 4000) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean difference, seeds and patients resampled independently."""
    rng = numpy_generator(0, "interval")
    seeds, patients = sorted({s for s, _ in pairs}), sorted({p for _, p in pairs})
    grid = np.array([[pairs.get((s, p), np.nan) for p in patients] for s in seeds])
    drawn = []
    for _ in range(draws):
        of, by = rng.integers(len(seeds), size=len(seeds)), rng.integers(len(patients), size=len(patients))
        drawn.append(np.nanmean(grid[np.ix_(of, by)]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Do what is not done yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=300, help="of each denoiser")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6, help="a kind, for the comparison")
    parser.add_argument("--only", choices=("networks", "diagnosis", "arms"), help="stop after this part")
    parser.add_argument("--seed", type=int, help="with --only arms: this seed alone, to share the work")
    given = parser.parse_args()
    for name, (settings, steps) in EXPLAINED.items():
        trained(given.store, given.runs / name, "restoration", steps, **SMALL, **settings)
    if given.only == "networks":
        return
    nets = {name: frozen(load_net(find_model(given.runs / name, "restoration"))) for name in EXPLAINED}
    arms: dict[str, list[Path]] = defaultdict(list)
    for seed in range(given.seeds) if given.seed is None else [given.seed]:
        for arm, (network, settings) in ARMS.items() if given.only != "diagnosis" else ():
            own = {**denoiser_settings(), **settings, "seed": seed}
            if network:
                own["fpl.network"] = str(given.runs / network)
            arms[arm].append(trained(given.store, given.runs / f"{arm}-{seed}", "denoiser", given.steps, **own))
    if given.only == "arms":
        return
    diagnosis = diagnose(given.store, nets, 24)
    print(diagnosis, flush=True)
    if given.only == "diagnosis":
        return
    own = distances(given.store, nets, arms, given.images)
    mine = [row for row in own if row["prior"] == "noisy"]
    noisy = {name: np.mean([row["value"] for row in mine if row["measure"] == name]) for name in MAPS}
    before = (
        "Feature distances of the noisy images: " + ", ".join(f"{n} {value:.4f}" for n, value in noisy.items()) + "."
    )
    comparison = compare(measured(given.store, given.runs, arms, given.images) + own, arms)
    comparison += f"\n\n{before}"
    print(comparison)
    write_page(given.runs / "tables.md", diagnosis, comparison, given)


def write_page(target: Path, diagnosis: str, comparison: str, given: argparse.Namespace) -> None:
    """Put the tables between the marks of the page, and a copy into the runs' folder."""
    target.write_text(f"{diagnosis}\n\n{comparison}\n", "utf-8")
    text = PAGE.read_text("utf-8")
    for mark, table in (("diagnosis", diagnosis), ("comparison", comparison)):
        before, begin, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- end of {mark} -->")
        if not (begin and end):
            raise SystemExit(f"{PAGE.name} has lost its marks for the {mark}")
        text = f"{before}{begin}{table}\n{end}{after}"
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
