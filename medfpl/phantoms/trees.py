"""Branching trees for vessels and bronchi: points joined to a tree, thicker where more of it hangs on."""

import numpy as np
import numpy.typing as npt

from medfpl.phantoms.shapes import Point, Tube

Points = npt.NDArray[np.float64]


def grow(
    generator: np.random.Generator,
    root: Point,
    points: Points,
    *,
    tip: float,
    exponent: float = 2.7,
    balance: float = 0.5,
) -> list[Tube]:
    """Join ``points`` (n, 3) to ``root`` and return the branches: tubes of two segments, the tips ``tip`` mm in radius.

    Each point joins where the wire to it plus ``balance`` times its way to the root is shortest (Cuntz et al. 2010,
    PLoS Comput Biol 6:e1000877). Radii to the power ``exponent`` add up at branchings (3: Murray 1926).
    """
    order = np.argsort(np.linalg.norm(points - root, axis=1), kind="stable")
    nodes = np.vstack([root, points[order]])
    parent = np.zeros(len(nodes), int)
    way = np.zeros(len(nodes))
    for i in range(1, len(nodes)):
        wire = np.linalg.norm(nodes[:i] - nodes[i], axis=1)
        parent[i] = np.argmin(wire + balance * way[:i])
        way[i] = way[parent[i]] + wire[parent[i]]
    load = np.zeros(len(nodes))
    for i in range(len(nodes) - 1, 0, -1):
        load[i] = max(load[i], 1.0)
        load[parent[i]] += load[i]
    radius = tip * np.maximum(load, 1) ** (1 / exponent)
    bend = 0.08 * generator.normal(size=nodes.shape)
    tubes = []
    for i in range(1, len(nodes)):
        a, b = nodes[parent[i]], nodes[i]
        middle = (a + b) / 2 + bend[i] * np.linalg.norm(b - a)
        # A branch leaves its parent at its own width, not at the parent's.
        start = min(radius[parent[i]], 1.25 * radius[i])
        tubes.append(Tube(np.array([a, middle, b]), np.array([start, (start + radius[i]) / 2, radius[i]])))
    return tubes
