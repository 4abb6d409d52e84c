"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.primitive import apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, all_axes, reduced_shape, torch_names
from fathom.ops.checks import floats, need_matrix, operand
from fathom.ops.decompose import svdvals
from fathom.ops.elementwise import abs as abs_
from fathom.ops.elementwise import equal, not_equal, power, sign, where
from fathom.ops.reduce import max as max_
from fathom.ops.reduce import min as min_
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import broadcast_to, permute, reshape
from fathom.ops.solve import inv

__all__ = [
    "cond",
    "matrix_norm",
    "norm",
    "vector_norm",
]


def _forward(x: Any, p: float, axis: tuple[int, ...], keepdims: bool) -> Any:
    if p == 2:
        total: Any = np.add.reduce(np.square(x), axis=axis, keepdims=keepdims)  # type: ignore[call-overload]
        return np.sqrt(total)
    total = np.add.reduce(np.power(np.abs(x), p), axis=axis, keepdims=keepdims)  # type: ignore[call-overload]
    return np.power(total, 1.0 / p)


def _direction(x: Any, out: Any, p: float, axis: tuple[int, ...]) -> Any:
    """d out / d x: x / |x| for p = 2; 0 where the norm (or, for p < 2, the element) is 0."""
    shape = reduced_shape(x.shape, axis, True)
    length = reshape(out, shape)
    zero = equal(length, 0.0)
    length = where(zero, 1.0, length)
    if p == 2:
        return where(zero, 0.0, x / length)
    empty = equal(x, 0.0)
    size = power(where(empty, 1.0, abs_(x)), p - 1.0)
    return where(empty, 0.0, sign(x) * size / power(length, p - 1.0))


def _vjp(g: Any, out: Any, x: Any, p: float, axis: tuple[int, ...], keepdims: bool) -> Any:
    shape = reduced_shape(x.shape, axis, True)
    return broadcast_to(reshape(g, shape), x.shape) * _direction(x, out, p, axis)


def _jvp(t: Any, out: Any, x: Any, p: float, axis: tuple[int, ...], keepdims: bool) -> Any:
    return (t * _direction(x, out, p, axis)).sum(axis=axis, keepdims=keepdims)


_norm = general(
    "vector_norm",
    _forward,
    vjp=(_vjp,),
    jvp=(_jvp,),
    saves="in out",
    shape=lambda x, p, axis, keepdims: reduced_shape(x.shape, axis, keepdims),
    batch="axis",
)


@torch_names
def vector_norm(x: TensorLike, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """(sum |x|^ord)^(1/ord) over `axis` (all axes by default).

    ord 0 counts what is not 0, inf and -inf are the largest and smallest magnitude. The slope
    of a norm at 0 is 0.

    >>> import fathom
    >>> fathom.linalg.vector_norm(fathom.tensor([3.0, 4.0]))
    tensor(5.)
    """
    a: Any = operand(x)
    floats("vector_norm", a)
    axes = all_axes(axis, a.ndim, "vector_norm")
    if not isinstance(ord, (int, float)):
        raise ArgumentError(f"vector_norm: ord is a number; received {ord!r}")
    if ord == 0:
        return sum_(not_equal(a, 0.0).astype(a.dtype), axes, keepdims)
    if ord == 1:
        return sum_(abs_(a), axes, keepdims)
    if math.isinf(ord):
        return (max_ if ord > 0 else min_)(abs_(a), axes, keepdims)
    return apply(_norm, a, p=float(ord), axis=axes, keepdims=bool(keepdims))


@torch_names
def matrix_norm(
    x: TensorLike, ord: float | str = "fro", axis: Any = (-2, -1), keepdims: bool = False
) -> Tensor:
    """Norms of matrices: "fro", "nuc" (sum of singular values), inf, -inf, 1, -1, 2, -2.

    inf is the largest row sum, 1 the largest column sum, 2 the largest singular value; with a
    minus the smallest of them.
    """
    a: Any = operand(x)
    floats("matrix_norm", a)
    need_matrix("matrix_norm", a)
    rows, columns = _two_axes(axis, a.ndim)
    if ord == "fro":
        return vector_norm(a, 2, (rows, columns), keepdims)
    known = ("fro", "nuc", math.inf, -math.inf, 1, -1, 2, -2)
    if ord not in known:
        raise ArgumentError(f"matrix_norm: unknown ord {ord!r}", fix=f"known: {known}")
    order = [i for i in range(a.ndim) if i not in (rows, columns)] + [rows, columns]
    a = permute(a, order)
    if ord in ("nuc", 2, -2):
        values = svdvals(a)
        out = sum_(values, -1) if ord == "nuc" else (max_ if ord == 2 else min_)(values, -1)
    else:
        sums = sum_(abs_(a), -1 if abs(ord) == math.inf else -2)  # type: ignore[arg-type]
        out = (max_ if ord > 0 else min_)(sums, -1)  # type: ignore[operator]
    if keepdims:
        shape = tuple(1 if i in (rows, columns) else n for i, n in enumerate(operand(x).shape))
        return reshape(out, shape)
    return out


def _two_axes(axis: Any, ndim: int) -> tuple[int, int]:
    axes = all_axes(tuple(axis), ndim, "matrix_norm")
    if len(axes) != 2:
        raise ShapeError(f"matrix_norm: needs two axes; received {axis!r}")
    return axes[0], axes[1]


@torch_names
def norm(x: TensorLike, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """`vector_norm`, or `matrix_norm` where `ord` is a name or two axes go with an `ord`.

    >>> import fathom
    >>> fathom.linalg.norm(fathom.tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc")
    tensor(7.)
    """
    a = operand(x)
    if ord is None:
        return vector_norm(a, 2, axis, keepdims)
    pair = axis is None and a.ndim == 2
    if isinstance(ord, str) or pair or (hasattr(axis, "__len__") and len(axis) == 2):
        return matrix_norm(a, ord, (-2, -1) if axis is None else axis, keepdims)
    if axis is None and a.ndim > 2:
        raise ShapeError(
            f"norm: with an ord, {a.ndim} axes need to be told which to take",
            fix="give axis=, or use vector_norm for all of them",
        )
    return vector_norm(a, ord, axis, keepdims)


def cond(x: TensorLike, p: float | str | None = None) -> Tensor:
    """The condition number: norm(x) * norm(inverse), by default of the 2-norm."""
    a = operand(x)
    if p in (None, 2, -2):
        s: Any = svdvals(a)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return matrix_norm(a, p) * matrix_norm(inv(a), p)
