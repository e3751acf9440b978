"""What it would be worth to know how a patient moved: moved k-space segments, put back with known and with found poses.

    python scripts/study_motion.py STORE [--images 4] [--model RUN]

For each kind of image, validation patients at the default strength, prints the mean PSNR in dB: of the moved image; of
RUN's (a network for motion; the default model without it); of the image that least squares give with the true poses;
of the one that minimises the misfit of the magnitudes and its total variation with the true poses, with poses that are
off by a share of what they are drawn from, and with none but what fits RUN's result best, of eight random beginnings.
docs/decisions/inverse.md tells what follows.
"""

import argparse
from collections.abc import Callable
from math import pi
from pathlib import Path

import torch
from evaluate_model import draw
from torch import Tensor

from medfpl.denoisers import METHODS
from medfpl.nets.weights import find_model, load_net
from medfpl.noises import NOISES, corrupt
from medfpl.noises.fourier import frequencies, turn
from medfpl.noises.kinds.motion import line_poses, rotate
from medfpl.seeds import stable_seed
from medfpl.store.store import open_store

SPREAD = torch.tensor([2.0, 2.0, 1.0])  # px, px, degrees: of the poses at strength 0.5
ERRORS = (0.1, 0.3, 0.6)
WEIGHT = 0.01  # of the total variation, working units
EXTRAPOLATED = 1.5  # a network takes too little; so much of what it takes fits the truth better than its result
STARTS, ITERATIONS = 8, 50


def forward(x: Tensor, poses: Tensor, line: Tensor) -> Tensor:
    """Return the complex image (H, W) that x gives whose lines ``line`` (H,) were acquired in ``poses`` (S, 3)."""
    height, width = x.shape
    turned = rotate(x.expand(len(poses), 1, height, width), poses[:, 2])
    spectra = torch.fft.fft2(torch.cat([x[None], turned[:, 0]]))
    shift = torch.cat([poses.new_zeros(1, 2), poses[:, :2]])[line]
    k_space = spectra[line, torch.arange(height)]
    along = frequencies(height, x)[:, None] * shift[:, :1] + frequencies(width, x) * shift[:, 1:]
    return torch.fft.ifft2(k_space * turn(-2 * pi * along))


def minimise(loss: Callable[[], Tensor], variables: list[Tensor], iterations: int) -> float:
    """Minimise by L-BFGS, in place; return the last loss."""
    optimiser = torch.optim.LBFGS(variables, max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[arg-type]
    return float(loss().detach())


def misfit(x: Tensor, poses: Tensor, line: Tensor, seen: Tensor) -> Tensor:
    """Return the squared difference of the magnitudes: a scanner's phase is not stored."""
    z = torch.view_as_real(forward(x, poses, line))
    return ((z.square().sum(-1) + 1e-8).sqrt() - seen).square().sum()


def variation(x: Tensor) -> Tensor:
    """Return the total variation."""
    down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
    return (down.square() + right.square() + 1e-6).sqrt().sum()


def linear(seen: Tensor, poses: Tensor, line: Tensor) -> Tensor:
    """Return the image that least squares give, the magnitude taken for the signal."""
    x = seen.clone().requires_grad_()
    minimise(lambda: (forward(x, poses, line) - seen).abs().square().sum(), [x], ITERATIONS)
    return x.detach()


def jointly(seen: Tensor, poses: Tensor, line: Tensor) -> tuple[float, Tensor]:
    """Return the loss and the image that fits: first with these poses, and then with those that fit better."""
    x, units = seen.clone().requires_grad_(), poses / SPREAD

    def loss() -> Tensor:
        return misfit(x, units * SPREAD, line, seen) + WEIGHT * variation(x)

    minimise(loss, [x], ITERATIONS // 2)
    units.requires_grad_()
    return minimise(loss, [x, units], ITERATIONS), x.detach()


def blindly(seen: Tensor, taken: Tensor, line: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the image of the least loss, from poses that best explain what a network has ``taken``."""
    reference, found = seen - EXTRAPOLATED * taken, []
    for _ in range(STARTS):
        units = torch.randn(count, 3, generator=generator).requires_grad_()
        at = units
        loss = minimise(lambda at=at: misfit(reference, at * SPREAD, line, seen), [units], 20)  # type: ignore[misc]
        found.append((loss, units.detach() * SPREAD))
    found.sort(key=lambda pair: pair[0])
    return min((jointly(seen, poses, line) for _, poses in found[:3]), key=lambda pair: pair[0])[1]


def psnr(x: Tensor, y: Tensor) -> float:
    """Return the PSNR, data range 1."""
    return float(-10 * (x - y).square().mean().log10())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--model")
    args = parser.parse_args()
    store, generator = open_store(args.store), torch.Generator().manual_seed(0)
    if args.model:
        net = load_net(find_model(args.model))
    else:
        default = METHODS.get("medfpl").make()
    titles = ["moved", "network", "least squares", "true poses", *(f"off by {e:g}" for e in ERRORS), "blind"]
    print(f"| kind | {' | '.join(titles)} |\n|{' --- |' * (len(titles) + 1)}")
    for kind in ("ct", "xray", "mr"):
        clean, contexts = draw(store, "val", kind, args.images)
        seeds = [stable_seed(0, "evaluate", "motion", n) for n in range(args.images)]
        asked = {"seeds": seeds, "strength": 0.5, "contexts": contexts, "given": {"mode": "kspace"}}
        moved, records = corrupt(clean, NOISES.get("motion"), **asked)  # type: ignore[arg-type]
        rows = []
        for truth, image, record in zip(clean[:, 0], moved[:, 0], records, strict=True):
            with torch.inference_mode():
                x = image[None, None]
                out = x - net(x) if args.model else default.denoise(x)
            taken = image - out[0, 0].clone()
            line = line_poses([record.values], len(image), image)[0]
            keys = ("shifts_phase", "shifts_readout", "rotations")
            poses = torch.tensor([record.values[key] for key in keys]).T.contiguous()
            off = [poses + e * SPREAD * torch.randn(poses.shape, generator=generator) for e in ERRORS]
            results = [image, image - taken, linear(image, poses, line), jointly(image, poses, line)[1]]
            results += [jointly(image, p, line)[1] for p in off]
            results.append(blindly(image, taken, line, len(poses), generator))
            rows.append([psnr(truth, result) for result in results])
        print(f"| {kind} | {' | '.join(f'{v:.1f}' for v in torch.tensor(rows).mean(0).tolist())} |", flush=True)


if __name__ == "__main__":
    main()
