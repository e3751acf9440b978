"""Quantum noise: photon counts on a radiography detector, or in the line integrals behind a CT slice."""

from collections.abc import Sequence
from math import pi

import torch
from torch import Generator, Tensor

from medfpl.noises import ct
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column, fields
from medfpl.noises.draws import poisson

WEDGES = 12
# Linear interpolation in the back-projection: 2/3 - 2/pi^2 of the Ram-Lak variance remains.
INTERPOLATION = 2 / 3 - 2 / pi**2
# The logarithm of a starved ray, cut at one quantum, varies by about this much however few photons arrive
# (electronic noise of 10 quanta); the first-order formula would grow without bound.
STARVED_VARIANCE = 1.4


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "detector":
        return {"photons": 40 / s**2, "electronic": 0.0}
    return {"rays": 1e4 / s**2, "views": 180, "electronic": 10.0}


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
        y[at] = ct.back_project(ct.ramp_filter(error), angles, x.shape)
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
    """Shape white noise into what FBP makes of the line integrals' variance, one wedge of angles at a time."""
    h, w = x.shape[-2:]
    black, scale, pixel = ct.units(contexts, x.shape, x)
    angles, spacing = ct.half_turn(WEDGES), ct.coarse(x.shape)
    line = ct.project(ct.attenuation(x, black, scale, pixel), angles, spacing)
    rays, electronic = column(values, "rays", x)[..., 0], column(values, "electronic", x)[..., 0]
    sd = line_variance(line, rays, electronic).sqrt()

    white = torch.fft.rfft2(fields(generators, x.shape[1:], x))
    fy = torch.fft.fftfreq(h, dtype=x.dtype, device=x.device)[:, None]
    fx = torch.fft.rfftfreq(w, dtype=x.dtype, device=x.device)
    radius = torch.hypot(fx, fy)
    ramp = torch.where(radius <= 0.5, radius.sqrt(), torch.zeros_like(radius))
    wedge = torch.atan2(fy, fx).mul_(WEDGES / pi).round_().remainder_(WEDGES)
    noise = torch.zeros_like(x)
    for k, theta in enumerate(angles):
        texture = torch.fft.irfft2(white * (ramp * (wedge == k)), s=(h, w))
        noise = noise.addcmul_(texture, ct.smear(sd[:, k], ct.bin_positions(x.shape, theta, sd.shape[-1], spacing, x)))
    views = column(values, "views", x)
    return x + noise * (pi**2 * INTERPOLATION / (12 * views * _power(h, w))).sqrt() * (
        ct.working_per_attenuation(scale, pixel)
    )


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
