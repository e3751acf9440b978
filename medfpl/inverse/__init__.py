"""Artifacts that few numbers describe: found in the image by their physics, undone, and left alone where unsure."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medfpl.inverse import motion_blur, stripes

# The numbers of each artifact that was found in an image, by its name.
Found = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Inverse:
    """How an artifact is found and undone.

    ``find`` returns its numbers in an image (H, W), or None where it is not surely there; ``undo`` takes the image and
    the numbers, and returns the image without the artifact. ``outlives_noise`` where noise may hide it and denoising
    leaves it, so that it is looked for again then.
    """

    find: Callable[[Tensor], dict[str, float] | None]
    undo: Callable[[Tensor, dict[str, float]], Tensor]
    outlives_noise: bool = False


# In the order in which they are undone: a blurred image is so smooth that little in it looks like a wave, and a wave
# that lay on it is still one when it is sharp.
INVERSES: dict[str, Inverse] = {
    "motion-blur": Inverse(motion_blur.find, motion_blur.undo),
    "stripes": Inverse(stripes.find, stripes.undo, outlives_noise=True),
}


def undo(x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, list[Found]]:
    """Return images (B, 1, H, W), working units, without the artifacts of ``names``, and what was found in each.

    An image in which nothing is found comes back bit for bit.
    """
    if not names:
        return x, [{} for _ in x]
    cleaned, found = [], []
    for image in x[:, 0].cpu():  # a few small transforms: no work for an accelerator
        here: Found = {}
        for name in names:
            numbers = INVERSES[name].find(image)
            if numbers is not None:
                image, here[name] = INVERSES[name].undo(image, numbers).to(x.dtype), numbers
        cleaned.append(image)
        found.append(here)
    return torch.stack(cleaned)[:, None].to(x.device), found
