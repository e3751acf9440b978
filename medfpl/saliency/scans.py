"""Scans, slice by slice: their feature maps, what can be trusted, and the numbers of each slice."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medfpl.pipeline.engine import fill_invalid, noise_of_slices
from medfpl.saliency.maps import Explainer, Maps, explain_pair
from medfpl.saliency.trust import Assessment, SliceTrust, assess, to_plain
from medfpl.scan import FloatArray, Scan

# Maps of more bytes than this lie in a file without a name, and in memory only as far as they are in use.
IN_MEMORY = 1 << 26


@dataclass(frozen=True)
class Explained:
    """The maps (z, y, x) of a pair of scans, 0 where pixels are not valid, and what can be trusted of the change.

    ``noise`` is that of each slice before and after (standard deviation in real units).
    """

    maps: Maps
    trust: Assessment
    noise: tuple[tuple[float, float], ...]

    @property
    def distance(self) -> float:
        """The median feature distance of the slices."""
        return float(np.median(self.maps.distance))


def explain_scans(
    before: Scan,
    after: Scan,
    explainer: Explainer,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Explained:
    """Return maps and trust of ``after``, which was made of ``before``; ``watch(done, total)`` is told the slices.

    Slices are explained one by one, and a long volume's maps lie on disk: memory is that of one slice.
    """
    shape = before.pixels.shape
    kept = Maps(_array(shape), _array(shape), _array(shape), np.zeros(shape[0], np.float32))
    trust: list[SliceTrust] = []
    for z in range(shape[0]):
        watch(z, shape[0])
        valid = None if before.valid is None else before.valid[z : z + 1]
        was, now = (fill_invalid(s.intensity.to_working(s.pixels[z : z + 1]), valid) for s in (before, after))
        noisy, denoised = (torch.from_numpy(image)[:, None] for image in (was, now))
        maps = explain_pair(explainer.net, noisy, denoised, explainer.rules)
        for name in ("before", "after", "difference"):
            values = getattr(maps, name)[0]
            getattr(kept, name)[z] = values if valid is None else np.where(valid[0], values, 0)
        kept.distance[z] = maps.distance[0]
        trust += assess(was, now, valid).slices
    watch(shape[0], shape[0])
    return Explained(kept, Assessment(tuple(trust)), tuple(noise_of_slices(before, after)))


def record_slices(found: Explained) -> list[dict[str, Any]]:
    """Return the numbers of each slice as plain values: feature distance, trust, noise before and after."""
    rows = []
    for z, (distance, trust) in enumerate(zip(found.maps.distance, found.trust.slices, strict=True)):
        levels = {"noise_before": found.noise[z][0], "noise_after": found.noise[z][1]}
        rows.append({"slice": z, "feature_distance": round(float(distance), 6), **levels, "trust": to_plain(trust)})
    return rows


def _array(shape: tuple[int, ...]) -> FloatArray:
    if int(np.prod(shape)) * 4 <= IN_MEMORY:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the name and the handle
        made: npt.NDArray[Any] = np.memmap(file, np.float32, "w+", shape=shape)
        return made
