"""Inhomogeneous fields of an MR scanner: coil shading (B1) and off-resonance (B0).

``b1`` multiplies the image by a smooth gain. ``b0`` moves signal along the readout by the local frequency
offset over the bandwidth, where it piles up or thins out; a gradient echo also loses exp(-echo_time/T2').
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.axes import PHASE_AXIS, oriented
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column
from medfpl.noises.displace import splat
from medfpl.noises.polynomial import draw_coefficients, polynomial_field


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "b1":
        return {"amplitude": s}
    return {"offset": 400 * s, "bandwidth": 50.0, "echo_time": 0.0, "t2_prime": 30.0, "phase_axis": "rows"}


def _draw(generator: Generator, shape: tuple[int, int], values: Values, context: Context) -> Values:
    return {**values, "field_map": draw_coefficients(generator)}


def _field(x: Tensor, values: Sequence[Values]) -> Tensor:
    return polynomial_field([v["field_map"] for v in values], x)


def _b1(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    return x * torch.exp(column(values, "amplitude", x) * _field(x, values))


def _b0(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    pixels = column(values, "offset", x) / column(values, "bandwidth", x)
    decay = torch.exp(-column(values, "echo_time", x) / column(values, "t2_prime", x))
    return splat(x * decay, pixels * _field(x, values))


NOISE = Noise(
    name="field-inhomogeneity",
    summary="MR field inhomogeneity: coil shading (b1) or geometric distortion by off-resonance (b0)",
    modalities=("mr",),
    formula="b1: y = x exp(amplitude P(r));  b0: y(r + d(r)) += x(r) exp(-echo_time/t2_prime) along the readout, "
    "d = offset P(r)/bandwidth;  P a random cubic polynomial of mean 0 and max |P| = 1",
    source="Sled et al. 1998, IEEE Trans Med Imaging 17:87; Jezzard & Balaban 1995, Magn Reson Med 34:65",
    parameters={
        "amplitude": Parameter("", "largest |log gain|: 0.1-0.2 at 1.5 T, 0.2-0.4 at 3 T", 0, 10),
        "offset": Parameter("Hz", "largest |frequency offset|", 0, 1e5),
        "bandwidth": Parameter("Hz/px", "receiver bandwidth a pixel", 1, 1e7),
        "echo_time": Parameter("ms", "gradient-echo time; 0 for a spin echo", 0, 1e4),
        "t2_prime": Parameter("ms", "decay time of the inhomogeneity", 0.1, 1e6),
        "phase_axis": PHASE_AXIS,
    },
    at_strength=_at_strength,
    draw=_draw,
    apply=by_mode({"b1": _b1, "b0": oriented(_b0)}),
    modes=("b1", "b0"),
    per_volume=True,
)
