"""Susceptibility artifacts: metal or air disturbs the main field around it.

``dipole``: cylinders across the field shift the frequency around them by a dipole pattern. Signal moves along
the readout and piles up, a gradient echo loses phase coherence where the field is steep, and the sources give
no signal. The field lies in the image along the phase axis. The steepness through the slice is unknown in 2-D; that in
the plane stands in for it. ``gain`` is a surrogate without geometry: a smooth random gain.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.axes import PHASE_AXIS, oriented, phase_readout_shape
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column, fields
from medfpl.noises.displace import GAMMA_BAR, splat
from medfpl.noises.fourier import smooth_noise

MAX_SOURCES = 3
RADIUS = 24.0  # px on a matrix of 256; sources are from a third of it up
CORRELATION = (6.0, 10.0)  # px


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "gain":
        return {"sigma": 0.2 * s, "correlation": 0.0}
    field, bandwidth = 1.5, 200.0
    # 12 s px at the surface of a source
    chi = 2 * 12 * s * bandwidth / (GAMMA_BAR * field)
    dephasing = {"echo_time": 2.0, "slice_thickness": 3.0}
    size = {"sources": 0, "radius": RADIUS * min(1, 2 * s)}  # a weak artifact comes from a small source
    return {"chi": chi, "field": field, "bandwidth": bandwidth, **dephasing, **size, "phase_axis": "rows"}


def _draw(generator: Generator, shape: tuple[int, int], values: Values, context: Context) -> Values:
    u = torch.rand(2 + 3 * MAX_SOURCES, generator=generator).tolist()
    if values["mode"] == "gain":
        low, high = CORRELATION
        return {**values, "correlation": values["correlation"] or low + (high - low) * u[0]}
    count = values["sources"] or 1 + int(MAX_SOURCES * u[1])
    along_phase, along_readout = phase_readout_shape(shape, values)
    largest = values["radius"] * min(shape) / 256
    places = [u[2 + 3 * k : 5 + 3 * k] for k in range(count)]
    return {
        **values,
        "sources": count,
        "at_phase": [(0.3 + 0.4 * p[0]) * along_phase for p in places],
        "at_readout": [(0.3 + 0.4 * p[1]) * along_readout for p in places],
        "radii": [largest * (1 + 2 * p[2]) / 3 for p in places],
    }


def _source(values: Sequence[Values], key: str, k: int, like: Tensor) -> Tensor:
    """Return ``key`` of every item's source ``k``, 0 where an item has fewer: (B, 1, 1, 1)."""
    numbers = [v[key][k] if k < v["sources"] else 0.0 for v in values]
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).view(-1, 1, 1, 1)


def dipole_field(x: Tensor, values: Sequence[Values]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frequency offset in Hz, its steepness in Hz/px and where there is tissue: (B, 1, H, W) each.

    In the plane of complex z, along the field and across, the offset (chi/2) gamma B0 R^2 cos(2 phi)/r^2 of a
    cylinder is the real part of a/z^2, and the steepness of a sum of them |sum of 2 a/z^3|.
    """
    height, width = x.shape[-2:]
    v = torch.arange(height, dtype=x.dtype, device=x.device)[:, None]
    u = torch.arange(width, dtype=x.dtype, device=x.device)
    surface = 0.5 * column(values, "chi", x) * GAMMA_BAR * column(values, "field", x)
    offset, slope = torch.zeros_like(x), torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.complex64))
    tissue = torch.ones_like(x, dtype=torch.bool)
    for k in range(max(w["sources"] for w in values)):
        square_radius = _source(values, "radii", k, x).square()
        dv, du = v - _source(values, "at_phase", k, x), u - _source(values, "at_readout", k, x)
        square = dv**2 + du**2
        # no signal inside, where the field only has to go on smoothly for the pixels at the rim
        reach = square.clamp_min(square_radius).clamp_min(1e-12)
        inverse = torch.complex(dv / reach, -du / reach)
        dipole = surface * square_radius * inverse**2
        offset = offset + dipole.real
        slope = slope + 2 * dipole * inverse
        tissue = tissue & (square >= square_radius)
    return offset, slope.abs(), tissue


def _dipole(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    offset, slope, tissue = dipole_field(x, values)
    pixel = torch.tensor([c.pixel_mm for c in contexts], dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
    # Hz/px over mm/px times mm times ms: turns of phase across the slice
    turns = slope / pixel * column(values, "slice_thickness", x) * column(values, "echo_time", x) / 1000
    signal = x * tissue * torch.sinc(turns).abs()
    return splat(signal, offset / column(values, "bandwidth", x))


def _gain(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    white = fields(generators, x.shape[1:], x)
    return x * (1 + column(values, "sigma", x) * smooth_noise(white, column(values, "correlation", x)))


NOISE = Noise(
    name="susceptibility",
    summary="MR susceptibility artifact: displaced and lost signal around metal or air",
    modalities=("mr",),
    formula="offset = (chi/2) 42.577 MHz/T field (R^2/r^2) cos 2 phi;  y(r + offset/bandwidth) += "
    "x |sinc(slope slice_thickness echo_time)| outside the sources;  gain: y = x (1 + sigma g), g smooth",
    source="Schenck 1996, Med Phys 23:815; Marques & Bowtell 2005, Concepts Magn Reson B 25:65",
    parameters={
        "chi": Parameter("ppm", "susceptibility step: 9.4 air to tissue, 182 titanium", -1e5, 1e5),
        "field": Parameter("T", "main field", 0, 30),
        "bandwidth": Parameter("Hz/px", "receiver bandwidth a pixel", 1, 1e9),
        "echo_time": Parameter("ms", "gradient-echo time; 0 for a spin echo (no signal loss)", 0, 1000),
        "slice_thickness": Parameter("mm", "slice thickness over which the field dephases the signal", 0, 1000),
        "sources": Parameter("", "number of sources; 0: drawn from 1 to 3", 0, MAX_SOURCES, integer=True),
        "radius": Parameter("px", "largest radius of a source, on a matrix of 256", 0, 256),
        "sigma": Parameter("", "standard deviation of the gain", 0, 10),
        "correlation": Parameter("px", "correlation length of the gain; 0: drawn from 6 to 10", 0, 1000),
        "phase_axis": PHASE_AXIS,
    },
    at_strength=_at_strength,
    draw=_draw,
    apply=by_mode({"dipole": oriented(_dipole), "gain": _gain}),
    modes=("dipole", "gain"),
    per_volume=True,
)
