"""Pooling over one, two and three axes: the largest, the mean, the p-norm of each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.primitive import Primitive, apply, general, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.arguments import number, whole
from fathom.ops.checks import floats, need_axes, operand, sizes
from fathom.ops.elementwise import abs as abs_
from fathom.ops.elementwise import power, relu, sign
from fathom.ops.linalg import matmul
from fathom.ops.products import swap
from fathom.ops.shape import transpose
from fathom.ops.window import (
    Pads,
    Sizes,
    cropped,
    offsets,
    padded,
    reach,
    volume,
    window_counts,
)

__all__ = [
    "adaptive_avg_pool_nd",
    "adaptive_max_pool_nd",
    "avg_pool_nd",
    "local_response_norm",
    "lp_pool_nd",
    "max_pool_nd",
    "window_sum",
]


# -- primitives: all work on the last axes and take any number in front ----------------------------


def _cover(x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes, fill: float) -> tuple[Any, Pads]:  # fmt: skip # noqa: E501
    """x with borders such that exactly `counts` windows fit."""
    spatial = x.shape[x.ndim - len(kernel) :]
    ends = tuple(
        (n - 1) * s + r for n, s, r in zip(counts, stride, reach(kernel, dilation), strict=True)
    )
    pads = tuple((p, e - p - n) for p, e, n in zip(padding, ends, spatial, strict=True))
    return padded(x, pads, fill), pads


def _positions(
    spatial: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes
) -> tuple[Any, Any]:
    """Flat index of the start of every window, and of every place in it relative to that."""
    rank = len(kernel)
    starts, places = np.zeros(counts, np.int64), np.zeros(kernel, np.int64)
    for a in range(rank):
        weight = volume(spatial[a + 1 :])
        tail = (1,) * (rank - a - 1)
        starts = starts + ((np.arange(counts[a]) * stride[a] - padding[a]) * weight).reshape(
            (-1, *tail)
        )
        places = places + (np.arange(kernel[a]) * dilation[a] * weight).reshape((-1, *tail))
    return starts, places.ravel()


def _max_forward(
    x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes
) -> tuple[Any, Any]:
    """The largest of each window and its flat index in the input; the first of equals."""
    spatial = x.shape[x.ndim - len(kernel) :]
    x, _ = _cover(x, kernel, stride, padding, dilation, counts, -np.inf)
    places = list(offsets(kernel, stride, dilation, counts))
    best = x[places[0][1]].copy()
    winner = np.zeros(best.shape, np.uint8 if len(places) < 256 else np.int32)
    if any(padding):  # a border never wins, even against -inf
        winner += _first_inside(spatial, kernel, stride, padding, dilation, counts).astype(
            winner.dtype
        )
    for k, (_, where) in enumerate(places[1:], 1):
        value = x[where]
        better = np.greater(value, best)
        nan = np.not_equal(value, value)
        np.putmask(winner, better | nan, k)
        np.maximum(best, value, out=best)
    starts, relative = _positions(spatial, kernel, stride, padding, dilation, counts)
    return best, relative[winner] + starts


def _first_inside(
    spatial: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes
) -> Any:
    """For every window, the number of its first place that is not on the border."""
    rank, first = len(kernel), np.zeros(counts, np.int64)
    for a in range(rank):
        missing = padding[a] - np.arange(counts[a]) * stride[a]
        steps = np.maximum(0, -(-missing // dilation[a]))
        first = first + (steps * volume(kernel[a + 1 :])).reshape((-1, *(1,) * (rank - a - 1)))
    return first


_max_pool: Primitive = general(
    "max_pool",
    _max_forward,
    vjp=(
        lambda g, out, x, kernel, counts, **p: (
            None
            if g[0] is None
            else apply(_put, g[0], out[1], spatial=tuple(x.shape[len(x.shape) - len(kernel) :]))
        ),
    ),
    jvp=(
        lambda t, out, x, kernel, counts, **p: (
            apply(take_places, t, out[1], rank=len(kernel)),
            None,
        ),
    ),
    saves="out",
    batch="native",
)


def no_gradient(*args: Any, **params: Any) -> None:
    """The rule of an index, which may be the output of an operation with a gradient."""


def flat_axes(x: Any, rank: int) -> Any:
    """The last axes as one, all before them as another."""
    cut = x.ndim - rank
    return x.reshape(volume(x.shape[:cut]), volume(x.shape[cut:]))


def _take_forward(x: Any, index: Any, rank: int) -> Any:
    return np.take_along_axis(flat_axes(x, rank), flat_axes(index, rank), 1).reshape(index.shape)


def _put_forward(g: Any, index: Any, spatial: Sizes) -> Any:
    rank = len(spatial)
    lead = index.shape[: index.ndim - rank]
    rows, size = volume(lead), volume(spatial)
    out = np.zeros(rows * size, g.dtype)
    flat = flat_axes(index, rank) + (np.arange(rows) * size)[:, None]
    np.add.at(out, flat.ravel(), g.ravel())
    return out.reshape(*lead, *spatial)


take_places: Primitive = linear(
    "pool_take",
    _take_forward,
    (
        lambda g, out, x, index, rank: apply(
            _put, g, index, spatial=tuple(x.shape[len(x.shape) - rank :])
        ),
        no_gradient,
    ),
    saves="other",
    shape=lambda x, index, rank: index.shape,
    batch="native",
)
_put: Primitive = linear(
    "pool_put",
    _put_forward,
    (
        lambda g, out, x, index, spatial: apply(take_places, g, index, rank=len(spatial)),
        no_gradient,
    ),
    saves="other",
    shape=lambda g, index, spatial: (*g.shape[: len(g.shape) - len(spatial)], *spatial),
    batch="native",
)


def _sum_forward(x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, counts: Sizes) -> Any:
    """Sums of windows, one axis after the other."""
    rank = len(kernel)
    x, _ = _cover(x, kernel, stride, padding, (1,) * rank, counts, 0)
    for a in range(rank):
        tail = (slice(None),) * (rank - a - 1)
        end = stride[a] * (counts[a] - 1) + 1
        total = x[(..., slice(0, end, stride[a]), *tail)]
        if kernel[a] > 1:
            total = total.copy()
        for k in range(1, kernel[a]):
            total += x[(..., slice(k, k + end, stride[a]), *tail)]
        x = total
    return x if any(k > 1 for k in kernel) else x.copy()


def _spread_forward(
    g: Any, kernel: Sizes, stride: Sizes, padding: Sizes, counts: Sizes, spatial: Sizes
) -> Any:
    rank = len(kernel)
    lead = g.shape[: g.ndim - rank]
    done: list[int] = []  # the sizes of the axes already spread
    for a in range(rank):
        tail = (slice(None),) * (rank - a - 1)
        end = stride[a] * (counts[a] - 1) + 1
        shape = (*lead, *done, end + kernel[a] - 1, *counts[a + 1 :])
        out: Any = np.zeros(shape, g.dtype)
        for k in range(kernel[a]):
            out[(..., slice(k, k + end, stride[a]), *tail)] += g
        g = out
        done.append(shape[len(lead) + a])
    ends = g.shape[g.ndim - rank :]
    pads = tuple((p, e - p - n) for p, e, n in zip(padding, ends, spatial, strict=True))
    return cropped(g, spatial, pads)


_window_sum: Primitive = linear(
    "window_sum",
    _sum_forward,
    (
        lambda g, out, x, **p: apply(
            _window_spread, g, spatial=tuple(x.shape[len(x.shape) - len(p["kernel"]) :]), **p
        ),
    ),
    shape=lambda x, kernel, counts, **p: (*x.shape[: len(x.shape) - len(kernel)], *counts),
    batch="native",
)
_window_spread: Primitive = linear(
    "window_spread",
    _spread_forward,
    (
        lambda g, out, x, **p: apply(
            _window_sum, g, **{k: v for k, v in p.items() if k != "spatial"}
        ),
    ),
    shape=lambda g, kernel, spatial, **p: (*g.shape[: len(g.shape) - len(kernel)], *spatial),
    batch="native",
)


# -- windows from arguments ------------------------------------------------------------------------


def checked_input(name: str, x: Any, rank: int) -> Any:
    a = operand(x)
    floats(name, a)
    space = ", ".join("dhw"[3 - rank :] if rank > 1 else "l")
    need_axes(name, "the input", a, (rank + 1, rank + 2), f"(n, c, {space}) or (c, {space})")
    return a


def window_options(
    name: str, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    kernel = sizes(name, "kernel_size", kernel_size, rank)
    step = kernel if stride is None or stride == () else sizes(name, "stride", stride, rank)
    pads, spread = sizes(name, "padding", padding, rank, 0), sizes(name, "dilation", dilation, rank)
    if any(p > k // 2 for p, k in zip(pads, kernel, strict=True)):
        raise ArgumentError(
            f"{name}: padding {pads} may be at most half of the kernel {kernel}",
            fix="some windows would hold nothing but padding",
        )
    return kernel, step, pads, spread


def pool_counts(
    name: str, shape: Sequence[int], kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes,
    ceil_mode: bool,
) -> Sizes:  # fmt: skip
    """Windows per axis; with ceil_mode the last one may overhang if it starts inside."""
    rank = len(kernel)
    need = reach(kernel, dilation)
    spatial = shape[len(shape) - rank :]
    if not ceil_mode:
        pads = tuple((p, p) for p in padding)
        return window_counts(name, shape, kernel, stride, pads, dilation)
    counts = []
    for n, k, s, p in zip(spatial, need, stride, padding, strict=True):
        count = -(-(n + 2 * p - k) // s) + 1
        if (count - 1) * s >= n + p:
            count -= 1
        counts.append(count)
    if any(c < 1 for c in counts):
        raise ShapeError(f"{name}: windows that reach over {need} do not fit into {tuple(shape)}")
    return tuple(counts)


# -- what `fathom.nn.functional` is made of --------------------------------------------------------


def max_pool_nd(
    rank: int,
    input: TensorLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window; (n, c, *spatial) or (c, *spatial).

    stride : `kernel_size` by default. padding : -inf around the input, at most half a kernel.
    ceil_mode : a last window may overhang. return_indices : also where each maximum stands, as
    its number in the flattened spatial axes. Of equals the first gets the gradient.
    """
    name = f"max_pool{rank}d"
    x = checked_input(name, input, rank)
    kernel, step, pads, spread = window_options(name, rank, kernel_size, stride, padding, dilation)
    counts = pool_counts(name, x.shape, kernel, step, pads, spread, ceil_mode)
    values, index = apply(
        _max_pool, x, kernel=kernel, stride=step, padding=pads, dilation=spread, counts=counts
    )
    return (values, index) if return_indices else values


def _divisor(
    x: Any, kernel: Sizes, step: Sizes, pads: Sizes, counts: Sizes, include_pad: bool
) -> Any:
    """How many elements each window averages: a number, or an array where windows differ."""
    total: Any = 1
    rank = len(kernel)
    for a in range(rank):
        n, border = x.shape[x.ndim - rank + a], pads[a] if include_pad else 0
        start = np.arange(counts[a]) * step[a] - pads[a]
        end = np.minimum(start + kernel[a], n + border)
        size = end - np.maximum(start, -border)
        total = total * size.reshape((-1, *(1,) * (rank - a - 1)))
    if (total == volume(kernel)).all():
        return 1.0 / volume(kernel)
    return np.reciprocal(total.astype(x.dtype))


def window_sum(x: Any, kernel: Sizes, step: Sizes, pads: Sizes, counts: Sizes) -> Any:
    """Sums of windows over the last axes."""
    return apply(_window_sum, x, kernel=kernel, stride=step, padding=pads, counts=counts)


def avg_pool_nd(
    rank: int,
    input: TensorLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window; (n, c, *spatial) or (c, *spatial).

    stride : `kernel_size` by default. padding : zeros around the input, at most half a kernel.
    ceil_mode : a last window may overhang. count_include_pad : zeros of the padding count.
    divisor_override : divide by this instead of by the number of elements.
    """
    name = f"avg_pool{rank}d"
    x = checked_input(name, input, rank)
    kernel, step, pads, one = window_options(name, rank, kernel_size, stride, padding, 1)
    counts = pool_counts(name, x.shape, kernel, step, pads, one, ceil_mode)
    if divisor_override is not None:
        if whole(divisor_override, "divisor_override", name) == 0:
            raise ArgumentError(f"{name}: divisor_override must not be 0")
        scale: Any = 1.0 / divisor_override
    else:
        scale = _divisor(x, kernel, step, pads, counts, count_include_pad)
    return window_sum(x, kernel, step, pads, counts) * scale


def lp_pool_nd(
    rank: int,
    input: TensorLike,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Any:
    """(sum of x^norm_type over each window)^(1/norm_type); (n, c, *spatial) or (c, *spatial)."""
    name = f"lp_pool{rank}d"
    x = checked_input(name, input, rank)
    kernel, step, pads, one = window_options(name, rank, kernel_size, stride, 0, 1)
    counts = pool_counts(name, x.shape, kernel, step, pads, one, ceil_mode)
    number(norm_type, "norm_type", name, 0.0, above=True)
    mean = window_sum(power(x, norm_type), kernel, step, pads, counts)
    if ceil_mode:  # an overhanging window stands for a whole one, as in PyTorch
        mean = mean * (_divisor(x, kernel, step, pads, counts, True) * volume(kernel))
    return power(sign(mean) * relu(abs_(mean)), 1.0 / norm_type)


# -- adaptive: the output size is given ------------------------------------------------------------


def _targets(name: str, x: Any, rank: int, output_size: Any) -> Sizes:
    several = isinstance(output_size, list | tuple)
    parts = tuple(output_size) if several else (output_size,) * rank
    if len(parts) != rank:
        raise ArgumentError(f"{name}: output_size needs {rank} numbers; received {output_size!r}")
    spatial = x.shape[x.ndim - rank :]
    filled = tuple(n if p is None else p for p, n in zip(parts, spatial, strict=True))
    if any(n < 1 for n in spatial):
        raise ShapeError(f"{name}: there is nothing to pool in an input of shape {x.shape}")
    return sizes(name, "output_size", filled, rank)


def _regions(size: int, count: int) -> tuple[Any, Any]:
    """Start and end of each of `count` regions that cover `size` elements."""
    i = np.arange(count)
    return i * size // count, -(-(i + 1) * size // count)


def adaptive_avg_pool_nd(rank: int, input: TensorLike, output_size: Any) -> Any:
    """The mean of as many regions as asked for; (n, c, *spatial) or (c, *spatial).

    output_size : a number, or one for each axis; None keeps the size of an axis. 1 gives
    global pooling.
    """
    name = f"adaptive_avg_pool{rank}d"
    x = checked_input(name, input, rank)
    targets = _targets(name, x, rank, output_size)
    spatial = x.shape[x.ndim - rank :]
    if not any(n % t for n, t in zip(spatial, targets, strict=True)):
        kernel = tuple(n // t for n, t in zip(spatial, targets, strict=True))
        return window_sum(x, kernel, kernel, (0,) * rank, targets) * (1.0 / volume(kernel))
    for a, (n, t) in enumerate(zip(spatial, targets, strict=True)):
        start, end = _regions(n, t)
        i = np.arange(n)
        inside = (i >= start[:, None]) & (i < end[:, None])
        x = along(x, (inside / (end - start)[:, None]).astype(x.dtype), a - rank)
    return x


def along(x: Any, matrix: Any, axis: int) -> Any:
    """matrix (m, n) applied to one axis of x."""
    if axis == -1:
        return matmul(x, swap(matrix))
    if axis == -2:
        return matmul(matrix, x)
    return transpose(matmul(transpose(x, axis, -1), swap(matrix)), axis, -1)


def _adaptive_index(x: Any, counts: Sizes) -> Any:
    """The flat index of the largest element of each region."""
    rank = len(counts)
    spatial = x.shape[x.ndim - rank :]
    lead = x.shape[: x.ndim - rank]
    flat = np.arange(volume(spatial)).reshape(spatial)
    edges = [list(zip(*_regions(n, c), strict=True)) for n, c in zip(spatial, counts, strict=True)]
    out = np.empty((*lead, *counts), np.int64)
    for cell in np.ndindex(*counts):
        where = tuple(slice(*edges[a][i]) for a, i in enumerate(cell))
        region = x[(..., *where)]
        region = region.reshape(*lead, volume(region.shape[len(lead) :]))
        out[(..., *cell)] = flat[where].ravel()[np.argmax(region, axis=-1)]
    return out


_adaptive: Primitive = general("adaptive_max_index", _adaptive_index, batch="native")


def adaptive_max_pool_nd(
    rank: int, input: TensorLike, output_size: Any, return_indices: bool = False
) -> Any:
    """The largest of as many regions as asked for; (n, c, *spatial) or (c, *spatial).

    output_size : a number, or one for each axis; None keeps the size of an axis.
    return_indices : also where each maximum stands in the flattened spatial axes.
    """
    name = f"adaptive_max_pool{rank}d"
    x = checked_input(name, input, rank)
    targets = _targets(name, x, rank, output_size)
    spatial = x.shape[x.ndim - rank :]
    if not any(n % t for n, t in zip(spatial, targets, strict=True)):
        kernel = tuple(n // t for n, t in zip(spatial, targets, strict=True))
        return max_pool_nd(rank, x, kernel, return_indices=return_indices)
    index = apply(_adaptive, x, counts=targets)
    values = apply(take_places, x, index, rank=rank)
    return (values, index) if return_indices else values


# -- neighbouring channels -------------------------------------------------------------------------


def local_response_norm(
    input: TensorLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta; (n, c, ...).

    Krizhevsky, Sutskever and Hinton (2012).
    """
    for key, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        number(value, key, "local_response_norm")
    x: Any = operand(input)
    floats("local_response_norm", x)
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: needs (n, c, ...); received shape {x.shape}")
    (n,) = sizes("local_response_norm", "size", size, 1)
    squares = window_sum(transpose(x * x, 1, -1), (n,), (1,), (n // 2,), (x.shape[1],))
    return x / power(k + transpose(squares, 1, -1) * (alpha / n), beta)
