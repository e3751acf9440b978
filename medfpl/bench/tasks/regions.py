"""Where in a clean slice something can be measured: tissue, homogeneous places, tissue classes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medfpl.bench.cases import Case
from medfpl.scan import FloatArray

Mask = npt.NDArray[np.bool_]
Place = tuple[int, int]

# HU; each class is what radiologists call by that name, with room between them.
CT_CLASSES = {
    "air": (-np.inf, -970.0),
    "lung": (-950.0, -600.0),
    "fat": (-120.0, -60.0),
    "soft tissue": (0.0, 80.0),
    "bone": (200.0, np.inf),
}
TISSUE_HU = (-150.0, 250.0)
TISSUE_RANGE = (0.15, 0.95)  # of the working range, for images without a scale of their own
CLASS_MARGIN, CLASS_SMALLEST = 2, 400  # pixels


def plane(image: Tensor) -> FloatArray:
    """Return an image (1, 1, H, W) as a float32 array (H, W)."""
    return image.detach().reshape(image.shape[-2:]).float().cpu().numpy()


def tissue(case: Case) -> Mask:
    """Return where lesions could grow: -150 to 250 HU on a CT, else 15 to 95 % of the range, after light smoothing."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(plane(case.image), 1.5)
    if case.intensity.kind == "ct":
        low, high = case.intensity.to_working(np.array(TISSUE_HU, np.float32))
    else:
        low, high = TISSUE_RANGE
    return np.asarray((smooth > low) & (smooth < high))


def local_sd(image: FloatArray, size: int) -> FloatArray:
    """Return the standard deviation of the ``size`` x ``size`` window (odd) about each pixel, in the image's unit."""
    from scipy.ndimage import uniform_filter

    x = image.astype(np.float64) - image.mean(dtype=np.float64)
    return np.sqrt(np.maximum(uniform_filter(x * x, size) - uniform_filter(x, size) ** 2, 0)).astype(np.float32)


def homogeneous(case: Case, size: int, share: float = 0.5) -> tuple[Mask, FloatArray]:
    """Return the centres of the flattest ``share`` of the windows that lie in tissue, and every window's sd.

    A window is ``size`` x ``size`` pixels (odd) and does not cross the border of the image.
    """
    from scipy.ndimage import minimum_filter

    sd = local_sd(plane(case.image), size)
    whole = np.asarray(minimum_filter(tissue(case), size, mode="constant", cval=0), dtype=bool)
    if not whole.any():
        return whole, sd
    return whole & (sd <= np.quantile(sd[whole], share)), sd


def spread(rng: np.random.Generator, case: Case, reaches: Sequence[int], margins: Sequence[int]) -> list[Place | None]:
    """Choose a place for each of ``reaches`` (pixels), largest first: windows lie in the image and do not overlap.

    The part of a window within its entry of ``margins`` is homogeneous tissue. The order of the result is that of
    ``reaches``; None where there is no more room.
    """
    height, width = case.image.shape[-2:]
    found: list[Place | None] = [None] * len(reaches)
    pools: dict[int, npt.NDArray[np.intp]] = {}
    for i in sorted(range(len(reaches)), key=lambda i: -reaches[i]):
        reach, margin = reaches[i], margins[i]
        if margin not in pools:
            pools[margin] = rng.permutation(np.argwhere(homogeneous(case, 2 * margin + 1)[0]))
        pool = pools[margin]
        free = ((pool >= reach) & (pool < np.array([height, width]) - reach)).all(1)
        for j, other in enumerate(found):
            if other is not None:
                free &= np.abs(pool - np.array(other)).max(1) > reach + reaches[j]
        if free.any():
            row, column = pool[int(np.argmax(free))]
            found[i] = int(row), int(column)
    return found


def classes(case: Case) -> dict[str, Mask]:
    """Return the pixels well inside each tissue class that has at least 400 of them.

    On a CT the classes of ``CT_CLASSES`` by the smoothed HU; else the dark, middle and bright third of the body's
    pixels (above 5 % of the range). Two pixels next to another class are left out.
    """
    from scipy.ndimage import gaussian_filter, minimum_filter

    smooth = gaussian_filter(plane(case.image), 1.0)
    masks: dict[str, Mask]
    if case.intensity.kind == "ct":
        real = case.intensity.to_real(smooth)
        masks = {name: (real > low) & (real < high) for name, (low, high) in CT_CLASSES.items()}
    else:
        body = smooth > 0.05
        if not body.any():
            return {}
        low, high = np.quantile(smooth[body], (1 / 3, 2 / 3))
        masks = {"dark": body & (smooth < low), "middle": (smooth >= low) & (smooth < high), "bright": smooth >= high}
    size = 2 * CLASS_MARGIN + 1
    eroded = {n: np.asarray(minimum_filter(m, size, mode="nearest"), dtype=bool) for n, m in masks.items()}
    return {n: m for n, m in eroded.items() if m.sum() >= CLASS_SMALLEST}
