"""What a loss is for the best answer that does not look at the input, and the least it can be."""

from __future__ import annotations

import math

import numpy as np

from fathom.doctor.case import NAN, Case, LossCall
from fathom.engine.tensor import Array

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
CLASSES = ("cross_entropy", "nll_loss")
ROWS = 1024  # of the targets that are looked at


def baseline(case: Case, call: LossCall) -> float:
    """Loss of the best constant answer to the targets seen; nan where it is not known.

    >>> from fathom.doctor.case import Case, LossCall
    >>> target = np.array([0, 1, 0, 1])
    >>> call = LossCall(0, "cross_entropy", np.zeros((4, 2)), target, 0.7)
    >>> round(baseline(Case(losses=[call]), call), 3)
    0.693
    """
    target = case.targets()
    if case.ended and target is not None and target.ndim:  # what was kept for trials tells more
        more = [t for t in case.kept_targets() if t.shape[1:] == target.shape[1:] and t.ndim]
        target = np.concatenate(more) if sum(map(len, more)) > len(target) else target
    return NAN if target is None else constant_loss(call, target)


def constant_loss(call: LossCall, target: Array) -> float:
    """Loss of the best constant answer to these targets."""
    if not target.size:
        return NAN
    each = _constant(call, _thinned(target))
    return each * _terms(call, target) if call.options.get("reduction") == "sum" else each


def lower_bound(call: LossCall) -> float:
    """The least a loss can be: 0, or the entropy of smoothed or soft targets."""
    if call.target is None:
        return 0.0
    target = np.asarray(call.target)
    scale = float(_terms(call, target)) if call.options.get("reduction") == "sum" else 1.0
    if call.function in CLASSES:
        return scale * _class_floor(call, target)
    if call.function in BINARY and np.issubdtype(target.dtype, np.floating):
        inside = np.clip(_thinned(target).astype(np.float64), 0.0, 1.0)
        return scale * float(_pair_entropy(inside).mean())
    return 0.0


def _thinned(target: Array) -> Array:
    return target[:: -(-len(target) // ROWS)] if target.ndim else target.reshape(1)


def _terms(call: LossCall, target: Array) -> int:
    """How many terms a loss with reduction "sum" has."""
    shape = call.shapes[1] or target.shape
    if call.function in CLASSES and _soft(call, target):
        shape = (*shape[:1], *shape[2:])
    return math.prod(shape) if shape else 1


def _soft(call: LossCall, target: Array) -> bool:
    """Whether targets of a classification are probabilities."""
    return target.ndim == call.output.ndim and np.issubdtype(target.dtype, np.floating)


def _constant(call: LossCall, target: Array) -> float:
    """One term of the loss for the best constant."""
    if call.function in CLASSES:
        return _class_entropy(call, target)
    real = target.astype(np.float64)
    if real.ndim > 2:  # maps and sequences: one constant a channel
        real = np.moveaxis(real, 1, -1).reshape(-1, real.shape[1])
    if call.function in BINARY:
        return _binary(call, real)
    if call.function == "mse_loss":
        return float(real.var(axis=0).mean())
    apart = np.abs(real - np.median(real, axis=0))
    if call.function == "l1_loss":
        return float(apart.mean())
    if call.function == "smooth_l1_loss":
        beta = max(float(call.options.get("beta", 1.0)), 1e-12)
        return float(np.where(apart < beta, 0.5 * apart**2 / beta, apart - 0.5 * beta).mean())
    if call.function == "huber_loss":
        delta = float(call.options.get("delta", 1.0))
        return float(np.where(apart < delta, apart**2 / 2, delta * (apart - delta / 2)).mean())
    return math.log(2) if call.function == "soft_margin_loss" else NAN


def _pair_entropy(share: Array) -> Array:
    p = np.clip(share, 1e-7, 1 - 1e-7)
    found: Array = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    return found


def _binary(call: LossCall, real: Array) -> float:
    share = np.clip(real.mean(axis=0), 0.0, 1.0)
    weight = call.options.get("pos_weight")
    if weight is None:
        return float(_pair_entropy(share).mean())
    heavy = share * np.asarray(weight, np.float64)
    total = heavy + 1.0 - share
    return float((total * _pair_entropy(heavy / np.maximum(total, 1e-12))).mean())


def _class_entropy(call: LossCall, target: Array) -> float:
    """Entropy of the classes' shares, weighted and smoothed as the loss does it."""
    classes = call.output.shape[1] if call.output.ndim > 1 else 0
    if _soft(call, target):
        share = np.moveaxis(target, 1, -1).reshape(-1, target.shape[1]).mean(axis=0)
    else:
        labels = target.ravel()
        labels = labels[labels != call.options.get("ignore_index", -100)].astype(np.int64)
        if not labels.size or labels.min() < 0:
            return NAN
        share = np.bincount(labels, minlength=classes) / labels.size
    weight = call.options.get("weight")
    if weight is not None and len(weight) == len(share):
        share = share * np.asarray(weight, np.float64)
    share = share / (share.sum() or 1.0)
    smooth = float(call.options.get("label_smoothing") or 0.0)
    share = (1.0 - smooth) * share + smooth / len(share)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def _class_floor(call: LossCall, target: Array) -> float:
    """Mean entropy of the targets, after smoothing."""
    smooth = float(call.options.get("label_smoothing") or 0.0)
    classes = call.output.shape[1] if call.output.ndim > 1 else 1
    if _soft(call, target):
        rows = np.moveaxis(_thinned(target), 1, -1).reshape(-1, target.shape[1])
    elif smooth and classes > 1:
        rows = np.eye(1, classes)
    else:
        return 0.0
    rows = np.clip((1.0 - smooth) * rows.astype(np.float64) + smooth / classes, 1e-12, None)
    return float(-(rows * np.log(rows)).sum(axis=1).mean())


__all__ = ["BINARY", "CLASSES", "baseline", "constant_loss", "lower_bound"]
