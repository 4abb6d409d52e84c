"""Distances between vectors, and the losses that push them together or apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fathom.engine.errors import ShapeError
from fathom.engine.hearing import loss_heard
from fathom.engine.modes import tracing
from fathom.engine.primitive import TABLE, apply
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.arguments import number
from fathom.ops.axes import one_axis, torch_names
from fathom.ops.checks import floats, operand, raw, same_shape
from fathom.ops.elementwise import clip, equal, less, minimum, not_equal, sqrt, where
from fathom.ops.lengths import vector_norm
from fathom.ops.losses.common import finish, pair, same_dtype

__all__ = [
    "cosine_embedding_loss",
    "cosine_similarity",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "pairwise_distance",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _vectors(name: str, **values: Any) -> list[Any]:
    found = {key: operand(v) for key, v in values.items()}
    floats(name, *found.values())
    same_shape(name, **found)
    same_dtype(name, **found)
    return list(found.values())


@torch_names
def cosine_similarity(x1: TensorLike, x2: TensorLike, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)) along `axis`; the two broadcast.

    >>> import fathom
    >>> cosine_similarity(fathom.tensor([[1.0, 0.0]]), fathom.tensor([[1.0, 1.0]]))
    tensor([0.7071])
    """
    a, b = operand(x1), operand(x2)
    floats("cosine_similarity", a, b)
    same_dtype("cosine_similarity", x1=a, x2=b)
    number(eps, "eps", "cosine_similarity", 0.0)
    product: Any = a * b
    where_ = one_axis(axis, product.ndim, "cosine_similarity") - product.ndim
    lengths = [
        _at_least(vector_norm(v, 2, where_, True), eps).squeeze(where_)
        if v.ndim >= -where_
        else _at_least(abs(v), eps)
        for v in (a, b)
    ]
    return product.sum(axis=where_) / (lengths[0] * lengths[1])


def _at_least(length: Any, eps: float) -> Any:
    """The length, or eps; the gradient passes as if it were the length, as in PyTorch."""
    short = less(length, eps)
    if tracing() is None and not raw(short).any():
        return length
    return where(short, (length - apply(TABLE["constant_of"], length)) + eps, length)


def pairwise_distance(
    x1: TensorLike, x2: TensorLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis; the two broadcast.

    >>> import fathom
    >>> pairwise_distance(fathom.tensor([[3.0, 4.0]]), fathom.tensor([[0.0, 0.0]]))
    tensor([5.])
    """
    a, b = operand(x1), operand(x2)
    floats("pairwise_distance", a, b)
    same_dtype("pairwise_distance", x1=a, x2=b)
    number(eps, "eps", "pairwise_distance", 0.0)
    p = p if p == math.inf else number(p, "p", "pairwise_distance", 0.0)
    difference = a - b + eps
    if not difference.ndim:
        raise ShapeError("pairwise_distance: needs vectors (..., n); received single numbers")
    return vector_norm(difference, p, -1, keepdim)


@loss_heard
def hinge_embedding_loss(
    input: TensorLike, target: TensorLike, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1."""
    x, y = pair("hinge_embedding_loss", input, target)
    number(margin, "margin", "hinge_embedding_loss")
    apart: Any = where(not_equal(y, 1.0), clip(margin - x, min=0.0), 0.0)
    loss = apart + where(not_equal(y, -1.0), x, 0.0)
    return finish("hinge_embedding_loss", loss, reduction)


@loss_heard
def margin_ranking_loss(
    input1: TensorLike,
    input2: TensorLike,
    target: TensorLike,
    margin: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target * (input1 - input2)): with target 1, input1 shall be larger."""
    number(margin, "margin", "margin_ranking_loss")
    a, y = pair("margin_ranking_loss", input1, target)
    b, _ = pair("margin_ranking_loss", input2, target)
    same_dtype("margin_ranking_loss", input1=a, input2=b)
    loss = clip(margin - y * (a - b), min=0.0)
    return finish("margin_ranking_loss", loss, reduction)


@loss_heard
def cosine_embedding_loss(
    input1: TensorLike,
    input2: TensorLike,
    target: TensorLike,
    margin: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1; (n, width), (n,)."""
    name = "cosine_embedding_loss"
    a, b = _vectors(name, input1=input1, input2=input2)
    number(margin, "margin", name)
    y = operand(target)
    if a.ndim not in (1, 2) or tuple(y.shape) != tuple(a.shape[:-1]):
        raise ShapeError(
            f"{name}: inputs (n, width) and target (n,), or (width,) and (); received "
            f"{tuple(a.shape)} and {tuple(y.shape)}"
        )
    tiny = 1e-12
    squares = ((a * a).sum(axis=-1) + tiny) * ((b * b).sum(axis=-1) + tiny)
    cos: Any = (a * b).sum(axis=-1) / sqrt(squares)
    together: Any = where(equal(y, 1.0), 1.0 - cos, 0.0)
    loss = together + where(equal(y, -1.0), clip(cos - margin, min=0.0), 0.0)
    return finish(name, loss, reduction)


@loss_heard
def triplet_margin_loss(
    anchor: TensorLike,
    positive: TensorLike,
    negative: TensorLike,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)); (n, width) each.

    Weinberger and Saul (2009). With swap=True the negative counts from whichever of anchor and
    positive is nearer (Balntas et al., 2016).
    """

    def distance(a: Any, b: Any) -> Any:
        return pairwise_distance(a, b, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap,
        reduction=reduction, name="triplet_margin_loss",
    )  # fmt: skip


@loss_heard
def triplet_margin_with_distance_loss(
    anchor: TensorLike,
    positive: TensorLike,
    negative: TensorLike,
    *,
    distance_function: Callable[..., Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
    name: str = "triplet_margin_with_distance_loss",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own."""
    number(margin, "margin", name, 0.0, above=True)
    a, b, c = _vectors(name, anchor=anchor, positive=positive, negative=negative)
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(a, b), distance(a, c)
    if swap:
        far = minimum(far, distance(b, c))
    return finish(name, clip(margin + near - far, min=0.0), reduction)
