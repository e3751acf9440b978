"""Time the saliency of a 512 x 512 slice against its denoising, in one run: ``bench_saliency.py [--rounds N]``.

Denoising is all that is computed of a slice (the network, its padding and back, the noise before and after), as
saliency is (both maps, their distance, the trust measure, the noise). Both are timed in turn, and the smallest of
N times each counts: the machine's other work only ever adds.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from medfpl.pipeline import scan_of_array
from medfpl.pipeline.engine import Recipe, load
from medfpl.saliency.maps import explain_pair, load_explainer
from medfpl.saliency.scans import explain_scans
from medfpl.saliency.trust import assess


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=512)
    given = parser.parse_args()
    engine, explainer = load(Recipe(device="cpu")), load_explainer()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: given.side, : given.side] / given.side - 0.5
    hu = np.where(np.hypot(x, 1.3 * y) < 0.42, 40.0, -1000.0) + rng.normal(0, 20, x.shape)
    before = scan_of_array(hu.astype(np.float32), "ct")
    image = before.intensity.to_working(before.pixels)
    noisy = torch.from_numpy(image)[:, None]
    result = engine.run(before).scan
    after = before.intensity.to_working(result.pixels)
    denoised = torch.from_numpy(after)[:, None]
    parts: dict[str, Callable[[], object]] = {
        "denoising": lambda: engine.run(before),
        "saliency": lambda: explain_scans(before, result, explainer),
        "network": lambda: engine.denoiser.denoise(noisy),
        "maps": lambda: explain_pair(explainer.net, noisy, denoised, explainer.rules),
        "trust": lambda: assess(image, after),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(given.rounds + 1):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            times[name].append(time.perf_counter() - started)
    best = {name: min(several[1:]) for name, several in times.items()}  # the first round warms up
    print(f"{given.side} x {given.side}, {torch.get_num_threads()} threads, best of {given.rounds}")
    for name, seconds in best.items():
        print(f"{name:10} {seconds:7.3f} s  {seconds / best['denoising']:5.2f} x denoising")


if __name__ == "__main__":
    main()
