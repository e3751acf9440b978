"""Time all noises against scikit-image, TorchIO and MONAI, and write a table: ``bench_noises.py OUT.md [THREADS...]``.

A batch of 16 images of 256 x 256, float32, on the CPU. The contenders of one case take turns, so that other work on
the machine slows all of them alike; a time is the median of the turns, a ratio the median of the turns' ratios.
TorchIO and MONAI are optional: ``make bench-noise`` puts them into .venv-bench.
"""

import os
import platform
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from skimage.util import random_noise

from medfpl.noises import NOISES, Context, corrupt
from medfpl.noises.fourier import smooth_noise

BATCH, SIDE = 16, 256
SECONDS, MOST = 1.5, 60  # of turns a case, and turns at most
CONTEXT = Context("ct", -1000.0, 1000.0, 1.4)
LIBRARIES = ("scikit-image", "torchio", "monai")
Call = Callable[[], object]

# What another library has for a noise and mode. Each is called as its users would: image by image.
COUNTERPARTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("gaussian", "default"): ("skimage gaussian", "torchio Noise", "monai RandGaussianNoise"),
    ("thermal", "real"): ("skimage gaussian", "torchio Noise", "monai RandGaussianNoise"),
    ("thermal", "magnitude"): ("monai RandRicianNoise",),
    ("rician", "default"): ("monai RandRicianNoise",),
    ("poisson", "detector"): ("skimage poisson",),
    ("speckle", "gaussian"): ("skimage speckle",),
    ("salt-pepper", "default"): ("skimage s&p",),
    ("structured", "herringbone"): ("torchio Spike", "monai KSpaceSpikeNoise"),
    ("field-inhomogeneity", "b1"): ("torchio BiasField", "monai RandBiasField"),
    ("motion", "kspace"): ("torchio Motion",),
    ("motion", "ghost"): ("torchio Ghosting",),
}


def images() -> torch.Tensor:
    """Return a batch of smooth random images in 0..1 with 256 levels, as 8-bit pictures have."""
    white = torch.randn(BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    smooth = smooth_noise(white, torch.tensor(6.0))
    return ((smooth * 0.2 + 0.45).clamp(0, 1) * 255).round() / 255


def ours(x: torch.Tensor, name: str, mode: str) -> Call:
    """Return a call that corrupts the batch, with other seeds each time."""
    noise, turn = NOISES.get(name), cycle(range(1 << 20))
    contexts = [CONTEXT] * BATCH

    def call() -> object:
        first = next(turn) * BATCH
        seeds = range(first, first + BATCH)
        return corrupt(x, noise, seeds=seeds, strength=0.5, given={"mode": mode}, contexts=contexts)

    return call


def skimage_calls(x: torch.Tensor) -> dict[str, Call]:
    """Return scikit-image's noises at the same strength."""
    pictures, rng = [image[0].numpy() for image in x], np.random.default_rng(0)

    def call(**settings: object) -> Call:
        return lambda: [random_noise(p, rng=rng, clip=False, **settings) for p in pictures]

    return {
        "skimage gaussian": call(mode="gaussian", var=0.01),
        "skimage poisson": call(mode="poisson"),
        "skimage speckle": call(mode="speckle", var=0.01),
        "skimage s&p": call(mode="s&p", amount=0.06),
    }


def torchio_calls(x: torch.Tensor) -> dict[str, Call]:
    """Return TorchIO's transforms on slices (1, H, W, 1)."""
    import torchio

    slices = [image[..., None] for image in x]

    def call(transform: Callable[[torch.Tensor], object]) -> Call:
        return lambda: [transform(s) for s in slices]

    return {
        "torchio Noise": call(torchio.RandomNoise(std=(0.1, 0.1))),
        "torchio Spike": call(torchio.RandomSpike(num_spikes=(1, 1))),
        "torchio BiasField": call(torchio.RandomBiasField(coefficients=0.5, order=3)),
        "torchio Motion": call(torchio.RandomMotion(degrees=2, translation=2, num_transforms=4)),
        "torchio Ghosting": call(torchio.RandomGhosting(num_ghosts=(2, 6), axes=(0,))),
    }


def monai_calls(x: torch.Tensor) -> dict[str, Call]:
    """Return MONAI's transforms on channel-first images (1, H, W)."""
    from monai import transforms

    pictures = list(x)

    def call(transform: Callable[[torch.Tensor], object]) -> Call:
        return lambda: [transform(p) for p in pictures]

    return {
        "monai RandGaussianNoise": call(transforms.RandGaussianNoise(prob=1.0, std=0.1, sample_std=False)),
        "monai RandRicianNoise": call(transforms.RandRicianNoise(prob=1.0, std=0.1, sample_std=False)),
        "monai RandBiasField": call(transforms.RandBiasField(prob=1.0, degree=3, coeff_range=(0.0, 0.5))),
        "monai KSpaceSpikeNoise": call(transforms.KSpaceSpikeNoise(loc=(60, 80), k_intensity=10.0)),
    }


def take_turns(calls: dict[str, Call]) -> dict[str, list[float]]:
    """Return the seconds of each call's turns, all called equally often."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = perf_counter()
    while len(next(iter(times.values()))) < MOST:
        for name, call in calls.items():
            begun = perf_counter()
            call()
            times[name].append(perf_counter() - begun)
        if perf_counter() - started > SECONDS * len(calls) and len(times[name]) >= 5:
            break
    return times


def table(x: torch.Tensor, others: dict[str, Call], threads: int) -> list[str]:
    """Time all cases with ``threads`` threads of torch and return the table's lines."""
    torch.set_num_threads(threads)
    lines = ["| noise | mode | medfpl, ms | others, ms | fastest other / medfpl |", "| --- | --- | ---: | --- | ---: |"]
    for noise in NOISES:
        for mode in noise.modes:
            named = [n for n in COUNTERPARTS.get((noise.name, mode), ()) if n in others]
            times = take_turns({"medfpl": ours(x, noise.name, mode), **{n: others[n] for n in named}})
            mine = times.pop("medfpl")
            told = ", ".join(f"{n} {1000 * median(t):.1f}" for n, t in times.items())
            ratios = [median(b / a for a, b in zip(mine, t, strict=True)) for t in times.values()]
            ratio = f"{min(ratios):.1f}" if ratios else ""
            lines.append(f"| {noise.name} | {mode} | {1000 * median(mine):.1f} | {told} | {ratio} |")
            print(lines[-1], flush=True)
    return lines


def version_of(package: str) -> str:
    """Return a package's version, or that it is missing."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} missing"


def main(target: Path, threads: list[int]) -> None:
    """Time everything and write the page."""
    warnings.filterwarnings("ignore")
    x = images()
    others = skimage_calls(x)
    missing = [name for name in ("torchio", "monai") if find_spec(name) is None]
    for name, calls in (("torchio", torchio_calls), ("monai", monai_calls)):
        if name not in missing:
            others |= calls(x)
    versions = ", ".join(version_of(p) for p in ("torch", "numpy", *LIBRARIES))
    page = [
        "# How fast the noises are",
        "",
        f"Made by `make bench-noise`: {BATCH} images of {SIDE} x {SIDE}, float32, strength 0.5,",
        f"on {os.cpu_count()} cores ({platform.machine()}), {versions}.",
        "The contenders of a row take turns in one process; times are medians over the turns, the ratio is the median",
        "of the turns' ratios against the fastest of the others, and above 1 medfpl is faster. Other work was running:",
        "trust the ratios more than the times. Where no other library has a noise, its time stands alone.",
    ]
    for count in threads:
        title = "One thread" if count == 1 else f"{count} threads"
        print(f"\n{title}")
        page += ["", f"## {title}", "", *table(x, others, count)]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(page) + "\n", encoding="utf-8")
    if missing:
        print(f"not compared, because not installed: {', '.join(missing)}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(n) for n in sys.argv[2:]] or sorted({1, os.cpu_count() or 1}))
