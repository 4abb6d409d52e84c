"""Elementwise operations: arithmetic, powers, exponentials, comparisons.

Each is one record: the NumPy function, its partial derivatives, what they need to keep.
Where a function has no derivative at a point, the value chosen is in the docstring.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.primitive import apply, elementwise, general
from fathom.engine.tensor import Tensor, TensorLike

__all__ = [
    "abs",
    "add",
    "astype",
    "clip",
    "div",
    "equal",
    "exp",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "less",
    "less_equal",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "not_equal",
    "power",
    "reciprocal",
    "relu",
    "sigmoid",
    "sign",
    "sqrt",
    "square",
    "sub",
    "tanh",
    "where",
]


INF = math.inf
_ZERO = {np.dtype(k): np.zeros((), k) for k in (np.float16, np.float32, np.float64)}


# -- choice and comparison ---------------------------------------------------------------------


def _where_shape(condition: Any, x: Any, y: Any) -> tuple[int, ...]:
    from fathom.engine.primitive import broadcast_shape

    return broadcast_shape(condition, x, y)


_where = general(
    "where",
    np.where,
    vjp=(
        None,
        lambda g, out, c, x, y: where(c, g, 0.0),
        lambda g, out, c, x, y: where(c, 0.0, g),
    ),
    jvp=(
        None,
        lambda t, out, c, x, y: where(c, t, 0.0),
        lambda t, out, c, x, y: where(c, 0.0, t),
    ),
    saves="in",
    batch="elementwise",
    shape=_where_shape,
)


def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """x where the condition holds, y elsewhere.

    >>> import fathom
    >>> fathom.where(fathom.tensor([True, False]), 1.0, 0.0)
    tensor([1., 0.])
    """
    return apply(_where, condition, x, y)


@elementwise(np.equal)
def equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x == y, elementwise, as booleans."""


@elementwise(np.not_equal)
def not_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x != y, elementwise, as booleans."""


@elementwise(np.greater)
def greater(x: TensorLike, y: TensorLike) -> Tensor:
    """x > y, elementwise, as booleans."""


@elementwise(np.greater_equal)
def greater_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x >= y, elementwise, as booleans."""


@elementwise(np.less)
def less(x: TensorLike, y: TensorLike) -> Tensor:
    """x < y, elementwise, as booleans."""


@elementwise(np.less_equal)
def less_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x <= y, elementwise, as booleans."""


@elementwise(np.logical_and)
def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """Both are true (not zero)."""


@elementwise(np.logical_or)
def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """At least one is true (not zero)."""


@elementwise(np.logical_not)
def logical_not(x: TensorLike) -> Tensor:
    """Is zero."""


@elementwise(np.isfinite)
def isfinite(x: TensorLike) -> Tensor:
    """Neither infinite nor nan."""


@elementwise(np.isnan)
def isnan(x: TensorLike) -> Tensor:
    """Not a number."""


# -- arithmetic --------------------------------------------------------------------------------


@elementwise(np.add, (1, 1))
def add(x: TensorLike, y: TensorLike) -> Tensor:
    """x + y, elementwise with broadcasting."""


@elementwise(np.subtract, (1, -1))
def sub(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y, elementwise with broadcasting."""


@elementwise(np.multiply, (lambda z, x, y: y, lambda z, x, y: x), saves="other")
def mul(x: TensorLike, y: TensorLike) -> Tensor:
    """x * y, elementwise with broadcasting."""


@elementwise(
    np.true_divide,
    (lambda z, x, y: 1.0 / y, lambda z, x, y: -x / (y * y)),
    saves="in",
    domain=((-INF, INF), (0.2, 5.0)),
)
def div(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, elementwise with broadcasting; division by zero gives inf or nan."""


@elementwise(np.negative, (-1,))
def neg(x: TensorLike) -> Tensor:
    """-x."""


def _reciprocal(x: Any) -> Any:
    return np.true_divide(1.0, x)


@elementwise(_reciprocal, (lambda z, x: -z * z,), saves="out", domain=((0.2, 5.0),))
def reciprocal(x: TensorLike) -> Tensor:
    """1 / x."""


@elementwise(np.square, (lambda z, x: 2.0 * x,), saves="in")
def square(x: TensorLike) -> Tensor:
    """x * x."""


def _pow_base(z: Any, x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor) and np.ndim(y) == 0:  # a constant exponent: exact at x = 0
        return 0.0 * x if y == 0 else y * power(x, y - 1)
    return where(equal(y, 0.0), 0.0, y * power(x, where(equal(y, 0.0), 1.0, y) - 1))


def _pow_exponent(z: Any, x: Any, y: Any) -> Any:
    positive = greater(x, 0.0)
    return z * where(positive, log(where(positive, x, 1.0)), where(equal(x, 0.0), -INF, np.nan))


def _power_slope_exponent(z: Any, x: Any, y: Any) -> Any:
    # 0 ** y is flat in y for y >= 0 (as in PyTorch)
    flat = logical_and(equal(x, 0.0), greater_equal(y, 0.0))
    return where(flat, 0.0, _pow_exponent(z, where(flat, 1.0, x), y))


@elementwise(
    np.power,
    (_pow_base, _power_slope_exponent),
    saves="in out",
    domain=((0.2, 3.0), (-2.0, 2.0)),
)
def power(x: TensorLike, y: TensorLike) -> Tensor:
    """x to the power y. The slope in y at x = 0 is 0 for y >= 0."""


# -- exponentials and roots --------------------------------------------------------------------


@elementwise(np.exp, (lambda z, x: z,), saves="out", domain=((-3.0, 3.0),), cost=8.0)
def exp(x: TensorLike) -> Tensor:
    """e to the power x.

    >>> import fathom
    >>> fathom.exp(fathom.tensor([0.0, 1.0]))
    tensor([1.    , 2.7183])
    """


@elementwise(np.log, (lambda z, x: 1.0 / x,), saves="in", domain=((0.1, 5.0),))
def log(x: TensorLike) -> Tensor:
    """Natural logarithm; -inf at 0, nan below."""


@elementwise(np.sqrt, (lambda z, x: 0.5 / z,), saves="out", domain=((0.1, 5.0),))
def sqrt(x: TensorLike) -> Tensor:
    """Square root; nan below 0. The slope at 0 is inf."""


def _sign(x: Any) -> Any:
    x = np.asarray(x)
    return np.greater(x, 0).astype(x.dtype) - np.less(x, 0).astype(x.dtype)


@elementwise(_sign, (0.0,))
def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1; 0 for nan, as in PyTorch. The slope is 0 everywhere."""


@elementwise(np.abs, (lambda z, x: sign(x),), saves="in")
def abs(x: TensorLike) -> Tensor:
    """|x|. The slope at 0 is 0."""


# -- squashing functions -----------------------------------------------------------------------


@elementwise(np.tanh, (lambda z, x: 1.0 - z * z,), saves="out", cost=8.0)
def tanh(x: TensorLike) -> Tensor:
    """Hyperbolic tangent."""


def _sigmoid(x: Any) -> Any:
    small = np.exp(-np.abs(x))  # in (0, 1]: never overflows
    return np.where(np.greater_equal(x, 0), 1.0, small) / (1.0 + small)


@elementwise(_sigmoid, (lambda z, x: z * (1.0 - z),), saves="out", cost=8.0)
def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + exp(-x)), without overflow at either end."""


def _relu(x: Any) -> Any:
    return np.maximum(x, _ZERO.get(x.dtype, 0) if isinstance(x, np.ndarray) else 0)


@elementwise(_relu, (lambda z, x: z > 0,), saves="out")
def relu(x: TensorLike) -> Tensor:
    """max(x, 0). The slope at 0 is 0.

    >>> import fathom
    >>> fathom.relu(fathom.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """


# -- extremes ----------------------------------------------------------------------------------


def _share(x: Any, y: Any) -> Any:
    return where(equal(x, y), 0.5, where(greater(x, y), 1.0, 0.0))


@elementwise(np.maximum, (lambda z, x, y: _share(x, y), lambda z, x, y: _share(y, x)), saves="in")
def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """The larger of x and y; a tie shares the gradient equally."""


@elementwise(np.minimum, (lambda z, x, y: _share(y, x), lambda z, x, y: _share(x, y)), saves="in")
def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """The smaller of x and y; a tie shares the gradient equally."""


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """x limited to [min, max]; either end may be None. The slope at the ends is 1.

    >>> import fathom
    >>> fathom.clip(fathom.tensor([-2.0, 0.5, 2.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """
    out: Any = x
    if min is not None:
        out = where(less(out, min), min, out)
    if max is not None:
        out = where(greater(out, max), max, out)
    return out


# -- dtype -------------------------------------------------------------------------------------


def _astype(x: Any, dtype: Any) -> Any:
    return np.asarray(x).astype(dtype)


_cast = general(
    "astype",
    _astype,
    vjp=(lambda g, out, x, dtype: g.astype(x.dtype),),
    jvp=(lambda t, out, x, dtype: t.astype(dtype),),
    shape=lambda x, dtype: x.shape,
    casts=True,
    batch="elementwise",
)


def astype(x: TensorLike, dtype: Any) -> Tensor:
    """x with another element type; the gradient comes back in the old one."""
    return apply(_cast, x, dtype=np.dtype(dtype))
