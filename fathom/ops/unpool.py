"""The way back of max pooling: values put where their maxima were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import DtypeError, ShapeError
from fathom.engine.primitive import Primitive, apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import on_arrays, operand, sizes
from fathom.ops.pool import checked_input, flat_axes, no_gradient, take_places, window_options
from fathom.ops.window import Sizes, volume

__all__ = [
    "max_unpool_nd",
]


def _unpool_forward(x: Any, index: Any, spatial: Sizes) -> Any:
    rank = len(spatial)
    shape = (*x.shape[: x.ndim - rank], *spatial)
    out = np.zeros((math.prod(shape[:-rank]), volume(spatial)), x.dtype)
    np.put_along_axis(out, flat_axes(index, rank), flat_axes(x, rank), axis=1)
    return out.reshape(shape)


_unpool: Primitive = general(
    "unpool",
    _unpool_forward,
    vjp=(
        lambda g, out, x, index, spatial: apply(take_places, g, index, rank=len(spatial)),
        no_gradient,
    ),
    jvp=(lambda t, out, x, index, spatial: apply(_unpool, t, index, spatial=spatial), None),
    saves="other",
    shape=lambda x, index, spatial: (*x.shape[: len(x.shape) - len(spatial)], *spatial),
    batch="native",
)


def max_unpool_nd(
    rank: int,
    input: TensorLike,
    indices: TensorLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Values back at the places `max_pool` took them from, zeros elsewhere.

    Of several values for one place, as overlapping windows give, one stays, and all get its
    gradient: they are the same maximum.
    """
    name = f"max_unpool{rank}d"
    x, index = checked_input(name, input, rank), operand(indices)
    kernel, step, pads, _ = window_options(name, rank, kernel_size, stride, padding, 1)
    if x.shape != index.shape:
        raise ShapeError(f"{name}: input {x.shape} and indices {index.shape} must have one shape")
    if output_size is None:
        spatial = tuple(
            (n - 1) * s - 2 * p + k
            for n, s, p, k in zip(x.shape[-rank:], step, pads, kernel, strict=True)
        )
    else:
        if not hasattr(output_size, "__index__"):
            output_size = tuple(output_size)[-rank:]
        spatial = sizes(name, "output_size", output_size, rank)
    on_arrays(_check_places, index, name=name, spatial=spatial)
    return apply(_unpool, x, index, spatial=spatial)


def _check_places(index: Any, name: str, spatial: Sizes) -> Any:
    if index.dtype.kind not in "iu":
        raise DtypeError(f"{name}: indices are whole numbers; received {index.dtype}")
    bad = (index < 0) | (index >= volume(spatial))
    if bad.any():
        raise ShapeError(
            f"{name}: index {index[bad][0]} lies outside of an output of size {spatial}; valid "
            f"are 0 to {volume(spatial) - 1}"
        )
    return index
