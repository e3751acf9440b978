"""Measure a model on patients it never saw: PSNR and SSIM for each kind of image and each noise at its default level.

    python scripts/evaluate_model.py STORE MODEL [--split test] [--images 12] [--json FILE] [--write-card]

Frames of 256 x 256 pixels, whole anatomy, data range 1 (the working range: 2000 HU for CT); SSIM with a Gaussian window
(sigma 1.5). ``--write-card`` puts the numbers on a shipped model's card.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from medfpl.denoisers import METHODS
from medfpl.nets.weights import find_model
from medfpl.noises import NOISES, corrupt
from medfpl.noises.base import Context
from medfpl.seeds import numpy_generator, stable_seed
from medfpl.store.store import Item, Store, open_store

SIDE = 256


def frame(store: Store, item: Item, index: int) -> torch.Tensor:
    """Return one slice, its longer side 256, black around: (1, 256, 256) in working units."""
    from medfpl.training.data import fit, resize

    image = torch.from_numpy(np.clip(store.working(item, slice(index, index + 1)), 0, 2))
    return fit(resize(image, SIDE / max(image.shape[-2:])), SIDE)


def draw(store: Store, split: str, kind: str, count: int) -> tuple[torch.Tensor, list[Context]]:
    """Draw ``count`` slices of a kind, patients in turn, the same every time."""
    rng = numpy_generator(0, "evaluate", kind)
    patients: dict[str, list[Item]] = {}
    for item in store.of(split, [kind]):  # type: ignore[arg-type, list-item]
        if not (kind == "ct" and item.noise > 12):
            patients.setdefault(item.patient, []).append(item)
    names = sorted(patients)
    frames, contexts = [], []
    for n in range(count):
        items = patients[names[n % len(names)]]
        item = items[int(rng.integers(len(items)))]
        # The middle half of a volume: its ends are mostly air.
        index = int(rng.integers(item.slices // 4, max(item.slices // 4 + 1, 3 * item.slices // 4)))
        frames.append(frame(store, item, index))
        scale = SIDE / max(item.height, item.width)
        contexts.append(Context(kind, item.black, item.white, item.pixel_mm / scale))
    return torch.stack(frames), contexts


def scores(clean: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """Return mean PSNR (at most 100 dB) and mean SSIM."""
    error = (clean.double() - other.double()).square().mean((1, 2, 3)).clamp_min(1e-10)
    ssim = [
        structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for a, b in zip(clean[:, 0].double().numpy(), other[:, 0].double().numpy(), strict=True)
    ]
    return float((-10 * torch.log10(error)).mean()), float(np.mean(ssim))


def evaluate(store: Store, model: str, split: str, images: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return kind -> noise -> scores of the input and of the output."""
    denoiser = METHODS.get("medfpl").make(model=model, undo="none")  # a card speaks of the network
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in sorted({i.kind for i in store.of(split)}):  # type: ignore[arg-type]
        clean, contexts = draw(store, split, kind, images)
        found[kind] = {}
        for name in ["clean", *NOISES.names()]:
            noisy = clean
            if name != "clean":
                seeds = [stable_seed(0, "evaluate", name, n) for n in range(images)]
                noisy, _ = corrupt(clean, NOISES.get(name), seeds=seeds, strength=0.5, contexts=contexts)
            before, after = scores(clean, noisy), scores(clean, denoiser.denoise(noisy))
            row = dict(zip(("input_psnr", "input_ssim", "psnr", "ssim"), (*before, *after), strict=True))
            found[kind][name] = {k: round(v, 4 if "ssim" in k else 2) for k, v in row.items()}
    return found


def table(scores_of: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table of kind -> noise -> scores: a row a noise, PSNR and SSIM before and after."""
    lines = [
        "| noise | " + " | ".join(f"{k} PSNR in -> out | {k} SSIM in -> out" for k in scores_of) + " |",
        "| --- |" + " --- | --- |" * len(scores_of),
    ]
    for noise in next(iter(scores_of.values())):
        rows = [of_kind[noise] for of_kind in scores_of.values()]
        cells = [f"{r['input_psnr']:.1f} -> {r['psnr']:.1f} | {r['input_ssim']:.3f} -> {r['ssim']:.3f}" for r in rows]
        lines.append(f"| {noise} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("model")
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write-card", action="store_true")
    given = parser.parse_args()
    found = evaluate(open_store(given.store), given.model, given.split, given.images)
    print(table(found), end="")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if given.write_card:
        place = find_model(given.model).path.with_suffix(".json")
        card = json.loads(place.read_text("utf-8"))
        place.write_text(json.dumps({**card, "metrics": found}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
