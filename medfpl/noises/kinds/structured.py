"""Structured noise: interference patterns, read-out lines, CT rings and MR spikes."""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any

import torch
from torch import Generator, Tensor

from medfpl.noises import ct
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column, fields

RING_VIEWS = 360  # over a quarter of a turn
RADII_PER_PX = 4


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "pattern":
        return {"amplitude": 0.4 * s, "period": 100.0, "angle": 0.0}
    if mode == "fixed-pattern":
        return {"sigma_rows": 0.1 * s, "sigma_columns": 0.1 * s, "sigma_gain": 0.0}
    if mode == "ring":
        return {"sigma": 0.02 * s, "share": 0.3}
    return {"ratio": 0.5 * s}


def _draw(generator: Generator, shape: tuple[int, int], values: Values, context: Context) -> Values:
    """Add the wave's phase (radians) and, for herringbone, its frequency (cycles over the rows, the columns)."""
    phase, direction, radius = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    drawn = {**values, "phase": 2 * pi * phase}
    if values["mode"] == "herringbone":
        # At 0.1 to 0.45 cycles per px: away from the centre, and from the edge, where a point is its own twin.
        frequency = 0.1 + 0.35 * radius
        drawn["cycles_rows"] = round(frequency * sin(pi * direction) * shape[0])
        drawn["cycles_columns"] = round(frequency * cos(pi * direction) * shape[1])
        if drawn["cycles_rows"] == drawn["cycles_columns"] == 0:
            drawn["cycles_columns"] = 1
    return drawn if values["mode"] in ("pattern", "herringbone") else dict(values)


def _wave(x: Tensor, per_row: Sequence[float], per_column: Sequence[float], phase: Sequence[float]) -> Tensor:
    """Return the angle (B, 1, H, W) in radians of a plane wave, given its cycles per px along both axes."""
    # float64 until the whole turns are gone: float32 would lose digits on a large image
    start, rows, columns = (
        torch.tensor(v, dtype=torch.float64).view(-1, 1, 1, 1) for v in (phase, per_row, per_column)
    )
    rows = (rows * torch.arange(x.shape[-2])[:, None] + start / (2 * pi)).frac().to(x.device, x.dtype)
    columns = (columns * torch.arange(x.shape[-1])).frac().to(x.device, x.dtype)
    return (rows + columns).mul_(2 * pi)


def _pattern(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    angles = [v["angle"] * pi / 180 for v in values]
    per_row = [sin(a) / v["period"] for a, v in zip(angles, values, strict=True)]
    per_column = [cos(a) / v["period"] for a, v in zip(angles, values, strict=True)]
    wave = _wave(x, per_row, per_column, [v["phase"] for v in values])
    return x.addcmul(wave.sin_(), column(values, "amplitude", x))


def _fixed_pattern(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    h, w = x.shape[-2:]
    lines = fields(generators, (2 * (h + w),), x)[:, None]
    rows, columns, row_gain, column_gain = lines.split([h, w, h, w], -1)
    gain = column(values, "sigma_gain", x)
    y = x * (1 + gain * (row_gain[..., None] + column_gain[..., None, :])) if bool(gain.any()) else x
    offset = rows[..., None] * column(values, "sigma_rows", x)
    return y + (offset + columns[..., None, :] * column(values, "sigma_columns", x))


def _ring(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    """Reconstruct detector channels that err alike in every view of a full turn: rings about the isocentre."""
    _, scale, pixel = ct.units(contexts, x.shape, x)
    count = ct.bins(x.shape)
    faulty = fields(generators, (count,), x, "uniform") < column(values, "share", x).view(-1, 1)
    error = fields(generators, (count,), x).mul_(column(values, "sigma", x).view(-1, 1)).mul_(faulty)
    profile = ring_profile(ct.ramp_filter(error))
    h, w = x.shape[-2:]
    rows = torch.arange(h, dtype=x.dtype, device=x.device) - (h - 1) / 2
    columns = torch.arange(w, dtype=x.dtype, device=x.device) - (w - 1) / 2
    rings = ct.smear(profile, torch.hypot(rows[:, None], columns) * RADII_PER_PX)
    return x + rings * ct.working_per_attenuation(scale, pixel)


def ring_profile(filtered: Tensor) -> Tensor:
    """Back-project the same filtered view (B, bins) over a full turn: its radial profile (B, radii).

    Radii are 1/4 px apart, from 0 to the last bin. Opposite views leave the even part of the view, and a quarter
    of a turn holds all of it.
    """
    middle = filtered.shape[-1] // 2
    like: dict[str, Any] = {"dtype": filtered.dtype, "device": filtered.device}
    radii = torch.arange(middle * RADII_PER_PX, **like) / RADII_PER_PX
    theta = (torch.arange(RING_VIEWS, **like) + 0.5) * (pi / 2 / RING_VIEWS)
    even = (filtered + filtered.flip(-1)) / 2
    return ct.smear(even, radii[:, None] * theta.cos() + middle).mean(-1)[:, 0] * pi


def _herringbone(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    """Add a spike of ratio times the largest k-space value: in the image a plane wave of constant modulus.

    The largest value of a non-negative image is its centre, sum(x)/sqrt(HW), so the wave's modulus is
    ratio times the image's mean and no transform is needed.
    """
    per_row = [v["cycles_rows"] / x.shape[-2] for v in values]
    per_column = [v["cycles_columns"] / x.shape[-1] for v in values]
    wave = _wave(x, per_row, per_column, [v["phase"] for v in values])
    modulus = column(values, "ratio", x) * x.mean((-2, -1), keepdim=True)
    return torch.hypot(torch.addcmul(x, wave.cos(), modulus), wave.sin() * modulus)


NOISE = Noise(
    name="structured",
    summary="Structured noise: moire pattern, fixed read-out lines, CT rings or MR spike (herringbone)",
    modalities=("ct", "xray", "mr"),
    formula="pattern: y = x + a sin(2 pi (u.r)/period + phase);  fixed-pattern: y = x (1 + gain) + rows + columns;  "
    "ring: y = x + FBP(channel error, equal in all views);  herringbone: y = |F^-1(F x + A exp(i phase) delta_k0)|",
    source="Muench et al. 2009, Opt Express 17:8567 (lines); Sijbers & Postnov 2004, Phys Med Biol 49:N247 (rings)",
    parameters={
        "amplitude": Parameter("working units", "pattern: amplitude of the wave", 0, 10),
        "period": Parameter("px", "pattern: length of the wave", 2, 1e6),
        "angle": Parameter("degrees", "pattern: direction of the wave, from the columns' axis to the rows'", -360, 360),
        "sigma_rows": Parameter("working units", "fixed-pattern: standard deviation of the rows' offsets", 0, 10),
        "sigma_columns": Parameter("working units", "fixed-pattern: standard deviation of the columns' offsets", 0, 10),
        "sigma_gain": Parameter("", "fixed-pattern: standard deviation of the rows' and columns' gains", 0, 10),
        "sigma": Parameter("line integral", "ring: standard deviation of a faulty channel's error", 0, 10),
        "share": Parameter("", "ring: share of the channels that are faulty", 0, 1),
        "ratio": Parameter("", "herringbone: the spike over the largest k-space value", 0, 100),
    },
    at_strength=_at_strength,
    draw=_draw,
    apply=by_mode({"pattern": _pattern, "fixed-pattern": _fixed_pattern, "ring": _ring, "herringbone": _herringbone}),
    modes=("pattern", "fixed-pattern", "ring", "herringbone"),
    needs_nonnegative=("herringbone",),
    mode_modalities={"ring": ("ct",), "herringbone": ("mr",)},
)
