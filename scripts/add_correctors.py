"""Add correctors to a model of experts: networks trained for one artifact that are asked about the denoised image.

    python scripts/add_correctors.py STORE MODEL RUN:SIZE:EDGES ... -o FOLDER [--images 8]

MODEL is a model or run of experts, each RUN one of a drunet for a single noise. SIZE and EDGES are what it may find by
mistake (nets.correctors). To choose them the script prints what it finds in validation images: clean, with its own
artifact, and with each other corruption, strengths 0.5 and 0.15.
"""

import argparse
from pathlib import Path

import torch
from evaluate_model import draw
from torch import Tensor

from medfpl.denoisers.methods.medfpl import NetworkDenoiser
from medfpl.inverse import INVERSES, undo
from medfpl.nets.correctors import CorrectorConfig, strength
from medfpl.nets.drunet import DRUNet
from medfpl.nets.experts import Experts, with_correctors
from medfpl.nets.weights import find_model, load_net, save_net
from medfpl.noises import NOISES, corrupt
from medfpl.seeds import stable_seed
from medfpl.store.store import open_store

STRENGTHS = (0.5, 0.15)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("model")
    parser.add_argument("correctors", nargs="+", metavar="RUN:SIZE:EDGES")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8)
    args = parser.parse_args()
    model = find_model(args.model)
    net = load_net(model)
    if not isinstance(net, Experts):
        parser.error(f"{args.model} is no model of experts")
    chosen: list[tuple[CorrectorConfig, DRUNet]] = []
    for entry in args.correctors:
        run, size, edges = entry.rsplit(":", 2)
        found = find_model(run)
        corrector = load_net(found)
        if not isinstance(corrector, DRUNet) or len(found.card.noises) != 1:
            parser.error(f"{run} is no drunet for one noise")
        chosen.append((CorrectorConfig(corrector.config, found.card.noises[0], float(size), float(edges)), corrector))
    denoiser = NetworkDenoiser(with_correctors(net, []), model)
    print("what each finds: size over the image's, over its gradient's; median and largest of the images")
    for kind in ("ct", "xray", "mr"):
        for name, s, x in _cases(args.store, kind, args.images):
            y = torch.cat([denoiser.without_noise(undo(item, tuple(INVERSES))[0]) for item in x.split(1)])
            cells = []
            for config, corrector in chosen:
                with torch.inference_mode():
                    seen = torch.cat([corrector(item) for item in y.split(4)])
                cells.append(f"{config.noise}: {_spread(strength(seen, y))}")
            print(f"{kind:5s} {name:20s} {s:4g}  " + "   ".join(cells), flush=True)
    card = {k: v for k, v in model.card.to_json().items() if k not in ("architecture", "file", "sha256", "bytes")}
    whole = with_correctors(net, chosen)
    saved = save_net(whole, args.out, {**card, "noises": whole.config.noises})
    print(f"{saved.card.name}: {saved.card.parameters} weights in {args.out}")


def _cases(store: Path, kind: str, count: int) -> list[tuple[str, float, Tensor]]:
    clean, contexts = draw(open_store(store), "val", kind, count)
    cases = [("clean", 0.0, clean)]
    for name in NOISES.names():
        for s in STRENGTHS:
            seeds = [stable_seed(0, "evaluate", name, n) for n in range(count)]
            cases.append((name, s, corrupt(clean, NOISES.get(name), seeds=seeds, strength=s, contexts=contexts)[0]))
    return cases


def _spread(strengths: tuple[Tensor, Tensor]) -> str:
    return ", ".join(f"{float(v.median()):.3f} {float(v.max()):.3f}" for v in strengths)


if __name__ == "__main__":
    main()
