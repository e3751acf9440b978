"""Choose and report the classical filters' defaults on real images with white noise added.

    python scripts/tune_filters.py choose DATA   # sweeps of the settings, on one half of the patients
    python scripts/tune_filters.py report DATA   # PSNR and SSIM of the defaults, on the other half

DATA holds manifest.csv (kind, path, patient_or_source_id, slices, est_noise_sigma) and the images.
The tables go to stdout as Markdown; docs/decisions/classical-filter-defaults.md holds them.
"""

import csv
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from medfpl.denoisers import METHODS
from medfpl.denoisers.sigma import estimate_noise
from medfpl.scan import choose_intensity
from medfpl.seeds import torch_generator

SIGMAS = (0.01, 0.02, 0.05, 0.1, 0.2)
FILTERS = ("mean", "median", "gaussian", "combined", "wiener", "bilateral", "nlm", "wavelet")
CROP = 384
EACH = 3  # patients a kind and half
KINDS = {"chest_ct": "ct", "abdomen_ct": "ct", "chest_xray": "xray", "brain_mr": "mr"}
# MR volumes that are too noisy to stand for a clean image.
NOISY = ("hanke-02",)

Pairs = list[tuple[str, Tensor, dict[float, Tensor]]]


def read_pixels(path: Path) -> np.ndarray:
    """Return one slice (H, W) in real units; of a volume the middle one."""
    if path.suffix == ".dcm":
        import pydicom

        image = pydicom.dcmread(path)
        pixels = image.pixel_array * float(image.get("RescaleSlope", 1)) + float(image.get("RescaleIntercept", 0))
        return np.maximum(pixels, -1024) if image.Modality == "CT" else pixels
    if path.suffix == ".png":
        from PIL import Image

        return np.asarray(Image.open(path).convert("L"), dtype=float)
    import nibabel

    volume = nibabel.load(path)
    return np.asarray(volume.dataobj[:, :, volume.shape[2] // 2], dtype=float).T[::-1]


def cases(folder: Path, half: int) -> Iterator[tuple[str, Tensor]]:
    """Yield (kind, clean image (1, 1, H, W) in working units) of the quietest patients, every other one."""
    rows = list(csv.DictReader((folder / "manifest.csv").open()))
    rows.sort(key=lambda row: (float(row["est_noise_sigma"] or "inf"), row["path"]))
    done: dict[str, list[str]] = {}
    for row in rows:
        patient, kind = row["patient_or_source_id"], KINDS[row["kind"]]
        seen = done.setdefault(row["kind"], [])
        if patient in NOISY or any(patient in p for p in done.values()) or len(seen) == 2 * EACH:
            continue
        seen.append(patient)
        if len(seen) % 2 != half:
            continue
        pixels = read_pixels(folder / row["path"]).astype(np.float32)
        h, w = pixels.shape
        top, left = max(0, (h - CROP) // 2), max(0, (w - CROP) // 2)
        pixels = pixels[top : top + CROP, left : left + CROP]
        intensity = choose_intensity(kind, pixels, (0.0, 255.0) if kind == "xray" else None)
        yield row["kind"], torch.from_numpy(intensity.to_working(pixels).copy())[None, None]


def pairs(folder: Path, half: int) -> Pairs:
    """Return (kind, clean, {sigma: noisy}) of every case; the noise is the same for every method."""
    found: Pairs = []
    for i, (kind, clean) in enumerate(cases(folder, half)):
        normal = torch.randn(clean.shape, generator=torch_generator(0, "tune", half, i))
        found.append((kind, clean, {s: clean + s * normal for s in SIGMAS}))
    return found


def psnr(clean: Tensor, result: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB for a data range of 1; nothing is clipped."""
    return float(-10 * torch.log10(((clean - result).double() ** 2).mean()))


def ssim(clean: Tensor, result: Tensor) -> float:
    """Return the structural similarity for a data range of 1."""
    return float(structural_similarity(clean[0, 0].double().numpy(), result[0, 0].double().numpy(), data_range=1.0))


def gains(data: Pairs, run: Callable[[Tensor, float], Tensor]) -> list[float]:
    """Return the mean gain in PSNR (dB) at each sigma."""
    return [float(np.mean([psnr(c, run(n[s], s)) - psnr(c, n[s]) for _, c, n in data])) for s in SIGMAS]


def sweep(data: Pairs, title: str, trials: dict[str, Callable[[Tensor, float], Tensor]]) -> None:
    """Print the gain of each trial at each sigma and its mean."""
    print(f"\n{title}\n\n| setting | " + " | ".join(f"{s:g}" for s in SIGMAS) + " | mean |")
    print("| --- |" + " --- |" * (len(SIGMAS) + 1))
    for name, run in trials.items():
        row = gains(data, run)
        print(f"| {name} | " + " | ".join(f"{g:+.2f}" for g in (*row, float(np.mean(row)))) + " |", flush=True)


def choose(folder: Path) -> None:
    """Print the sweeps that the defaults come from."""
    data = pairs(folder, half=1)

    def trial(method: str, factor: str = "", k: float = 0.0, **settings: object) -> Callable[[Tensor, float], Tensor]:
        def run(x: Tensor, s: float) -> Tensor:
            follow = {factor: k * s} if factor else {}
            return METHODS.get(method).make(**settings, **follow).denoise(x, noise_level=s)

        return run

    def power(factor: float, exponent: float) -> Callable[[Tensor, float], Tensor]:
        return lambda x, s: METHODS.get("gaussian").make(sigma=min(3.0, factor * s**exponent)).denoise(x)

    for name in ("mean", "median", "combined"):
        sweep(data, f"{name}: size", {f"{k}": trial(name, size=k) for k in (3, 5, 7)})
    widths = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
    sweep(data, "gaussian: fixed sigma (px)", {f"{w}": trial("gaussian", sigma=w) for w in widths})
    grid = product((2.2, 2.5, 2.8, 3.1, 3.4), (0.25, 1 / 3, 0.4))
    sweep(data, "gaussian: sigma (px) = a * noise^b", {f"a {a}, b {b:.2f}": power(a, b) for a, b in grid})
    grid = product((3, 5, 7), (1.0, 1.1, 1.2, 1.3, 1.4))
    trials = {f"n {n}, k {k}": trial("wiener", "noise", k, size=n) for n, k in grid}
    sweep(data, "wiener: size n, noise = k * noise", trials)
    grid = product((1.0, 1.5, 2.0), (2.5, 3.0, 3.5, 4.0))
    trials = {f"s {s}, k {k}": trial("bilateral", "sigma_range", k, sigma_spatial=s) for s, k in grid}
    sweep(data, "bilateral: sigma_spatial s (px), sigma_range = k * noise", trials)
    grid = product((3, 5, 7), (0.3, 0.4, 0.5, 0.6, 0.8, 1.0))
    sweep(data, "nlm: patch p, h = k * noise", {f"p {p}, k {k}": trial("nlm", "h", k, patch=p) for p, k in grid})
    sweep(data, "nlm: search", {f"{k}": trial("nlm", search=k) for k in (11, 15, 21, 29)})
    grid = product(("db1", "db2", "sym4", "sym8", "coif2"), (3, 5))
    trials = {f"{w}, {n}": trial("wavelet", wavelet=w, levels=n) for w, n in grid}
    sweep(data, "wavelet: wavelet, levels", trials)
    sweep(data, "wavelet: shifts", {f"{k}": trial("wavelet", shifts=k) for k in (1, 2, 3, 4)})


def report(folder: Path) -> None:
    """Print PSNR and SSIM of the defaults for each kind of image, and what they do to a clean one."""
    data = pairs(folder, half=0)
    methods = {name: METHODS.get(name).make() for name in FILTERS}
    for kind in KINDS:
        some = [(clean, noisy) for k, clean, noisy in data if k == kind]
        print(f"\n{kind} ({len(some)} patients): PSNR / SSIM\n")
        print("| method | clean | " + " | ".join(map(str, SIGMAS)) + " |")
        print("| --- | --- |" + " --- |" * len(SIGMAS))
        noisy_cells = [_cell([(c, n[s]) for c, n in some]) for s in SIGMAS]
        print("| (noisy) | | " + " | ".join(noisy_cells) + " |")
        for name, method in methods.items():
            kept = _cell([(c, method.denoise(c)) for c, _ in some])
            cells = [_cell([(c, method.denoise(n[s], noise_level=s)) for c, n in some]) for s in SIGMAS]
            print(f"| {name} | {kept} | " + " | ".join(cells) + " |", flush=True)
        ratios = [np.mean([float(estimate_noise(n[s])) / s for _, n in some]) for s in SIGMAS]
        own = np.mean([float(estimate_noise(c)) for c, _ in some])
        print(f"| estimated / true noise | ({own:.4f}) | " + " | ".join(f"{r:.2f}" for r in ratios) + " |")


def _cell(results: list[tuple[Tensor, Tensor]]) -> str:
    values = [(psnr(a, b), ssim(a, b)) for a, b in results]
    return "{:.1f} / {:.3f}".format(*np.mean(values, 0))


if __name__ == "__main__":
    {"choose": choose, "report": report}[sys.argv[1]](Path(sys.argv[2]))
