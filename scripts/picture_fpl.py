"""Picture the feature maps that the loss compares: ``picture_fpl.py RUNS OUT.png``, RUNS of evidence_fpl.py.

The chest phantom of the sample data with faint lesions, and how far each map moves where white noise is added, where
the image is blurred and where the lesions are erased, all by the same mean squared error.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from evidence_fpl import MAPS, perturbed
from PIL import Image
from torch import Tensor

from medfpl.explain.guided import frozen, guided_map
from medfpl.io import read
from medfpl.nets.weights import find_model, load_net
from medfpl.sample import sample_path
from medfpl.seeds import numpy_generator

mpl.use("agg")
import matplotlib.pyplot as plt

SHOWN = ("white noise", "blur", "erased lesions")


def strength(guided: Tensor) -> Tensor:
    """Return the size of a map's gradient at each place, (H, W) of (1, C, H, W)."""
    return guided[0].norm(dim=0)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    scan = read(sample_path() / "chest_ct" / "clean" / "0007.dcm")
    phantom = torch.from_numpy(scan.intensity.to_working(scan.pixels))
    clean, copies = perturbed([(numpy_generator(0, "picture"), phantom)])
    figure, axes = plt.subplots(len(MAPS) + 1, len(SHOWN) + 1, figsize=(10, 10.6), layout="constrained")
    for ax, image, title in zip(axes[0], [clean, *(copies[n] for n in SHOWN)], ["clean", *SHOWN], strict=True):
        ax.imshow(image[0, 0], cmap="gray", vmin=0.35, vmax=0.65)
        ax.set_title(title)
    for row, (name, (network, rules)) in zip(axes[1:], MAPS.items(), strict=True):
        net = frozen(load_net(find_model(given.runs / network, "restoration")))
        reference = guided_map(net, clean, rules)
        changes = [strength(guided_map(net, copies[n], rules) - reference) for n in SHOWN]
        row[0].imshow(strength(reference), cmap="magma", vmax=float(strength(reference).quantile(0.99)))
        most = float(torch.stack(changes).quantile(0.995))
        for ax, change in zip(row[1:], changes, strict=True):
            ax.imshow(change, cmap="magma", vmin=0, vmax=most)
        row[0].set_ylabel(name)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.savefig(given.out, dpi=75)
    Image.open(given.out).convert("RGB").quantize(128).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
