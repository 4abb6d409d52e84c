"""Order: sorting, and picking by rank. All are `argsort` and the elements it points at."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.primitive import apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, torch_names, whole
from fathom.ops.elementwise import isnan, lerp, where
from fathom.ops.index import ValuesIndices, pick_along, take
from fathom.ops.reduce import any as any_
from fathom.ops.reduce import argmax, not_empty, reduction_shape, same
from fathom.ops.shape import broadcast_to, movedim, reshape

__all__ = [
    "argsort",
    "kthvalue",
    "median",
    "msort",
    "quantile",
    "sort",
    "topk",
]


def _argsort_forward(x: Any, axis: int, descending: bool) -> Any:
    if not descending:
        return x.argsort(axis=axis, kind="stable")
    back = (slice(None),) * axis + (slice(None, None, -1),)
    return (x.shape[axis] - 1 - x[back].argsort(axis=axis, kind="stable"))[back]


_argsort = general(
    "argsort",
    _argsort_forward,
    batch="axis",
    shape=lambda x, axis, descending: x.shape,
)


def _order(x: Any, axis: int, descending: bool) -> Any:
    if not x.ndim:
        return reshape(apply(_argsort, reshape(x, 1), axis=0, descending=descending), ())
    return apply(_argsort, x, axis=axis, descending=descending)


@torch_names
def argsort(x: TensorLike, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort x along `axis`: always stable, nan last (first if descending)."""
    x = operand(x, "argsort")
    return _order(x, one_axis(axis, x.ndim, "argsort"), descending)


@torch_names
def sort(
    x: TensorLike, axis: int = -1, descending: bool = False, stable: bool = True
) -> ValuesIndices:
    """`(values, indices)` sorted along `axis`: always stable, nan last (first if descending).

    >>> import fathom
    >>> values, indices = fathom.sort(fathom.tensor([3.0, 1.0, 2.0]))
    >>> values, indices
    (tensor([1., 2., 3.]), tensor([1, 2, 0]))
    """
    x = operand(x, "sort")
    where_ = one_axis(axis, x.ndim, "sort")
    return ValuesIndices(*pick_along(x, _order(x, where_, descending), where_, True))


def msort(x: TensorLike) -> Tensor:
    """The values sorted along the first axis."""
    out: Tensor = sort(x, 0).values
    return out


def _ranked(x: Any, start: int, stop: int, axis: int, descending: bool) -> Any:
    """The indices of ranks start to stop along an axis."""
    order = _order(x, axis, descending)
    return order[(slice(None),) * axis + (slice(start, stop),)] if x.ndim else order


@torch_names
def topk(
    x: TensorLike, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """The k largest (or smallest) elements along `axis`, best first, with their indices.

    Of equal elements the first come first. The result is sorted whether asked for or not.

    >>> import fathom
    >>> fathom.topk(fathom.tensor([3.0, 1.0, 2.0]), 2).values
    tensor([3., 2.])
    """
    x, k = operand(x, "topk"), whole(k, "topk", "k")
    where_ = one_axis(axis, x.ndim, "topk")
    size = x.shape[where_] if x.ndim else 1
    if not 0 <= k <= size:
        raise ArgumentError(f"topk: k = {k}, but axis {where_} of shape {x.shape} has {size}")
    return ValuesIndices(*pick_along(x, _ranked(x, 0, k, where_, largest), where_, True))


@torch_names
def kthvalue(x: TensorLike, k: int, axis: int = -1, keepdims: bool = False) -> ValuesIndices:
    """The k-th smallest element along `axis` (from 1) and its index; nan counts as largest."""
    x, k = operand(x, "kthvalue"), whole(k, "kthvalue", "k")
    where_ = one_axis(axis, x.ndim, "kthvalue")
    size = x.shape[where_] if x.ndim else 1
    if not 1 <= k <= size:
        raise ArgumentError(
            f"kthvalue: k = {k} is not a rank from 1 to {size} (axis {where_} of shape {x.shape})"
        )
    found = _ranked(x, k - 1, k, where_, False)
    return ValuesIndices(*pick_along(x, found, where_, keepdims))


# -- median --------------------------------------------------------------------------------------


def _median_forward(x: Any, axis: int, keepdims: bool) -> Any:
    ranked = x.copy()
    n = x.shape[axis]
    ranked.sort(axis=axis)
    last, middle = ranked.take([n - 1], axis=axis), ranked.take([(n - 1) // 2], axis=axis)
    out = np.where(np.isnan(last), last, middle)  # a nan is sorted last
    return out if keepdims else out.reshape(reduction_shape(x, axis, False))


def _median_share(out: Any, x: Any, axis: int) -> Any:
    kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    hit = same(x, reshape(out, kept)).astype(x.dtype)
    return hit / hit.sum(axis=axis, keepdims=True)


def _kept(g: Any, x: Any, axis: int) -> Any:
    return broadcast_to(reshape(g, (*x.shape[:axis], 1, *x.shape[axis + 1 :])), x.shape)


_median = general(
    "median",
    _median_forward,
    (lambda g, out, x, axis, keepdims: _kept(g, x, axis) * _median_share(out, x, axis),),
    (
        lambda t, out, x, axis, keepdims: (t * _median_share(out, x, axis)).sum(
            axis=axis, keepdims=keepdims
        ),
    ),
    saves="in out",
    batch="axis",
    shape=reduction_shape,
)


def _median_index(x: Any, axis: int) -> Any:
    """Where the lower median stands; at the first nan if there is one."""
    n = x.shape[axis] if x.ndim else 1
    middle = _ranked(x, (n - 1) // 2, (n - 1) // 2 + 1, axis, False)
    if x.dtype.kind != "f":
        return middle
    lost: Any = isnan(x)
    return where(any_(lost, axis, keepdims=True), argmax(lost, axis, keepdims=True), middle)


def median(
    x: TensorLike, axis: int | None = None, keepdims: bool = False, *,
    dim: int | None = None, keepdim: bool | None = None,
) -> Any:  # fmt: skip
    """The middle element; the lower of the two in the middle of an even count, as in PyTorch.

    `median(x)`: of all elements; equal ones share the gradient. `median(x, axis=1)`: the values
    along an axis. `median(x, dim=1)`: the pair `(values, indices)`, as in PyTorch. A nan wins.

    >>> import fathom
    >>> fathom.median(fathom.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    >>> fathom.median(fathom.tensor([[1.0, 9.0, 5.0]]), dim=1)
    ValuesIndices(values=tensor([5.]), indices=tensor([2]))
    """
    x = operand(x, "median")
    keep = keepdims if keepdim is None else keepdim
    if axis is None and dim is None:
        not_empty(x, tuple(range(x.ndim)), "median")
        out = apply(_median, reshape(x, -1), axis=0, keepdims=False)
        return reshape(out, (1,) * x.ndim) if keep else out
    if axis is not None and dim is not None:
        raise ArgumentError("median: give axis or dim, not both")
    where_ = one_axis(axis if dim is None else dim, x.ndim, "median")  # type: ignore[arg-type]
    if x.ndim:
        not_empty(x, (where_,), "median")
    pair = ValuesIndices(*pick_along(x, _median_index(x, where_), where_, keep))
    return pair.values if dim is None else pair


@torch_names
def quantile(
    x: TensorLike, q: TensorLike, axis: int | None = None, keepdims: bool = False
) -> Tensor:
    """The value below which a share q of the elements along `axis` lies, between two linearly.

    With a vector q the result has a first axis for it. A nan among the elements gives nan.

    >>> import fathom
    >>> fathom.quantile(fathom.tensor([0.0, 1.0, 2.0, 3.0]), [0.5, 1.0])
    tensor([1.5, 3. ])
    """
    x, share = operand(x, "quantile"), np.asarray(q, np.float64)
    if share.ndim > 1 or (share < 0).any() or (share > 1).any():
        raise ArgumentError(f"quantile: q is a number or vector in [0, 1]; received {q!r}")
    ndim = x.ndim
    if axis is None:
        x, where_ = reshape(x, -1), 0
    else:
        where_ = one_axis(axis, ndim, "quantile")
        x = x if ndim else reshape(x, 1)
    not_empty(x, (where_,), "quantile")
    ranked = movedim(sort(x, where_).values, where_, 0)
    n = ranked.shape[0]
    place = share * (n - 1)
    low = np.floor(place).astype(np.int64)
    weight = (place - low).astype(x.dtype if x.dtype.kind == "f" else np.float32)
    weight = weight.reshape(weight.shape + (1,) * (ranked.ndim - 1))
    out = lerp(take(ranked, low, 0), take(ranked, np.minimum(low + 1, n - 1), 0), weight)
    spoiled: Any = any_(isnan(ranked), 0)
    out = where(spoiled, np.nan, out)
    if not keepdims:
        return out
    rest = (1,) * ndim if axis is None else (*x.shape[:where_], 1, *x.shape[where_ + 1 :])
    return reshape(out, (*share.shape, *rest[: max(ndim, 0)]))
