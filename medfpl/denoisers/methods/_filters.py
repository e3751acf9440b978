"""What the classical filters share: windows as shifted views, so that every item is computed alone.

Only element-wise operations on shifted views are used, no library convolution: an item's result is then bit for bit
the same in any batch. Borders continue by half-sample reflection (c b a | a b c), to any distance.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from medfpl.errors import UsageError


def require_odd(name: str, size: int) -> None:
    """Raise UsageError unless the window ``size`` has a middle pixel."""
    if size % 2 == 0:
        raise UsageError(f"{name}={size} has no middle pixel", "use an odd number")


def reflect(x: Tensor, rows: int, columns: int) -> Tensor:
    """Continue ``x`` (..., H, W) by half-sample reflection: ``rows`` at top and bottom, ``columns`` at the sides."""
    for dim, pad in ((-2, rows), (-1, columns)):
        if pad:
            n = x.shape[dim]
            i = torch.arange(-pad, n + pad, device=x.device).remainder(2 * n)
            x = x.index_select(dim, torch.minimum(i, 2 * n - 1 - i))
    return x


def window_sum(x: Tensor, size: int, dim: int) -> Tensor:
    """Sum ``size`` neighbours along ``dim``, whole windows only: the axis gets shorter by ``size - 1``."""
    # Sums of 1, 2, 4, ... neighbours are joined, so that a wide window costs its logarithm.
    length = x.shape[dim] - size + 1
    total, start, power, width = None, 0, x, 1
    while True:
        if size & width:
            part = power.narrow(dim, start, length)
            total = part if total is None else total + part
            start += width
        if 2 * width > size:
            return x.clone() if total is None else total
        power = power.narrow(dim, 0, power.shape[dim] - width) + power.narrow(dim, width, power.shape[dim] - width)
        width *= 2


def box_mean(x: Tensor, size: int) -> Tensor:
    """Return the mean of the ``size`` x ``size`` window about each pixel."""
    r = size // 2
    return window_sum(window_sum(reflect(x, r, r), size, -1), size, -2) / (size * size)


def gaussian_blur(x: Tensor, sigma: Tensor | float, truncate: float = 4.0) -> Tensor:
    """Smooth with a sampled Gaussian of ``sigma`` pixels, cut at ``truncate`` sigmas; one sigma or one an item.

    Sigma 0 gives the item back. The same kernel as scipy.ndimage.gaussian_filter.
    """
    sigmas = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1).tolist()
    radii = [int(truncate * s + 0.5) for s in sigmas]
    r = max(radii)
    offsets = torch.arange(-r, r + 1, dtype=torch.float64)
    # A shorter kernel is filled with exact zeros, so that an item does not feel its neighbours' width.
    rows = [
        torch.where(offsets.abs() <= ri, torch.exp(-0.5 * (offsets / max(s, 1e-9)) ** 2), 0.0)
        for s, ri in zip(sigmas, radii, strict=True)
    ]
    kernel = torch.stack(rows)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(x.device, x.dtype)
    for dim in (-2, -1):
        n = x.shape[dim]
        wide = reflect(x, r if dim == -2 else 0, r if dim == -1 else 0)
        x = wide.narrow(dim, r, n) * kernel[:, r].view(-1, 1, 1, 1)
        for i in range(r):
            pair = wide.narrow(dim, i, n) + wide.narrow(dim, 2 * r - i, n)
            x = torch.addcmul(x, pair, kernel[:, i].view(-1, 1, 1, 1))
    return x


def window_median(x: Tensor, size: int) -> Tensor:
    """Return the median of the ``size`` x ``size`` window about each pixel."""
    r, (h, w) = size // 2, x.shape[-2:]
    # One plane a window pixel: split the batch where they would need more than half a gigabyte.
    at_once = max(1, 2**27 // (size * size * h * w))
    results = []
    for part in x.split(at_once):
        wide = reflect(part, r, r)
        wires = [wide[..., i : i + h, j : j + w] for i in range(size) for j in range(size)]
        for a, b, low, high in median_network(size * size):
            small = torch.minimum(wires[a], wires[b]) if low else wires[a]
            wires[b] = torch.maximum(wires[a], wires[b]) if high else wires[b]
            wires[a] = small
        results.append(wires[size * size // 2])
    return torch.cat(results)


@cache
def median_network(n: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return compare-exchanges (a, b, keep the minimum in a, keep the maximum in b) that put the median in the middle.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M) for ``n`` values, without
    the exchanges and halves of exchanges that the middle value does not need.
    """
    needed = {n // 2}
    kept = []
    for a, b in reversed(list(_merge_exchange(n))):
        if a in needed or b in needed:
            kept.append((a, b, a in needed, b in needed))
            needed |= {a, b}
    return tuple(reversed(kept))


def _merge_exchange(n: int) -> Iterator[tuple[int, int]]:
    top = 1 << ((n - 1).bit_length() - 1) if n > 1 else 0
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2


def half_plane(radius: int, h: int, w: int) -> Iterator[tuple[int, int]]:
    """Yield each pair of opposite offsets (dy, dx) of the window once, with dy >= 0, that an (h, w) image can hold."""
    for dy in range(min(radius, h - 1) + 1):
        reach = min(radius, w - 1)
        yield from ((dy, dx) for dx in range(-reach, reach + 1) if dy > 0 or dx > 0)


def shifted(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Return the views (x at p, x at p + (dy, dx)) of all pixels p where both lie in the image; dy >= 0."""
    h, w = x.shape[-2:]
    left, right = max(-dx, 0), max(dx, 0)
    return x[..., : h - dy, left : w - right], x[..., dy:, left + dx : w - right + dx]
