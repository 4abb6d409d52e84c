"""Products, and sums and products along the way, with derivatives that are exact at zeros.

None of the rules divides. The derivative of a cumulative product is a linear recurrence,
s[k] = g[k] + a[k] s[k-1], and so is the derivative of such a recurrence: a record of its own.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from fathom.engine.primitive import apply, general, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import Axis, all_axes, one_axis, torch_names
from fathom.ops.reduce import converted, reduction_shape, total_type
from fathom.ops.shape import concatenate, flip, reshape, unsqueeze

__all__ = [
    "cumprod",
    "cumsum",
    "prod",
]


def shifted(x: Any, axis: int, first: float) -> Any:
    """x moved one place along `axis`: `first` comes in, the last element goes out."""
    where = (slice(None),) * axis
    shape = (*x.shape[:axis], min(1, x.shape[axis]), *x.shape[axis + 1 :])
    start = np.full(shape, first, x.dtype)
    return concatenate([start, x[(*where, slice(0, -1))]], axis)


# -- linear recurrences --------------------------------------------------------------------------


def _recurrence_forward(g: Any, a: Any, axis: int) -> Any:
    out = np.array(np.broadcast_to(g, np.broadcast_shapes(g.shape, a.shape)))
    rows, factors = np.moveaxis(out, axis, 0), np.moveaxis(a, axis, 0)
    for k in range(1, len(rows)):
        rows[k] += factors[k] * rows[k - 1]
    return out


def backwards(g: Any, a: Any, axis: int) -> Any:
    """s[k] = g[k] + a[k+1] s[k+1]: the same from the other end."""
    factors = shifted(flip(a, axis), axis, 0.0)
    return flip(recurrence(flip(g, axis), factors, axis), axis)


recurrence_record = general(
    "recurrence",
    _recurrence_forward,
    vjp=(
        lambda g, out, b, a, axis: backwards(g, a, axis),
        lambda g, out, b, a, axis: backwards(g, a, axis) * shifted(out, axis, 0.0),
    ),
    jvp=(
        lambda t, out, b, a, axis: recurrence(t, a, axis),
        lambda t, out, b, a, axis: recurrence(t * shifted(out, axis, 0.0), a, axis),
    ),
    saves="in out",
    batch="axis",
    shape=lambda g, a, axis: g.shape,
)


def recurrence(g: Any, a: Any, axis: int) -> Any:
    """s[k] = g[k] + a[k] s[k-1] along `axis`, with s[0] = g[0]; both of one shape."""
    return apply(recurrence_record, g, a, axis=axis)


# -- cumulative sum and product ------------------------------------------------------------------


_cumsum = linear(
    "cumsum",
    lambda x, axis: np.add.accumulate(x, axis=axis, dtype=total_type(x)),
    (lambda g, out, x, axis: flip(cumsum(flip(g, axis), axis), axis),),
    batch="axis",
    shape=lambda x, axis: x.shape,
)
_cumprod = general(
    "cumprod",
    lambda x, axis: np.multiply.accumulate(x, axis=axis, dtype=total_type(x)),
    vjp=(lambda g, out, x, axis: backwards(g, x, axis) * shifted(out, axis, 1.0),),
    jvp=(lambda t, out, x, axis: recurrence(t * shifted(out, axis, 1.0), x, axis),),
    saves="in out",
    batch="axis",
    shape=lambda x, axis: x.shape,
)


def _along(primitive: Any, x: Any, axis: int | None, dtype: Any) -> Tensor:
    x = converted(x, primitive.name, dtype)
    if axis is None:
        x, axis = reshape(x, -1), 0
    where = one_axis(axis, x.ndim, primitive.name)
    if not x.ndim:
        return reshape(apply(primitive, reshape(x, 1), axis=0), ())
    return apply(primitive, x, axis=where)


@torch_names
def cumsum(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sum along `axis`; without an axis, of the flattened tensor.

    >>> import fathom
    >>> fathom.cumsum(fathom.tensor([1.0, 2.0, 3.0]), axis=0)
    tensor([1., 3., 6.])
    """
    return _along(_cumsum, x, axis, dtype)


@torch_names
def cumprod(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running product along `axis`; its derivatives are exact at zeros too."""
    return _along(_cumprod, x, axis, dtype)


# -- product -------------------------------------------------------------------------------------


def _others(x: Any, axis: int) -> Any:
    """For every element the product of the other ones: all before it times all behind it."""
    if x.shape[axis] == 0:
        return x
    before = shifted(cumprod(x, axis), axis, 1.0)
    return before * flip(shifted(cumprod(flip(x, axis), axis), axis, 1.0), axis)


def _spread(g: Any, axis: int, keepdims: bool) -> Any:
    return g if keepdims else unsqueeze(g, axis)


_prod = general(
    "prod",
    lambda x, axis, keepdims: np.multiply.reduce(
        x, axis=axis, dtype=total_type(x), keepdims=keepdims
    ),
    vjp=(lambda g, out, x, axis, keepdims: _spread(g, axis, keepdims) * _others(x, axis),),
    jvp=(
        lambda t, out, x, axis, keepdims: (t * _others(x, axis)).sum(axis=axis, keepdims=keepdims),
    ),
    saves="in",
    batch="axis",
    shape=reduction_shape,
)


@torch_names
def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Product over `axis` (all axes by default); its derivatives are exact at zeros too.

    >>> import fathom
    >>> x = fathom.tensor([2.0, 0.0, 3.0], requires_grad=True)
    >>> fathom.prod(x).backward()
    >>> x.grad
    tensor([0., 6., 0.])
    """
    x = converted(x, "prod", dtype)
    axes = all_axes(axis, x.ndim, "prod")
    if axis is None:
        out = apply(_prod, reshape(x, -1), axis=0, keepdims=False)
        return reshape(out, (1,) * x.ndim) if keepdims else out
    product: Any = x
    for a in sorted(axes, reverse=True):
        product = apply(_prod, product, axis=a, keepdims=keepdims)
    return cast(Tensor, product)
