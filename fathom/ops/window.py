"""Sliding windows over the last axes: their sizes, views of them, and what was summed back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fathom.engine.errors import ShapeError, mark_axes

__all__: list[str] = []

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def reach(kernel: Sizes, dilation: Sizes) -> Sizes:
    """How far a window extends."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def window_counts(
    name: str, shape: Sequence[int], kernel: Sizes, stride: Sizes, padding: Pads, dilation: Sizes
) -> Sizes:
    """How many windows fit on each of the last axes; an error where there is no room for one."""
    rank = len(kernel)
    spatial = shape[len(shape) - rank :]
    room = tuple(n + lo + hi for n, (lo, hi) in zip(spatial, padding, strict=True))
    need = reach(kernel, dilation)
    small = [i - rank for i in range(rank) if room[i] < need[i]]
    if small:
        raise ShapeError(
            f"{name}: a kernel that reaches over {need} does not fit into "
            f"{mark_axes(shape, small)} with padding {padding}",
            fix="use a smaller kernel or dilation, more padding, or a larger input",
        )
    return tuple((r - k) // s + 1 for r, k, s in zip(room, need, stride, strict=True))


def padded(x: Any, padding: Pads, fill: float = 0) -> Any:
    """x with borders on its last axes; negative borders cut off."""
    if not any(lo or hi for lo, hi in padding):
        return x
    lead = x.ndim - len(padding)
    sizes = [n + lo + hi for n, (lo, hi) in zip(x.shape[lead:], padding, strict=True)]
    out = np.full((*x.shape[:lead], *sizes), fill, x.dtype)
    inner, outer = [...], [...]
    for n, (lo, hi) in zip(x.shape[lead:], padding, strict=True):
        outer.append(slice(max(lo, 0), n + lo + min(hi, 0)))  # type: ignore[arg-type]
        inner.append(slice(max(-lo, 0), n + min(hi, 0)))  # type: ignore[arg-type]
    out[tuple(outer)] = x[tuple(inner)]
    return out


def windows(x: Any, kernel: Sizes, stride: Sizes, dilation: Sizes, counts: Sizes) -> Any:
    """A view (..., *kernel, *counts) of padded x (..., *spatial); nothing is copied."""
    lead = x.ndim - len(kernel)
    step = x.strides[lead:]
    return as_strided(
        x,
        (*x.shape[:lead], *kernel, *counts),
        (
            *x.strides[:lead],
            *(s * d for s, d in zip(step, dilation, strict=True)),
            *(s * d for s, d in zip(step, stride, strict=True)),
        ),
        writeable=False,
    )


def offsets(
    kernel: Sizes, stride: Sizes, dilation: Sizes, counts: Sizes
) -> Iterator[tuple[Sizes, Any]]:
    """Each place of the kernel, and the slice of the padded input that it meets."""
    for place in itertools.product(*map(range, kernel)):
        yield (
            place,
            (
                ...,
                *(
                    slice(p * d, p * d + s * (n - 1) + 1, s)
                    for p, d, s, n in zip(place, dilation, stride, counts, strict=True)
                ),
            ),
        )


def scatter_windows(
    parts: Any, spatial: Sizes, kernel: Sizes, stride: Sizes, padding: Pads, dilation: Sizes
) -> Any:
    """The transpose of `windows`: parts (..., *kernel, *counts) added up into (..., *spatial)."""
    rank = len(kernel)
    counts = parts.shape[parts.ndim - rank :]
    lead = parts.shape[: parts.ndim - 2 * rank]
    sizes = [n + lo + hi for n, (lo, hi) in zip(spatial, padding, strict=True)]
    out = np.zeros((*lead, *sizes), parts.dtype)
    head = (slice(None),) * len(lead)
    for place, where in offsets(kernel, stride, dilation, counts):
        out[where] += parts[(*head, *place)]
    return cropped(out, spatial, padding)


def cropped(x: Any, spatial: Sizes, padding: Pads) -> Any:
    """Without the borders that `padded` put on."""
    if not any(lo or hi for lo, hi in padding):
        return x
    if any(lo < 0 or hi < 0 for lo, hi in padding):
        return padded(x, tuple((-lo, -hi) for lo, hi in padding))
    return x[(..., *(slice(lo, lo + n) for n, (lo, _) in zip(spatial, padding, strict=True)))]


def blocks(count: int, size: int, budget: int = 1 << 19) -> Iterator[slice]:
    """Slices of `count` samples of `size` elements each, so that one fits into the cache."""
    step = max(1, budget // max(size, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def volume(sizes: Sequence[int]) -> int:
    return math.prod(sizes)
