"""Rows as a benchmark would write them, from a formula: no image is denoised for these tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from medfpl.bench.rows import Row, TaskRow
from medfpl.bench.stats import ORDER
from medfpl.seeds import numpy_generator

NOISES = ("gaussian", "motion", "poisson", "rician", "salt-pepper", "speckle")
KINDS = ("ct", "xray", "mr")


def row(**changes: object) -> Row:
    """Return one plain row with ``changes``."""
    made = Row(
        cell="",
        case="c0",
        patient="p0",
        kind="ct",
        group="",
        unit="HU",
        height=256,
        width=256,
        noise="gaussian",
        mode="default",
        strength=0.5,
        seed=0,
        method="medfpl",
        prior="",
        tuning="",
        settings="{}",
        noise_level=float("nan"),
        level_known=False,
        psnr_kind="true",
        data_range=1.0,
        psnr_in=20.0,
        psnr=30.0,
        ssim_in=0.3,
        ssim=0.9,
        rmse_in=200.0,
        rmse=63.0,
        gmsd_in=0.2,
        gmsd=0.1,
        seconds=0.2,
        threads=1,
        error="",
    )
    made = replace(made, **changes)
    return replace(made, cell=f"{made.case}/{made.noise}/{made.mode}/{made.strength:g}/{made.seed}/{made.method}")


def rows(
    *, kinds=KINDS, noises=NOISES, methods=ORDER, patients=4, slices=2, strengths=(0.5,), psnr_kind="true"
) -> list[Row]:
    """Return a whole run's rows: better methods come first, every image and noise has its own difficulty."""
    made = []
    for k, kind in enumerate(kinds):
        for p in range(patients):
            for s in range(slices):
                case = f"{kind}{p}-{s}"
                for n, noise in enumerate(noises):
                    g = numpy_generator(0, case, noise)
                    before = 18 + 2 * n + g.normal(0, 1)
                    for m, method in enumerate(methods):
                        for strength in strengths:
                            gain = 9 - 0.9 * ((m + n) % len(methods)) - 6 * (strength - 0.5) + g.normal(0, 0.7)
                            psnr = before - 8 * (strength - 0.5) + gain
                            made.append(
                                row(
                                    case=case,
                                    patient=f"{kind}{p}",
                                    kind=kind,
                                    unit="HU" if kind == "ct" else "1",
                                    noise=noise,
                                    strength=strength,
                                    method=method,
                                    prior={"medfpl": "medfpl-base", "dpir": "drunet-ours"}.get(method, ""),
                                    tuning="" if method == "medfpl" else "development split",
                                    noise_level=0.05 if method in ("dpir", "nlm") else float("nan"),
                                    level_known=method in ("dpir", "nlm"),
                                    psnr_kind=psnr_kind,
                                    psnr_in=before - 8 * (strength - 0.5),
                                    psnr=psnr,
                                    ssim_in=0.2 + 0.05 * n,
                                    ssim=min(0.999, 0.4 + 0.02 * psnr - 0.01 * k),
                                    seconds=(0.2, 4, 0.8, 0.02, 0.01, 0.005, 0.03, 1.5, 0.1, 0.04)[m % 10],
                                )
                            )
    return made


def tasks(scores: list[Row]) -> list[TaskRow]:
    """Return rows of a made-up lesion task beside ``scores``: contrast recovery by contrast and size."""
    made = []
    for r in scores:
        for contrast in (20, 50, 100, 200):
            for radius in (3, 6):
                value = 1 - np.exp(-contrast * radius / 300) * (1 - r.ssim) * 3
                detail = f"{contrast} HU, {radius} px"
                fields = (r.cell, r.case, r.patient, r.kind, r.noise, r.mode, r.strength, r.seed, r.method, r.prior)
                made.append(TaskRow(*fields, "lesions", "recovery", detail, "", float(value)))
                made.append(TaskRow(*fields, "lesions", "recovery_noisy", detail, "", 1.0))
    return made


def save_examples(folder: Path, scores: list[Row]) -> None:
    """Write example images as the runner does: one case a kind, each noise, 64 x 64 and smooth."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:96, :96] / 96
    meta = {}
    for r in scores:
        if r.case.endswith("0-0"):
            low, high = (-1000.0, 1000.0) if r.kind == "ct" else (0.0, 4095.0)
            meta[r.case] = {"kind": r.kind, "unit": r.unit, "black": low, "white": high}
    for case in meta:
        clean = (0.5 + 0.05 * np.sin(9 * x) * np.cos(7 * y) + 0.05 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.02)).astype(
            "f4"
        )
        for noise in sorted({r.noise for r in scores}):
            g = numpy_generator(1, case, noise)
            field = g.normal(0, 0.06, clean.shape).astype("f4")
            images = {"clean": clean, "noisy": clean + field}
            methods = sorted({r.method for r in scores})
            images |= {m: (clean + field * (0.1 + 0.07 * i)).astype("f4") for i, m in enumerate(methods)}
            np.savez_compressed(folder / f"{case}-{noise}.npz", **images)
    (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
