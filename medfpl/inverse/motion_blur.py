"""Motion blur: the straight movement of an exposure, found by the zeros it leaves in the spectrum, and deconvolved.

Blind for length and direction: a movement over L pixels multiplies the spectrum by sinc(L f.u), and no anatomy does
(Cannon 1976, IEEE Trans. ASSP 24:58). The spectrum's logarithm, less its mean over all directions, is correlated with
that of every movement. Least squares by conjugate gradients undo it, with the image mirrored at its borders.
"""

from functools import cache
from math import ceil, log10, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from medfpl.noises.fourier import mirror
from medfpl.noises.kinds.motion import line_psf

CROP = 512  # px: the middle of the image in which the movement is searched
LENGTHS = (2.5, 60.0)
BAND = (0.02, 0.35)  # cycles a pixel: below is anatomy, above noise
RADII, ANGLES, COUNT = 48, 180, 60
DEPTH = 3e-3  # of a zero: windows leak, and noise fills
MAYBE, SURE = 0.4, 0.62  # correlations: of the coarse search, and of the fine one from which on it is undone
STEPS = 60
# Damping: the power of the noise over this one's, as Wiener's filter has it for an image of so much power at each
# frequency, and some where there is none. At a zero of the spectrum there is nothing but noise to be raised.
SIGNAL, DAMPING = 0.04, 1e-4  # working units; a share
_SAMPLES = 6000
_FLOOR = 1e-7


def find(image: Tensor) -> dict[str, float] | None:
    """Return the movement in ``image`` (H, W): ``length`` in px, ``angle`` in degrees, ``noise``; None if unsure."""
    if min(image.shape) < 64:
        return None
    image = image.detach().float().cpu()
    top, left = (max(0, (n - CROP) // 2) for n in image.shape)
    power, noise = _spectrum(image[top : top + CROP, left : left + CROP])
    score, length, angle = _coarse(power)
    if score < MAYBE:
        return None
    score, length, angle = _fine(power, length, angle)
    if score < SURE:
        return None
    return {"length": length, "angle": angle * 180 / pi % 180, "score": score, "noise": noise}


def undo(image: Tensor, found: dict[str, float]) -> Tensor:
    """Return the image (H, W) of which ``image`` is the movement's blur, as near to ``image`` as explains it.

    Its borders do not repeat, so that no division of spectra (denoisers.hqs.Blurred) undoes it.
    """
    seen = image.detach().float().cpu()[None, None]
    reach = ceil(found["length"] / 2) + 1
    size = [n + 2 * reach for n in seen.shape[-2:]]
    psf = line_psf(torch.tensor([found["length"]]), torch.tensor([found["angle"]]), *size)
    otf = torch.fft.rfft2(psf)
    damping = DAMPING + (found["noise"] / SIGNAL) ** 2

    def blur(x: Tensor) -> Tensor:
        y = torch.fft.irfft2(torch.fft.rfft2(mirror(x, reach)) * otf, s=size)
        return y[..., reach:-reach, reach:-reach]

    def back(x: Tensor) -> Tensor:
        y = torch.fft.irfft2(torch.fft.rfft2(F.pad(x, (reach,) * 4)) * otf.conj(), s=size)
        return _unmirror(y, reach)

    x = seen.clone()
    residual = back(seen - blur(x))  # damped towards the image as it is
    direction, energy = residual.clone(), residual.square().sum()
    for _ in range(STEPS):
        if float(energy) < 1e-12 * seen.numel():
            break
        image_of = back(blur(direction)) + damping * direction
        step = energy / (direction * image_of).sum()
        x, residual = x + step * direction, residual - step * image_of
        before, energy = energy, residual.square().sum()
        direction = residual + energy / before * direction
    return x[0, 0].to(image)


def _unmirror(x: Tensor, margin: int) -> Tensor:
    """Return the adjoint of ``noises.fourier.mirror``: what it continued is added to where it came from."""
    for dim in (-2, -1):
        n = x.shape[dim] - 2 * margin
        at = torch.arange(-margin, n + margin).remainder(2 * n)
        shape = list(x.shape)
        shape[dim] = n
        x = x.new_zeros(shape).index_add(dim, torch.minimum(at, 2 * n - 1 - at), x)
    return x


def _spectrum(image: Tensor) -> tuple[Tensor, float]:
    """Return the logarithm of the power (CROP, CROP), zero frequency in the middle, and the noise's deviation."""
    height, width = image.shape
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    centred = (image - (image * window).sum() / window.sum()) * window
    power = torch.fft.fftshift(torch.fft.fft2(centred, s=(CROP, CROP)).abs().square())
    edge = power[: CROP // 32].flatten()  # frequencies where a blurred image has nothing but noise
    noise = (float(edge.median()) / 0.6931 / float(window.square().sum())) ** 0.5
    return (power + _FLOOR).log(), noise


def _coarse(logarithm: Tensor) -> tuple[float, float, float]:
    """Return the best correlation over all movements, its length in px and its angle in radians."""
    radii, angles = _polar_grid()
    rows, columns = radii[:, None] * -angles.sin(), radii[:, None] * angles.cos()
    grid = torch.stack([columns, rows], -1) * 2 * CROP / (CROP - 1) + 1 / (CROP - 1)
    polar = F.grid_sample(logarithm[None, None], grid[None], align_corners=True)[0, 0]
    polar = (polar - polar.mean(1, keepdim=True)).clamp(-6, 6) * radii[:, None].sqrt()
    lengths, movements = _movements()
    # Correlation over all directions at once: the log-power is the same half a turn further.
    scores = torch.fft.irfft((torch.fft.rfft(polar) * movements).sum(1), n=ANGLES) / (polar.norm() + 1e-9)
    best = int(scores.argmax())
    return float(scores.max()), float(lengths[best // ANGLES]), float(angles[best % ANGLES])


def _polar_grid() -> tuple[Tensor, Tensor]:
    return torch.linspace(*BAND, RADII), torch.arange(ANGLES) * (pi / ANGLES)


@cache
def _movements() -> tuple[Tensor, Tensor]:
    """Return the lengths searched, and the conjugate transform over all directions of the zeros of each, of norm 1."""
    radii, angles = _polar_grid()
    lengths = torch.logspace(log10(LENGTHS[0]), log10(LENGTHS[1]), COUNT)
    zeros = _zeros(lengths.view(-1, 1, 1) * radii[:, None] * angles.cos())
    zeros = (zeros - zeros.mean(2, keepdim=True)) * radii[:, None].sqrt()
    return lengths, torch.fft.rfft(zeros / zeros.norm(dim=(1, 2), keepdim=True)).conj()


def _fine(logarithm: Tensor, length: float, angle: float) -> tuple[float, float, float]:
    """Return the same after three finer searches around a movement, on the spectrum's own grid."""
    frequency = torch.fft.fftshift(torch.fft.fftfreq(CROP))
    rows, columns = frequency[CROP // 2 :, None], frequency[None]  # the other half is its mirror image
    radius = torch.hypot(rows, columns)
    ring = (radius * 200).long()
    power = logarithm[CROP // 2 :]
    count = torch.bincount(ring.flatten()).clamp_min(1)
    mean = torch.bincount(ring.flatten(), power.flatten()) / count
    inside = (radius > BAND[0]) & (radius < BAND[1])
    values = (power - mean[ring])[inside].clamp(-6, 6)
    keep = torch.linspace(0, len(values) - 1, min(_SAMPLES, len(values))).long()
    values = values[keep] - values[keep].mean()
    rows, columns = rows.expand_as(radius)[inside][keep], columns.expand_as(radius)[inside][keep]
    best = (-1.0, length, angle)
    for stretch, turn in ((0.1, pi / 90), (0.04, pi / 180), (0.014, pi / 500)):
        _, length, angle = best
        best = (-1.0, length, angle)
        lengths = length * torch.exp(torch.linspace(-stretch, stretch, 15))
        for k in range(-3, 4):
            here = angle + k * turn / 1.5
            along = columns * torch.cos(torch.tensor(here)) - rows * torch.sin(torch.tensor(here))
            zeros = _zeros(lengths[:, None] * along)
            zeros = zeros - zeros.mean(1, keepdim=True)
            scores = zeros @ values / (zeros.norm(dim=1) * values.norm() + 1e-9)
            at = int(scores.argmax())
            best = max(best, (float(scores[at]), float(lengths[at]), here))
    return best


def _zeros(turns: Tensor) -> Tensor:
    """Return the logarithm of the power that a movement leaves where it makes ``turns`` periods of a frequency."""
    return (torch.sinc(turns).square() + DEPTH).log()
