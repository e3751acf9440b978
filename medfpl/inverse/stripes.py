"""Stripes: one plane wave over the whole image, as moire, a grid or interference leave it.

The wave is fitted to the image's differences, in which anatomy is sparse: its edges are large and few, and a robust
fit ignores them (iteratively reweighted least squares, Holland & Welsch 1977, Commun Stat A 6:813; Cauchy weights).
"""

from dataclasses import dataclass
from math import hypot, pi

import torch
from torch import Tensor

CROP = 512  # px: the middle of a larger image is searched for the frequency
SPECTRUM = 384  # points at least, so that a frequency lies near one of them
LONGEST, SHORTEST = 300.0, 2.2  # px: periods searched
CANDIDATES, SAMPLES, STEPS = 2, 2500, 7
FINAL_SAMPLES, FINAL_STEPS = 20000, 12
# Anatomy that goes up and down, such as two lungs, looks like a wave too: of the smooth part of the image a cubic is
# fitted along, and a real wave is the same in every part of the image.
CUBIC = tuple((i, j) for i in range(4) for j in range(4 - i) if i + j)
PARTS = 3
# A wave is sure where it differs by less than a share SAME of its amplitude between the parts (the upper median part's
# difference), or where the fit gains much: the mean of log(1 + (e/s)^2) falls by more than EVIDENCE times that share.
SAME, EVIDENCE = 0.08, 0.7
# In a denoised image, where some of it went with the noise; what is left of strong noise makes any gain worthless.
SAME_DENOISED = 0.1
DARK = 0.05  # working units: what lies lower in a denoised image may have been cut off at black, beneath the noise
PILED = 0.001  # of the pixels
LEAST = 0.005  # of the gain: where a wave is nothing beside the rest, it may be the same everywhere by chance
FAINTEST, STRONGEST = 0.01, 1.0  # working units: amplitude
GOLDEN = 0.382  # the part of a stride beyond whole pixels: of no few strides the sum is whole
_LEAST = 1e-4  # working units a pixel: differences are not known better


@dataclass(frozen=True)
class _Fit:
    """A wave a sin + b cos of the frequency (cycles a pixel along rows, columns), and how well it fits."""

    frequency: Tensor
    amplitude: Tensor
    gain: float
    spread: float


def find(image: Tensor) -> dict[str, float] | None:
    """Return the wave in ``image`` (H, W), working units: its frequency, and amplitude of sine and cosine. Else None.

    ``cycles_row`` and ``cycles_column`` are cycles a pixel; the phase is 0 at the first pixel.
    """
    # What lies at black may have been cut off there, and says nothing of the wave.
    return _find(image, image > image.min(), SAME, EVIDENCE)


def find_hidden(image: Tensor, noisy: Tensor) -> dict[str, float] | None:
    """Return the wave in a denoised ``image`` as ``find`` does, ``noisy`` before; it must be the same everywhere."""
    shown = image > DARK if _was_cut(noisy) else torch.ones_like(image, dtype=torch.bool)
    return _find(image, shown, SAME_DENOISED, torch.inf)


def _find(image: Tensor, shown: Tensor, same: float, evidence: float) -> dict[str, float] | None:
    image = image.detach().double()
    if min(image.shape) < 32:
        return None
    top, left = (max(0, (n - CROP) // 2) for n in image.shape)
    crop = image[top : top + CROP, left : left + CROP]
    here = shown[top : top + CROP, left : left + CROP]
    fits = [_fit(crop, here, f, torch.zeros(2).double(), SAMPLES, STEPS) for f in _candidates(crop)]
    best = max(filter(_is_wave, fits), key=lambda fit: fit.gain, default=None)
    if best is None or best.gain < LEAST / 2:
        return None
    shift = 2 * pi * (best.frequency * torch.tensor([top, left])).sum()  # the crop's first pixel is not the image's
    turn = torch.stack([torch.stack([shift.cos(), shift.sin()]), torch.stack([-shift.sin(), shift.cos()])])
    fit = _fit(image, shown, best.frequency, turn @ best.amplitude, FINAL_SAMPLES, FINAL_STEPS)
    if not _is_wave(fit) or fit.gain < LEAST or (fit.spread > same and fit.gain < evidence * fit.spread):
        return None
    (rows, columns), (sine, cosine) = fit.frequency.tolist(), fit.amplitude.tolist()
    numbers = {"cycles_row": rows, "cycles_column": columns, "sine": sine, "cosine": cosine}
    return {**numbers, "period": 1 / hypot(rows, columns), "amplitude": hypot(sine, cosine)}


def undo(image: Tensor, found: dict[str, float], noisy: Tensor | None = None) -> Tensor:
    """Return ``image`` (H, W) less the wave that was found; what a file cut off at black stays black.

    A denoised image is given with the ``noisy`` one.
    """
    height, width = image.shape
    rows = torch.arange(height, dtype=torch.float64, device=image.device)[:, None]
    columns = torch.arange(width, dtype=torch.float64, device=image.device)
    phase = 2 * pi * (found["cycles_row"] * rows + found["cycles_column"] * columns)
    wave = found["sine"] * phase.sin() + found["cosine"] * phase.cos()
    if noisy is None:
        black = image <= image.min()
        # The trough of a whole wave on black is at one height of it, and what was cut off at many.
        cut = bool(wave[black].max() - wave[black].min() > found["amplitude"] / 4)
    else:  # what was cut off lies about black, once it is denoised
        black = image <= image.flatten().kthvalue(max(1, image.numel() // 100)).values + found["amplitude"] / 4
        cut = _was_cut(noisy)
    return (image - (wave.masked_fill(black & (wave < 0), 0.0) if cut else wave)).to(image.dtype)


def _was_cut(noisy: Tensor) -> bool:
    """Return whether a file cut values off at black: of noise, so many are not the lowest by chance."""
    return float((noisy <= noisy.min()).double().mean()) > PILED


def _is_wave(fit: _Fit) -> bool:
    """Whether the fit went to a wave, and not to a slope that a part of a huge one looks like."""
    return float(fit.frequency.norm()) >= 1 / LONGEST and FAINTEST < float(fit.amplitude.norm()) < STRONGEST


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    return image[1:, :-1] - image[:-1, :-1], image[:-1, 1:] - image[:-1, :-1]


def _scale(residual: Tensor) -> float:
    return max(1.4826 * float(residual.abs().median()), _LEAST)


def _candidates(image: Tensor) -> list[Tensor]:
    """Return the frequencies at which the differences, edges cut off, are most like those of a wave."""
    down, right = _differences(image.float())
    largest = 2 * _scale(torch.cat([down.flatten(), right.flatten()]))
    height, width = down.shape
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    size = [max(SPECTRUM, n + 1) for n in (height, width)]
    parts = [g.clamp(-largest, largest) for g in (down, right)]
    spectra = [torch.fft.rfft2((g - g.mean()) * window, s=size) for g in parts]
    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    # A wave's differences are the wave times these.
    turns = [torch.polar(torch.ones_like(f), 2 * pi * f) - 1 for f in (rows, columns)]
    size_of = (turns[0].abs().square() + turns[1].abs().square()).clamp_min(1e-12).sqrt()
    like = (spectra[0] * turns[0].conj() + spectra[1] * turns[1].conj()).abs() / size_of
    frequency = torch.hypot(rows, columns)
    like = like * ((frequency > 1 / LONGEST) & (frequency < 1 / SHORTEST))
    chosen: list[Tensor] = []
    for index in like.flatten().topk(60).indices.tolist():
        here = torch.stack([rows[index // like.shape[1], 0], columns[index % like.shape[1]]]).double()
        if all(float((here - other).norm()) > 1.5 / min(height, width) for other in chosen):
            chosen.append(here)
        if len(chosen) == CANDIDATES:
            break
    return chosen


def _fit(image: Tensor, shown: Tensor, frequency: Tensor, amplitude: Tensor, samples: int, steps: int) -> _Fit:
    """Fit a wave, begun at ``frequency`` and ``amplitude``, and a cubic to the differences at some ``samples`` px.

    Differences count between pixels that are ``shown``.
    """
    height, width = (n - 1 for n in image.shape)
    rows, columns = (_sampled(n, (height * width / samples) ** 0.5) for n in (height, width))
    at = [g.flatten().double() for g in torch.meshgrid(rows, columns, indexing="ij")]
    target = torch.cat([g[rows][:, columns].flatten() for g in _differences(image)])
    pairs = (shown[1:, :-1] & shown[:-1, :-1], shown[:-1, 1:] & shown[:-1, :-1])
    shown = torch.cat([p[rows][:, columns].flatten() for p in pairs])
    if int(shown.sum()) < len(shown) // 10:
        return _Fit(frequency, amplitude, 0.0, 1.0)
    smooth = _cubic(at[0] / height * 2 - 1, at[1] / width * 2 - 1, (2 / height, 2 / width))
    cubic = torch.zeros(len(CUBIC)).double()
    farthest = 0.3 / min(height, width)  # a step: no further than to the next peak
    scale = _scale(target[shown])
    for step in range(steps + 1):
        basis, slopes = _wave(at, frequency, amplitude)
        residual = target - basis @ amplitude - smooth @ cubic
        scale = _scale(residual[shown]) if step > 1 else scale
        if step == steps:
            break
        weight = shown / (1 + (residual / scale).square())
        free = step > 2  # the amplitude first: without one, the frequency has no meaning
        change = _least_squares(torch.cat([basis, smooth, *([slopes] if free else [])], 1), residual, weight)
        amplitude, cubic = amplitude + change[:2], cubic + change[2 : 2 + len(CUBIC)]
        if free:
            frequency = frequency + change[-2:].clamp(-farthest, farthest)
    with_wave = torch.log1p((residual / scale).square())[shown].mean()
    without = torch.log1p(((residual + basis @ amplitude) / scale).square())[shown].mean()
    weight = shown / (1 + (residual / scale).square())
    part = (at[0] * PARTS / height).long() * PARTS + (at[1] * PARTS / width).long()
    part = torch.cat([part, part]).masked_fill(~shown, -1)
    moved = [
        _least_squares(basis[m], residual[m], weight[m]).norm()
        for k in range(PARTS**2)
        if int((m := part == k).sum()) > len(shown) // 200
    ]
    if len(moved) <= PARTS**2 // 2:  # too little of the image to see that it is the same everywhere
        return _Fit(frequency, amplitude, 0.0, 1.0)
    differs = torch.stack(moved).sort().values[len(moved) // 2 + 1] / amplitude.norm().clamp_min(1e-9)
    return _Fit(frequency, amplitude, float(without - with_wave), float(differs))


def _sampled(count: int, stride: float) -> Tensor:
    """Return places about ``stride`` apart in 0..count - 1, at every phase of a wave whatever its period."""
    # A whole stride, or one of which few make a whole, would meet a wave of twice its length at two phases only.
    step = int(stride) + GOLDEN if stride > 1 else 1.0
    return torch.arange(0, count / step).mul(step).long()


def _wave(at: list[Tensor], frequency: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences of sine and cosine (2N, 2), and of the wave's derivatives by frequency (2N, 2)."""
    places = [(at[0], at[1]), (at[0] + 1, at[1]), (at[0], at[1] + 1)]
    angles = [2 * pi * (frequency[0] * r + frequency[1] * c) for r, c in places]
    sines, cosines = [a.sin() for a in angles], [a.cos() for a in angles]
    basis = torch.stack([torch.cat([f[1] - f[0], f[2] - f[0]]) for f in (sines, cosines)], 1)
    slope = [amplitude[0] * c - amplitude[1] * s for s, c in zip(sines, cosines, strict=True)]
    by_axis = [[2 * pi * p[axis] * d for p, d in zip(places, slope, strict=True)] for axis in (0, 1)]
    return basis, torch.stack([torch.cat([d[1] - d[0], d[2] - d[0]]) for d in by_axis], 1)


def _cubic(v: Tensor, u: Tensor, step: tuple[float, float]) -> Tensor:
    """Return the slopes of each monomial v^i u^j along rows and columns, (2N, monomials)."""
    down = [step[0] * i * v ** max(i - 1, 0) * u**j for i, j in CUBIC]
    right = [step[1] * j * u ** max(j - 1, 0) * v**i for i, j in CUBIC]
    return torch.cat([torch.stack(down, 1), torch.stack(right, 1)])


def _least_squares(basis: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted least-squares factors, slightly damped: a part of the image may not determine them."""
    normal = basis.T @ (basis * weight[:, None])
    size = normal.diagonal().clamp_min(1e-30).sqrt()
    damped = normal / size[:, None] / size + 1e-8 * torch.eye(len(size)).double()
    return torch.linalg.solve(damped, basis.T @ (target * weight) / size) / size
