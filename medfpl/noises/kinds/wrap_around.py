"""Wrap-around (aliasing, fold-over): a phase-encode field of view smaller than the object.

What lies outside the field of view FOV' comes in again at its other side: y(r) = sum over m of x(r + m FOV').
``overlap`` puts the n folded rows back where they were, with nothing outside; ``fill`` repeats them over the
matrix. ``shift`` moves the image cyclically: a surrogate that published tables fit best.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medfpl.noises.axes import PHASE_AXIS, oriented, swapped
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column
from medfpl.noises.fourier import shift_lines, with_phase
from medfpl.noises.polynomial import draw_coefficients

OCCUPIED = 0.05  # a row belongs to the object above this share of the brightest row's mean


def _at_strength(s: float, mode: str, context: Context) -> Values:
    if mode == "shift":
        return {"shift": 12 * s, "phase_axis": "rows"}
    return {"overlap": s, "fov_rows": 0, "phase": 0.0, "phase_axis": "rows"}


def _draw(generator: Generator, shape: tuple[int, int], values: Values, context: Context) -> Values:
    return {**values, "phase_map": draw_coefficients(generator)}


def object_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first row and the number of rows from the first to the last occupied one: (B,) each, int64."""
    profile = x.detach().abs().mean(-1)[:, 0]
    occupied = profile > OCCUPIED * profile.amax(-1, keepdim=True)
    occupied |= ~occupied.any(-1, keepdim=True)  # an empty image is all object
    first = occupied.int().argmax(-1)
    return first, x.shape[-2] - occupied.flip(-1).int().argmax(-1) - first


def folded_rows(height: int, first: Tensor, rows: Tensor) -> Tensor:
    """Return where each row lands when the ``rows`` rows from row ``first`` are the field of view: (B, H)."""
    row = torch.arange(height, device=first.device)
    return first[:, None] + (row - first[:, None]).remainder(rows[:, None])


def fold(x: Tensor, first: Tensor, rows: Tensor) -> Tensor:
    """Add every row of ``x`` (B, 1, H, W), real or complex, to the one it folds onto; zeros elsewhere."""
    b, _, height, width = x.shape
    lands = folded_rows(height, first, rows) + height * torch.arange(b, device=x.device)[:, None]
    return torch.zeros_like(x).view(-1, width).index_add(0, lands.flatten(), x.reshape(-1, width)).view(x.shape)


def _window(x: Tensor, values: Sequence[Values]) -> tuple[Tensor, Tensor]:
    height = x.shape[-2]
    first, extent = object_rows(x)
    given = torch.tensor([v["fov_rows"] for v in values], device=x.device)
    overlap = torch.tensor([v["overlap"] for v in values], device=x.device, dtype=torch.float64)
    rows = torch.where(given > 0, given, (extent / (1 + overlap)).round().long()).clamp(1, height)
    # the operator centres the field of view on the object
    start = first + (extent - rows).div(2, rounding_mode="floor")
    fixed = torch.tensor([v.get("fov_start", -1) for v in values], device=x.device)
    start = torch.where(fixed >= 0, fixed, start)
    return torch.minimum(start.clamp_min(0), height - rows), rows


def _survey(x: Tensor, values: Values) -> Values:
    """Fix the field of view by one slice: a scan has one for all its slices."""
    if values["mode"] == "shift":
        return values
    start, rows = _window(x.mT if swapped(values) else x, [values])
    return {**values, "fov_start": int(start), "fov_rows": int(rows)}


def _overlap(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    return fold(with_phase(x, values), *_window(x, values)).abs()


def _fill(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    first, rows = _window(x, values)
    lands = folded_rows(x.shape[-2], first, rows)[:, None, :, None]
    return fold(with_phase(x, values), first, rows).abs().gather(-2, lands.expand_as(x))


def _shift(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    return shift_lines(x, column(values, "shift", x), -2)


NOISE = Noise(
    name="wrap-around",
    summary="MR wrap-around (fold-over): the object is larger than the phase-encode field of view",
    modalities=("mr",),
    formula="y(r) = |sum over m of x(r + m n)|,  n = object rows/(1 + overlap)",
    source="Pusey et al. 1986, RadioGraphics 6:461; Brown et al., Magnetic Resonance Imaging, 2nd ed., ch. 12",
    parameters={
        "overlap": Parameter("", "(object - field of view)/field of view along phase encoding", 0, 10),
        "fov_rows": Parameter("px", "field of view along phase encoding; 0: from overlap", 0, 65536, integer=True),
        "phase": Parameter("rad", "largest smooth object phase; 0 adds the copies in phase", 0, 10),
        "shift": Parameter("px", "cyclic shift along phase encoding", -65536, 65536),
        "phase_axis": PHASE_AXIS,
    },
    at_strength=_at_strength,
    draw=_draw,
    apply=oriented(by_mode({"overlap": _overlap, "fill": _fill, "shift": _shift})),
    modes=("overlap", "fill", "shift"),
    per_volume=True,
    survey=_survey,
    needs_nonnegative=("overlap", "fill"),
)
