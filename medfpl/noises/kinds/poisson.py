"""Quantum noise: photon counts on a radiography detector, or in the line integrals behind a CT slice."""

from collections.abc import Sequence
from math import ceil, pi

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from medfpl.noises import ct
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column, fields
from medfpl.noises.draws import poisson

# The CT texture's series over the rays' angle, and the angles that it is found from. On real chests and abdomens the
# noise's sd is then within 4 percent of that with 144 angles and no series, and that of its gradients within 5.
HARMONICS = 2
ANGLES = 24
# Linear interpolation in the back-projection: 2/3 - 2/pi^2 of the Ram-Lak variance remains.
INTERPOLATION = 2 / 3 - 2 / pi**2
# The logarithm of a starved ray, cut at one quantum, varies by about this much however few photons arrive
# (electronic noise of 10 quanta); the first-order formula would grow without bound.
STARVED_VARIANCE = 1.4


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "detector":
        return {"photons": 40 / s**2, "electronic": 0.0}
    return {"rays": 1e4 / s**2, "views": 180, "electronic": 10.0, "cutoff": 0.0}


def _cutoff(values: Sequence[Values], like: Tensor) -> Tensor:
    """Return each item's cut-off (B, 1, 1, 1); 0 in a record of before there was one."""
    return column([{"cutoff": 0.0, **v} for v in values], "cutoff", like)


def _detector(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    photons, electronic = column(values, "photons", x), column(values, "electronic", x)
    y = poisson(x * photons, generators).div_(photons)
    if any(v["electronic"] for v in values):
        y.addcmul_(fields(generators, x.shape[1:], x), electronic / photons)
    return y


def _ct(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    """Add the filtered back-projection of p' - p: the clean image keeps its own resolution."""
    black, scale, pixel = ct.units(contexts, x.shape, x)
    mu = ct.attenuation(x, black, scale, pixel)
    y = torch.empty_like(x)
    for views in {v["views"] for v in values}:
        at = [i for i, v in enumerate(values) if v["views"] == views]
        chosen, drawn = [values[i] for i in at], [generators[i] for i in at]
        angles = ct.half_turn(views)
        line = _line_integrals(mu[at], angles)
        rays, electronic = column(chosen, "rays", x)[..., 0], column(chosen, "electronic", x)[..., 0]
        error = line_error(line, rays, electronic, drawn)
        y[at] = ct.back_project(ct.ramp_filter(error, _cutoff(chosen, x)[..., 0]), angles, x.shape)
    return y.mul_(ct.working_per_attenuation(scale, pixel)).add(x)


def line_error(line: Tensor, rays: Tensor, electronic: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Return p' - p, the error of line integrals ``line`` (B, views, bins) measured by counting quanta."""
    counts = poisson(rays * torch.exp(-line), generators)
    counts.addcmul_(fields(generators, line.shape[1:], line), electronic)
    return -torch.log(counts.clamp_min_(1) / rays) - line


def line_variance(line: Tensor, rays: Tensor, electronic: Tensor) -> Tensor:
    """Return the variance of ``line_error`` to first order, bounded where rays are starved."""
    inverse = torch.exp(line.clamp_max(50)) / rays  # beyond: starved anyway, and exp would overflow
    return (inverse * (1 + electronic.square() * inverse)).clamp_max(STARVED_VARIANCE)


def _line_integrals(mu: Tensor, angles: Sequence[float]) -> Tensor:
    # They only set the counts and are smooth, so they come from a coarse copy.
    spacing, count = ct.coarse(mu.shape), ct.bins(mu.shape)
    line = ct.project(mu, angles, spacing)
    position = (torch.arange(count, dtype=mu.dtype, device=mu.device) - count // 2) / spacing + line.shape[-1] // 2
    return ct.smear(line.flatten(0, 1), position[None]).view(*line.shape[:2], count).clamp_min_(0)


def _ct_texture(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    """Shape white noise into what FBP makes of the line integrals' variance, place by place and angle by angle.

    At each pixel the sd of the rays through it, as a function of their angle, is a short Fourier series; each of its
    terms weighs a white field that was filtered by the ramp and by the same term of the frequency's angle.
    """
    h, w = x.shape[-2:]
    black, scale, pixel = ct.units(contexts, x.shape, x)
    rays, electronic = column(values, "rays", x)[..., 0], column(values, "electronic", x)[..., 0]
    terms = _sd_series(ct.attenuation(x, black, scale, pixel), rays, electronic)

    fy = torch.fft.fftfreq(h, dtype=x.dtype, device=x.device)[:, None]
    fx = torch.fft.rfftfreq(w, dtype=x.dtype, device=x.device)
    radius, angle = torch.hypot(fx, fy), torch.atan2(fy, fx)
    cutoff = _cutoff(values, x)
    ramp = torch.where(radius <= 0.5, radius.sqrt(), torch.zeros_like(radius)) * ct.hann(radius, cutoff)
    white = torch.fft.rfft2(fields(generators, x.shape[1:], x))
    noise = torch.zeros_like(x)
    for k, shape in enumerate(_series(angle)):
        noise.addcmul_(torch.fft.irfft2(white * (ramp * shape), s=(h, w)), _enlarged(terms[:, k : k + 1], h, w))
    views = column(values, "views", x)
    kept = INTERPOLATION * _kept(cutoff) / _kept(torch.zeros_like(cutoff))
    gain = (pi**2 * kept / (12 * views * _power(h, w))).sqrt() * ct.working_per_attenuation(scale, pixel)
    return noise.mul_(gain).add(x)


def _series(angle: Tensor) -> list[Tensor]:
    """Return 1, cos 2a, sin 2a, cos 4a, ... of an angle a: a ray and its reverse are one."""
    turns = range(1, HARMONICS + 1)
    return [torch.ones_like(angle), *(f(2 * m * angle) for m in turns for f in (torch.cos, torch.sin))]


def _sd_series(mu: Tensor, rays: Tensor, electronic: Tensor) -> Tensor:
    """Return the series of the rays' sd over their angle at each cell of a coarse grid: (B, terms, rows, columns)."""
    angles, spacing = ct.half_turn(ANGLES), 2 * ct.coarse(mu.shape)
    sd = line_variance(ct.project(mu, angles, spacing), rays, electronic).sqrt()
    grid = [ceil(n / spacing) for n in mu.shape[-2:]]
    series = torch.stack(_series(torch.tensor(angles, dtype=mu.dtype, device=mu.device))) / ANGLES
    series[1:] *= 2
    terms = mu.new_zeros(len(mu), len(series), *grid)
    for k, theta in enumerate(angles):  # not a matrix product, whose rounding depends on the batch
        seen = ct.smear(sd[:, k], ct.bin_positions(grid, theta, sd.shape[-1], 1, mu))
        terms.addcmul_(seen, series[:, k].view(-1, 1, 1))
    return terms


def _enlarged(coarse: Tensor, h: int, w: int) -> Tensor:
    """Return the middle h x w pixels of (B, 1, rows, columns), enlarged linearly to cover them."""
    spacing = max(ceil(h / coarse.shape[-2]), ceil(w / coarse.shape[-1]))
    large = F.interpolate(coarse, scale_factor=spacing, mode="bilinear", align_corners=False)
    top, left = (large.shape[-2] - h) // 2, (large.shape[-1] - w) // 2
    return large[..., top : top + h, left : left + w]


def _kept(cutoff: Tensor) -> Tensor:
    """Return what linear interpolation between bins keeps of the noise power behind a Hann window: (B, 1, 1, 1).

    Averaged over where a ray falls between two bins it passes 2/3 + cos(2 pi f)/3; of the ramp alone ``INTERPOLATION``.
    """
    f = torch.linspace(0, 0.5, 257, dtype=cutoff.dtype, device=cutoff.device)
    power = (f * ct.hann(f, cutoff)).square()
    return (power * (2 + torch.cos(2 * pi * f)) / 3).sum(-1, keepdim=True) / power.sum(-1, keepdim=True)


def _power(h: int, w: int) -> float:
    """Return the mean over the Fourier plane of |f| within the detector's band."""
    radius = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w))
    return float((radius * (radius <= 0.5)).mean())


NOISE = Noise(
    name="poisson",
    summary="Quantum noise: photon counts of a detector, or of the rays behind a CT slice",
    modalities=("ct", "xray"),
    formula="detector: y = Poisson(N x)/N + (e/N) n;  ct: y = x + FBP(p' - p), "
    "p' = -log(max(Poisson(I0 exp(-p)) + e n, 1)/I0);  ct-texture: first-order equivalent in the image",
    source="Foi et al. 2008, IEEE Trans Image Process 17:1737; Zabic et al. 2013, Med Phys 40:031102; "
    "Wunderlich & Noo 2008, Phys Med Biol 53:2471",
    parameters={
        "photons": Parameter("quanta", "detector mode: quanta N of a white pixel", 1e-3, 1e30),
        "rays": Parameter("quanta", "CT modes: quanta I0 of a ray through air, in each view", 1, 1e30),
        "views": Parameter(
            "", "CT modes: views in half a turn (only rays times views matters)", 2, 10_000, integer=True
        ),
        "electronic": Parameter("quanta", "standard deviation e of the read-out noise", 0, 1e6),
        "cutoff": Parameter(
            "cycles/px", "CT modes: Hann cut-off of the kernel (1: standard, 0.5: soft); 0: the ramp alone", 0, 100
        ),
    },
    at_strength=_at_strength,
    apply=by_mode({"detector": _detector, "ct": _ct, "ct-texture": _ct_texture}),
    modes=("detector", "ct", "ct-texture"),
    # For CT too: the published tables count photons in the image. Real CT noise is 'ct' or 'ct-texture'.
    default_mode=lambda kind: "detector",
    needs_nonnegative=("detector",),
    differentiable=False,
    mode_modalities={"detector": ("xray", "other"), "ct": ("ct",), "ct-texture": ("ct",)},
)
