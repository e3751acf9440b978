"""Write docs/noises.md from the noises' declarations: ``noise_docs.py docs/noises.md [--pictures]``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfpl.cli._noise_run import describe
from medfpl.noises import NOISES

if TYPE_CHECKING:
    from PIL.Image import Image

INTRODUCTION = """\
<!-- Made by 'make docs' from the noises' declarations: do not edit. -->

# Noises and artifacts

{count} noises, the same from the command line, from Python and in training:

    medfpl noise ct.nii.gz -o noisy.nii.gz --type poisson --set mode=ct --seed 1
    medfpl noise study/ -o noisy/ --type motion --strength 0.3
    medfpl noise --list --type motion

```python
noisy = medfpl.noise("ct.nii.gz", "poisson", mode="ct", seed=1)
```

An image is worked on in *working units*: 0 is black and 1 is white. That is -1000 and 1000 HU for CT, 0 and the
99.9th percentile for MR, and the range of its values for a radiograph. Nothing is clipped but by the file's encoding,
whose clipped pixels are counted. Padding stays as it is.

**Strength** goes from 0 (the image, bit for bit) to 1 (severe). 0.5 is the default and lies near the level of
published comparisons ([calibration](evidence/noise-calibration.md)), which is far more than clinical images have: 0.1
working units are 200 HU. `--set` gives physical parameters and the mode instead; what is not given comes from the
strength.

**The record** `NAME.noise.json` beside an output holds the noise, its parameters, everything that was drawn, one seed a
slice, the source's hash and the versions. `medfpl noise IN -o OUT --replay NAME.noise.json` makes the same file
again, bit for bit with the same versions, processor and number of threads, and says so where it did not. It holds no
path and nothing about a patient.

**Volumes.** Every slice has a noise field of its own. What belongs to the patient or the scanner (a motion, a field
map, a metal source) is drawn once for a volume, and once for a DICOM series in single files.

**Where it belongs.** A noise on an image of another modality (an MR artifact on a CT) is a stand-in, as in published
comparisons; the record says `surrogate`.

**Axes.** Phase encoding runs along the rows' axis (vertical), the readout along the columns', unless `phase_axis`
says otherwise.

![All noises]({images}/noises.png)

*Every noise at strengths 0.25, 0.5 and 1, on phantoms of the modality it belongs to. In the formulas x is the image, y
the result, n is normal with mean 0 and standard deviation 1.*

| noise | what | physics of |
| --- | --- | --- |
"""
IMAGES = "images"
LEVELS = 64  # grey levels of the pictures: noise does not compress


def page() -> str:
    """Return the whole page as Markdown."""
    noises = [describe(noise) for noise in NOISES]
    rows = [f"| [{n['name']}](#{n['name']}) | {n['summary']} | {', '.join(n['modalities'])} |" for n in noises]
    text = INTRODUCTION.format(count=len(noises), images=IMAGES) + "\n".join(rows) + "\n"
    return text + "".join(_section(n) for n in noises)


def _section(noise: dict[str, Any]) -> str:
    modes = noise["modes"]
    several = len(modes) > 1
    lines = ["", f"## {noise['name']}", "", f"{noise['summary']}.", ""]
    lines += [f"    {part.strip()}" for part in noise["formula"].split(";  ")]
    if several:
        lines += ["", "| mode | physics of | default for |", "| --- | --- | --- |"]
        lines += [f"| `{m['name']}` | {', '.join(m['modalities'])} | {_kinds(m['default_for'])} |" for m in modes]
    titles = [f"{m['name']}, at 0.5" if several else "at 0.5" for m in modes]
    lines += ["", f"| parameter | {' | '.join(titles)} | unit | range | meaning |"]
    lines.append("| --- |" + " ---: |" * len(modes) + " --- | --- | --- |")
    for p in noise["parameters"]:
        cells = [_cell(m["defaults"].get(p["name"])) for m in modes]
        lines.append(f"| `{p['name']}` | {' | '.join(cells)} | {p['unit']} | {p['range']} | {_escaped(p['meaning'])} |")
    if noise["per_volume"]:
        lines += ["", "Drawn once for a volume."]
    lines += ["", f"Source: {noise['source']}."]
    if several:
        lines += ["", f"![{noise['name']}, its modes at strength 0.5]({IMAGES}/{_file(noise['name'])})"]
    return "\n".join(lines) + "\n"


def _kinds(kinds: list[str]) -> str:
    return "all" if len(kinds) == 4 else ", ".join(kinds)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _file(name: str) -> str:
    return f"noises-{name}.png"


def pictures() -> dict[str, "Image"]:
    """Return the pictures of the page by file name: phantoms of the sample data, each noise where it belongs."""
    from medfpl.pipeline.noise_preview import Case, Sample, beside, preview, sample_scan, tiles

    samples = {kind: Sample.of(sample_scan(kind)) for kind in ("ct", "xray", "mr")}

    def case(noise: Any, mode: str) -> Case:
        kinds = noise.mode_modalities.get(mode, noise.modalities)
        return Case(samples[next((k for k in kinds if k in samples), "xray")], noise.name, mode)

    made = {"noises.png": preview([case(noise, noise.mode_for("mr")) for noise in NOISES])}
    for noise in NOISES:
        if len(noise.modes) > 1:
            row = [tile for mode in noise.modes for tile in tiles(case(noise, mode), (0.5,), seed=0)]
            made[_file(noise.name)] = beside([[row]])
    return {
        name: image.point(lambda v: round(v / 255 * (LEVELS - 1)) * 255 // (LEVELS - 1)) for name, image in made.items()
    }


def main(target: Path, with_pictures: bool) -> None:
    """Write the page, and the pictures beside it."""
    target.write_text(page(), encoding="utf-8")
    if with_pictures:
        folder = target.parent / IMAGES
        folder.mkdir(exist_ok=True)
        for name, image in pictures().items():
            image.save(folder / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--pictures" in sys.argv)
