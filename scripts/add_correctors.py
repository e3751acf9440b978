"""Make a model of experts and correctors: networks trained for an artifact that are asked about the denoised image.

    python scripts/add_correctors.py STORE MODEL RUN:NOISE:SIZE:EDGES[:ENOUGH[:AGAIN:GONE]] ... -o FOLDER [--images 8]

MODEL is a model or run of experts. Each RUN is one of a network that undoes NOISE (drunet, shading, field or unfold);
they are asked in this order, each about what those before it left. SIZE and EDGES are what it may find by mistake,
ENOUGH how much anatomy there must be, AGAIN and GONE how much it may find again (nets.correctors). To choose the first
three the script prints what it finds in validation images: clean and with each corruption, strengths 0.5 and 0.15.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from evaluate_model import draw
from torch import Tensor

from medfpl.denoisers.methods.medfpl import NetworkDenoiser
from medfpl.inverse import INVERSES
from medfpl.nets.correctors import AGAIN, CorrectorConfig, belief, strength
from medfpl.nets.experts import Experts, with_correctors
from medfpl.nets.parts import Part
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
    parser.add_argument("correctors", nargs="+", metavar="RUN:NOISE:SIZE:EDGES[:ENOUGH[:AGAIN:GONE]]")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8)
    args = parser.parse_args()
    model = find_model(args.model)
    net = load_net(model)
    if not isinstance(net, Experts):
        parser.error(f"{args.model} is no model of experts")
    chosen: list[tuple[CorrectorConfig, Part]] = []
    for entry in args.correctors:
        run, noise, *values = entry.split(":")
        if len(values) not in (2, 3, 5):
            parser.error(f"{entry}: not SIZE:EDGES, SIZE:EDGES:ENOUGH or all five limits")
        limits = [float(value) for value in values]
        corrector = load_net(find_model(run))
        if not isinstance(corrector, Part):
            parser.error(f"{run} is no network for an artifact")
        again = (limits[3], limits[4]) if limits[3:] else AGAIN
        config = CorrectorConfig(corrector.config, NOISES.resolve(noise), *limits[:3], again=again)
        chosen.append((config, corrector))
    denoiser = NetworkDenoiser(with_correctors(net, []), model, undoes=tuple(INVERSES))
    print(
        "what each finds in its turn: size over the image's, over its gradient's; least, median, largest of the images"
    )
    for kind in ("ct", "xray", "mr"):
        for name, s, x in _cases(args.store, kind, args.images):
            image, cells = torch.cat([denoiser.denoise(item) for item in x.split(1)]), []
            for config, corrector in chosen:
                with torch.inference_mode():
                    found = torch.cat([corrector(item) for item in image.split(4)])
                cells.append(f"{config.noise}: {_spread(strength(found, image))}")
                image = image - belief(found, image, config).view(-1, 1, 1, 1) * found
            print(f"{kind:5s} {name:20s} {s:4g}  " + "   ".join(cells), flush=True)
    made_anew = ("architecture", "file", "sha256", "bytes", "parameters")
    card = {k: v for k, v in model.card.to_json().items() if k not in made_anew}
    whole = with_correctors(net, chosen)
    saved = save_net(whole, args.out, {**card, "noises": whole.config.noises})
    print(f"{saved.card.name}: {saved.card.parameters} weights in {args.out}")


def _cases(store: Path, kind: str, count: int) -> Iterator[tuple[str, float, Tensor]]:
    clean, contexts = draw(open_store(store), "val", kind, count)
    yield "clean", 0.0, clean
    for name in NOISES.names():
        seeds = [stable_seed(0, "evaluate", name, n) for n in range(count)]
        for s in STRENGTHS:
            yield name, s, corrupt(clean, NOISES.get(name), seeds=seeds, strength=s, contexts=contexts)[0]


def _spread(strengths: tuple[Tensor, Tensor]) -> str:
    return ", ".join(f"{float(v.min()):.3f} {float(v.median()):.3f} {float(v.max()):.3f}" for v in strengths)


if __name__ == "__main__":
    main()
