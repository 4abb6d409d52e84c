"""Statistics composed of sums: what passes over nan, pairs of moments, covariances."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, all_axes, one_axis, operand, torch_names
from fathom.ops.elementwise import astype, clip, equal, floating, isnan, logical_not, sqrt, where
from fathom.ops.index import ValuesIndices, pick_along, take_along_axis
from fathom.ops.linalg import matmul
from fathom.ops.order import argsort
from fathom.ops.reduce import amax, amin, converted, mean, not_empty, std, var
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import reshape, transpose, unsqueeze
from fathom.ops.triangle import diagonals

__all__ = [
    "aminmax",
    "corrcoef",
    "cov",
    "nanmean",
    "nanmedian",
    "nansum",
    "std_mean",
    "var_mean",
]


class MinMax(NamedTuple):
    """What `aminmax` returns."""

    min: Any
    max: Any


@torch_names
def aminmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> MinMax:
    """The smallest and the largest element, of all or along `axis`; ties share the gradient.

    >>> import fathom
    >>> fathom.aminmax(fathom.tensor([3.0, 1.0, 2.0]))
    MinMax(min=tensor(1.), max=tensor(3.))
    """
    x = operand(x, "aminmax")
    not_empty(x, all_axes(axis, x.ndim, "aminmax"), "aminmax")
    return MinMax(amin(x, axis, keepdims), amax(x, axis, keepdims))


@torch_names
def var_mean(
    x: TensorLike, axis: Axis = None, correction: float = 1, keepdims: bool = False, *,
    unbiased: bool | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`var` and `mean` in one call."""
    spread = var(x, axis, correction, keepdims, unbiased=unbiased)
    return spread, mean(x, axis, keepdims)


@torch_names
def std_mean(
    x: TensorLike, axis: Axis = None, correction: float = 1, keepdims: bool = False, *,
    unbiased: bool | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`std` and `mean` in one call."""
    spread = std(x, axis, correction, keepdims, unbiased=unbiased)
    return spread, mean(x, axis, keepdims)


# -- nan passed over -----------------------------------------------------------------------------


def _present(x: Any) -> Any:
    """Which elements are numbers."""
    return logical_not(isnan(x))


@torch_names
def nansum(x: TensorLike, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """The sum of the elements that are not nan; 0 where there is none.

    >>> import fathom
    >>> fathom.nansum(fathom.tensor([1.0, float("nan"), 2.0]))
    tensor(3.)
    """
    x = converted(x, "nansum", dtype)
    return sum_(where(_present(x), x, 0) if x.dtype.kind == "f" else x, axis, keepdims)


@torch_names
def nanmean(x: TensorLike, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """The mean of the elements that are not nan; nan where there is none."""
    x = converted(x, "nanmean", dtype)
    if x.dtype.kind != "f":
        raise DtypeError(f"nanmean: needs floats; received {x.dtype}", fix="convert: x.float()")
    count: Any = sum_(astype(_present(x), x.dtype), axis, keepdims)
    return nansum(x, axis, keepdims) / count


def _nanmedian_place(x: Any, axis: int) -> Any:
    """Where the lower median of the numbers stands; anywhere if all are nan."""
    count: Any = sum_(astype(_present(x), np.int64), axis, True)
    rank = clip((count - 1) // 2, 0, None)
    return take_along_axis(argsort(x, axis), rank, axis)


def nanmedian(
    x: TensorLike, axis: int | None = None, keepdims: bool = False, *,
    dim: int | None = None, keepdim: bool | None = None,
) -> Any:  # fmt: skip
    """`median` of the elements that are not nan; nan where there is none. Called like `median`.

    >>> import fathom
    >>> fathom.nanmedian(fathom.tensor([4.0, float("nan"), 1.0, 3.0]))
    tensor(3.)
    """
    x = operand(x, "nanmedian")
    keep = keepdims if keepdim is None else keepdim
    if axis is not None and dim is not None:
        raise ArgumentError("nanmedian: give axis or dim, not both")
    if axis is None and dim is None:
        not_empty(x, tuple(range(x.ndim)), "nanmedian")
        flat = reshape(x, -1)
        value, _ = pick_along(flat, _nanmedian_place(flat, 0), 0, True)
        hit: Any = equal(flat, value)
        found: Any = sum_(where(hit, flat, 0)) / sum_(hit)  # equal elements share the gradient
        out = found if x.dtype.kind == "f" else astype(found, x.dtype)
        return reshape(out, (1,) * x.ndim) if keep else out
    place = one_axis(axis if dim is None else dim, x.ndim, "nanmedian")  # type: ignore[arg-type]
    if not x.ndim:
        pair = ValuesIndices(x, Tensor(np.zeros((), np.int64)))
    else:
        not_empty(x, (place,), "nanmedian")
        pair = ValuesIndices(*pick_along(x, _nanmedian_place(x, place), place, keep))
    return pair.values if dim is None else pair


# -- covariance ----------------------------------------------------------------------------------


def _weights(name: str, weights: Any, count: int, whole: bool) -> Any:
    """One weight an observation."""
    w = operand(weights, name)
    if w.shape != (count,):
        raise ShapeError(f"{name}: needs one weight for each of {count} columns; got {w.shape}")
    if whole and w.dtype.kind not in "iu":
        raise DtypeError(f"{name}: fweights are whole numbers; received {w.dtype}")
    return w


def cov(
    x: TensorLike, *, correction: float = 1, fweights: TensorLike | None = None,
    aweights: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """The covariances of the rows of x, one variable a row and one observation a column.

    A vector is one variable. `fweights` says how often an observation counts, `aweights` how
    much it weighs.

    >>> import fathom
    >>> fathom.cov(fathom.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    a = floating(x, "cov")
    if a.ndim > 2:
        raise ShapeError(f"cov: needs a vector or a matrix; received shape {a.shape}")
    alone = a.ndim < 2
    a = reshape(a, (1, -1)) if alone else a
    count = a.shape[1]
    w: Any = None
    if fweights is not None:
        w = astype(_weights("cov", fweights, count, True), a.dtype)
    if aweights is not None:
        importance = astype(_weights("cov", aweights, count, False), a.dtype)
        w = importance if w is None else w * importance
    total: Any = float(count) if w is None else sum_(w)
    freedom: Any = total - correction
    if aweights is not None and correction:
        freedom = total - correction * sum_(w * importance) / total
    centre: Any = (sum_(a, 1) if w is None else sum_(a * w, 1)) / total if count else a.sum(1)
    a = a - unsqueeze(centre, 1)
    product: Any = matmul(a if w is None else a * w, transpose(a, 0, 1))
    if w is None:
        out = product * (1.0 / freedom if freedom > 0 else math.inf)
    else:
        out = product / where(freedom > 0, freedom, 0.0)
    return reshape(out, ()) if alone else out


def corrcoef(x: TensorLike) -> Tensor:
    """The correlations of the rows of x, from -1 to 1; of a vector, 1.

    >>> import fathom
    >>> fathom.corrcoef(fathom.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    c: Any = cov(floating(x, "corrcoef"))
    if not c.ndim:
        return c / c
    deviation: Any = sqrt(diagonals(c))
    return clip(c / unsqueeze(deviation, 1) / deviation, -1.0, 1.0)
