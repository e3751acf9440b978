"""Measure DPIR beside classical filters: white noise of four known levels on patients that training never saw.

    python scripts/evaluate_prior.py STORE [--model NAME|RUN] [--images 6] [--markdown FILE] [--write-card]

Frames of 256 x 256 pixels, whole anatomy, the same as in evaluate_model.py; every method is told the level and runs
with its defaults. PSNR in dB for the working range (2000 HU for CT), mean over the images. ``--write-card`` puts the
numbers of the prior on a shipped model's card.
"""

import argparse
import json
from pathlib import Path

import torch
from evaluate_model import draw, scores
from torch import Tensor

from medfpl.denoisers import METHODS, Denoiser
from medfpl.denoisers.hqs import Blurred, Masked, Prior, restore
from medfpl.nets.weights import find_model
from medfpl.seeds import numpy_generator, torch_generator
from medfpl.store.store import open_store
from medfpl.training.white import MEASURED

METHOD_NAMES = ("dpir", "dpir, hqs", "nlm", "wavelet", "bilateral", "medfpl")
TASK_LEVEL = 0.01


def denoisers(model: str | None) -> dict[str, Denoiser]:
    """Return the methods by the name they have in the table."""
    prior = {} if model is None else {"model": model}
    made = {name: METHODS.get(name).make() for name in METHOD_NAMES if "dpir" not in name}
    dpir = METHODS.get("dpir")
    return {"dpir": dpir.make(**prior), "dpir, hqs": dpir.make(mode="hqs", **prior), **made}


def noisy(clean: Tensor, level: float) -> Tensor:
    """Return ``clean`` with white noise of ``level``, each item's from a seed of its own."""
    draws = [torch.randn(c.shape, generator=torch_generator(0, "prior", level, i)) for i, c in enumerate(clean)]
    return clean + level * torch.stack(draws)


def restorations(clean: Tensor, prior: Prior) -> dict[str, tuple[float, float]]:
    """Return for each other task what the PSNR is before and after half-quadratic splitting."""
    offsets = torch.arange(-6.0, 7.0)
    bell = torch.exp(-0.5 * (offsets / 1.6) ** 2)
    blur = Blurred(torch.outer(bell, bell) / bell.sum() ** 2)
    known = torch.from_numpy(numpy_generator(0, "prior", "mask").random(clean.shape[-2:]) < 0.5)
    blurred, gaps = noisy(blur.apply(clean), TASK_LEVEL), noisy(clean, TASK_LEVEL) * known
    # A first guess for the gaps: the mean of their known neighbours.
    weights = torch.nn.functional.avg_pool2d(known[None, None].float().expand_as(gaps), 5, 1, 2)
    near = torch.nn.functional.avg_pool2d(gaps, 5, 1, 2) / weights.clamp_min(1e-6)
    first = torch.where(known, gaps, near)
    found = {
        "deblurring, Gaussian of 1.6 pixels": (blurred, restore(blurred, blur, prior, TASK_LEVEL)),
        "half of the pixels missing, from their neighbours' mean": (
            first,
            restore(gaps, Masked(known), prior, TASK_LEVEL, start=first),
        ),
    }
    return {name: (scores(clean, before)[0], scores(clean, after)[0]) for name, (before, after) in found.items()}


def markdown(table: dict[str, dict[str, list[float]]]) -> str:
    """Return kind -> method -> PSNR at each level as a table."""
    lines = [
        "| images | method | " + " | ".join(f"{s:g}" for s in MEASURED) + " |",
        "| --- " * (2 + len(MEASURED)) + "|",
    ]
    for kind, methods in table.items():
        best = [max(row[i] for row in methods.values()) for i in range(len(MEASURED))]
        for name, row in methods.items():
            cells = [f"**{v:.2f}**" if v == b else f"{v:.2f}" for v, b in zip(row, best, strict=True)]
            lines.append(f"| {kind} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--images", type=int, default=6, help="of all kinds together")
    parser.add_argument("--split", default="test")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--write-card", action="store_true")
    given = parser.parse_args()
    store = open_store(given.store)
    kinds = sorted({i.kind for i in store.of(given.split)})
    methods = denoisers(given.model)
    table: dict[str, dict[str, list[float]]] = {}
    card: dict[str, dict[str, dict[str, float]]] = {}
    tasks: dict[str, list[tuple[float, float]]] = {}
    for kind in kinds:
        clean, _ = draw(store, given.split, kind, given.images // len(kinds))
        card[kind], table[kind] = {}, {name: [] for name in ("noisy", *methods)}
        for level in MEASURED:
            x = noisy(clean, level)
            before = scores(clean, x)
            for name, denoiser in methods.items():
                psnr, ssim = scores(clean, denoiser.denoise(x, noise_level=level))
                table[kind][name].append(psnr)
                if name == "dpir":
                    row = zip(("input_psnr", "input_ssim", "psnr", "ssim"), (*before, psnr, ssim), strict=True)
                    rounded = {k: round(v, 4 if "ssim" in k else 2) for k, v in row}
                    card[kind][f"white {level:g}"] = rounded
            table[kind]["noisy"].append(before[0])
        for task, pair in restorations(clean, methods["dpir"].prior).items():  # type: ignore[attr-defined]
            tasks.setdefault(task, []).append(pair)
    table["mean"] = {
        name: [sum(table[k][name][i] for k in kinds) / len(kinds) for i in range(len(MEASURED))]
        for name in ("noisy", *methods)
    }
    text = markdown(table) + f"\n| restoration, noise {TASK_LEVEL:g} | before | after |\n| --- | --- | --- |\n"
    for task, pairs in tasks.items():
        first, second = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        text += f"| {task} | {first:.2f} | {second:.2f} |\n"
    print(text, end="")
    if given.markdown:
        given.markdown.write_text(text, "utf-8")
    if given.write_card:
        place = find_model(given.model, "prior").path.with_suffix(".json")
        fields = json.loads(place.read_text("utf-8"))
        place.write_text(json.dumps({**fields, "metrics": card}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
