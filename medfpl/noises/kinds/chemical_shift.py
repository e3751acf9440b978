"""Chemical shift of fat: its protons precess 3.5 ppm slower than those of water, so fat moves along the readout."""

from collections.abc import Sequence

from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

from medfpl.noises.axes import PHASE_AXIS, oriented
from medfpl.noises.base import Context, Noise, Parameter, Values, by_mode, column
from medfpl.noises.displace import GAMMA_BAR
from medfpl.noises.fourier import shift_lines

FAT_PPM = 3.5
FAT_HU, SOFT_HU = (-150.0, -30.0), 30.0
FAT_T1, SOFT_T1 = (0.8, 10.0), 0.15  # fat is the bright end of a T1-weighted image
AREA = 5  # px: side of the square that fat must mostly fill; an edge that crosses the band does not


def _at_strength(s: float, mode: str, context: Context) -> Values:
    # 2.5 s px at 1.5 T: the bandwidth sets the shift
    scanner = {"field": 1.5, "bandwidth": FAT_PPM * GAMMA_BAR * 1.5 / (2.5 * s), "phase_axis": "rows"}
    if mode == "constant":
        return {"fraction": 1.0, **scanner}
    (low, high), soft = FAT_T1, SOFT_T1
    if context.kind == "ct":
        window = context.white - context.black
        low, high, soft = (FAT_HU[0] - context.black) / window, (FAT_HU[1] - context.black) / window, SOFT_HU / window
    return {"low": low, "high": high, "softness": soft, **scanner}


def fat_shift(values: Sequence[Values], like: Tensor) -> Tensor:
    """Return by how many px fat moves along the readout: (B, 1, 1, 1)."""
    return FAT_PPM * GAMMA_BAR * column(values, "field", like) / column(values, "bandwidth", like)


def fat_fraction(x: Tensor, values: Sequence[Values]) -> Tensor:
    """Return a map in [0, 1] of the areas whose intensity lies in each item's band: (B, 1, H, W).

    The band's ends are ``softness`` wide. Partial volume makes thin lines in the band along every strong edge;
    only what fills most of a small square counts, and its rim is smooth.
    """
    low, high, soft = (column(values, key, x) for key in ("low", "high", "softness"))
    band = ((x - low) / soft + 0.5).clamp(0, 1) * ((high - x) / soft + 0.5).clamp(0, 1)
    filled = avg_pool2d(band, AREA, 1, AREA // 2, count_include_pad=False)
    inside = ((filled - 0.45) / 0.3).clamp(0, 1)
    return avg_pool2d(band * inside, 3, 1, 1, count_include_pad=False)


def _move_fat(x: Tensor, fraction: Tensor, values: Sequence[Values]) -> Tensor:
    fat = fraction * x
    return x - fat + shift_lines(fat, fat_shift(values, x), -1)


def _band(x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]) -> Tensor:
    return _move_fat(x, fat_fraction(x, values), values)


def _constant(
    x: Tensor, values: Sequence[Values], generators: Sequence[Generator], contexts: Sequence[Context]
) -> Tensor:
    return _move_fat(x, column(values, "fraction", x), values)


NOISE = Noise(
    name="chemical-shift",
    summary="MR chemical shift: fat is displaced along the readout",
    modalities=("mr",),
    formula="y = (1 - f) x + shift(f x, d),  d = 3.5 ppm * 42.577 MHz/T * field/bandwidth;  f the fat fraction",
    source="Hood et al. 1999, RadioGraphics 19:357; Brown et al., Magnetic Resonance Imaging, 2nd ed., ch. 17",
    parameters={
        "field": Parameter("T", "main field", 0, 30),
        "bandwidth": Parameter("Hz/px", "receiver bandwidth a pixel", 1, 1e9),
        "low": Parameter("working units", "lower end of fat's intensity band", -100, 100),
        "high": Parameter("working units", "upper end of fat's intensity band", -100, 100),
        "softness": Parameter("working units", "width of the band's ends", 1e-6, 100),
        "fraction": Parameter("", "fat fraction of every pixel", 0, 1),
        "phase_axis": PHASE_AXIS,
    },
    at_strength=_at_strength,
    apply=oriented(by_mode({"band": _band, "constant": _constant})),
    modes=("band", "constant"),
    per_volume=True,
)
