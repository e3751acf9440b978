"""Make sample_data/: phantoms, clean and noisy, and the list of their lesions. The same seed gives the same files.

python scripts/make_sample_data.py sample_data
"""

import gzip
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from phantom_dicom import Image, write_ct, write_xray

from medfpl.noises import NOISES, Context, corrupt
from medfpl.phantoms.abdomen import abdomen
from medfpl.phantoms.base import Phantom
from medfpl.phantoms.brain import brain
from medfpl.phantoms.projection import detector, display, line_integrals
from medfpl.phantoms.shapes import Grid
from medfpl.phantoms.thorax import thorax
from medfpl.scan import FloatArray
from medfpl.seeds import numpy_generator, stable_seed

Rows = list[dict[str, Any]]

SEED = 20231020
# Strength of the quantum noise: 20 to 25 HU in soft tissue, more where rays meet much bone.
CHEST_STRENGTH, ABDOMEN_STRENGTH, CT_HU = 0.16, 0.10, (-1000.0, 1000.0)
MR_SIGMA = 38.0
CHEST = Grid.around((0, 0, 0), (14, 256, 256), (3.0, 1.45, 1.45))
ABDOMEN = Grid.around((6, 0, 0), (20, 176, 208), (4.0, 1.7, 1.7))
BRAIN = Grid.around((6, 0, 0), (20, 192, 160), (3.5, 1.1, 1.1))
XRAY = Grid.around((-30, 0, 0), (400, 128, 416), (0.9, 2.4, 0.9))


@dataclass(frozen=True, eq=False)
class Pair:
    """The same image without and with noise, in real units (z, y, x)."""

    clean: FloatArray
    noisy: FloatArray


def low_dose(hu: FloatArray, pixel_mm: float, strength: float, label: str) -> Pair:
    """Return a CT in whole HU and its low-dose copy: quantum and electronic noise through filtered back-projection."""
    black, white = CT_HU
    clean = np.rint(np.clip(hu, -1024, 3071)).astype(np.float32)
    working = torch.from_numpy((clean - black) / (white - black))[:, None]
    context = Context("ct", black, white, pixel_mm)
    seeds = [stable_seed(SEED, label, z) for z in range(len(clean))]
    noisy, _ = corrupt(
        working,
        NOISES.get("poisson"),
        seeds=seeds,
        strength=strength,
        given={"mode": "ct"},
        contexts=[context] * len(clean),
    )
    back = noisy[:, 0].numpy() * (white - black) + black
    return Pair(clean, np.rint(np.clip(back, -1024, 3071)).astype(np.float32))


def rician(signal: FloatArray, label: str) -> Pair:
    """Return an MR magnitude volume in whole units and its copy with Rician noise of MR_SIGMA."""
    clean = np.rint(signal).astype(np.float32)
    rng = numpy_generator(SEED, label)
    real, imaginary = MR_SIGMA * rng.standard_normal((2, *clean.shape))
    return Pair(clean, np.rint(np.hypot(clean + real, imaginary)).astype(np.float32))


def save_nifti(values: FloatArray, phantom: Phantom, path: Path) -> None:
    """Write (z, y, x) int16 with the phantom's place, byte for byte the same every time."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.geometry.affine @ np.eye(4)[[2, 1, 0, 3]]
    image = nib.Nifti1Image(values.transpose(2, 1, 0).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    path.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))


def chest_ct(out: Path) -> Rows:
    """Write the chest CT series and return its lesions."""
    chest = thorax(numpy_generator(SEED, "chest"), CHEST, nodules=6)
    pair = low_dose(chest.image, CHEST.spacing[2], CHEST_STRENGTH, "chest")
    for name, volume in (("clean", pair.clean), ("noisy", pair.noisy)):
        folder = out / "chest_ct" / name
        folder.mkdir(parents=True, exist_ok=True)
        write_ct(volume, chest.geometry, folder, name)
    return chest.lesion_list()


def abdomen_ct(out: Path) -> Rows:
    """Write the abdominal CT volumes and return their lesions."""
    belly = abdomen(numpy_generator(SEED, "abdomen"), ABDOMEN)
    pair = low_dose(belly.image, ABDOMEN.spacing[2], ABDOMEN_STRENGTH, "abdomen")
    save_nifti(pair.clean, belly, out / "abdomen_ct_clean.nii.gz")
    save_nifti(pair.noisy, belly, out / "abdomen_ct_noisy.nii.gz")
    return belly.lesion_list()


def brain_mr(out: Path) -> Rows:
    """Write the MR volumes of the head and return their lesions."""
    head = brain(numpy_generator(SEED, "brain"), BRAIN)
    pair = rician(head.image, "brain noise")
    save_nifti(pair.clean, head, out / "brain_mr_clean.nii.gz")
    save_nifti(pair.noisy, head, out / "brain_mr_noisy.nii.gz")
    return head.lesion_list()


def chest_xray(out: Path) -> Rows:
    """Write the chest X-rays and return their lesions, with their places in the projection."""
    whole = thorax(numpy_generator(SEED, "x-ray patient"), XRAY, nodules=4, arms_down=True)
    integrals = line_integrals(whole.image, XRAY.spacing[1])
    low, high = (float(v) for v in np.percentile(integrals, [2, 99.7]))
    for name, generator in (("clean", None), ("noisy", numpy_generator(SEED, "x-ray"))):
        values = display(detector(integrals, generator), low=low, high=high)
        write_xray(Image(values, XRAY.spacing[0], name), out / f"chest_xray_{name}.dcm")
    return [_projected(row) for row in whole.lesion_list()]


def make(out: Path) -> dict[str, Rows]:
    """Write all sample files into ``out`` and return the lesion list."""
    out.mkdir(parents=True, exist_ok=True)
    lesions = {maker.__name__: maker(out) for maker in (chest_ct, abdomen_ct, brain_mr, chest_xray)}
    (out / "lesions.json").write_text(json.dumps(lesions, indent=1) + "\n", "utf-8")
    return lesions


def _projected(row: dict[str, Any]) -> dict[str, Any]:
    """Return a lesion's place in the X-ray (row, column); its contrast there is that of the chest it lies in."""
    z, _, x = row["centre_voxel"]
    return {**row, "centre_pixel": [round(XRAY.shape[0] - 1 - z, 2), round(x, 2)]}


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "sample_data")
    made = make(folder)
    print({name: len(rows) for name, rows in made.items()})
