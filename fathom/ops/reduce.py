"""Reductions: many numbers to fewer, along one, several or all axes."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from fathom.engine.errors import ShapeError
from fathom.engine.primitive import apply, general, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, all_axes, one_axis, reduced_shape, torch_names
from fathom.ops.elementwise import equal, sqrt, square
from fathom.ops.shape import broadcast_to, reshape

__all__ = [
    "argmax",
    "max",
    "mean",
    "min",
    "std",
    "sum",
    "var",
]


def _spread(g: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """A reduced value back in the shape it came from."""
    return broadcast_to(reshape(g, reduced_shape(x.shape, axis, True)), x.shape)


def _shape(x: Any, axis: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    return reduced_shape(x.shape, axis, keepdims)


_sum = linear(
    "sum",
    lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
    (lambda g, out, x, axis, keepdims: _spread(g, x, axis),),
    batch="axis",
    shape=_shape,
)


def _mean_forward(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    total: Any = np.add.reduce(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]
    return np.true_divide(total, _count(x, axis))


_mean = linear(
    "mean",
    _mean_forward,
    (lambda g, out, x, axis, keepdims: _spread(g, x, axis) * (1.0 / _count(x, axis)),),
    batch="axis",
    shape=_shape,
)


def _count(x: Any, axis: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axis)


def _extreme_vjp(g: Any, out: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    hit = equal(x, _spread(out, x, axis)).astype(x.dtype)
    return _spread(g, x, axis) * (hit / hit.sum(axis=axis, keepdims=True))


def _extreme_jvp(t: Any, out: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    hit = equal(x, _spread(out, x, axis)).astype(x.dtype)
    return (t * (hit / hit.sum(axis=axis, keepdims=True))).sum(axis=axis, keepdims=keepdims)


_max = general(
    "max",
    lambda x, axis, keepdims: np.maximum.reduce(x, axis=axis, keepdims=keepdims),
    (_extreme_vjp,),
    (_extreme_jvp,),
    saves="in out",
    batch="axis",
    shape=_shape,
)
_min = general(
    "min",
    lambda x, axis, keepdims: np.minimum.reduce(x, axis=axis, keepdims=keepdims),
    (_extreme_vjp,),
    (_extreme_jvp,),
    saves="in out",
    batch="axis",
    shape=_shape,
)
_argmax = general(
    "argmax",
    lambda x, axis, keepdims: np.argmax(x, axis=axis, keepdims=keepdims),
    batch="axis",
)


def _ndim(x: TensorLike) -> int:
    return x.ndim if isinstance(x, (Tensor, np.ndarray)) else np.ndim(x)


@torch_names
def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (all axes by default).

    >>> import fathom
    >>> fathom.sum(fathom.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    return apply(_sum, x, axis=all_axes(axis, _ndim(x), "sum"), keepdims=keepdims)


@torch_names
def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `axis` (all axes by default)."""
    return apply(_mean, x, axis=all_axes(axis, _ndim(x), "mean"), keepdims=keepdims)


def _extreme(primitive: Any, x: TensorLike, axis: Axis, keepdims: bool) -> Tensor:
    axes = all_axes(axis, _ndim(x), primitive.name)
    shape = np.shape(x) if not isinstance(x, Tensor) else x.shape
    if builtins.any(shape[a] == 0 for a in axes):
        raise ShapeError(f"{primitive.name}: there is no largest or smallest of zero elements")
    return apply(primitive, x, axis=axes, keepdims=keepdims)


@torch_names
def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element along `axis`; ties share the gradient equally."""
    return _extreme(_max, x, axis, keepdims)


@torch_names
def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element along `axis`; ties share the gradient equally."""
    return _extreme(_min, x, axis, keepdims)


@torch_names
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest element (the first of equals); no gradient."""
    if axis is None:
        flat = apply(_argmax, reshape(x, -1), axis=0, keepdims=False)
        return reshape(flat, (1,) * _ndim(x)) if keepdims else flat
    return apply(_argmax, x, axis=one_axis(axis, _ndim(x), "argmax"), keepdims=keepdims)


@torch_names
def var(x: TensorLike, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> Tensor:
    """Variance over `axis`, divided by n - correction (1 as in PyTorch; 0 as in NumPy)."""
    axes = all_axes(axis, _ndim(x), "var")
    centred: Any = x - mean(x, axes, keepdims=True)
    n = _count(centred, axes)
    scale = 1.0 / (n - correction) if n > correction else math.nan
    return sum(square(centred), axes, keepdims) * scale


@torch_names
def std(x: TensorLike, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> Tensor:
    """Standard deviation over `axis`: the root of `var`."""
    return sqrt(var(x, axis, correction, keepdims))
