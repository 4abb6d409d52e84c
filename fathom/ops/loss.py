"""The softmax family and cross-entropy, computed from logits without overflow."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.batching import spread
from fathom.engine.errors import ArgumentError, AxisError, DtypeError, ShapeError, suggest
from fathom.engine.hearing import loss_heard
from fathom.engine.modes import tracing
from fathom.engine.primitive import Extra, apply, general
from fathom.engine.tensor import Tensor, TensorLike, to_array
from fathom.ops.arguments import number, whole
from fathom.ops.axes import one_axis, torch_names
from fathom.ops.checks import floats, on_arrays, one_of, operand
from fathom.ops.elementwise import equal, exp, not_equal, where
from fathom.ops.reduce import mean
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import permute, reshape, unsqueeze

__all__ = [
    "cross_entropy",
    "log_softmax",
    "softmax",
]


REDUCTIONS = ("mean", "sum", "none")


def _softmax_forward(x: Any, axis: int) -> Any:
    e = np.exp(x - np.maximum.reduce(x, axis=axis, keepdims=True))
    return e / np.add.reduce(e, axis=axis, keepdims=True)


def _log_softmax_forward(x: Any, axis: int) -> Any:
    shifted = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    return shifted - np.log(np.add.reduce(np.exp(shifted), axis=axis, keepdims=True))


def _softmax_rule(g: Any, out: Any, x: Any, axis: int) -> Any:
    return out * (g - (g * out).sum(axis=axis, keepdims=True))


_softmax = general(
    "softmax",
    _softmax_forward,
    (_softmax_rule,),
    (_softmax_rule,),  # its Jacobian is symmetric
    saves="out",
    batch="axis",
    shape=lambda x, axis: x.shape,
)
_log_softmax = general(
    "log_softmax",
    _log_softmax_forward,
    (lambda g, out, x, axis: g - exp(out) * g.sum(axis=axis, keepdims=True),),
    (lambda t, out, x, axis: t - (exp(out) * t).sum(axis=axis, keepdims=True),),
    saves="out",
    batch="axis",
    shape=lambda x, axis: x.shape,
)


@torch_names
def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum exp(x) along `axis`: positive numbers that add up to 1.

    >>> import fathom
    >>> fathom.nn.functional.softmax(fathom.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    a: Any = operand(x)
    floats("softmax", a)
    return apply(_softmax, a, axis=one_axis(axis, a.ndim, "softmax"))


@torch_names
def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, exact even where the softmax underflows."""
    a: Any = operand(x)
    floats("log_softmax", a)
    return apply(_log_softmax, a, axis=one_axis(axis, a.ndim, "log_softmax"))


# -- cross-entropy -----------------------------------------------------------------------------


def _rows_forward(x: Any, target: Any) -> Any:
    log_probability = _log_softmax_forward(x, -1)
    return -log_probability[np.arange(len(target)), target], Extra((log_probability,))


def _rows_residual(x: Any, target: Any, extra: Any) -> Any:
    """softmax(x) - onehot(target): the gradient of each row's loss."""
    if extra is None or isinstance(x, Tensor):
        hit: Any = equal(unsqueeze(target, 1), np.arange(x.shape[1]))
        own = softmax(x, -1) if extra is None or not x.traced else exp(extra[0])
        return own - hit.astype(x.dtype)
    residual = np.exp(extra[0])
    residual[np.arange(len(target)), target] -= 1
    return residual


def _rows_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    """Every row is on its own, so a batch of rows is more rows."""
    x, target = (spread(v, f, size) for v, f in zip(values, flags, strict=True))
    flat = apply(_rows, reshape(x, (-1, x.shape[-1])), reshape(target, (-1,)))
    return reshape(flat, x.shape[:-1])


_rows = general(
    "cross_entropy",
    _rows_forward,
    (
        lambda g, out, x, target, extra=None: _rows_residual(x, target, extra) * unsqueeze(g, 1),
        None,
    ),
    (
        lambda t, out, x, target, extra=None: (_rows_residual(x, target, extra) * t).sum(axis=1),
        None,
    ),
    saves="in",
    shape=lambda x, target: x.shape[:1],
    batch=_rows_batch,
)


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """The mean, the sum, or the losses themselves."""
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum_(loss)
    if reduction == "none":
        return loss
    known = suggest(str(reduction), REDUCTIONS)
    raise ArgumentError(f"unknown reduction {reduction!r}", fix=known)


def check_labels(labels: Any, classes: int, ignore_index: int) -> Any:
    """Class indices as int64, refused with position and range when one is outside."""
    if labels.dtype.kind not in "iu":
        raise DtypeError(
            f"cross_entropy: class labels must be whole numbers; received {labels.dtype}",
            fix="labels.astype(int) for indices; for probabilities give the shape of the input",
        )
    bad = (labels < 0) | (labels >= classes)
    if ignore_index < 0 or ignore_index >= classes:
        bad &= labels != ignore_index
    if bad.any():
        where_ = np.unravel_index(int(np.argmax(bad)), labels.shape)
        position = where_[0] if len(where_) == 1 else tuple(int(i) for i in where_)
        raise AxisError(
            f"cross_entropy: label {labels[where_]} at position {position} is out of range: "
            f"the input has {classes} classes, so labels run from 0 to {classes - 1}",
            fix="number the classes from 0, or give the last layer more outputs",
        )
    return labels.astype(np.int64, copy=False)


@loss_heard
def cross_entropy(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits against class indices or class probabilities.

    Parameters
    ----------
    input : logits, (n, classes), (n, classes, d1, ...) or (classes,).
    target : class indices, shape of `input` without its class axis; or probabilities, shape of
        `input`.
    weight : (classes,) weight of each class. The mean is divided by the sum of the weights.
    ignore_index : rows with this label count neither in the sum nor in the mean.
    label_smoothing : share of the target spread evenly over the classes (Szegedy et al., 2016).

    >>> import fathom
    >>> logits = fathom.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> fathom.nn.functional.cross_entropy(logits, [0, 1])
    tensor(0.1269)
    """
    x: Any = input if isinstance(input, (Tensor, np.ndarray)) else Tensor(input)
    y: Any = target if isinstance(target, (Tensor, np.ndarray)) else to_array(target)
    floats("cross_entropy", x)
    one_of("cross_entropy", "reduction", reduction, REDUCTIONS)
    number(label_smoothing, "label_smoothing", "cross_entropy", 0.0, 1.0)
    whole(ignore_index, "ignore_index", "cross_entropy")
    if x.ndim == 0:
        raise ShapeError("cross_entropy: the input needs a class axis; received a single number")
    class_axis = 0 if x.ndim == 1 else 1
    classes = x.shape[class_axis]
    if y.shape == x.shape and y.dtype.kind == "f":
        return _soft(x, y, weight, reduction, label_smoothing, class_axis)
    rest = x.shape[:class_axis] + x.shape[class_axis + 1 :]
    if y.shape != rest:
        raise ShapeError(
            f"cross_entropy: input {x.shape} needs labels of shape {rest} (class indices) or "
            f"{x.shape} (probabilities); received {y.shape} of {y.dtype}",
            fix="a column of labels needs .reshape(-1)" if y.size == np.prod(rest) else "",
        )
    checked = on_arrays(check_labels, y, classes=classes, ignore_index=ignore_index)
    labels = y if isinstance(y, Tensor) and y.level else checked  # under a transform, a tensor
    if x.ndim != 2:
        order = [i for i in range(x.ndim) if i != class_axis] + [class_axis]
        x = reshape(permute(x, order), (-1, classes))
    labels = reshape(labels, (-1,))
    if weight is None and label_smoothing == 0.0:
        if tracing() is None and not (checked == ignore_index).any():
            return reduce_loss(reshape(apply(_rows, x, labels), rest), reduction)
        return _without_ignored(x, labels, ignore_index, rest, reduction)
    labels = where(equal(labels, ignore_index), -1, labels)  # hits no class
    return _weighted(x, labels, weight, reduction, label_smoothing, rest)


def _without_ignored(x: Any, labels: Any, ignore: int, rest: Any, reduction: str) -> Tensor:
    """The rows whose label is not to be ignored; the mean is over those."""
    keep: Any = not_equal(labels, ignore)
    count = keep.astype(x.dtype)
    rows: Any = apply(_rows, x, where(keep, labels, 0)) * count
    if reduction == "mean":
        return rows.sum() / count.sum()
    return reduce_loss(reshape(rows, rest), reduction)


def _weighted(
    x: Any, labels: Any, weight: Any, reduction: str, smoothing: float, rest: tuple[int, ...]
) -> Tensor:
    """Rows with class weights, ignored labels and smoothed targets, as PyTorch defines them."""
    classes = x.shape[1]
    class_weight = np.ones(classes, x.dtype) if weight is None else to_array(weight, x.dtype)
    if class_weight.shape != (classes,):
        raise ShapeError(
            f"cross_entropy: weight needs one number for each of the {classes} classes; "
            f"received shape {class_weight.shape}"
        )
    hit: Any = equal(unsqueeze(labels, 1), np.arange(classes))
    row_weight = where(hit, class_weight, 0.0).astype(x.dtype).sum(axis=1)
    log_probability: Any = log_softmax(x, -1)
    loss = where(hit, -log_probability * class_weight, 0.0).sum(axis=1)
    if smoothing:
        kept = hit.astype(x.dtype).sum(axis=1) * (1.0 / classes)
        spread_out = (-log_probability * class_weight).sum(axis=1) * kept
        loss = loss * (1.0 - smoothing) + spread_out * smoothing
    if reduction == "mean":
        return loss.sum() / row_weight.sum()
    return reduce_loss(reshape(loss, rest), reduction)


def _soft(x: Any, y: Any, weight: Any, reduction: str, smoothing: float, axis: int) -> Tensor:
    classes = x.shape[axis]
    if smoothing:
        y = y * (1.0 - smoothing) + smoothing / classes
    terms: Any = log_softmax(x, axis) * y
    if weight is not None:
        sizes = [1] * x.ndim
        sizes[axis] = classes
        terms = terms * to_array(weight, x.dtype).reshape(sizes)
    loss = -terms.sum(axis=axis)
    if reduction == "mean":
        return loss.sum() * (classes / x.size)
    return reduce_loss(loss, reduction)
