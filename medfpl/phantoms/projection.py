"""A chest X-ray from a chest: Beer-Lambert along parallel rays, a counting detector, a logarithmic display."""

import numpy as np
import numpy.typing as npt

from medfpl.scan import FloatArray

WATER_PER_MM = 0.0175  # effective attenuation at about 110 kVp behind the patient's own filter


def line_integrals(hu: FloatArray, thickness_mm: float) -> FloatArray:
    """Return the attenuation along y of a volume (z, y, x) in HU, as an image (z, x) with the head at the top.

    Parallel rays: mu = mu_water (1 + HU / 1000), none below air.
    """
    mu = WATER_PER_MM * np.clip(1 + hu / np.float32(1000), 0, None)
    return np.ascontiguousarray((mu.sum(1, dtype=np.float32) * np.float32(thickness_mm))[::-1])


def detector(
    integrals: FloatArray, generator: np.random.Generator | None, *, quanta: float = 4000.0, electronic: float = 6.0
) -> FloatArray:
    """Return the detected signal relative to the open beam: exp(-p), Poisson with ``quanta`` a pixel in air.

    ``electronic`` is the read-out noise in quanta. Without a generator the expected signal is returned.
    """
    expected = np.exp(-integrals.astype(np.float64))
    if generator is None:
        return expected.astype(np.float32)
    counted = generator.poisson(quanta * expected) + electronic * generator.standard_normal(expected.shape)
    return (counted / quanta).astype(np.float32)


def display(
    signal: FloatArray, *, low: float, high: float, bits: int = 12, quanta: float = 4000.0
) -> npt.NDArray[np.uint16]:
    """Return stored values for MONOCHROME2, bone white: -log(signal) from ``low`` (black) to ``high`` (white).

    Signals below one quantum count as one, as a detector's logarithm does.
    """
    attenuation = -np.log(np.maximum(signal.astype(np.float64), 1 / quanta))
    share = np.clip((attenuation - low) / (high - low), 0, 1)
    return np.rint(share * (2**bits - 1)).astype(np.uint16)
