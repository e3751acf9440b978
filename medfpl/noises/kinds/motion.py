"""Patient motion: k-space lines from a moved object, periodic ghosts, or the straight blur of an exposure.

``kspace``: the phase-encode lines are acquired in consecutive segments, each with the patient in another
rigid pose; the central lines stay in the reference pose, so that the image as a whole does not jump.
``ghost``: every m-th line is weakened, which puts m - 1 ghosts into the image, m-ths of the field of view apart.
``blur``: the mean over a straight movement during the exposure of a radiograph.
"""

from collections.abc import Sequence
from math import ceil, pi

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from medfpl.noises.axes import PHASE_AXIS, oriented
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column
from medfpl.noises.fourier import frequencies, mirror, ramp, with_phase
from medfpl.noises.polynomial import draw_coefficients

MAX_SEGMENTS = 32
GHOSTS = (2, 6)  # periods drawn where none is given


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "blur":
        return {"length": 42 * s}
    if mode == "ghost":
        return {"modulation": s, "period": 0, "phase": 0.0, "phase_axis": "rows"}
    return {"shift": 4 * s, "rotation": 2 * s, "segments": 4, "centre": 0.06, "phase": 0.0, "phase_axis": "rows"}


def _draw(generator: Generator, shape: tuple[int, int], values: Values, context: Context) -> Values:
    poses = torch.randn(3, MAX_SEGMENTS, generator=generator).tolist()
    u = torch.rand(2, generator=generator).tolist()
    drawn = {**values, "phase_map": draw_coefficients(generator)}
    if values["mode"] == "blur":
        return {**values, "angle": 180 * u[0]}
    if values["mode"] == "ghost":
        low, high = GHOSTS
        return {**drawn, "period": values["period"] or low + int(u[1] * (high - low + 1))}
    scales = {"shifts_phase": "shift", "shifts_readout": "shift", "rotations": "rotation"}
    moves = {
        name: [values[scale] * n for n in numbers[: values["segments"]]]
        for (name, scale), numbers in zip(scales.items(), poses, strict=True)
    }
    return {**drawn, **moves}


def _table(values: Sequence[Values], key: str, like: Tensor) -> Tensor:
    """Return the poses' ``key`` behind that of the reference pose (0), padded: (B, P + 1)."""
    longest = max(v["segments"] for v in values)
    rows = [[0.0, *v[key], *[0.0] * (longest - v["segments"])] for v in values]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def line_poses(values: Sequence[Values], lines: int, like: Tensor) -> Tensor:
    """Return the pose of every phase-encode line, in FFT order: (B, H), 0 the reference pose, k segment k."""
    k = frequencies(lines, like) * lines  # -H/2 .. H/2
    order = (k + lines // 2).round()
    flat = [column(values, key, like).view(-1, 1) for key in ("segments", "centre")]
    segment = (order * flat[0] / lines).floor() + 1
    return segment.masked_fill(k.abs() < flat[1] * lines / 2, 0).long()


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image of ``x`` (B, 1, H, W) about its centre, bicubic, its border continued outside."""
    height, width = x.shape[-2:]
    angle = degrees * (pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, -1).view(-1, 2, 3), list(x.shape), align_corners=False)
    turned = grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return torch.where(degrees.view(-1, 1, 1, 1) == 0, x, turned)


def _kspace(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    height, width = x.shape[-2:]
    pose = line_poses(values, height, x)
    angles = _table(values, "rotations", x)
    # Only the phase-encode axis needs a transform a pose: lines are chosen along it.
    lines = torch.fft.fft(with_phase(x, values), dim=-2)
    for p in range(1, angles.shape[1]):
        if bool(angles[:, p].any()):
            turned = torch.fft.fft(with_phase(rotate(x, angles[:, p]), values), dim=-2)
            lines = torch.where((pose == p)[:, None, :, None], turned, lines)
    along_readout = ramp(_table(values, "shifts_readout", x)[..., None], frequencies(width, x))
    along_readout = along_readout.gather(1, pose[..., None].expand(-1, -1, width))
    along_phase = ramp(_table(values, "shifts_phase", x).gather(1, pose), frequencies(height, x))
    k_space = torch.fft.fft(lines, dim=-1) * (along_readout * along_phase[..., None])[:, None]
    return torch.fft.ifft2(k_space).abs()


def _ghost(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    k = torch.arange(x.shape[-2], device=x.device).view(1, 1, -1, 1)
    weakened = (k + 1) % column(values, "period", x).long() == 0  # never DC
    weight = 1 - column(values, "modulation", x) * weakened
    return torch.fft.ifft(torch.fft.fft(with_phase(x, values), dim=-2) * weight, dim=-2).abs()


def line_psf(length: Tensor, degrees: Tensor, height: int, width: int) -> Tensor:
    """Return the point spread functions of straight movements over ``length`` px (B,): (B, 1, height, width).

    The origin lies at pixel (0, 0), cyclically. Points along the path, eight a pixel, are shared bilinearly by
    the pixels around them, so the function is not negative and sums to 1.
    """
    points = (8 * length.ceil() + 1)[:, None]
    k = torch.arange(int(points.max()), dtype=length.dtype, device=length.device)
    t = ((k + 0.5) / points - 0.5) * length[:, None]
    share = (k < points) / points
    angle = degrees[:, None] * (pi / 180)
    v, u = -t * angle.sin(), t * angle.cos()
    v0, u0 = v.floor(), u.floor()
    item = torch.arange(len(length), device=length.device)[:, None] * height
    psf = length.new_zeros(len(length) * height * width)
    for dv in (0, 1):
        for du in (0, 1):
            weight = (1 - (v - v0 - dv).abs()) * (1 - (u - u0 - du).abs()) * share
            at = (item + (v0.long() + dv) % height) * width + (u0.long() + du) % width
            psf.index_add_(0, at.flatten(), weight.flatten())
    return psf.view(-1, 1, height, width)


def _blur(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    length, degrees = column(values, "length", x).flatten(), column(values, "angle", x).flatten()
    reach = ceil(max(v["length"] for v in values) / 2) + 1
    padded = mirror(x, reach)
    size = padded.shape[-2:]
    psf = line_psf(length, degrees, *size)
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * torch.fft.rfft2(psf), s=size)
    return blurred[..., reach : reach + x.shape[-2], reach : reach + x.shape[-1]].contiguous()


NOISE = Noise(
    name="motion",
    summary="Motion: moved k-space segments or ghosts (MR), or the straight blur of an exposure (X-ray, CT)",
    modalities=("mr", "ct", "xray"),
    formula="kspace: y = |F^-1[sum over segments j of mask_j F(rotated x) exp(-2 pi i k.shift_j)]|;  "
    "ghost: every period-th line times (1 - modulation);  blur: mean of x over a straight path of given length",
    source="Wood & Henkelman 1985, Med Phys 12:143; Shaw et al. 2019, MIDL, PMLR 102:427",
    parameters={
        "shift": Parameter("px", "standard deviation of a segment's shift along each axis", 0, 1000),
        "rotation": Parameter("degrees", "standard deviation of a segment's rotation", 0, 90),
        "segments": Parameter("", "number of segments of phase-encode lines", 1, MAX_SEGMENTS, integer=True),
        "centre": Parameter("", "share of the lines, about k = 0, that stay in the reference pose", 0, 1),
        "modulation": Parameter("", "by how much every period-th line is weakened", 0, 1),
        "period": Parameter("lines", "every period-th line is weakened; 0: drawn from 2 to 6", 0, 256, integer=True),
        "phase": Parameter("rad", "largest smooth object phase; 0 for none", 0, 10),
        "length": Parameter("px", "path length of the blur", 0, 1000),
        "phase_axis": PHASE_AXIS,
    },
    at_strength=_at_strength,
    draw=_draw,
    apply=by_mode({"kspace": oriented(_kspace), "ghost": oriented(_ghost), "blur": _blur}),
    modes=("kspace", "ghost", "blur"),
    mode_modalities={"kspace": ("mr",), "ghost": ("mr",), "blur": ("ct", "xray")},
    per_volume=True,
    needs_nonnegative=("kspace", "ghost"),
)
