"""Along an axis, step by step: differences, running extremes, running sums of exponentials, areas.

The derivative of a running log-sum-exp is a weighted running mean, a linear recurrence of which
no step can overflow; so it is written as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.primitive import apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, torch_names, whole
from fathom.ops.cumulate import backwards, cumsum, recurrence, shifted
from fathom.ops.elementwise import exp, floating, logical_xor, not_equal, safe_where
from fathom.ops.index import ValuesIndices, narrow, take_along_axis
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import concatenate, reshape

__all__ = [
    "cummax",
    "cummin",
    "cumulative_trapezoid",
    "diff",
    "logcumsumexp",
    "trapezoid",
]


def _neighbours(x: Any, axis: int) -> tuple[Any, Any]:
    """All but the last element along an axis, and all but the first."""
    rest = x.shape[axis] - 1
    return narrow(x, axis, 0, rest), narrow(x, axis, 1, rest)


@torch_names
def diff(
    x: TensorLike, n: int = 1, axis: int = -1, prepend: TensorLike | None = None,
    append: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Differences of neighbours along `axis`, taken n times; of booleans, whether they differ.

    `prepend` and `append` are joined to x first.

    >>> import fathom
    >>> fathom.diff(fathom.tensor([1.0, 4.0, 9.0, 16.0]), n=2)
    tensor([2., 2.])
    """
    x, times = operand(x, "diff"), whole(n, "diff", "n")
    if not x.ndim:
        raise ShapeError("diff: a single number has no neighbours; at least one axis is needed")
    if times < 0:
        raise ArgumentError(f"diff: n counts from 0; received {n}")
    where = one_axis(axis, x.ndim, "diff")
    parts = [p for p in (prepend, x, append) if p is not None]
    out: Any = concatenate(parts, where) if len(parts) > 1 else x
    for _ in range(min(times, out.shape[where])):
        before, after = _neighbours(out, where)
        out = logical_xor(after, before) if out.dtype.kind == "b" else after - before
    return out


# -- running extremes ----------------------------------------------------------------------------


def _last_hit(x: Any, axis: int, largest: bool) -> Any:
    """For every place the last one up to it that holds the extreme so far; a nan is one."""
    ufunc = np.maximum if largest else np.minimum
    best = ufunc.accumulate(x, axis=axis)
    places = np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    hit = (x == best) | (x != x)
    return np.maximum.accumulate(np.where(hit, places, 0), axis=axis)


_last = general(
    "running_argmax",
    _last_hit,
    batch="axis",
    shape=lambda x, axis, largest: x.shape,
)


def _running(name: str, x: Any, axis: int, largest: bool) -> ValuesIndices:
    x = operand(x, name)
    where = one_axis(axis, x.ndim, name)
    if not x.ndim:
        return ValuesIndices(x, Tensor(np.zeros((), np.int64)))
    index = apply(_last, x, axis=where, largest=largest)
    return ValuesIndices(take_along_axis(x, index, where), index)


@torch_names
def cummax(x: TensorLike, axis: int) -> ValuesIndices:
    """`(values, indices)` of the largest element so far along `axis`: the last of equals; nan wins.

    >>> import fathom
    >>> fathom.cummax(fathom.tensor([1.0, 3.0, 2.0]), 0)
    ValuesIndices(values=tensor([1., 3., 3.]), indices=tensor([0, 1, 1]))
    """
    return _running("cummax", x, axis, True)


@torch_names
def cummin(x: TensorLike, axis: int) -> ValuesIndices:
    """`(values, indices)` of the smallest element so far along `axis`."""
    return _running("cummin", x, axis, False)


# -- running log-sum-exp -------------------------------------------------------------------------


def _share(x: Any, out: Any) -> Any:
    """exp(x - out), 0 where nothing has come yet."""
    return safe_where(not_equal(out, -np.inf), exp, x - out)


def _weighted(t: Any, out: Any, x: Any, axis: int) -> Any:
    return recurrence(t * _share(x, out), _share(shifted(out, axis, -np.inf), out), axis)


_logcumsumexp = general(
    "logcumsumexp",
    lambda x, axis: np.logaddexp.accumulate(x, axis=axis),
    vjp=(
        lambda g, out, x, axis: (
            _share(x, out) * backwards(g, _share(shifted(out, axis, -np.inf), out), axis)
        ),
    ),
    jvp=(_weighted,),
    saves="in out",
    batch="axis",
    shape=lambda x, axis: x.shape,
)


@torch_names
def logcumsumexp(x: TensorLike, axis: int) -> Tensor:
    """log(cumsum(exp(x))) along `axis`, without overflow; so are its derivatives.

    >>> import fathom
    >>> fathom.logcumsumexp(fathom.tensor([1000.0, 1000.0]), 0)
    tensor([1000.    , 1000.6932])
    """
    a: Any = floating(x, "logcumsumexp")
    where = one_axis(axis, a.ndim, "logcumsumexp")
    if not a.ndim:
        return reshape(logcumsumexp(reshape(a, 1), 0), ())
    return apply(_logcumsumexp, a, axis=where)


# -- areas ---------------------------------------------------------------------------------------


def _slices(name: str, y: Any, x: Any, dx: float, axis: int) -> tuple[Any, int]:
    """The areas between neighbours under a curve of straight lines."""
    y = operand(y, name)
    where = one_axis(axis, y.ndim, name)
    if not y.ndim:
        raise ShapeError(f"{name}: a single number is no curve; at least one axis is needed")
    if not y.shape[where]:
        return y, where
    before, after = _neighbours(y, where)
    if x is None:
        return (before + after) * (0.5 * dx), where
    x = operand(x, name)
    n = y.shape[where]
    along = 0 if x.ndim == 1 else where
    if x.ndim not in (1, y.ndim) or x.shape[along] != n:
        raise ShapeError(
            f"{name}: y has {n} points along axis {where}, x has shape {x.shape}",
            fix="x is a vector of as many points, or has the shape of y",
        )
    width: Any = diff(x, axis=along)
    if x.ndim == 1:
        width = reshape(width, (-1,) + (1,) * (y.ndim - 1 - where))
    return (before + after) * width * 0.5, where


@torch_names
def trapezoid(
    y: TensorLike, x: TensorLike | None = None, *, dx: float = 1.0, axis: int = -1
) -> Tensor:
    """The area under a curve through the points y, `dx` apart or at x (the trapezoidal rule).

    >>> import fathom
    >>> fathom.trapezoid(fathom.tensor([0.0, 1.0, 4.0]), fathom.tensor([0.0, 1.0, 2.0]))
    tensor(3.)
    """
    return sum_(*_slices("trapezoid", y, x, dx, axis))


@torch_names
def cumulative_trapezoid(
    y: TensorLike, x: TensorLike | None = None, *, dx: float = 1.0, axis: int = -1
) -> Tensor:
    """The areas up to each point but the first: running sums of what `trapezoid` adds up."""
    return cumsum(*_slices("cumulative_trapezoid", y, x, dx, axis))
