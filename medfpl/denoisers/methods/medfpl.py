"""Our denoiser: a residual network that predicts the noise, blind to which (arXiv 2310.20101, residual form)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medfpl.denoisers.base import Method, Restored, Setting
from medfpl.errors import UsageError
from medfpl.inverse import INVERSES, Found, undo
from medfpl.nets.correctors import smooth_step
from medfpl.nets.experts import Experts
from medfpl.nets.field import Field
from medfpl.nets.unfold import Unfold
from medfpl.nets.weights import Model, find_model, load_net
from medfpl.tiles import run_tiled

if TYPE_CHECKING:
    from medfpl.nets.architectures import Net
    from medfpl.nets.parts import Part
    from medfpl.nets.unet import UNet
    from medfpl.scan import Kind

# The network sees values clamped to this range (working units); what lies outside keeps its excess.
LOW, HIGH = -1.0, 3.0
WHOLE_PIXELS = 1536 * 1536
TILE = 1024
# What a network takes from an image without noise is a mistake, and small: on average less than 0.12 percent of the
# image's root mean square. So little is not taken at all, and fades in up to twice that. A few bad pixels are not much
# on average: any change of a fifth of the root mean square and more begins to count, too.
MEAN_CHANGE = (1.2e-3, 2.4e-3)
LARGEST_CHANGE = (0.2, 0.3)
# What a corrector puts where signal was lost it guesses, and a smooth gain may be the scanner's or the patient's: on a
# patient's scan these are undone only on request.
ON_REQUEST = frozenset(("susceptibility", "field-inhomogeneity"))
CORRECTING = ("auto", "all", "none")
# An artifact of which at least this share of what its corrector found is taken counts as corrected.
CORRECTED = 0.5
# Percent of the range. In a mean over one pixel, the narrowest, is no more of any noise that leaves an image to see.
MOST_FAINT = 10.0
FADE = 64  # pixels to either side of a seam, where a network sees its tile as a whole


@dataclass(frozen=True)
class NetworkDenoiser:
    """A loaded network behind the Denoiser contract.

    ``faint`` bounds what comes back of local means, working units (nets.give_back); None: the bound of the default.
    """

    net: "Net"
    model: Model
    device: str = "cpu"
    undoes: tuple[str, ...] = ()
    corrects: str = "auto"
    faint: float | None = None
    whole_pixels: int = WHOLE_PIXELS
    tile: int = TILE

    def denoise(self, x: Tensor, *, noise_level: Tensor | float | None = None) -> Tensor:
        """Return ``x`` without what was found to undo and less the predicted noise, (B, 1, H, W) in working units.

        The network is blind to ``noise_level``.
        """
        return self.restore(x).result

    def restore(self, x: Tensor, kind: "Kind | None" = None) -> Restored:
        """Return ``x`` denoised, and what was undone before the network saw it, under its noise, or by correctors.

        Folded images, steep fields and what else an expert for artifacts undoes only MR has; on a CT or an X-ray
        such an expert could do nothing but harm, so where the ``kind`` is known it is asked of MR alone, and not those
        ON_REQUEST. Where it is not known all are asked. ``corrects`` "all" or "none" overrules both. The faint noise of
        a CT is not taken for that of magnitude images.
        """
        undone, found = self.undone(x)
        asked = self.corrects == "all" or (self.corrects == "auto" and kind in (None, "mr"))
        without = ON_REQUEST if self.corrects == "auto" and kind is not None else ()
        with torch.inference_mode():
            seen = undone.to(self.device, torch.float32).clamp(LOW, HIGH).contiguous(memory_format=torch.channels_last)
            hidden = torch.zeros_like(seen)

            def beneath(image: Tensor) -> Tensor:
                for i, noisy in enumerate(seen.split(1)):
                    hidden[i], late = self._hidden(noisy, image[i : i + 1])
                    found[i] = {**late, **found[i]}
                return hidden

            if isinstance(self.net, Experts):
                noise, beliefs = self.net.blend(
                    seen, self._run, asked, without, beneath, magnitudes=kind != "ct", faint=self.faint
                )
            else:
                noise, beliefs = self._run(self.net, seen), []
                noise = noise + beneath(seen - noise)
            share = worth_taking(noise, seen)
            taken = [(name, (believed * share.flatten()).tolist()) for name, believed in beliefs]
            corrected = [{name for name, shares in taken if shares[i] >= CORRECTED} for i in range(len(x))]
            result = undone - (share * noise).to(x.device, x.dtype)
        return Restored(result, undone - (share * hidden).to(x.device, x.dtype), found, corrected)

    def undone(self, x: Tensor) -> tuple[Tensor, list[Found]]:
        """Return ``x`` without the artifacts of ``undoes`` that are found in it, and what was found in each item."""
        return undo(x, self.undoes)

    def _hidden(self, noisy: Tensor, image: Tensor) -> tuple[Tensor, Found]:
        """Return the artifact that noise hid, of (1, 1, H, W) before and after denoising, and what it is; else 0s."""
        if not worth_taking(noisy - image, noisy).any():  # without noise it would have been found
            return torch.zeros_like(image[0]), {}
        cleaned, (found,) = undo(image, self.undoes, noisy)
        return (image - cleaned)[0], found

    def _run(self, net: "UNet | Part", seen: Tensor) -> Tensor:
        if isinstance(net, Field | Unfold):  # of the whole image, whatever its size
            return net(seen)
        config = net.config
        return run_tiled(
            net,
            seen,
            halo=config.reach,
            multiple=config.multiple,
            max_pixels=self.whole_pixels,
            size=self.tile,
            fade=min(FADE, self.tile // 2) if getattr(config, "context", False) else 0,
        )


def worth_taking(noise: Tensor, x: Tensor) -> Tensor:
    """Return how much of the ``noise`` found in each item of ``x`` (B, 1, H, W) to take: (B, 1, 1, 1), 0 to 1.

    0 where it is no more than is found in clean images, which so come out bit for bit.
    """
    size = x.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    change = noise.abs()
    mean, largest = change.mean((1, 2, 3), keepdim=True) / size, change.amax((1, 2, 3), keepdim=True) / size
    return torch.maximum(smooth_step(mean, *MEAN_CHANGE), smooth_step(largest, *LARGEST_CHANGE))


def _build(model: str | None, device: str, undo: str, correct: str, faint: float | None) -> NetworkDenoiser:
    if correct not in CORRECTING:
        raise UsageError(f"correct={correct} is not allowed", f"one of {', '.join(CORRECTING)}")
    undoes = tuple(undo.split("+")) if undo != "none" else ()
    for name in undoes:
        if name not in INVERSES:
            raise UsageError(f"undo={undo} is not allowed", f"none, or of {', '.join(INVERSES)}, joined by +")
    found = find_model(model)
    net = load_net(found, device)
    if faint is not None and not isinstance(net, Experts):
        raise UsageError(f"{found.card.name} gives no local means back", "faint is for models of experts")
    return NetworkDenoiser(net, found, device, undoes, correct, None if faint is None else faint / 100)


METHOD = Method(
    name="medfpl",
    summary="Blind residual network for all noises, CT, X-ray and MR",
    build=_build,
    mean_drifts=True,
    source="Dong & Basu 2023, arXiv 2310.20101",
    settings={
        "model": Setting(None, "model name, run folder or card (none: the default model)", text=True),
        "device": Setting("cpu", "torch device", text=True),
        "correct": Setting(
            "auto",
            "artifacts that correctors undo: all; none; auto: where the kind is known some, of MR alone",
            text=True,
        ),
        "faint": Setting(
            None,
            "how much of what was taken may come back as a local mean, rms, percent of the range: at 0 errors are "
            "least, at 3 faint lesions stay and noise too; auto lies between",
            0,
            MOST_FAINT,
        ),
        "undo": Setting("+".join(INVERSES), "artifacts that are looked for and undone first (none: none)", text=True),
    },
)
