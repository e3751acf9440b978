"""Write docs/evidence/model.md: the shipped denoiser where a benchmark does not look.

    python scripts/evidence_model.py STORE docs/evidence [--model NAME] [--split test] [--limit 4]

Real noisy CT without a truth; clean images; corruptions beyond the training's range and two at once; the spectrum of
what is left of white noise. STORE is a prepared store, of which ``--split`` is measured.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, minimum_filter
from torch import Tensor

from medfpl.bench.cases import Case
from medfpl.bench.data import DataSettings, find_cases
from medfpl.bench.plotting import COLOURS, new_figure, plain
from medfpl.bench.tasks.profiles import edge_width, find_edges, profiles_of
from medfpl.bench.tasks.regions import classes, local_sd, plane
from medfpl.bench.tasks.spectra import power_spectrum
from medfpl.denoisers.methods.medfpl import NetworkDenoiser
from medfpl.io import read
from medfpl.nets.experts import LEAST, Experts
from medfpl.nets.weights import find_model
from medfpl.noises import NOISES, corrupt
from medfpl.pipeline import Recipe, load
from medfpl.pipeline.engine import Engine
from medfpl.sample import sample_path
from medfpl.scan import Intensity, Kind
from medfpl.seeds import numpy_generator, stable_seed, torch_generator
from medfpl.store.store import Split, open_store

NOISY_HU = 12.0  # white noise above which a CT is no clean reference
HU = 2000.0  # of one working unit
CT = Intensity("ct", "HU", -1000.0, 1000.0)
SWEPT = ("gaussian", "poisson", "speckle", "rician", "noncentral-chi", "salt-pepper")
FACTORS = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of the parameters at strength 1, the training's strongest
PAIRED = ("gaussian", "poisson", "rician", "salt-pepper", "structured", "motion", "field-inhomogeneity")
LEVELS = (0.01, 0.05, 0.2)  # of white noise, working units
SIDE, REALISATIONS = 256, 16
STEPS: dict[Kind, int] = {"ct": 1, "mr": 1, "xray": 4}  # a radiograph takes a second


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--model", default=None, help="default: the one that 'medfpl denoise' takes")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--limit", type=int, default=4, help="cases a kind for the sweeps")
    given = parser.parse_args()
    name = given.model or find_model().card.name
    engine = load(Recipe(model=name))
    pictures = given.docs / "model"
    pictures.mkdir(parents=True, exist_ok=True)
    few = [c.load() for c in find_cases(given.store, DataSettings(limit=given.limit, split=given.split)).chosen]
    native = [c.load() for c in find_cases(given.store, DataSettings(split=given.split, size=0, limit=12)).chosen]
    parts = [
        f"# The model {name} where a benchmark does not look\n",
        f"Made by `python scripts/evidence_model.py STORE docs/evidence --split {given.split}`; no model was "
        "trained on these patients.\n",
        real_noise(given.store, given.split, engine),
        clean(native, engine),
        every_image(given.store, engine),
        phantoms(engine),
        sweep(few, engine, pictures / "strengths.png"),
        pairs(few, engine),
        spectra(engine, pictures / "spectra.png"),
        *routes(few, native, engine),
    ]
    (given.docs / "model.md").write_text("\n".join(parts), "utf-8")


def table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def real_noise(store: Path, split: Split, engine: Engine) -> str:
    """Return what happens to CT slices whose noise is a scanner's own, at their own size."""
    opened, rows = open_store(store), []
    for item in opened.of(split, ["ct"]):
        if item.noise <= NOISY_HU:
            continue
        before = np.clip(opened.working(item, slice(0, 1))[0], -0.012, 2.0).astype(np.float32)
        x = torch.from_numpy(before)[None, None]
        after, alone = plane(engine.denoise(x, CT)), plane(engine.denoiser.denoise(x))
        smooth = gaussian_filter(before, 3.0)
        flat = minimum_filter((smooth > 0.5) & (smooth < 0.54), 11)
        sds = [HU * float(np.median(local_sd(image, 11)[flat])) for image in (before, after)]
        masks = classes(Case("", "", torch.from_numpy(gaussian_filter(before, 1.5))[None, None], CT)).values()
        shift, shift_alone = (max((HU * float((y - before)[m].mean()) for m in masks), key=abs) for y in (after, alone))
        local, local_alone = (HU * float(np.abs(gaussian_filter(y - before, 6.0)).max()) for y in (after, alone))
        edges = find_edges(before, numpy_generator(0, "edges"), faintest=400 / HU)
        widths = [edge_width(profiles_of(image, edges).mean(0)) if len(edges) else np.nan for image in (before, after)]
        vessels = gaussian_filter(before, 1.0) - gaussian_filter(before, 4.0)
        inside = (gaussian_filter(before, 8.0) < 0.25) & (gaussian_filter(before, 8.0) > 0.02) & (vessels > 150 / HU)
        kept = (gaussian_filter(after, 1.0) - gaussian_filter(after, 4.0))[inside].sum() / vessels[inside].sum()
        rows.append((*sds, shift, shift_alone, local, local_alone, widths[0], widths[1] / widths[0],
                     kept if inside.sum() > 50 else np.nan))  # fmt: skip
    lines = {**{f"{i + 1}": row for i, row in enumerate(rows)}, "median": np.nanmedian(np.array(rows), axis=0)}
    formats = ("{:.1f}", "{:.1f}", "{:+.1f}", "{:+.1f}", "{:.0f}", "{:.0f}", "{:.2f}", "{:.3f}", "{:.2f}")
    cells = [(name, *(f.format(v) for f, v in zip(formats, row, strict=True))) for name, row in lines.items()]
    head = ("slice", "sd before, HU", "sd after, HU", "largest mean shift of a tissue class, HU",
            "by the network alone", "largest local shift, HU", "by the network alone", "edge width before, px",
            "width after / before",
            "lung vessel contrast kept")  # fmt: skip
    return (
        "## Real noisy CT\n\n"
        f"Slices whose white noise is above {NOISY_HU:g} HU as they came from the scanner. sd: the median of 11 x 11 "
        "windows in soft tissue (0 to 80 HU). Local: a Gaussian mean of 6 pixels. Alone: before the mean is "
        "put back. Edges rise by 400 HU and more; the 10-90 % width is that of their mean "
        "profile. Vessels: band-passed signal above 150 HU within the lung; noise adds to it before.\n\n"
        + table(head, cells)
    )


def clean(cases: Sequence[Case], engine: Engine) -> str:
    """Return how clean images change."""
    rows = []
    for kind in sorted({c.intensity.kind for c in cases}):
        some = [c for c in cases if c.intensity.kind == kind]
        errors, worst, shifts = [], [], dict[str, list[float]]()
        for case in some:
            change = plane(engine.denoise(case.image, case.intensity) - case.image)
            errors.append(-10 * np.log10(max(float(np.square(change).mean()), 1e-10)))
            worst.append(float(np.abs(gaussian_filter(change, 2.0)).max()))
            for name, mask in classes(case).items():
                shifts.setdefault(name, []).append(float(change[mask].mean()))
        scale, unit = (HU, " HU") if kind == "ct" else (100, " %")
        told = ", ".join(f"{n} {scale * np.mean(v):+.2f}{unit}" for n, v in shifts.items())
        rows.append((kind, f"{len(some)}", f"{np.mean(errors):.1f}", f"{np.min(errors):.1f}",
                     f"{scale * np.median(worst):.1f}{unit}", told))  # fmt: skip
    head = ("kind", "images", "PSNR, dB", "lowest", "largest local shift, median image", "mean shift by class")
    return (
        "## Clean images\n\nPSNR of the result against the image itself, data range 1. Local: a Gaussian mean of 2 "
        "pixels. Of X-ray and MR, per cent of the range; dark, middle and bright are thirds of the body.\n\n"
        + table(head, rows)
    )


def every_image(store: Path, engine: Engine) -> str:
    """Return how far the local mean of any image of the store moves, at its own size: what is invented shows there."""
    opened, rows = open_store(store), []
    for kind, step in STEPS.items():
        slices = [(i, z) for i in opened.items if i.kind == kind for z in range(0, i.slices, 3)]
        clean = [(i, z) for i, z in slices if kind != "ct" or i.noise <= NOISY_HU][::step]
        moved = []
        for item, z in clean:
            before = np.clip(opened.working(item, slice(z, z + 1)), -0.012, 2.0).astype(np.float32)
            x = torch.from_numpy(before)[None]
            moved.append(float(np.abs(gaussian_filter(plane(engine.denoise(x, item.intensity) - x), 2.0)).max()))
        scale, unit = (HU, " HU") if kind == "ct" else (100, " %")
        told = (f"{scale * value:.1f}{unit}" for value in (np.median(moved), np.quantile(moved, 0.95), max(moved)))
        rows.append((kind, f"{len(moved)}", *told))
    return (
        "## Every image\n\nThe largest shift of the local mean (a Gaussian of 2 pixels) of images of all splits, at "
        f"their own size: of volumes every third slice, of X-rays one in {STEPS['xray']}; CT of at most {NOISY_HU:g} "
        "HU of noise.\n\n" + table(("kind", "images", "median image", "95th of 100", "worst image"), rows)
    )


def phantoms(engine: Engine) -> str:
    """Return the error on the sample data's noisy phantoms, whose truth is known."""
    rows = []
    for name in ("abdomen_ct_{}.nii.gz", "chest_ct/{}/0007.dcm", "chest_xray_{}.dcm", "brain_mr_{}.nii.gz"):
        truth, noisy = (read(sample_path() / name.format(which)) for which in ("clean", "noisy"))
        z, scale = len(truth.pixels) // 2, truth.intensity.scale
        images = [torch.from_numpy(truth.intensity.to_working(s.pixels[z]))[None, None] for s in (truth, noisy)]
        images.append(engine.denoise(images[1], truth.intensity))
        errors = [scale * plane(x - images[0]) for x in images[1:]]
        local = float(np.abs(gaussian_filter(errors[1], 2.0)).max())
        told = (*(float(np.sqrt(np.square(e).mean())) for e in errors), local)
        unit = truth.intensity.unit.replace("1", "grey levels")
        rows.append((name.format("noisy"), unit, *(f"{v:.1f}" for v in told)))
    head = ("file", "unit", "RMSE before", "after", "largest local error after")
    return "## Phantoms\n\nThe middle slices of the noisy sample data. Local: a Gaussian mean of 2 pixels.\n\n" + table(
        head, rows
    )


def sweep(cases: Sequence[Case], engine: Engine, picture: Path) -> str:
    """Plot PSNR after against the corruption's size, into what training never drew."""
    kinds = sorted({c.intensity.kind for c in cases})
    figure = new_figure(3.2)
    for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds), sharey=True)), kinds, strict=True):
        some = [c for c in cases if c.intensity.kind == kind]
        for name, colour in zip(SWEPT, COLOURS, strict=False):
            points = [_mean_psnr(some, lambda c, n=name, f=factor: _beyond(c, n, f), engine) for factor in FACTORS]  # type: ignore[misc]
            axes.plot(FACTORS, [after for _, after in points], "-", color=colour, label=name)
            axes.plot(FACTORS, [before for before, _ in points], ":", color=colour)
        axes.axvline(1, color="0.6", linewidth=0.8)
        axes.set_title(kind, fontsize=9)
        axes.set_xlabel("share of the strongest in training")
        plain(axes)
    figure.axes[0].set_ylabel("PSNR, dB")
    figure.axes[-1].legend(fontsize=7)
    figure.savefig(picture, dpi=90)
    return (
        "## Beyond the training's range\n\n![PSNR by strength](model/strengths.png)\n\n"
        "Lines: the result; dotted: the corrupted image. Right of the grey line are corruptions up to twice as strong "
        "as any in training.\n"
    )


def _beyond(case: Case, name: str, factor: float) -> Tensor:
    noise, seed = NOISES.get(name), stable_seed(0, case.id, name)
    if factor <= 1:
        return corrupt(case.image, noise, seeds=[seed], strength=factor, contexts=[case.context])[0]
    mode = noise.mode_for(case.context.kind)
    strongest = noise.at_strength(1.0, mode, case.context)
    values = noise.at_strength(factor, mode, case.context)
    # A share cannot pass 1; what strength leaves alone stays.
    limits = {key: noise.parameters[key] for key in values}
    values = {
        k: v if v == strongest[k] else float(np.clip(v, limits[k].low, limits[k].high)) for k, v in values.items()
    }
    return corrupt(case.image, noise, seeds=[seed], given=values, contexts=[case.context])[0]


def pairs(cases: Sequence[Case], engine: Engine) -> str:
    """Return the gain on two corruptions, one after the other, of strength 0.3."""

    def both(case: Case, first: str, second: str) -> Tensor:
        x = case.image
        for depth, name in enumerate((first, second)):
            seed = stable_seed(0, case.id, name, depth)
            x = corrupt(x, NOISES.get(name), seeds=[seed], strength=0.3, contexts=[case.context])[0]
        return x

    rows = []
    for first in PAIRED:
        cells = []
        for second in PAIRED[:4]:
            before, after = _mean_psnr(cases, lambda c, a=first, b=second: both(c, a, b), engine)  # type: ignore[misc]
            cells.append(f"{before:.1f} -> {after:.1f}")
        rows.append((first, *cells))
    return (
        "## Two corruptions at once\n\nFirst the row's, then the column's, each of strength 0.3; mean PSNR of all "
        "kinds, dB.\n\n" + table(("", *PAIRED[:4]), rows)
    )


def _mean_psnr(cases: Sequence[Case], corrupted: Callable[[Case], Tensor], engine: Engine) -> tuple[float, float]:
    found = []
    for case in cases:
        noisy = corrupted(case)
        errors = [float((x - case.image).square().mean()) for x in (noisy, engine.denoise(noisy, case.intensity))]
        found.append([-10 * np.log10(max(e, 1e-10)) for e in errors])
    before, after = np.mean(found, axis=0)
    return float(before), float(after)


def routes(cases: Sequence[Case], native: Sequence[Case], engine: Engine) -> Iterator[str]:
    """Yield which expert was asked, and how much it counted, for each noise and for clean images at their own size."""
    if not (isinstance(engine.denoiser, NetworkDenoiser) and isinstance(engine.denoiser.net, Experts)):
        return
    net = engine.denoiser.net
    seen: dict[str, list[Tensor]] = {"clean": [c.image for c in cases], "clean, own size": [c.image for c in native]}
    for name in NOISES.names():
        for strength in (0.2, 0.5, 0.8):
            seen[f"{name} {strength:g}"] = [
                corrupt(
                    c.image,
                    NOISES.get(name),
                    seeds=[stable_seed(0, c.id, name)],
                    strength=strength,
                    contexts=[c.context],
                )[0]
                for c in cases
            ]
    rows = []
    for name, images in seen.items():
        cells = torch.stack([_asked(net, engine.denoiser.undone(x)[0]) for x in images]).mean(0).tolist()
        rows.append((name, *(f"{share:.2f}" for share in cells)))
    families = [f"{n}: {', '.join(family)}" for n, family in enumerate(net.config.families, start=1)]
    yield (
        "## Who is asked\n\nThe mean share of each expert in the result, by noise and strength, after what is "
        "undone first. One of random noise "
        f"counts from a share of {LEAST:g} on, one of artifacts from {net.config.certain:g}; where none does, the "
        "first. Then how much of what each corrector finds is believed, one after the other.\n\n"
        + table(("", *families, *(f"corrector: {c.noise}" for c in net.config.correctors)), rows)
    )


def _asked(net: Experts, x: Tensor) -> Tensor:
    """Return the experts' shares and how much each corrector is believed, of one image (1, 1, H, W)."""
    with torch.inference_mode():
        _, beliefs = net.blend(x, lambda expert, part: expert(part))
        return torch.cat([net.shares(x)[0], *(believed for _, believed in beliefs)])


def spectra(engine: Engine, picture: Path) -> str:
    """Plot the spectrum of what is left of white noise in a flat image, and seek peaks of the network's own grid."""
    figure, rows = new_figure(3.0), []
    axes = figure.subplots(1, len(LEVELS))
    for place, level in zip(axes, LEVELS, strict=True):
        drawn = torch.randn(REALISATIONS, 1, SIDE, SIDE, generator=torch_generator(0, "spectra", str(level)))
        left = engine.denoiser.denoise(0.5 + level * drawn) - 0.5
        power = power_spectrum(left[:, 0]).numpy()
        shown = place.imshow(np.log10(np.fft.fftshift(power) + 1e-12), cmap="magma", extent=(-0.5, 0.5, -0.5, 0.5))
        place.set_title(f"noise {level:g}", fontsize=9)
        figure.colorbar(shown, ax=place, shrink=0.7)
        grid = [HU * _grid(power, SIDE // pixels) for pixels in (2, 4, 8)]
        rows.append((f"{HU * level:g}", f"{HU * float(left.std()):.1f}", f"{HU * float(left.mean()):+.1f}",
                     *(f"{v:.2f}" for v in grid)))  # fmt: skip
    figure.savefig(picture, dpi=90)
    head = ("noise, HU", "left, HU", "mean shift, HU", "grid of 2 pixels, HU", "of 4", "of 8")
    return (
        "## What is left of white noise\n\n![Power spectra](model/spectra.png)\n\n"
        f"log10 of the noise power spectrum of a flat image's result, {REALISATIONS} realisations of {SIDE} x {SIDE}; "
        "the noise in working units. A grid is the strongest wave of 2, 4 or 8 pixels along the rows, the columns or "
        "both, where a network's scales would leave a checkerboard: its root mean square.\n\n" + table(head, rows)
    )


def _grid(power: np.ndarray, at: int) -> float:
    """Return the rms of the strongest of the three waves of frequency (0 or ``at``, 0 or ``at``)."""
    found = max(power[row, column] for row, column in ((at, 0), (0, at), (at, at)))
    return float(np.sqrt(found / power.size))


if __name__ == "__main__":
    main()
