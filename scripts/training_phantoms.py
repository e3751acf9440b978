"""Draw phantoms to train on beside real images, and the table that `medfpl prepare --table` needs for both.

    python scripts/training_phantoms.py FOLDER DATA table.csv
    medfpl prepare DATA FOLDER -o store --size 0 --planes all --table FOLDER/table.csv

DATA and table.csv are of real images (scripts/development_table.py). The phantoms are of other patients than those of
the sample data, without noise, all for training. Ten minutes on two cores; what is drawn already is left alone.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from make_sample_data import ABDOMEN, BRAIN, CHEST, CT_HU, XRAY, save_nifti
from phantom_dicom import Image, write_xray

from medfpl.phantoms.abdomen import abdomen
from medfpl.phantoms.brain import brain
from medfpl.phantoms.projection import detector, display, line_integrals
from medfpl.phantoms.thorax import thorax
from medfpl.seeds import numpy_generator

SEED = 7
# A twelfth of the patients of each kind or so: enough to be met, too few to be what is learned.
COUNTS = {"xray": 16, "chest": 3, "abdomen": 3, "brain": 1}


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("table", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Path, str, str, str]] = []
    for what, count in COUNTS.items():
        for number in range(count):
            path = draw(what, number, given.folder)
            kind = {"xray": "xray", "brain": "mr"}.get(what, "ct")
            rows.append((path, f"phantom {what} {number}", kind, "train"))
    with given.table.open(newline="", encoding="utf-8") as file:
        head, *real = csv.reader(file)
    # Of several sources each puts its own name in front of its paths.
    real = [[f"{given.data.resolve().name}/{path}", *told] for path, *told in real]
    drawn = [[f"{given.folder.resolve().name}/{path.name}", *told] for path, *told in rows]
    with (given.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *real, *drawn])
    print(f"{len(drawn)} phantoms in {given.folder}")


def draw(what: str, number: int, folder: Path) -> Path:
    """Write one phantom and return its file."""
    rng = numpy_generator(SEED, what, number)
    path = folder / f"phantom_{what}_{number}.{'dcm' if what == 'xray' else 'nii.gz'}"
    if path.exists():
        return path
    if what == "xray":
        whole = thorax(rng, XRAY, nodules=4, arms_down=bool(number % 2))
        integrals = line_integrals(whole.image, XRAY.spacing[1])
        low, high = (float(v) for v in np.percentile(integrals, [2, 99.7]))
        values = display(detector(integrals, None), low=low, high=high)
        write_xray(Image(values, XRAY.spacing[0], f"phantom{number}"), path)
    elif what == "brain":
        head = brain(rng, BRAIN)
        save_nifti(np.rint(head.image), head, path)
    else:
        body = thorax(rng, CHEST, nodules=6) if what == "chest" else abdomen(rng, ABDOMEN)
        save_nifti(np.rint(np.clip(body.image, CT_HU[0] - 24, 3071)), body, path)
    return path


if __name__ == "__main__":
    main()
