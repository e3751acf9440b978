"""Write docs/evidence/inverse.md: the artifacts that medfpl finds by their physics, where they are and where not.

    python scripts/evidence_inverse.py STORE docs/evidence [--split test] [--limit 12]

False alarms on every image of STORE, whatever its split; then, on ``--limit`` images a kind of ``--split``, how often
stripes and movements are found, before or after the noise is gone, and PSNR before, with the noise but without what
was found, and after the default model. With the network it takes a quarter of an hour.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from medfpl.bench.cases import Case
from medfpl.bench.data import DataSettings, find_cases
from medfpl.denoisers import METHODS
from medfpl.denoisers.methods.medfpl import NetworkDenoiser
from medfpl.inverse import INVERSES, undo
from medfpl.noises import NOISES, corrupt
from medfpl.scan import Kind
from medfpl.seeds import stable_seed, torch_generator
from medfpl.store.store import open_store

KINDS: tuple[Kind, ...] = ("ct", "mr", "xray")
STRENGTHS = (0.05, 0.1, 0.25, 0.5, 1.0)
WAVES = ((12.0, 30.0), (40.0, -60.0), (100.0, 0.0), (100.0, 90.0), (200.0, 20.0))  # period in px, angle in degrees
NOISES_ON_TOP = (0.0, 0.0025, 0.005, 0.01, 0.05)  # working units
EVERY = 3  # slices of a volume that are looked at


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--limit", type=int, default=12, help="images a kind")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cases = [c.load() for c in find_cases(given.store, DataSettings(limit=given.limit, split=given.split)).chosen]
    denoiser = METHODS.get("medfpl").make()
    assert isinstance(denoiser, NetworkDenoiser)
    wave: dict[str, float | str] = {"amplitude": 0.05, "period": 40.0, "angle": 30.0}
    hidden = [(f"{n:g}", ("structured", 0.5, wave, n)) for n in (*NOISES_ON_TOP, 0.1)]
    parts = [
        "# Artifacts that are found and undone\n",
        f"Made by `python scripts/evidence_inverse.py STORE docs/evidence --split {given.split}`, {len(cases)} images "
        "of 256 pixels; PSNR in dB, data range 1, mean over images. Found: in how many.\n",
        false_alarms(given.store, cases, denoiser),
        "## Stripes by strength\n\nThe wave of `noise --type structured` (period 100, along the rows).\n\n"
        + by_kind(cases, denoiser, [(f"{s:g}", ("structured", s, {}, 0.0)) for s in STRENGTHS]),
        "## Stripes by period and direction\n\nAmplitude 0.1 of the range.\n\n"
        + by_kind(
            cases,
            denoiser,
            [
                (f"{p:g} px, {a:g} degrees", ("structured", 0.5, {"amplitude": 0.1, "period": p, "angle": a}, 0.0))
                for p, a in WAVES
            ],
        ),
        "## Stripes under noise\n\nA wave of 40 pixels at 30 degrees and of 0.05 of the range, then white noise. What "
        "noise hides is found once it is gone.\n\n" + by_kind(cases, denoiser, hidden),
        "## Stripes cut off at black, under noise\n\nThe same, but the file keeps nothing below black, neither of the "
        "wave nor of the noise.\n\n" + by_kind(cases, denoiser, hidden, cut=True),
        "## Motion blur by strength\n\nA straight movement of 42 pixels times the strength, in a random direction.\n\n"
        + by_kind(cases, denoiser, [(f"{s:g}", ("motion", s, {"mode": "blur"}, 0.0)) for s in STRENGTHS]),
        "## Motion blur under noise\n\nStrength 0.5 (21 pixels), then white noise of the detector.\n\n"
        + by_kind(cases, denoiser, [(f"{n:g}", ("motion", 0.5, {"mode": "blur"}, n)) for n in NOISES_ON_TOP]),
    ]
    (given.docs / "inverse.md").write_text("\n".join(parts), "utf-8")


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)) + "\n"


def false_alarms(store: Path, cases: Sequence[Case], denoiser: NetworkDenoiser) -> str:
    """Return what is found in images of a store as they are, and in what has another corruption, denoised or not."""
    opened, rows = open_store(store), []
    for kind in KINDS:
        images = [
            torch.from_numpy(opened.working(item, slice(z, z + 1))[0].astype("float32"))
            for item in opened.items
            if item.kind == kind
            for z in range(0, item.slices, EVERY)
        ]
        start = time.perf_counter()
        for image in images:
            undo(image[None, None], tuple(INVERSES))
        spent = (time.perf_counter() - start) / max(1, len(images))
        found = [denoiser.restore(image[None, None], kind).found[0] for image in images]
        rows.append(
            (kind, f"{len(images)}", *(str(sum(n in f for f in found)) for n in INVERSES), f"{1e3 * spent:.0f}")
        )
    others = [n for n in NOISES.names() if n != "structured"]
    for name in others:
        seen = [_corrupted(c, name, 0.5, {}, 0.0) for c in cases]
        found = [denoiser.restore(x).found[0] for x in seen]
        if any(found):
            rows.append((f"with {name}", f"{len(seen)}", *(str(sum(n in f for f in found)) for n in INVERSES), ""))
    return (
        "## False alarms\n\nBefore and after denoising. Every image of the store at its own size (of a volume every "
        f"third slice), and the {len(cases)} images with each other corruption of strength 0.5 in its default mode; "
        "corruptions without any are not listed. ms an image: for looking once.\n\n"
        + table(("images", "number", *(f"{name} found" for name in INVERSES), "ms an image"), iter(rows))
    )


def by_kind(
    cases: Sequence[Case],
    denoiser: NetworkDenoiser,
    series: Sequence[tuple[str, tuple[str, float, dict[str, float | str], float]]],
    cut: bool = False,
) -> str:
    """Return a table: a row a member of the series, and for each kind how often found and the three PSNRs.

    With ``cut`` nothing lies below black.
    """
    rows = []
    for label, (noise, strength, values, level) in series:
        cells = []
        for kind in KINDS:
            some = [c for c in cases if c.intensity.kind == kind]
            seen = [_corrupted(c, noise, strength, values, level, cut) for c in some]
            done = [denoiser.restore(x) for x in seen]
            found = sum(bool(d.found[0]) for d in done)
            scores = [_psnr(xs, some) for xs in (seen, [d.undone for d in done], [d.result for d in done])]
            cells.append(f"{found}/{len(some)}: {scores[0]:.1f} -> {scores[1]:.1f} -> {scores[2]:.1f}")
        rows.append((label, *cells))
    head = ("", *(f"{kind}: found: before -> undone -> denoised" for kind in KINDS))
    return table(head, iter(rows))


def _corrupted(
    case: Case, name: str, strength: float, values: dict[str, float | str], level: float, cut: bool = False
) -> Tensor:
    seed = stable_seed(0, case.id, name)
    made, _ = corrupt(
        case.image, NOISES.get(name), seeds=[seed], strength=strength, given=values, contexts=[case.context]
    )
    black = 0.0 if cut else -torch.inf
    noise = level * torch.randn(made.shape, generator=torch_generator(seed, "on top"))
    return (made.clamp_min(black) + noise).clamp_min(black)


def _psnr(images: Sequence[Tensor], cases: Sequence[Case]) -> float:
    errors = [float((x - c.image).square().mean()) for x, c in zip(images, cases, strict=True)]
    return float(torch.tensor([-10 * torch.log10(torch.tensor(max(e, 1e-10))) for e in errors]).mean())


if __name__ == "__main__":
    main()
