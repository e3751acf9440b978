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
    the numbers, and returns the image without the artifact. Where noise may hide it and denoising leaves it,
    ``find_hidden`` is a stricter ``find`` for denoised images.
    """

    find: Callable[[Tensor], dict[str, float] | None]
    undo: Callable[[Tensor, dict[str, float]], Tensor]
    find_hidden: Callable[[Tensor], dict[str, float] | None] | None = None


# In the order in which they are undone: a blurred image is so smooth that little in it looks like a wave, and a wave
# that lay on it is still one when it is sharp.
INVERSES: dict[str, Inverse] = {
    "motion-blur": Inverse(motion_blur.find, motion_blur.undo),
    "stripes": Inverse(stripes.find, stripes.undo, stripes.find_hidden),
}


def undo(x: Tensor, names: tuple[str, ...], hidden: bool = False) -> tuple[Tensor, list[Found]]:
    """Return images (B, 1, H, W), working units, without the artifacts of ``names``, and what was found in each.

    An image in which nothing is found comes back bit for bit. With ``hidden`` the images are denoised ones, in which
    what noise had hidden is looked for.
    """
    finders = {name: INVERSES[name].find_hidden if hidden else INVERSES[name].find for name in names}
    if not any(finders.values()):
        return x, [{} for _ in x]
    cleaned, found = [], []
    for image in x[:, 0].cpu():  # a few small transforms: no work for an accelerator
        here: Found = {}
        for name, find in finders.items():
            numbers = find(image) if find else None
            if numbers is not None:
                image, here[name] = INVERSES[name].undo(image, numbers).to(x.dtype), numbers
        cleaned.append(image)
        found.append(here)
    return torch.stack(cleaned)[:, None].to(x.device), found
