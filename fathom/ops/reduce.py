"""Reductions: many numbers to fewer, along one, several or all axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.engine.primitive import Primitive, apply, elementwise, general, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, all_axes, one_axis, operand, reduced_shape, torch_names
from fathom.ops.elementwise import (
    abs,
    as_float,
    astype,
    equal,
    exp,
    isnan,
    logical_and,
    logical_or,
    maximum,
    minimum,
    power,
    safe_where,
    square,
)
from fathom.ops.index import ValuesIndices, pick_along
from fathom.ops.shape import broadcast_to, reshape

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "std",
    "sum",
    "var",
]


def _spread(g: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """A reduced value back in the shape it came from."""
    return broadcast_to(reshape(g, reduced_shape(x.shape, axis, True)), x.shape)


def reduction_shape(x: Any, axis: Any, keepdims: bool) -> tuple[int, ...]:
    return reduced_shape(x.shape, axis if isinstance(axis, tuple) else (axis,), keepdims)


def count(x: Any, axis: tuple[int, ...]) -> int:
    """How many elements are taken together."""
    return math.prod(x.shape[a] for a in axis)


def total_type(x: Any) -> Any:
    """Sums and products of booleans and small whole numbers are int64, as in PyTorch."""
    return np.int64 if x.dtype.kind in "bui" else None


def converted(x: Any, name: str, dtype: Any) -> Tensor:
    """The operand of a reduction, converted first if a dtype is asked for."""
    x = operand(x, name)
    return x if dtype is None else astype(x, dtype)


# -- sums --------------------------------------------------------------------------------------


_sum = linear(
    "sum",
    lambda x, axis, keepdims: np.add.reduce(x, axis=axis, dtype=total_type(x), keepdims=keepdims),
    (lambda g, out, x, axis, keepdims: _spread(g, x, axis),),
    batch="axis",
    shape=reduction_shape,
)


def _mean_forward(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    total: Any = np.add.reduce(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]
    return np.true_divide(total, count(x, axis))


_mean = linear(
    "mean",
    _mean_forward,
    (lambda g, out, x, axis, keepdims: _spread(g, x, axis) * (1.0 / (count(x, axis) or 1)),),
    batch="axis",
    shape=reduction_shape,
)


@torch_names
def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Sum over `axis` (all axes by default); whole numbers and booleans add up to int64.

    >>> import fathom
    >>> fathom.sum(fathom.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    x = converted(x, "sum", dtype)
    return apply(_sum, x, axis=all_axes(axis, x.ndim, "sum"), keepdims=keepdims)


@torch_names
def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Arithmetic mean over `axis` (all axes by default); nan for no elements."""
    x = converted(x, "mean", dtype)
    return apply(_mean, x, axis=all_axes(axis, x.ndim, "mean"), keepdims=keepdims)


# -- extremes ----------------------------------------------------------------------------------


def _extreme(name: str, ufunc: Any, hits: Callable[[Any, Any], Any]) -> Primitive:
    """The record of a maximum or minimum; `hits` says which elements attain it."""

    def share(out: Any, x: Any, axis: Any) -> Any:
        hit = hits(x, _spread(out, x, axis)).astype(x.dtype)
        return hit / hit.sum(axis=axis, keepdims=True)

    return general(
        name,
        lambda x, axis, keepdims: ufunc.reduce(x, axis=axis, keepdims=keepdims),
        (lambda g, out, x, axis, keepdims: _spread(g, x, axis) * share(out, x, axis),),
        (
            lambda t, out, x, axis, keepdims: (t * share(out, x, axis)).sum(
                axis=axis, keepdims=keepdims
            ),
        ),
        saves="in out",
        batch="axis",
        shape=reduction_shape,
    )


def same(x: Any, y: Any) -> Any:
    """Equal, or both nan."""
    return logical_or(equal(x, y), logical_and(isnan(x), isnan(y)))


_max, _min = _extreme("max", np.maximum, same), _extreme("min", np.minimum, same)
_amax, _amin = _extreme("amax", np.maximum, equal), _extreme("amin", np.minimum, equal)


def not_empty(x: Any, axes: tuple[int, ...], name: str) -> None:
    """Refuse to look for an element among none."""
    if count(x, axes) == 0:
        raise ShapeError(f"{name}: there is no element to choose among none (shape {x.shape})")


def _of_axes(primitive: Primitive, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    x = operand(x, primitive.name)
    axes = all_axes(axis, x.ndim, primitive.name)
    not_empty(x, axes, primitive.name)
    return apply(primitive, x, axis=axes, keepdims=keepdims)


def _max_or_min(
    name: str, x: Any, axis: Any, keepdims: bool, dim: int | None, keepdim: bool | None
) -> Any:
    """The four ways of calling max and min."""
    whole, some, pair, index = _WAYS[name]
    keep = keepdims if keepdim is None else keepdim
    if isinstance(axis, (Tensor, np.ndarray)):
        return pair(x, axis)
    if dim is not None:
        if axis is not None:
            raise ArgumentError(f"{name}: give axis or dim, not both")
        x = operand(x, name)
        where_ = one_axis(dim, x.ndim, name)
        found = index(x, where_, keepdims=True)
        return ValuesIndices(*pick_along(x, found, where_, keep))
    return _of_axes(whole if axis is None else some, x, axis, keep)


def max(
    x: TensorLike, axis: Any = None, keepdims: bool = False, *,
    dim: int | None = None, keepdim: bool | None = None,
) -> Any:  # fmt: skip
    """The largest element, in the manner of NumPy or of PyTorch.

    `max(x)`: of all elements. `max(x, axis=1)`: the values along the axes, as in NumPy.
    `max(x, dim=1)`: the pair `(values, indices)`, as in PyTorch. `max(x, y)`: `maximum(x, y)`.
    A nan wins. Ties share the gradient equally, except with `dim`, where it goes to the element
    whose index is given. Raises `ShapeError` where there is no element.

    >>> import fathom
    >>> x = fathom.tensor([[1.0, 5.0], [7.0, 2.0]])
    >>> fathom.max(x), fathom.max(x, axis=1)
    (tensor(7.), tensor([5., 7.]))
    >>> fathom.max(x, dim=1).indices
    tensor([1, 0])
    """
    return _max_or_min("max", x, axis, keepdims, dim, keepdim)


def min(
    x: TensorLike, axis: Any = None, keepdims: bool = False, *,
    dim: int | None = None, keepdim: bool | None = None,
) -> Any:  # fmt: skip
    """The smallest element; called and differentiated like `max`."""
    return _max_or_min("min", x, axis, keepdims, dim, keepdim)


@torch_names
def amax(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest values along `axis`; ties share the gradient equally."""
    return _of_axes(_amax, x, axis, keepdims)


@torch_names
def amin(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest values along `axis`; ties share the gradient equally."""
    return _of_axes(_amin, x, axis, keepdims)


_argmax = general(
    "argmax",
    lambda x, axis, keepdims: x.argmax(axis=axis, keepdims=keepdims),
    batch="axis",
    shape=reduction_shape,
)
_argmin = general(
    "argmin",
    lambda x, axis, keepdims: x.argmin(axis=axis, keepdims=keepdims),
    batch="axis",
    shape=reduction_shape,
)


def _position(primitive: Primitive, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x, name = operand(x, primitive.name), primitive.name
    if axis is None:
        not_empty(x, tuple(range(x.ndim)), name)
        flat = apply(primitive, reshape(x, -1), axis=0, keepdims=False)
        return reshape(flat, (1,) * x.ndim) if keepdims else flat
    where_ = one_axis(axis, x.ndim, name)
    if not x.ndim:
        return reshape(apply(primitive, reshape(x, 1), axis=0, keepdims=False), ())
    not_empty(x, (where_,), name)
    return apply(primitive, x, axis=where_, keepdims=keepdims)


@torch_names
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest element (the first of equals, or of nans); no gradient.

    Without an axis, the index into the flattened tensor.
    """
    return _position(_argmax, x, axis, keepdims)


@torch_names
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest element (the first of equals, or of nans); no gradient."""
    return _position(_argmin, x, axis, keepdims)


_WAYS: dict[str, tuple[Primitive, Primitive, Callable[..., Any], Callable[..., Any]]] = {
    "max": (_max, _amax, maximum, argmax),
    "min": (_min, _amin, minimum, argmin),
}


# -- truth -------------------------------------------------------------------------------------


_all = general(
    "all",
    lambda x, axis, keepdims: np.logical_and.reduce(x, axis=axis, keepdims=keepdims),
    batch="axis",
    shape=reduction_shape,
)
_any = general(
    "any",
    lambda x, axis, keepdims: np.logical_or.reduce(x, axis=axis, keepdims=keepdims),
    batch="axis",
    shape=reduction_shape,
)
_count_nonzero = general(
    "count_nonzero",
    lambda x, axis: np.add.reduce(np.not_equal(x, 0), axis=axis, dtype=np.int64),
    batch="axis",
    shape=lambda x, axis: reduced_shape(x.shape, axis, False),
)


@torch_names
def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether every element is true (not zero); true for no elements."""
    x = operand(x, "all")
    return apply(_all, x, axis=all_axes(axis, x.ndim, "all"), keepdims=keepdims)


@torch_names
def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some element is true (not zero); false for no elements."""
    x = operand(x, "any")
    return apply(_any, x, axis=all_axes(axis, x.ndim, "any"), keepdims=keepdims)


@torch_names
def count_nonzero(x: TensorLike, axis: Axis = None) -> Tensor:
    """How many elements are not zero (a nan is not)."""
    x = operand(x, "count_nonzero")
    return apply(_count_nonzero, x, axis=all_axes(axis, x.ndim, "count_nonzero"))


# -- spread and size ---------------------------------------------------------------------------


def _correction(name: str, correction: Any, unbiased: bool | None, ddof: int | None) -> float:
    given = [v for v in (unbiased, ddof) if v is not None]
    if len(given) > 1:
        raise ArgumentError(f"{name}: give one of correction, unbiased and ddof")
    if given:
        return float(given[0])
    if not isinstance(correction, (int, float)):
        raise DtypeError(f"{name}: correction is a number; received {correction!r}")
    return float(correction)


@torch_names
def var(
    x: TensorLike, axis: Axis = None, correction: float = 1, keepdims: bool = False, *,
    unbiased: bool | None = None, ddof: int | None = None,
) -> Tensor:  # fmt: skip
    """Variance over `axis`: the squared distances from the mean, summed, over n - correction.

    The correction is 1 as in PyTorch (0 in NumPy); `unbiased` and `ddof` are other names for it.

    >>> import fathom
    >>> fathom.var(fathom.tensor([1.0, 3.0])), fathom.var(fathom.tensor([1.0, 3.0]), ddof=0)
    (tensor(2.), tensor(1.))
    """
    x = operand(x, "var")
    axes = all_axes(axis, x.ndim, "var")
    freedom = count(x, axes) - _correction("var", correction, unbiased, ddof)
    centred: Any = x - mean(x, axes, keepdims=True)
    return sum(square(centred), axes, keepdims) * (1.0 / freedom if freedom > 0 else math.inf)


def _flat_at_zero(z: Any, x: Any) -> Any:
    return safe_where(z != 0, lambda root: 0.5 / root, z)


@elementwise(np.sqrt, (_flat_at_zero,), saves="out", domain=((0.1, 5.0),), name="root")
def _root(x: TensorLike) -> Tensor:
    """Square root with slope 0 at 0: of a variance or a squared norm, as in PyTorch."""


@torch_names
def std(
    x: TensorLike, axis: Axis = None, correction: float = 1, keepdims: bool = False, *,
    unbiased: bool | None = None, ddof: int | None = None,
) -> Tensor:  # fmt: skip
    """Standard deviation over `axis`: the root of `var`. Where it is 0, so is its slope."""
    x = operand(x, "std")
    axes = all_axes(axis, x.ndim, "std")
    return _root(var(x, axes, correction, keepdims, unbiased=unbiased, ddof=ddof))


@torch_names
def norm(x: TensorLike, p: Any = 2.0, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The p-norm of the elements along `axis`, (sum |x|^p)^(1/p).

    p may be any number, inf (the largest |x|), -inf (the smallest), 0 (how many are not zero)
    or "fro" (2). Where the norm is 0, so is its slope. Matrix norms are in `fathom.linalg`.

    >>> import fathom
    >>> fathom.norm(fathom.tensor([3.0, -4.0])), fathom.norm(fathom.tensor([3.0, -4.0]), p=1)
    (tensor(5.), tensor(7.))
    """
    x = operand(x, "norm")
    axes = all_axes(axis, x.ndim, "norm")
    if x.dtype.kind != "f":
        x = astype(x, np.float32)
    if p in ("fro", 2, None):
        return _root(sum(square(x), axes, keepdims))
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        raise ArgumentError(f"norm: p is a number or 'fro'; received {p!r}")
    size: Any = abs(x)
    if math.isinf(p):
        return (amax if p > 0 else amin)(size, axes, keepdims)
    if p == 1:
        return sum(size, axes, keepdims)
    if p == 0:
        return astype(size != 0, x.dtype).sum(axis=axes, keepdims=keepdims)
    return _power_norm(size, float(p), axes, keepdims)


def _power_norm(size: Any, p: float, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """(sum size^p)^(1/p), flat wherever it is zero."""
    if p < 0:  # one zero makes the norm zero
        return power(sum(power(size, p), axes, keepdims), 1.0 / p)
    terms = safe_where(size > 0, lambda s: power(s, p), size)
    total: Any = sum(terms, axes, keepdims)
    return safe_where(total > 0, lambda t: power(t, 1.0 / p), total, total)


def _logsumexp_forward(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    x = as_float(x)
    top = np.maximum.reduce(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    out = np.log(np.add.reduce(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else out.reshape(reduced_shape(x.shape, axis, False))


_logsumexp = general(
    "logsumexp",
    _logsumexp_forward,
    (lambda g, out, x, axis, keepdims: _spread(g, x, axis) * exp(x - _spread(out, x, axis)),),
    (
        lambda t, out, x, axis, keepdims: (t * exp(x - _spread(out, x, axis))).sum(
            axis=axis, keepdims=keepdims
        ),
    ),
    saves="in out",
    batch="axis",
    shape=reduction_shape,
)


@torch_names
def logsumexp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow; -inf for no elements.

    >>> import fathom
    >>> fathom.logsumexp(fathom.tensor([1000.0, 1000.0]))
    tensor(1000.6932)
    """
    x = operand(x, "logsumexp")
    return apply(_logsumexp, x, axis=all_axes(axis, x.ndim, "logsumexp"), keepdims=keepdims)
