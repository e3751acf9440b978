"""Denoise the sample images and a real CT slice with the shipped model, and leave pictures and a page to look at.

    python scripts/demo.py demo_out

Every image goes through the command line, as a user's would. The samples are phantoms whose clean version is known,
so the error before and after is measured against the truth; the real CT has none, and its noise is estimated.
"""

import html
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfpl.cli.app import main as medfpl
from medfpl.io import default_target, read
from medfpl.sample import real_ct_path, sample_path
from medfpl.scan import Scan


@dataclass(frozen=True)
class Case:
    """What to denoise, where the result goes, and the clean images (same file names) if they are known."""

    title: str
    noisy: Path
    clean: Path | None
    target: Path


def cases(out: Path) -> list[Case]:
    """Return the sample images, one of each kind, and the real CT slice."""
    data, real = sample_path(), real_ct_path()
    single = (
        ("Abdominal CT volume (phantom)", "abdomen_ct", ".nii.gz"),
        ("Chest X-ray (phantom)", "chest_xray", ".dcm"),
        ("Brain MR volume (phantom)", "brain_mr", ".nii.gz"),
    )
    chest = Case(
        "Chest CT series (phantom)", data / "chest_ct" / "noisy", data / "chest_ct" / "clean", out / "chest_ct"
    )
    rest = [
        Case(title, data / f"{name}_noisy{suffix}", data / f"{name}_clean{suffix}", out / f"{name}{suffix}")
        for title, name, suffix in single
    ]
    return [chest, *rest, Case("Real CT slice (pydicom's CT_small)", real, None, out / default_target(real).name)]


def error(scan: Scan, truth: Scan) -> float:
    """Return the root mean square difference in real units."""
    return float(np.sqrt(np.square(scan.pixels.astype(np.float64) - truth.pixels).mean()))


def compare(case: Case) -> tuple[str, float, float] | None:
    """Return (unit, error before, error after) against the clean images, averaged over files; None without them."""
    if case.clean is None:
        return None
    clean = sorted(case.clean.iterdir()) if case.clean.is_dir() else [case.clean]
    pairs = []
    for truth_path in clean:
        noisy = case.noisy / truth_path.name if case.noisy.is_dir() else case.noisy
        after = case.target / truth_path.name if case.noisy.is_dir() else case.target
        truth = read(truth_path)
        pairs.append((error(read(noisy), truth), error(read(after), truth)))
        unit = truth.intensity.unit
    before, after_mean = (float(v) for v in np.mean(pairs, axis=0))
    return ("HU" if unit == "HU" else "grey levels"), before, after_mean


def page(rows: list[tuple[str, str, Path]]) -> str:
    """Return one HTML page with each case's words and picture."""
    parts = [
        f"<h2>{html.escape(title)}</h2><p>{html.escape(words)}</p><img src='{html.escape(str(picture))}' alt='"
        f"{html.escape(title)}: before, after, what was removed'>"
        for title, words, picture in rows
    ]
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;"
        "padding:0 1rem;color-scheme:light dark}"
        "img{max-width:100%;height:auto}"
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>medfpl demo</title><style>{style}</style><h1>medfpl demo</h1>{''.join(parts)}</html>\n"
    )


def run(out: Path) -> int:
    """Denoise all cases into ``out``; return the worst exit code."""
    worst, rows = 0, []
    for case in cases(out):
        print(f"\n== {case.title}", flush=True)
        arguments = ["denoise", str(case.noisy), "-o", str(case.target), "--preview", "--residual", "--overwrite"]
        code = medfpl(arguments)
        worst = max(worst, code)
        if code:
            continue
        compared = compare(case)
        words = "No clean version exists: see the noise estimate above."
        if compared:
            unit, before, after = compared
            words = f"Error against the clean image: {before:.3g} -> {after:.3g} {unit} (root mean square)."
            print(words)
        folder = case.target if case.target.is_dir() else case.target.parent
        stem = "" if case.target.is_dir() else case.target.name.split(".")[0]
        pictures = sorted(p for p in folder.glob("*.png") if p.name.startswith(stem))
        rows.append((case.title, words, pictures[len(pictures) // 2].relative_to(out)))
    (out / "index.html").write_text(page(rows), "utf-8")
    print(f"\nLook at {out}/index.html, or at the PNG files in {out}/: before, after, and what was removed.")
    return worst


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_out")))
