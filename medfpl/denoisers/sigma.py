"""How much noise an image holds: the standard deviation, in working units, of what a filter should remove.

Noise is read only where anatomy is flat, so that edges do not count as noise, and never in air or saturated areas,
which files often clip to a constant: half an image of exact zeros does not change the estimate.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medfpl.denoisers.methods._filters import gaussian_blur, reflect
from medfpl.errors import UsageError

# The median of |n| for n ~ N(0, 1).
_MEDIAN_ABS_NORMAL = 0.6744897501960817
# px, HU: the windows in which the noise of a CT's soft tissue is read.
_WINDOW, _FLAT_HU = 5, 10.0


def noise_levels(x: Tensor, noise_level: Tensor | float | None) -> Tensor:
    """Return the noise's standard deviation as (B, 1, 1, 1) in ``x``'s dtype; None is estimated from ``x``.

    Raises:
        UsageError: for a negative or non-finite level, or levels that fit neither the batch nor its items.
    """
    if noise_level is None:
        return estimate_noise(x).view(-1, 1, 1, 1)
    level = torch.as_tensor(noise_level, dtype=x.dtype, device=x.device)
    if level.numel() not in (1, len(x)):
        raise UsageError(f"{level.numel()} noise levels do not fit a batch of {len(x)}")
    if not bool((torch.isfinite(level) & (level >= 0)).all()):
        raise UsageError("a noise level is a finite number, 0 or more")
    return level.reshape(-1, 1, 1, 1).expand(len(x), 1, 1, 1)


def estimate_noise(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the standard deviation (B,) of white noise in ``x`` (B, 1, H, W), in ``x``'s units and dtype.

    Median absolute value of a second difference along both axes (Immerkaer 1996, Computer Vision and Image
    Understanding 64) over the flatter half of the body. ``valid`` (bool, like ``x``) is False at pixels not to use.
    Noise with neighbour correlation is underestimated, for the difference sees the highest frequencies only:
    see ``estimate_noise_correlated``. Impulses at the image's extreme values do not count. 0 where nothing varies.
    """
    x, flat = _flattest(x, valid, smoothing=2.0, share=0.5)
    for dim in (-2, -1):
        n = x.shape[dim]
        wide = reflect(x, int(dim == -2), int(dim == -1))
        x = wide.narrow(dim, 0, n) - 2 * wide.narrow(dim, 1, n) + wide.narrow(dim, 2, n)
    # The kernel's squares sum to 36: white noise keeps its standard deviation.
    return _robust_sd(x / 6, flat)


def estimate_noise_correlated(x: Tensor, valid: Tensor | None = None, levels: int = 3) -> Tensor:
    """Return the standard deviation (B,) of noise that may be correlated over a few pixels, as in CT.

    Sums the variances of all bands of an undecimated db3 wavelet tight frame over ``levels`` octaves, each by the
    median absolute value over the flattest tenth of the body; the band below is extrapolated as for white noise.
    For noise whose power does not sit below 2**-levels of the sampling rate it is right whatever the spectrum.
    It needs flat regions wider than 2**levels pixels: weak texture counts as noise, so that it overestimates
    low noise, and a brain MR of 1 mm pixels, which has no such region, cannot be measured this way at all.
    """
    import pywt

    x, flat = _flattest(x, valid, smoothing=4.0, share=0.1)
    wavelet = pywt.Wavelet("db3")
    low, high = ([t / 2**0.5 for t in taps] for taps in (wavelet.dec_lo, wavelet.dec_hi))
    variance = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for level in range(levels):
        step = 2**level
        smooth, detail = _dilated(x, low, -2, step), _dilated(x, high, -2, step)
        for rows, taps in ((smooth, high), (detail, low), (detail, high)):
            variance += _robust_sd(_dilated(rows, taps, -1, step), flat) ** 2
        x = _dilated(smooth, low, -1, step)
    return (variance / (1 - 4.0**-levels)).sqrt()


def soft_tissue_noise(hu: npt.NDArray[Any], seen: npt.NDArray[Any] | None = None) -> float | None:
    """Return the noise of a CT slice ``hu`` (H, W) in HU: the most frequent local standard deviation in soft tissue.

    The mode, on a logarithmic scale, over the 5 x 5 windows with a mean of 0..100 HU and no pixel outside
    -150..250 HU (after Christianson 2015, American Journal of Roentgenology 205) that are flat: smoothed by 1 px they
    vary by less than 10 HU, which muscle with fat beside it does not. ``seen`` is the same slice with less noise, to
    tell by where flat soft tissue is. None where fewer than 50 pixels have such a window.
    """
    from scipy.ndimage import gaussian_filter, gaussian_filter1d, minimum_filter, uniform_filter

    pixels = np.asarray(hu, dtype=np.float64)
    guide = pixels if seen is None else np.asarray(seen, dtype=np.float64)
    around = uniform_filter(guide, _WINDOW)
    tissue = minimum_filter((guide > -150) & (guide < 250), _WINDOW) & (around > 0) & (around < 100)
    sd = _local_sd(pixels)[tissue & (_local_sd(gaussian_filter(guide, 1.0)) < _FLAT_HU)]
    if sd.size < 50:
        return None
    logs = np.log(np.maximum(sd, 0.05))
    counts, edges = np.histogram(logs, bins=np.arange(logs.min() - 0.1, logs.max() + 0.1, 0.02))
    top = int(np.argmax(gaussian_filter1d(counts.astype(float), 8.0)))
    return float(np.exp(edges[top : top + 2].mean()))


def _local_sd(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the standard deviation in the window around each pixel of (H, W)."""
    from scipy.ndimage import uniform_filter

    # Less the mean first: squares of large numbers cancel badly.
    centred = pixels - pixels.mean()
    variance = uniform_filter(centred**2, _WINDOW) - uniform_filter(centred, _WINDOW) ** 2
    return np.sqrt(np.maximum(variance, 0) * _WINDOW**2 / (_WINDOW**2 - 1))


def _flattest(x: Tensor, valid: Tensor | None, smoothing: float, share: float) -> tuple[Tensor, Tensor]:
    """Return ``x`` with its invalid values filled, and where its noise can be read.

    That is the ``share`` of the body that has the smallest gradient after smoothing by ``smoothing`` pixels. The
    smoothed gradient hardly feels the fine noise, so choosing by it does not favour pixels of little noise.
    """
    valid = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    known = torch.where(valid, x, 0)
    x = torch.where(valid, x, known.sum((-2, -1), keepdim=True) / valid.sum((-2, -1), keepdim=True).clamp_min(1))
    top, bottom = _neighbours_max(x), -_neighbours_max(-x)
    varies = (top > bottom) & (_neighbours_max((~valid).to(x.dtype)) == 0)
    # Clipping piles values up at the extremes; unclipped noise has but one pixel at each.
    unclipped = varies & (top < x.amax((-2, -1), keepdim=True)) & (bottom > x.amin((-2, -1), keepdim=True))
    smooth = gaussian_blur(x, smoothing)
    wide = reflect(smooth, 1, 1)
    slope = torch.hypot(wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1], wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2])
    flat = torch.zeros_like(varies)
    for i in range(len(x)):
        if varies[i].any():
            body = _body(x[i], smooth[i], varies[i], unclipped[i])
            flat[i] = body & (slope[i] <= _quantile(slope[i][body], share))
    return x, flat


def _body(x: Tensor, smooth: Tensor, varies: Tensor, unclipped: Tensor) -> Tensor:
    """Return the brighter part of one item without clipped pixels, or as near to it as the item has pixels for."""
    low, high = (_quantile(x[varies], q) for q in (0.005, 0.995))
    bright = smooth > low + 0.15 * (high - low)
    enough = 0.01 * varies.sum()
    for body in (unclipped & bright, varies & bright, varies):
        if body.sum() >= enough:
            return body
    return varies


def _neighbours_max(x: Tensor) -> Tensor:
    return torch.nn.functional.max_pool2d(x, 3, stride=1, padding=1)


def _robust_sd(band: Tensor, where: Tensor) -> Tensor:
    medians = [b[w].abs().median() if w.any() else b.new_zeros(()) for b, w in zip(band, where, strict=True)]
    return torch.stack(medians) / _MEDIAN_ABS_NORMAL


def _quantile(values: Tensor, q: float) -> Tensor:
    return values.kthvalue(max(1, round(q * values.numel()))).values


def _dilated(x: Tensor, taps: list[float], dim: int, step: int) -> Tensor:
    """Correlate along ``dim`` with ``taps`` that lie ``step`` pixels apart, centred."""
    n, span = x.shape[dim], (len(taps) - 1) * step
    wide = reflect(x, span if dim == -2 else 0, span if dim == -1 else 0)
    start = span - span // 2
    total = wide.narrow(dim, start, n) * taps[0]
    for i, tap in enumerate(taps[1:], 1):
        total = torch.add(total, wide.narrow(dim, start + i * step, n), alpha=tap)
    return total
