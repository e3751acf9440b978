"""Compare the noises' levels with published filter results: ``calibrate_noises.py DATA OUT.md``.

DATA holds manifest.csv (kind, path, patient_or_source_id, est_noise_sigma) and real images. Twelve images of each
of three kinds, 256 x 256 and 8 bit, get a noise; a 3x3 mean, a 3x3 median and a wavelet filter are scored as the
paper scores them, beside the paper's numbers.
"""

import csv
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import median_filter, uniform_filter
from skimage.metrics import structural_similarity
from skimage.restoration import denoise_wavelet

from medfpl.io import read
from medfpl.noises import NOISES, Context, corrupt
from medfpl.pipeline.noise import context_of
from medfpl.pipeline.noise_preview import SIDE, Sample
from medfpl.seeds import stable_seed

Picture = npt.NDArray[np.uint8]
IMAGES = 12
# Folder of the development data, the data set of the paper that it stands for, and its title here.
KINDS = {"chest_ct": ("lidc", "chest CT"), "abdomen_ct": ("lits", "abdomen CT"), "chest_xray": ("rsna", "X-ray")}
METHODS = ("mean", "median", "wavelet")


@dataclass(frozen=True)
class Level:
    """A row of the table: a noise as the paper names it, and the parameters that stand for it here."""

    noise: str
    mode: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    published: str = ""

    @property
    def title(self) -> str:
        """The noise, its mode and parameters; nothing more where it is the default strength."""
        told = ", ".join(f"{k} {v:.3g}" if not isinstance(v, str) else f"{k} {v}" for k, v in self.values.items())
        return " ".join(filter(None, (self.noise, self.mode, told or "0.5")))


LEVELS = (
    Level("gaussian"),
    Level("gaussian", values={"sigma": 25 / 255}),
    Level("thermal"),
    Level("rician"),
    Level("rician", values={"sigma": 0.09}),
    Level("noncentral-chi"),
    Level("poisson"),
    Level("poisson", values={"photons": 100}),
    Level("poisson", values={"photons": 255}),
    Level("speckle"),
    Level("salt-pepper"),
    Level("structured"),
    Level("field-inhomogeneity"),
    Level("motion"),
    Level("motion", "kspace", {"rotation": 0.0}),
    Level("motion", "blur"),
    Level("wrap-around"),
    Level("wrap-around", "shift"),
    Level("chemical-shift"),
    Level("chemical-shift", "constant"),
    Level("susceptibility"),
    Level("susceptibility", "gain"),
)


def wrapped_psnr(a: Picture, b: Picture) -> float:
    """Return the PSNR whose squared differences are taken in 8 bits, and so modulo 256: 27.9 dB for any large error."""
    difference = a - b  # uint8: -3 is 253, whose square is again 9 modulo 256
    return float(10 * np.log10(255**2 / max(np.mean(difference * difference), 1e-9)))


def true_psnr(a: Picture, b: Picture) -> float:
    """Return the PSNR in dB for a range of 255."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def eight_bit(x: npt.NDArray[Any]) -> Picture:
    """Return values of 0..1 as 8-bit grey, clipped and truncated."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def filtered(noisy: Picture, method: str) -> Picture:
    """Return an 8-bit picture after one of METHODS."""
    if method == "median":
        return median_filter(noisy, 3)
    if method == "mean":
        return np.rint(uniform_filter(noisy.astype(float), 3)).astype(np.uint8)
    return eight_bit(denoise_wavelet(noisy / 255))


def pictures(folder: Path, kind: str) -> Iterator[tuple[Picture, Context]]:
    """Yield IMAGES clean pictures: of each patient the quietest image, of the quietest patients."""
    rows = [row for row in csv.DictReader((folder / "manifest.csv").open()) if row["kind"] == kind]
    rows = [row for row in rows if row["path"].endswith((".dcm", ".png")) and row["est_noise_sigma"]]
    rows.sort(key=lambda row: (float(row["est_noise_sigma"]), row["path"]))
    seen: set[str] = set()
    for row in rows:
        if row["patient_or_source_id"] in seen:
            continue
        seen.add(row["patient_or_source_id"])
        scan = read(folder / row["path"], kind="xray" if "xray" in kind else "ct")
        sample = Sample.of(scan)
        height, width = sample.image.shape
        image = np.pad(sample.image, ((0, SIDE - height), (0, SIDE - width)))
        yield eight_bit(image), context_of(scan)
        if len(seen) == IMAGES:
            return


def score(images: list[tuple[Picture, Context]], level: Level) -> tuple[float, dict[str, tuple[float, float]]]:
    """Return the noisy images' true PSNR, and (wrapped PSNR, SSIM) of each method: means over the images."""
    noise = NOISES.get(level.noise)
    given = {**({"mode": level.mode} if level.mode else {}), **level.values}
    before, found = [], {method: [] for method in METHODS}
    for i, (clean, context) in enumerate(images):
        x = torch.from_numpy(clean / np.float32(255))[None, None]
        seed = stable_seed(0, "calibrate", level.noise, i)
        y, _ = corrupt(x, noise, seeds=[seed], strength=0.5, given=given, contexts=[context])
        noisy = eight_bit(y[0, 0].numpy())
        before.append(true_psnr(clean, noisy))
        for method in METHODS:
            result = filtered(noisy, method)
            found[method].append((wrapped_psnr(clean, result), structural_similarity(clean, result, data_range=255)))
    means = {method: tuple(np.mean(values, 0)) for method, values in found.items()}
    return float(np.mean(before)), means  # type: ignore[return-value]


def published() -> dict[tuple[str, str, str], tuple[float, float]]:
    """Return the paper's (PSNR, SSIM) by data set, noise and method."""
    lines = (Path(__file__).parent / "paper_filters.csv").read_text("utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {(r["dataset"], r["noise"], r["method"]): (float(r["psnr"]), float(r["ssim"])) for r in rows}


PAGE = """\
# The noises' levels beside published results

Made by `make calibrate-noises DATA=...` (`scripts/calibrate_noises.py`), on {images} images each of chest CT, abdomen
CT (both -1000 to 1000 HU) and chest X-ray, one a patient and of the quietest, 256 x 256, 8 bit. They are from the
same kinds of collections as the paper's (LIDC-IDRI, LiTS, RSNA Pneumonia), not from those. A row is a noise at
strength 0.5, or with the parameters named.

A cell is PSNR / SSIM of a filter's result here, and in brackets in the paper (arXiv:2310.20101, Tables II to IV; only
its three simplest filters, none of its own networks). "True" is the noisy image's PSNR without wrapping.

**Wrapped PSNR.** The paper's PSNR is only explained by `np.mean((a - b)**2)` on uint8 arrays, where differences and
squares are taken modulo 256. Large errors then count as if random, 27.9 dB at worst on average, and an error of 255
counts 1: salt and pepper get 35 to 42 dB at an SSIM of 0.3, and shifted images more than 30 dB. It equals the true
PSNR where no error exceeds 15 grey levels. Values below about 31 dB say little, and no method is to be ranked by
them. Nothing else in medfpl computes it so unless asked.

Means of |here - paper| over the cells of a row are in the last column: dB / SSIM.
"""


def main(folder: Path, target: Path) -> None:
    """Score every level on every kind, print the table and write the page."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    images = {kind: list(pictures(folder, kind)) for kind in KINDS}
    paper = published()
    page = [PAGE.format(images=IMAGES)]
    for kind, (dataset, title) in KINDS.items():
        page += ["", f"## {title} ({dataset.upper()})", ""]
        page += ["| noise | true | " + " | ".join(METHODS) + " | off by |", "| --- | ---: |" + " --- |" * 4]
        for level in LEVELS:
            before, means = score(images[kind], level)
            cells, off = [], []
            for method, (psnr, ssim) in means.items():
                theirs = paper[dataset, level.noise, method]
                cells.append(f"{psnr:.1f} / {ssim:.2f} ({theirs[0]:.1f} / {theirs[1]:.2f})")
                off.append((abs(psnr - theirs[0]), abs(ssim - theirs[1])))
            misfit = "{:.1f} / {:.2f}".format(*np.mean(off, 0))
            page.append(f"| {level.title} | {before:.1f} | " + " | ".join(cells) + f" | {misfit} |")
            print(kind, page[-1], flush=True)
    text = target.read_text("utf-8") if target.is_file() else ""
    reading = text[text.index(READING) :] if READING in text else ""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(page) + "\n" + ("\n" + reading if reading else ""), encoding="utf-8")


READING = "## Reading the tables"  # written by hand, kept


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
