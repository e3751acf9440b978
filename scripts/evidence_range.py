"""Write docs/evidence/working-range.md: whether it matters which HU a CT's working range spans.

    python scripts/evidence_range.py STORE docs/evidence [--model NAME] [--split val]

The same noisy slices are mapped to working units by several ranges, denoised, and compared with the truth by tissue.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from medfpl.bench.cases import Case
from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.tasks.regions import CT_CLASSES, classes
from medfpl.denoisers.methods.medfpl import NetworkDenoiser
from medfpl.nets.weights import find_model
from medfpl.pipeline import Recipe, load
from medfpl.scan import CT_BLACK, CT_WHITE
from medfpl.seeds import stable_seed, torch_generator

RANGES = (
    (CT_BLACK, CT_WHITE),
    (-1000, 500),
    (-1000, 2000),
    (-1000, 3000),
    (-1100, 1000),
    (-900, 1000),
    (-160, 240),
)  # the last: a radiologist's window
LEVELS = (15.0, 40.0, 100.0)  # of white noise, HU
HU = CT_WHITE - CT_BLACK  # of one working unit of the cases


def errors(cases: Sequence[Case], denoiser: NetworkDenoiser, black: float, white: float) -> Iterator[tuple[str, ...]]:
    """Yield for each noise level the RMSE in HU by tissue, with (black, white) as 0 and 1."""
    for level in LEVELS:
        squares: dict[str, list[float]] = {tissue: [] for tissue in CT_CLASSES}
        for case in cases:
            truth = HU * case.image + CT_BLACK
            drawn = torch.randn(truth.shape, generator=torch_generator(stable_seed(0, case.id), "range"))
            noisy = (truth + level * drawn - black) / (white - black)
            found = denoiser.denoise(noisy) * (white - black) + black
            for tissue, mask in classes(case).items():
                squares[tissue].extend((found - truth)[0, 0].numpy()[mask].astype(float) ** 2)
        yield f"{level:g}", *(f"{np.sqrt(np.mean(v)):.2f}" for v in squares.values())


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--model", default=None, help="default: the one that 'medfpl denoise' takes")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    given = parser.parse_args()
    denoiser = load(Recipe(model=given.model)).denoiser
    assert isinstance(denoiser, NetworkDenoiser)
    found = find_cases(given.store, DataSettings(limit=8, split=given.split)).chosen
    cases = [c for c in (case.load() for case in found) if c.intensity.kind == "ct"]
    lines = [
        "# The working range of CT\n",
        f"Made by `python scripts/evidence_range.py STORE docs/evidence --split {given.split}` with "
        f"{given.model or find_model().card.name}: RMSE in HU after denoising {len(cases)} slices with white noise, "
        "when the working range 0 to 1 spans these HU. The networks were trained with the first.\n",
        "| range, HU | noise, HU | " + " | ".join(CT_CLASSES) + " |",
        "| --- |" + " ---: |" * (1 + len(CT_CLASSES)),
    ]
    for black, white in RANGES:
        for row in errors(cases, denoiser, black, white):
            lines.append(f"| {black:g} to {white:g} | " + " | ".join(row) + " |")
    (given.docs / "working-range.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
