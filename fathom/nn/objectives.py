"""Losses that `torch.nn.functional` lacks, and CTC; as functions. Their layers are in `losses`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.hearing import loss_heard
from fathom.engine.primitive import TABLE, apply
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.arguments import number, whole
from fathom.ops.checks import floats, on_arrays, same_shape
from fathom.ops.create import as_tensor
from fathom.ops.elementwise import (
    clip,
    equal,
    expm1,
    greater_equal,
    maximum,
    minimum,
    neg,
    not_equal,
    sigmoid,
    square,
    sub,
    where,
)
from fathom.ops.loss import cross_entropy, log_softmax
from fathom.ops.losses.classify import class_weight, logit_entropy
from fathom.ops.losses.common import finish, pair, same_dtype
from fathom.ops.losses.distance import pairwise_distance
from fathom.ops.losses.regression import kl_div
from fathom.ops.normalization import normalize
from fathom.ops.shape import concatenate, unsqueeze
from fathom.ops.special import softplus

__all__ = [
    "box_iou",
    "contrastive_loss",
    "distance_iou_loss",
    "distillation_loss",
    "focal_loss",
    "generalized_box_iou_loss",
    "hinge_loss",
    "info_nce_loss",
    "iou_loss",
    "log_cosh_loss",
    "quantile_loss",
    "sigmoid_focal_loss",
    "squared_hinge_loss",
]


# -- regression ----------------------------------------------------------------------------------


@loss_heard
def log_cosh_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """log cosh(input - target): d^2/2 near 0, |d| - log 2 far off, smooth between.

    >>> import fathom
    >>> log_cosh_loss(fathom.tensor([100.0]), fathom.tensor([0.0]))
    tensor(99.3069)
    """
    x, y = pair("log_cosh_loss", input, target)
    d: Any = sub(x, y)
    return finish("log_cosh_loss", d + softplus(-2.0 * d) - math.log(2.0), reduction)


def quantiles(owner: str, q: Any) -> Any:
    """One or several numbers in (0, 1)."""
    try:
        shares = np.asarray(q, np.float64)
    except (TypeError, ValueError):
        shares = np.full(1, np.nan)
    if isinstance(q, str) or shares.ndim > 1 or not ((shares > 0) & (shares < 1)).all():
        raise ArgumentError(f"{owner}: q must lie in (0, 1); received {q!r}")
    return shares


@loss_heard
def quantile_loss(
    input: TensorLike, target: TensorLike, q: float | Sequence[float] = 0.5, reduction: str = "mean"
) -> Tensor:
    """max(q e, (q - 1) e) with e = target - input: its minimizer is the q-quantile.

    Koenker and Bassett (1978), also called pinball loss. With several q, `input` holds one
    column for each, (..., len(q)), and the target is compared with all of them.

    >>> import fathom
    >>> quantile_loss(fathom.tensor([0.0, 0.0]), fathom.tensor([1.0, -1.0]), 0.9)
    tensor(0.5)
    """
    shares = quantiles("quantile_loss", q)
    if not shares.ndim:
        x, y = pair("quantile_loss", input, target)
        e: Any = sub(y, x)
    else:
        x, y = as_tensor(input), as_tensor(target)
        floats("quantile_loss", x, y)
        same_dtype("quantile_loss", input=x, target=y)
        if tuple(x.shape) != (*y.shape, len(shares)):
            raise ShapeError(
                f"quantile_loss: for {len(shares)} quantiles of a target {tuple(y.shape)} the "
                f"input must have shape {(*y.shape, len(shares))}; received {tuple(x.shape)}"
            )
        e = y.reshape(*y.shape, 1) - x
    weight = shares.astype(x.dtype)
    return finish("quantile_loss", where(greater_equal(e, 0.0), weight * e, (weight - 1) * e),
                  reduction)  # fmt: skip


# -- margins -------------------------------------------------------------------------------------


def _signs(name: str, y: Any) -> None:
    on_arrays(_check_signs, y, name=name)


def _check_signs(values: Any, name: str) -> Any:
    if not np.isin(values, (-1, 1)).all():
        raise ArgumentError(
            f"{name}: targets must be -1 or 1", fix="for labels 0 and 1: target * 2 - 1"
        )
    return values


@loss_heard
def hinge_loss(
    input: TensorLike, target: TensorLike, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target * input), target -1 or 1 (Cortes and Vapnik, 1995).

    margin=0 is the perceptron criterion (Rosenblatt, 1958): only mistakes cost.

    >>> import fathom
    >>> hinge_loss(fathom.tensor([0.5, 3.0]), fathom.tensor([1.0, 1.0]))
    tensor(0.25)
    """
    x, y = pair("hinge_loss", input, target)
    _signs("hinge_loss", y)
    number(margin, "margin", "hinge_loss")
    return finish("hinge_loss", clip(margin - x * y, min=0.0), reduction)


@loss_heard
def squared_hinge_loss(
    input: TensorLike, target: TensorLike, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target * input)^2, target -1 or 1: a hinge without a kink."""
    x, y = pair("squared_hinge_loss", input, target)
    _signs("squared_hinge_loss", y)
    number(margin, "margin", "squared_hinge_loss")
    return finish("squared_hinge_loss", square(clip(margin - x * y, min=0.0)), reduction)


# -- hard examples -------------------------------------------------------------------------------


@loss_heard
def focal_loss(
    input: TensorLike,
    target: TensorLike,
    gamma: float = 2.0,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """(1 - p)^gamma times the cross-entropy, p the probability of the right class.

    Lin et al. (2017): easy examples count little. gamma=0 is `cross_entropy`, whose logits,
    labels, class weights and mean these are.

    >>> import fathom
    >>> logits = fathom.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> focal_loss(logits, [0, 1], gamma=0.0)
    tensor(0.1269)
    """
    number(gamma, "gamma", "focal_loss", 0.0)
    whole(ignore_index, "ignore_index", "focal_loss")
    x: Any = as_tensor(input)
    plain: Any = cross_entropy(x, target, None, ignore_index, "none")
    hard = _miss(plain) ** gamma if gamma else 1.0
    loss = hard * plain
    share = kept_share(x, target, weight, ignore_index)
    return _shared("focal_loss", loss, share, reduction)


def _miss(loss: Any) -> Any:
    """1 - e^-loss, exact for small losses; never 0, where its powers have no slope."""
    return maximum(neg(expm1(neg(loss))), float(np.finfo(loss.dtype).tiny))


def kept_share(x: Any, target: Any, weight: Any, ignore_index: int) -> Any:
    """The weight of each row: that of its class, 0 where it is ignored."""
    labels = unsqueeze(as_tensor(target), -1)
    classes = x.shape[0 if x.ndim == 1 else 1]
    own = class_weight("focal_loss", weight, classes, x)
    hit: Any = equal(labels, np.arange(classes)) & not_equal(labels, ignore_index)
    return where(hit, own, 0.0).astype(x.dtype).sum(axis=-1)


def _shared(name: str, loss: Any, share: Any, reduction: str) -> Any:
    if reduction == "mean":
        return (loss * share).sum() / share.sum()
    return finish(name, loss * share, reduction)


@loss_heard
def sigmoid_focal_loss(
    input: TensorLike,
    target: TensorLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
) -> Tensor:
    """The focal loss of independent yes/no logits (Lin et al., 2017).

    alpha weights the positives and 1 - alpha the negatives; None weights neither.
    """
    number(gamma, "gamma", "sigmoid_focal_loss", 0.0)
    if alpha is not None:
        number(alpha, "alpha", "sigmoid_focal_loss", 0.0, 1.0)
    x, y = pair("sigmoid_focal_loss", input, target)
    plain: Any = logit_entropy(x, y)
    p: Any = sigmoid(x)
    wrong = p * (1.0 - y) + (1.0 - p) * y
    loss = plain * wrong**gamma if gamma else plain
    if alpha is not None:
        loss = loss * (y * alpha + (1.0 - y) * (1.0 - alpha))
    return finish("sigmoid_focal_loss", loss, reduction)


# -- similarity ----------------------------------------------------------------------------------


@loss_heard
def contrastive_loss(
    input1: TensorLike,
    input2: TensorLike,
    target: TensorLike,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """d^2 for pairs that belong together (target 1), max(0, margin - d)^2 for others (target 0).

    Hadsell, Chopra and LeCun (2006); d is the Euclidean distance of (n, width) rows.
    """
    number(margin, "margin", "contrastive_loss", 0.0, above=True)
    d: Any = pairwise_distance(input1, input2)
    y = as_tensor(target)
    if tuple(y.shape) != tuple(d.shape):
        raise ShapeError(
            f"contrastive_loss: target {tuple(y.shape)} must have shape {tuple(d.shape)}"
        )
    apart = square(clip(margin - d, min=0.0))
    return finish("contrastive_loss", where(equal(y, 1), square(d), apart), reduction)


@loss_heard
def info_nce_loss(
    query: TensorLike,
    positive: TensorLike,
    negatives: TensorLike | None = None,
    temperature: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of finding the right partner by cosine similarity (Oord et al., 2018).

    query, positive : (n, width), row i of one belongs to row i of the other. negatives :
    (m, width), shared by all; without them the partners of the other rows are the wrong ones.

    >>> import fathom
    >>> x = fathom.eye(3)
    >>> info_nce_loss(x, x, temperature=0.1).item() < 1e-3
    True
    """
    number(temperature, "temperature", "info_nce_loss", 0.0, above=True)
    a, b = pair("info_nce_loss", query, positive)
    if a.ndim != 2:
        raise ShapeError(f"info_nce_loss: needs (n, width); received {tuple(a.shape)}")
    a, b = normalize(a), normalize(b)
    if negatives is None:
        logits = (a @ b.T) * (1.0 / temperature)
        return cross_entropy(logits, np.arange(a.shape[0]), reduction=reduction)
    right = (a * b).sum(axis=1, keepdims=True)
    wrong = a @ normalize(as_tensor(negatives)).T
    logits = concatenate([right, wrong], 1) * (1.0 / temperature)
    return cross_entropy(logits, np.zeros(a.shape[0], np.int64), reduction=reduction)


@loss_heard
def distillation_loss(
    student: TensorLike,
    teacher: TensorLike,
    target: TensorLike | None = None,
    temperature: float = 4.0,
    alpha: float = 0.5,
    reduction: str = "mean",
) -> Tensor:
    """alpha T^2 KL(teacher_T || student_T) + (1 - alpha) cross-entropy with the true labels.

    Hinton, Vinyals and Dean (2015); both give logits (n, classes), softened by T. T^2 keeps the
    gradient of the soft part at its size. Without a target only the soft part is left.
    """
    number(temperature, "temperature", "distillation_loss", 0.0, above=True)
    number(alpha, "alpha", "distillation_loss", 0.0, 1.0)
    x, y = pair("distillation_loss", student, teacher)
    y = apply(TABLE["constant_of"], y)  # the teacher does not learn here
    own = log_softmax(x * (1.0 / temperature), -1)
    soft: Any = kl_div(own, log_softmax(y * (1.0 / temperature), -1), "none", log_target=True)
    soft = soft.sum(axis=-1) * temperature**2
    if target is None:
        return finish("distillation_loss", soft, reduction)
    hard = cross_entropy(x, target, reduction="none")
    return finish("distillation_loss", alpha * soft + (1.0 - alpha) * hard, reduction)


# -- boxes ---------------------------------------------------------------------------------------


def _corners(name: str, boxes: Any) -> list[Any]:
    b = as_tensor(boxes)
    floats(name, b)
    if not b.ndim or b.shape[-1] != 4:
        raise ShapeError(f"{name}: boxes are (..., 4) as x1, y1, x2, y2; received {b.shape}")
    on_arrays(_check_order, b, name=name)
    return [b[..., i] for i in range(4)]


def _check_order(boxes: Any, name: str) -> Any:
    if (boxes[..., 2:] < boxes[..., :2]).any():
        raise ArgumentError(f"{name}: a box has x2 < x1 or y2 < y1", fix="order: x1, y1, x2, y2")
    return boxes


def _iou(name: str, a: Any, b: Any, eps: float) -> tuple[Any, Any, Any, Any]:
    """(IoU, union, box corners a, box corners b)."""
    number(eps, "eps", name, 0.0)
    p, q = _corners(name, a), _corners(name, b)
    width = clip(minimum(p[2], q[2]) - maximum(p[0], q[0]), min=0.0)
    height = clip(minimum(p[3], q[3]) - maximum(p[1], q[1]), min=0.0)
    inter: Any = width * height
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (p, q)]
    union = area[0] + area[1] - inter
    return inter / (union + eps), union, p, q


def _row_by_row(name: str, boxes1: Any, boxes2: Any, eps: float) -> tuple[Any, Any, Any, Any]:
    """`_iou` of boxes of one shape: nothing is broadcast."""
    a, b = as_tensor(boxes1), as_tensor(boxes2)
    same_shape(name, boxes1=a, boxes2=b)
    same_dtype(name, boxes1=a, boxes2=b)
    return _iou(name, a, b, eps)


def box_iou(boxes1: TensorLike, boxes2: TensorLike) -> Tensor:
    """Intersection over union of every box of (n, 4) with every box of (m, 4): (n, m).

    >>> import fathom
    >>> box_iou(fathom.tensor([[0.0, 0.0, 2.0, 2.0]]), fathom.tensor([[1.0, 0.0, 3.0, 2.0]]))
    tensor([[0.3333]])
    """
    a, b = as_tensor(boxes1), as_tensor(boxes2)
    if a.ndim != 2 or b.ndim != 2:
        raise ShapeError(f"box_iou: needs (n, 4) and (m, 4); received {a.shape} and {b.shape}")
    same_dtype("box_iou", boxes1=a, boxes2=b)
    return _iou("box_iou", a.reshape(-1, 1, 4), b.reshape(1, -1, 4), 0.0)[0]


@loss_heard
def iou_loss(
    boxes1: TensorLike, boxes2: TensorLike, reduction: str = "mean", eps: float = 1e-7
) -> Tensor:
    """1 - IoU of boxes (n, 4) row by row (Yu et al., 2016). No gradient where none overlap."""
    iou = _row_by_row("iou_loss", boxes1, boxes2, eps)[0]
    return finish("iou_loss", 1.0 - iou, reduction)


@loss_heard
def generalized_box_iou_loss(
    boxes1: TensorLike, boxes2: TensorLike, reduction: str = "mean", eps: float = 1e-7
) -> Tensor:
    """1 - GIoU: IoU less the share of the enclosing box that neither covers.

    Rezatofighi et al. (2019); from 0 to 2, with a gradient for boxes that do not overlap.
    """
    iou, union, p, q = _row_by_row("generalized_box_iou_loss", boxes1, boxes2, eps)
    around = (maximum(p[2], q[2]) - minimum(p[0], q[0])) * (
        maximum(p[3], q[3]) - minimum(p[1], q[1])
    )
    giou = iou - (around - union) / (around + eps)
    return finish("generalized_box_iou_loss", 1.0 - giou, reduction)


@loss_heard
def distance_iou_loss(
    boxes1: TensorLike, boxes2: TensorLike, reduction: str = "mean", eps: float = 1e-7
) -> Tensor:
    """1 - IoU + squared distance of the centres over the enclosing box's squared diagonal.

    Zheng et al. (2020).
    """
    iou, _, p, q = _row_by_row("distance_iou_loss", boxes1, boxes2, eps)
    diagonal = square(maximum(p[2], q[2]) - minimum(p[0], q[0])) + square(
        maximum(p[3], q[3]) - minimum(p[1], q[1])
    )
    gap: Any = square((p[0] + p[2] - q[0] - q[2]) * 0.5)
    gap = gap + square((p[1] + p[3] - q[1] - q[3]) * 0.5)
    return finish("distance_iou_loss", 1.0 - iou + gap / (diagonal + eps), reduction)
