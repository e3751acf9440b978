"""Artifacts that few numbers describe: found in the image by their physics, undone, and left alone where unsure."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medfpl.inverse import motion_blur, stripes

# The numbers of each artifact that was found in an image, by its name.
Found = dict[str, dict[str, float]]


def _nothing(image: Tensor, noisy: Tensor) -> None:
    """Find nothing in a denoised image."""


@dataclass(frozen=True)
class Inverse:
    """How an artifact is found and undone.

    ``find`` returns its numbers in an image (H, W), or None where it is not surely there; ``undo`` takes the image and
    the numbers, and returns the image without the artifact. Where noise may hide it and denoising leaves it,
    ``find_hidden`` is a stricter ``find`` of a denoised image and the noisy one, and ``undo`` takes both, too.
    """

    find: Callable[[Tensor], dict[str, float] | None]
    undo: Callable[..., Tensor]
    find_hidden: Callable[[Tensor, Tensor], dict[str, float] | None] = _nothing


# In the order in which they are undone: a blurred image is so smooth that little in it looks like a wave, and a wave
# that lay on it is still one when it is sharp.
INVERSES: dict[str, Inverse] = {
    "motion-blur": Inverse(motion_blur.find, motion_blur.undo),
    "stripes": Inverse(stripes.find, stripes.undo, stripes.find_hidden),
}


def undo(x: Tensor, names: tuple[str, ...], noisy: Tensor | None = None) -> tuple[Tensor, list[Found]]:
    """Return images (B, 1, H, W), working units, without the artifacts of ``names``, and what was found in each.

    An image in which nothing is found comes back bit for bit. With ``noisy`` it is the denoised of that, in which what
    noise had hidden is looked for.
    """
    if not names:
        return x, [{} for _ in x]
    cleaned, found = [], []
    for i, image in enumerate(x[:, 0].cpu()):  # a few small transforms: no work for an accelerator
        here: Found = {}
        before = () if noisy is None else (noisy[i, 0].cpu(),)
        for name in names:
            inverse = INVERSES[name]
            numbers = inverse.find_hidden(image, *before) if before else inverse.find(image)
            if numbers is not None:
                image, here[name] = inverse.undo(image, numbers, *before).to(x.dtype), numbers
        cleaned.append(image)
        found.append(here)
    return torch.stack(cleaned)[:, None].to(x.device), found
