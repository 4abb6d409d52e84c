"""Activations that look at a whole axis: gated units, maxout, softmax and its sparse kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.activations import formulas
from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.primitive import TABLE, apply
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops import elementwise as e
from fathom.ops import loss, sample
from fathom.ops.axes import one_axis, torch_names
from fathom.ops.checks import floats
from fathom.ops.create import as_tensor
from fathom.ops.cumulate import cumsum
from fathom.ops.order import sort
from fathom.ops.tiling import split

__all__ = [
    "bilinear_glu",
    "entmax15",
    "geglu",
    "glu",
    "gumbel_softmax",
    "log_softmax",
    "maxout",
    "online_softmax",
    "reglu",
    "rrelu",
    "softmax",
    "softmin",
    "sparsemax",
    "swiglu",
]


# -- gated linear units --------------------------------------------------------------------------


def _halves(name: str, x: TensorLike, axis: int) -> Any:
    a = as_tensor(x)
    floats(name, a)
    where = one_axis(axis, a.ndim, name)
    if a.shape[where] % 2:
        raise ShapeError(
            f"{name}: {mark_axes(a.shape, [where])} cannot be split into two halves along axis "
            f"{where}",
            fix="give the layer before it an even number of outputs",
        )
    return split(a, a.shape[where] // 2, where)


@torch_names
def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """a sigmoid(b), a and b the halves of x along `axis` (Dauphin et al., 2017). Smooth.

    >>> import fathom
    >>> glu(fathom.tensor([2.0, 0.0]))
    tensor([1.])
    """
    a, b = _halves("glu", x, axis)
    return a * e.sigmoid(b)


@torch_names
def bilinear_glu(x: TensorLike, axis: int = -1) -> Tensor:
    """a b: the gated unit without a nonlinearity (Shazeer, 2020)."""
    a, b = _halves("bilinear_glu", x, axis)
    return a * b


@torch_names
def reglu(x: TensorLike, axis: int = -1) -> Tensor:
    """a relu(b) (Shazeer, 2020). Kinks where b is 0."""
    a, b = _halves("reglu", x, axis)
    return a * e.relu(b)


@torch_names
def geglu(x: TensorLike, axis: int = -1) -> Tensor:
    """a gelu(b) (Shazeer, 2020). Smooth."""
    a, b = _halves("geglu", x, axis)
    return a * formulas.gelu(b)


@torch_names
def swiglu(x: TensorLike, axis: int = -1, beta: float = 1.0) -> Tensor:
    """a swish(b), with swish(b) = b sigmoid(beta b) (Shazeer, 2020). Smooth."""
    a, b = _halves("swiglu", x, axis)
    return a * (formulas.silu(b) if beta == 1.0 else formulas.swish(b, beta))


# -- maxima and random slopes --------------------------------------------------------------------


@torch_names
def maxout(x: TensorLike, pieces: int, axis: int = -1) -> Tensor:
    """The largest of every `pieces` neighbours along `axis`, which shrinks by that factor.

    Goodfellow et al. (2013). Kinks where two are equal; these share the gradient.

    >>> import fathom
    >>> maxout(fathom.tensor([1.0, 3.0, -1.0, -2.0]), 2)
    tensor([ 3., -1.])
    """
    a = as_tensor(x)
    where = one_axis(axis, a.ndim, "maxout")
    size = a.shape[where]
    if isinstance(pieces, bool) or not hasattr(pieces, "__index__") or pieces < 1:
        raise ArgumentError(f"maxout: pieces must be a whole number >= 1; received {pieces!r}")
    if size % pieces:
        raise ShapeError(
            f"maxout: {mark_axes(a.shape, [where])} cannot be split into groups of {pieces} along "
            f"axis {where}"
        )
    groups = a.reshape(*a.shape[:where], size // pieces, pieces, *a.shape[where + 1 :])
    return groups.amax(axis=where + 1)


def rrelu(
    x: TensorLike, lower: float = 1.0 / 8.0, upper: float = 1.0 / 3.0, training: bool = False
) -> Tensor:
    """Leaky ReLU with random slopes from U(lower, upper) in training, their mean otherwise.

    Xu et al. (2015). Kink at 0. The slopes come from the stream "dropout".
    """
    a = as_tensor(x)
    floats("rrelu", a)
    if not lower <= upper:
        raise ArgumentError(f"rrelu: lower must not be above upper; received {lower} and {upper}")
    slope: Any = 0.5 * (lower + upper)
    if training:
        slope = current().stream("dropout").uniform(a.shape, lower, upper, a.dtype)
    return formulas.leaky_relu(a, slope)


# -- softmax and what is near it -----------------------------------------------------------------


def _still(x: Any) -> Any:
    """The values of x, through which no gradient passes."""
    return apply(TABLE["constant_of"], x)


@torch_names
def softmax(x: TensorLike, axis: int = -1, temperature: float = 1.0) -> Tensor:
    """e^(x/T) / sum of e^(x/T): probabilities (Boltzmann, 1868; Bridle, 1990). Smooth.

    temperature : T > 0. T to 0 gives the largest element everything, T to infinity all the same.

    >>> import fathom
    >>> softmax(fathom.tensor([0.0, 1.0]), temperature=0.5)
    tensor([0.1192, 0.8808])
    """
    return loss.softmax(_tempered("softmax", x, temperature), axis)


@torch_names
def log_softmax(x: TensorLike, axis: int = -1, temperature: float = 1.0) -> Tensor:
    """The logarithm of `softmax`, without overflow. Smooth."""
    return loss.log_softmax(_tempered("log_softmax", x, temperature), axis)


@torch_names
def softmin(x: TensorLike, axis: int = -1, temperature: float = 1.0) -> Tensor:
    """`softmax` of -x: the smallest element gets the largest share. Smooth."""
    return loss.softmax(e.neg(_tempered("softmin", x, temperature)), axis)


def _tempered(name: str, x: TensorLike, temperature: Any) -> Any:
    a = as_tensor(x)
    floats(name, a)
    if isinstance(temperature, int | float):
        if not temperature > 0:
            raise ArgumentError(f"{name}: temperature must be > 0; received {temperature!r}")
        if temperature == 1.0:
            return a
    return a / temperature


@torch_names
def gumbel_softmax(
    logits: TensorLike, tau: float = 1.0, hard: bool = False, axis: int = -1
) -> Tensor:
    """A differentiable draw: softmax of (logits + Gumbel noise) / tau (Jang et al., 2017)."""
    return sample.gumbel_softmax(logits, tau, hard, axis)


@torch_names
def online_softmax(x: TensorLike, axis: int = -1, block: int = 64) -> Tensor:
    """`softmax` in one pass over blocks of the axis, with a running maximum and sum.

    Milakov and Gimelshein (2018): when a block raises the maximum from m to m', the sum so far
    is multiplied by e^(m - m'). What flash attention does, in the open.
    """
    a: Any = as_tensor(x)
    floats("online_softmax", a)
    where = one_axis(axis, a.ndim, "online_softmax")
    if isinstance(block, bool) or not hasattr(block, "__index__") or block < 1:
        raise ArgumentError(f"online_softmax: block must be a whole number >= 1; received {block}")
    if not a.shape[where]:
        return a
    top: Any = None
    total: Any = None
    for part in split(a, block, where):
        highest = _still(part.amax(axis=where, keepdims=True))
        peak = highest if top is None else e.maximum(top, highest)
        own = e.exp(part - peak).sum(axis=where, keepdims=True)
        total = own if top is None else total * e.exp(top - peak) + own
        top = peak
    return e.exp(a - top) / total


def _ranks(size: int, ndim: int, where: int, dtype: Any) -> Any:
    """1, 2, ..., size along one axis."""
    shape = [-1 if i == where else 1 for i in range(ndim)]
    return np.arange(1, size + 1, dtype=dtype).reshape(shape)


@torch_names
def sparsemax(x: TensorLike, axis: int = -1) -> Tensor:
    """The nearest point to x on the simplex: probabilities with exact zeros.

    max(x - tau, 0), with tau such that they sum to 1 (Martins and Astudillo, 2016). Kinks where
    an element enters the support.

    >>> import fathom
    >>> sparsemax(fathom.tensor([2.0, 1.8, -1.0]))
    tensor([0.6, 0.4, 0. ])
    """
    a: Any = as_tensor(x)
    floats("sparsemax", a)
    where = one_axis(axis, a.ndim, "sparsemax")
    a = a - _still(a.amax(axis=where, keepdims=True))  # the result is the same, the sums small
    fixed = _still(a)
    ordered: Any = sort(fixed, where, descending=True).values
    ranks = _ranks(a.shape[where], a.ndim, where, a.dtype)
    inside = e.greater(ranks * ordered + 1.0, cumsum(ordered, where))
    support = _support(fixed, ordered, inside, where)
    count = support.astype(a.dtype).sum(axis=where, keepdims=True)
    tau = (e.where(support, a, 0.0).sum(axis=where, keepdims=True) - 1.0) / count
    return e.where(support, a - tau, 0.0)


def _support(x: Any, ordered: Any, inside: Any, where: int) -> Any:
    """Which elements are at least as large as the smallest of the ordered ones inside."""
    least = e.where(inside, ordered, np.inf).amin(axis=where, keepdims=True)
    return e.greater_equal(x, least)


@torch_names
def entmax15(x: TensorLike, axis: int = -1) -> Tensor:
    """Between softmax (entmax 1) and sparsemax (entmax 2): probabilities with exact zeros.

    max(x/2 - tau, 0)^2, with tau such that they sum to 1 (Peters, Niculae and Martins, 2019),
    found exactly by sorting. The first derivative is continuous but where the support changes.

    >>> import fathom
    >>> entmax15(fathom.tensor([2.0, 1.0, -2.0]))
    tensor([0.8307, 0.1693, 0.    ])
    """
    a: Any = as_tensor(x)
    floats("entmax15", a)
    where = one_axis(axis, a.ndim, "entmax15")
    a = (a - _still(a.amax(axis=where, keepdims=True))) * 0.5
    fixed = _still(a)
    ordered: Any = sort(fixed, where, descending=True).values
    ranks = _ranks(a.shape[where], a.ndim, where, a.dtype)
    tau = _entmax_tau(cumsum(ordered, where), cumsum(ordered * ordered, where), ranks)
    support = _support(fixed, ordered, e.less_equal(tau, ordered), where)
    count = support.astype(a.dtype).sum(axis=where, keepdims=True)
    kept = e.where(support, a, 0.0)
    total = kept.sum(axis=where, keepdims=True)
    squares = (kept * kept).sum(axis=where, keepdims=True)
    root = e.where(support, a - _entmax_tau(total, squares, count), 0.0)
    return root * root


def _entmax_tau(total: Any, squares: Any, count: Any) -> Any:
    """The threshold if `count` elements with that sum and sum of squares are the support."""
    mean = total / count
    spread = squares - count * (mean * mean)
    return mean - e.sqrt(e.clip((1.0 - spread) / count, min=0.0))


GROUPS: dict[str, Callable[..., Tensor]] = {name: globals()[name] for name in __all__}
