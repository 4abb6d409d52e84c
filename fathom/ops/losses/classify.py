"""Losses on classes: likelihoods and margins."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.hearing import loss_heard
from fathom.engine.primitive import elementwise
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.arguments import number, whole
from fathom.ops.checks import floats, on_arrays, operand
from fathom.ops.cumulate import cumprod
from fathom.ops.elementwise import (
    clip,
    equal,
    greater,
    greater_equal,
    log,
    mul,
    not_equal,
    sigmoid,
    where,
)
from fathom.ops.loss import check_labels
from fathom.ops.losses.common import finish, pair
from fathom.ops.reduce import mean
from fathom.ops.shape import reshape, unsqueeze

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "soft_margin_loss",
]


# -- two classes -----------------------------------------------------------------------------------


def _bce_forward(x: Any, y: Any) -> Any:
    low = np.asarray(x).dtype.type(-100)  # as PyTorch: no probability costs more than 100
    yes, no = np.maximum(np.log(x), low), np.maximum(np.log1p(-x), low)
    return (y - 1) * no - y * yes


@elementwise(
    _bce_forward,
    (
        lambda z, x, y: (x - y) / clip((1.0 - x) * x, min=1e-12),
        lambda z, x, y: clip(log(1.0 - x), min=-100.0) - clip(log(x), min=-100.0),
    ),
    saves="in",
    domain=((0.05, 0.95), (0.0, 1.0)),
    cost=16.0,
    name="binary_entropy",
)
def binary_entropy(x: TensorLike, y: TensorLike) -> Tensor:
    """-(y log x + (1 - y) log(1 - x)), at most 100 of each."""


def _logits_forward(x: Any, y: Any) -> Any:
    return np.maximum(x, np.asarray(x).dtype.type(0)) - x * y + np.log1p(np.exp(-np.abs(x)))


@elementwise(
    _logits_forward,
    (lambda z, x, y: sigmoid(x) - y, lambda z, x, y: -x),
    saves="in",
    cost=16.0,
    name="logit_entropy",
)
def logit_entropy(x: TensorLike, y: TensorLike) -> Tensor:
    """log(1 + exp(x)) - x y: the cross-entropy of sigmoid(x) and y, without overflow."""


def _rescaled(name: str, loss: Any, weight: Any) -> Any:
    """Times a weight that broadcasts to the loss (one per element, per column, per row)."""
    if weight is None:
        return loss
    w = operand(weight)
    try:
        fits = np.broadcast_shapes(w.shape, loss.shape) == tuple(loss.shape)
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{name}: weight {tuple(w.shape)} does not broadcast to the input {tuple(loss.shape)}"
        )
    return loss * w


@loss_heard
def binary_cross_entropy(
    input: TensorLike, target: TensorLike, weight: TensorLike | None = None, reduction: str = "mean"
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p in [0, 1].

    Each logarithm is at least -100. From logits, use `binary_cross_entropy_with_logits`.

    >>> import fathom
    >>> binary_cross_entropy(fathom.tensor([0.5]), fathom.tensor([1.0]))
    tensor(0.6931)
    """
    x, y = pair("binary_cross_entropy", input, target)
    on_arrays(_check_probabilities, x)
    loss = _rescaled("binary_cross_entropy", binary_entropy(x, y), weight)
    return finish("binary_cross_entropy", loss, reduction)


def _check_probabilities(values: Any) -> Any:
    if ((values < 0) | (values > 1)).any():
        raise ArgumentError(
            "binary_cross_entropy: the input must hold probabilities in [0, 1]; it runs from "
            f"{values.min():.4g} to {values.max():.4g}",
            fix="apply sigmoid first, or use binary_cross_entropy_with_logits",
        )
    return values


@loss_heard
def binary_cross_entropy_with_logits(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    pos_weight: TensorLike | None = None,
) -> Tensor:
    """The cross-entropy of sigmoid(input) and target, without overflow.

    `pos_weight` multiplies the part of positive targets: > 1 raises recall, < 1 precision.

    >>> import fathom
    >>> binary_cross_entropy_with_logits(fathom.tensor([0.0]), fathom.tensor([1.0]))
    tensor(0.6931)
    """
    name = "binary_cross_entropy_with_logits"
    x, y = pair(name, input, target)
    if pos_weight is None:
        loss: Any = logit_entropy(x, y)
    else:
        positive = _rescaled(name, logit_entropy(x, 1.0), pos_weight)
        loss = y * positive + (1.0 - y) * logit_entropy(x, 0.0)
    return finish(name, _rescaled(name, loss, weight), reduction)


@loss_heard
def soft_margin_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target * input)) for targets -1 and 1."""
    x, y = pair("soft_margin_loss", input, target)
    return finish("soft_margin_loss", logit_entropy(mul(x, y), 1.0), reduction)


# -- several classes -------------------------------------------------------------------------------


def labels_of(name: str, target: Any, expected: tuple[int, ...], classes: int, ignore: int) -> Any:
    """Checked class labels; a tensor where a transform must see them."""
    y = operand(target)
    if tuple(y.shape) != expected:
        raise ShapeError(
            f"{name}: the labels must have shape {expected}; received {tuple(y.shape)}",
            fix=f"reshape them: .reshape({expected})" if y.size == np.prod(expected) else "",
        )
    try:
        checked = on_arrays(check_labels, y, classes=classes, ignore_index=ignore)
    except Exception as error:
        if hasattr(error, "message"):
            error.message = error.message.replace("cross_entropy", name)
        raise
    return y if isinstance(y, Tensor) and y.level else checked


@loss_heard
def nll_loss(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-input at the class of each row: the likelihood part of `cross_entropy`.

    `input` holds log-probabilities: (classes,), (n, classes) or (n, classes, d1, ...); `weight`
    one number for each class; rows labelled `ignore_index` do not count.

    >>> import fathom
    >>> nll_loss(fathom.log(fathom.tensor([[0.5, 0.5]])), [1])
    tensor(0.6931)
    """
    x = operand(input)
    floats("nll_loss", x)
    whole(ignore_index, "ignore_index", "nll_loss")
    if not x.ndim:
        raise ShapeError("nll_loss: the input needs a class axis; received a single number")
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    expected = (*x.shape[:axis], *x.shape[axis + 1 :])
    labels = labels_of("nll_loss", target, expected, classes, ignore_index)
    numbers = np.arange(classes).reshape(-1, *(1,) * (x.ndim - axis - 1))
    column = unsqueeze(labels, axis)
    hit: Any = equal(column, numbers) & not_equal(column, ignore_index)
    w: Any = class_weight("nll_loss", weight, classes, x).reshape(numbers.shape)
    loss: Any = where(hit, -x * w, 0.0).sum(axis=axis)
    if reduction != "mean":
        return finish("nll_loss", loss, reduction)
    return loss.sum() / where(hit, w, 0.0).astype(x.dtype).sum()


def class_weight(name: str, weight: Any, classes: int, x: Any) -> Any:
    w = np.ones(classes, x.dtype) if weight is None else operand(weight)
    if w.shape != (classes,):
        raise ShapeError(
            f"{name}: weight needs one number for each of the {classes} classes; received shape "
            f"{w.shape}"
        )
    return w


def _rows(name: str, input: Any) -> tuple[Any, bool]:
    x = operand(input)
    floats(name, x)
    if x.ndim not in (1, 2):
        raise ShapeError(f"{name}: needs (n, classes) or (classes,); received {x.shape}")
    return (x, False) if x.ndim == 2 else (reshape(x, (1, -1)), True)


@loss_heard
def multi_margin_loss(
    input: TensorLike,
    target: TensorLike,
    p: int = 1,
    margin: float = 1.0,
    weight: TensorLike | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over wrong classes of max(0, margin - x[y] + x[i])^p (Crammer and Singer, 2001)."""
    name = "multi_margin_loss"
    x, single = _rows(name, input)
    number(margin, "margin", name)
    if p not in (1, 2):
        raise ArgumentError(f"{name}: p must be 1 or 2; received {p!r}")
    n, classes = x.shape
    expected = tuple(operand(target).shape) if single and operand(target).size == 1 else (n,)
    labels = reshape(labels_of(name, target, expected, classes, 0), (n, 1))  # none is ignored
    hit: Any = equal(labels, np.arange(classes))
    own = where(hit, x, 0.0).sum(axis=1, keepdims=True)
    terms: Any = clip(margin - own + x, min=0.0)
    if p == 2:
        terms = terms * terms
    if weight is not None:
        w = class_weight(name, weight, classes, x)
        terms = terms * where(hit, w, 0.0).sum(axis=1, keepdims=True)
    loss = where(hit, 0.0, terms).sum(axis=1) * (1.0 / classes)
    return finish(name, reshape(loss, ()) if single else loss, reduction)


@loss_heard
def multilabel_margin_loss(
    input: TensorLike, target: TensorLike, reduction: str = "mean"
) -> Tensor:
    """Margins between the classes listed in each row (up to the first -1) and all others."""
    name = "multilabel_margin_loss"
    x, single = _rows(name, input)
    y = operand(target)
    if tuple(y.shape) != tuple(operand(input).shape):
        raise ShapeError(
            f"{name}: target {tuple(y.shape)} must have the shape of the input "
            f"{tuple(operand(input).shape)}",
            fix="list the classes of each row and fill it up with -1",
        )
    n, classes = x.shape
    labels = reshape(labels_of(name, target, tuple(y.shape), classes, -1), (n, classes))
    listed: Any = cumprod(greater_equal(labels, 0).astype(x.dtype), 1)
    hits: Any = equal(unsqueeze(labels, 2), np.arange(classes)).astype(x.dtype)
    times = (hits * unsqueeze(listed, 2)).sum(axis=1)  # a class listed twice counts twice
    inside, outside = greater(unsqueeze(times, 2), 0), equal(unsqueeze(times, 1), 0)
    gaps: Any = clip(1.0 - unsqueeze(x, 2) + unsqueeze(x, 1), min=0.0)
    terms: Any = where(inside & outside, gaps * unsqueeze(times, 2), 0.0)
    loss = terms.sum(axis=(1, 2)) * (1.0 / classes)
    return finish(name, reshape(loss, ()) if single else loss, reduction)


@loss_heard
def multilabel_soft_margin_loss(
    input: TensorLike, target: TensorLike, weight: TensorLike | None = None, reduction: str = "mean"
) -> Tensor:
    """The binary cross-entropy of every class, averaged over classes; (n, classes)."""
    name = "multilabel_soft_margin_loss"
    x, y = pair(name, input, target)
    if not x.ndim:
        raise ShapeError(f"{name}: needs a class axis; received {mark_axes(x.shape, [])}")
    loss = _rescaled(name, logit_entropy(x, y), weight)
    return finish(name, mean(loss, -1), reduction)
