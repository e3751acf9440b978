"""Give back the local mean of what a network took away: faint lesions are in it, and of the noise next to nothing.

The best guess in the mean square takes for noise what is as faint as the noise. But what was taken is known, and noise
alone has, but for an offset that depends on the intensity, the mean 0 over a few pixels.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medfpl.nets.correctors import smooth_step

# Standard deviations in pixels of the Gaussians to take the mean with, the first of which gives most back. Those below
# NARROWEST, by which a quarter of white noise comes back, are only for who asks for more and for Back.
WIDTHS, NARROWEST = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0), 1.5
# What is given back is noise for the most part: at most this share of what was taken, and on average this much, in
# working units: 6 HU of 2000 where the noise is STRONG, and by this power of the ratio more where it is weaker, for the
# fainter the noise the more of a lesion comes back; of noise with an offset 20 HU.
SHARE, MOST, STRONG, POWER, MOST_WITH_OFFSET = 0.2, 0.003, 0.1, 0.8, 0.01
# Working units. The stronger the noise, the more of a faint lesion was taken with it; from the first on the mean may
# get narrower, and up to the second: of noise that is stronger yet the bound leaves nothing to give.
STRONGER, STRONGEST = (0.02, 0.03), (0.0515, 0.056)
# Where the mean is narrower SHARE grows at most so far, for in a mean over one pixel is no more of white noise, as
# networks take it, but more of a scanner's; and the bound by this power of the widths' ratio.
WHITE, EXTRA = 1.2, 1.5
# How much of the result an expert must have made for this.
SURE = (0.6, 0.9)
# Of what is taken from clean CT a mean over two pixels holds 0.4 to 0.8, for it is anatomy; of noise 0.1 to 0.3.
SMOOTH, SMOOTH_WIDTH = (0.32, 0.4), 2.0
# Working units. In the black about a patient there is nothing to keep.
AIR = (0.02, 0.04)
# Square of the mean magnitude over the mean square: of Gaussian noise 0.64, of impulses their share. An impulse hides
# its pixel's value: what was taken there is no measurement.
SPARSE = 0.2
_BINS = 32


@dataclass(frozen=True)
class Back:
    """How much comes back of what an expert took of noise that has mean 0.

    In noise that is STRONGER the mean is over a Gaussian of at least ``narrowest`` pixels, where the expert is SURE,
    and the more may come back the narrower that is. Of less noise up to half of ``least`` may always come back, root
    mean square within the patient, working units. And what is SMOOTH and at most ``least`` was no noise and comes back
    whole, from twice as much on no more so.
    """

    narrowest: float = NARROWEST
    least: float = 0.0

    def to_json(self) -> dict[str, float]:
        """Return the fields as plain values."""
        return asdict(self)


DEFAULT = Back()


def without_local_mean(
    noise: Tensor,
    image: Tensor,
    *,
    offset: bool,
    most: float | None = None,
    back: Back = DEFAULT,
    share: Tensor | float = 1.0,
) -> Tensor:
    """Return ``noise`` (B, 1, H, W) as found in ``image`` less its local mean, working units.

    The mean is over the narrowest of WIDTHS for which its root mean square within the patient is at most ``most``; by
    default from NARROWEST on, and at most a bound that depends on the noise, and SHARE of the noise's; ``back`` says
    where more may come back, for which the expert's ``share`` of each item's result (B,) counts. Where it is for none,
    ``noise`` comes out as it is. With ``offset`` the noise has a mean of its own for every intensity, as that of
    magnitude images, and this mean stays in it.
    """
    kept_as, noise, image = noise.dtype, noise.float(), image.float()
    clean = image - noise
    inside = smooth_step(_blur(clean, 2.0), *AIR)
    area = inside.sum((1, 2, 3), keepdim=True).clamp_min(1)

    def average(x: Tensor) -> Tensor:
        return (x * inside).sum((1, 2, 3), keepdim=True) / area

    random = noise - _by_intensity(noise, _blur(clean, 1.5), inside) if offset else noise
    square = average(random.square())
    level, dense = square.sqrt(), average(random.abs()).square() > SPARSE * square
    if most is None:
        weaker = (STRONG / level.clamp_min(1e-6)) ** POWER
        bound = torch.full_like(level, MOST_WITH_OFFSET) if offset else MOST * weaker
        sure = smooth_step(torch.as_tensor(share, device=level.device).view(-1, 1, 1, 1), *SURE)
        strong = sure * smooth_step(level, *STRONGER) * (1 - smooth_step(level, *STRONGEST))
        narrowest = NARROWEST + (back.narrowest - NARROWEST) * strong
        more = NARROWEST / narrowest
        limit = torch.minimum(SHARE * more.clamp_max(WHITE) * level, bound * more**EXTRA).clamp_min(back.least / 2)
    else:
        limit, narrowest = torch.full_like(level, most), torch.full_like(level, WIDTHS[0])
    left, searching = noise, dense
    for width in WIDTHS:
        if not (torch.jit.is_tracing() or searching.any()):
            break
        if not (torch.jit.is_tracing() or (width >= narrowest).any()):
            continue
        mean = _blur(random, width) * inside
        found = searching & (width >= narrowest) & (average(mean.square()) <= limit.square())
        left = torch.where(found, noise - mean, left)
        searching = searching & ~found
    if most is None and back.least:
        held = (average(_blur(random, SMOOTH_WIDTH).square()) / square.clamp_min(1e-12)).sqrt()
        anatomy = smooth_step(held, *SMOOTH) * (1 - smooth_step(level, back.least, 2 * back.least)) * dense
        left = (1 - anatomy) * left
    return left.to(kept_as)


def _by_intensity(noise: Tensor, clean: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of ``noise`` over the pixels of an item that are as bright as each, (B, 1, H, W)."""
    top = clean.amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
    place = (clean / top).clamp(0, 1) * (_BINS - 1)
    low = place.floor().clamp_max(_BINS - 2)
    share = place - low
    below = low.long().flatten(1)
    sums = []
    for x in (weights, weights * noise):
        total = torch.zeros(x.shape[0], _BINS, dtype=x.dtype, device=x.device)
        total = total.scatter_add(1, below, (x * (1 - share)).flatten(1))
        sums.append(total.scatter_add(1, below + 1, (x * share).flatten(1)))
    mean = sums[1] / sums[0].clamp_min(1e-3)
    return (1 - share) * mean.gather(1, below).view_as(noise) + share * mean.gather(1, below + 1).view_as(noise)


def _blur(x: Tensor, width: float) -> Tensor:
    reach = int(3 * width + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / width) ** 2)
    kernel = (kernel / kernel.sum()).to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):  # what comes back is a thousandth of the range
        x = F.conv2d(_extended(x, -2, reach), kernel.view(1, 1, -1, 1))
        return F.conv2d(_extended(x, -1, reach), kernel.view(1, 1, 1, -1))


def _extended(x: Tensor, dim: int, reach: int) -> Tensor:
    """Return ``x`` with its first and last row or column repeated (F.pad's way, which ONNX's exporter warns of)."""
    ends = [x.narrow(dim, at, 1) for at in (0, x.shape[dim] - 1)]
    return torch.cat([*ends[:1] * reach, x, *ends[1:] * reach], dim)
