"""What medfpl.saliency found, as the page shows it: maps on one scale, and flags with their places."""

from typing import TYPE_CHECKING

import numpy as np

from medfpl.report.collector import Flag
from medfpl.scan import FloatArray

if TYPE_CHECKING:
    from medfpl.saliency.maps import Maps
    from medfpl.saliency.trust import Assessment

# Of the map before: beyond it all is drawn alike.
FULL = 99.5


def maps_of(maps: "Maps") -> dict[str, FloatArray]:
    """Return the maps of a scan (z, y, x) by the names the page gives them, all on the scale of the one before.

    The size of the evidence runs from 0 to 1; of their difference, below 0 is what was lost.
    """
    scale = float(np.percentile(np.abs(maps.before), FULL)) or 1.0
    before, after = ((np.abs(m) / scale).astype(np.float32) for m in (maps.before, maps.after))
    return {"change": after - before, "features before": before, "features after": after}


def flags_of(assessment: "Assessment") -> list[Flag]:
    """Return a flag for each place that ``assessment`` names."""
    return [
        Flag(flag.reason, z, flag.tile, flag.score) for z, one in enumerate(assessment.slices) for flag in one.flags
    ]
