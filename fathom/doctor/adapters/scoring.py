"""How good a patient's answers are: skills, 1 perfect and 0 the best constant answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.tensor import Array

CLASSIFYING = ("cross_entropy", "nll_loss", "multi_margin_loss")
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss")
REGRESSING = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
MEASURES = ("likelihood", "squared error", "accuracy", "loss")  # the finer first
MOST_CLASSES = 1000
LEAST = -10.0

Pair = tuple[Array, Array]  # what a loss is given: output and target


@np.errstate(all="ignore")  # answers of runs that diverge
def skills(pairs: Sequence[Pair], function: str, options: dict[str, Any]) -> dict[str, float]:
    """Every measure that these answers allow, -10 to 1.

    likelihood : of the labels, over the entropy of their shares. squared error : 1 less mean
    square over variance, which scaled targets leave as it is. accuracy : beyond that of the
    commonest class; it compares losses of different kinds.

    >>> sure = np.array([[9.0, 0.0], [0.0, 9.0]])
    >>> found = skills([(sure, np.array([0, 1]))], "cross_entropy", {})
    >>> found["accuracy"], round(found["likelihood"], 3)
    (1.0, 1.0)
    """
    if not pairs:
        return {}
    if not all(np.isfinite(np.asarray(o, np.float64)).all() for o, _ in pairs):
        return dict.fromkeys(MEASURES, -1.0)
    found: dict[str, float] = {}
    if function in CLASSIFYING:
        rows, labels = _by_class(pairs, options.get("ignore_index", -100))
        found["likelihood"] = _class_likelihood(rows, labels)
        if labels.ndim > 1 and rows.shape[1] > 1:
            found["squared error"] = _explained(np.exp(_normalized(rows)), labels)
        found["accuracy"] = _class_accuracy(rows, labels)
    elif function in BINARY:
        output, target = _flat(pairs)
        found["likelihood"] = _binary_likelihood(output, target, function)
        edge = 0.5 if function == "binary_cross_entropy" else 0.0
        if 0 <= target.min() and target.max() <= 1:
            found["squared error"] = _explained(output if edge else _sigmoid(output), target)
        if output.size == target.size and len(values := np.unique(target)) == 2:
            found["accuracy"] = _accuracy(output.ravel() > edge, target.ravel() > values.mean())
    elif function in REGRESSING:
        output, target = _flat(pairs)
        found["squared error"] = _explained(output, target)
        if (said := _as_labels(output, target)) is not None:
            found["accuracy"] = _accuracy(*said)
    return {name: float(np.clip(value, LEAST, 1.0)) for name, value in found.items()}


def _flat(pairs: Sequence[Pair]) -> Pair:
    """All examples one below the other, as (n, values)."""

    def one(arrays: list[Array]) -> Array:
        widths = {a.shape[1:] for a in arrays}
        if len(widths) > 1 or not arrays[0].ndim:
            return np.concatenate([a.ravel() for a in arrays]).astype(np.float64)[:, None]
        joined = np.concatenate(arrays).astype(np.float64)
        return joined.reshape(len(joined), -1)

    return one([o for o, _ in pairs]), one([t for _, t in pairs])


def _by_class(pairs: Sequence[Pair], ignored: int) -> Pair:
    """Scores as (n, classes), and labels (n,) or probabilities (n, classes)."""
    outputs: list[Array] = []
    labels: list[Array] = []
    for output, target in pairs:
        rows: Array = output.reshape(1, -1)
        if output.ndim > 1:
            rows = np.moveaxis(output, 1, -1).reshape(-1, output.shape[1])
        known: Array
        if target.ndim == output.ndim and np.issubdtype(target.dtype, np.floating):
            known = np.moveaxis(target, 1, -1).reshape(rows.shape)
        else:
            known = target.reshape(-1)
            keep = known != ignored
            rows, known = rows[keep], known[keep].astype(np.int64)
        outputs.append(rows.astype(np.float64))
        labels.append(known)
    return np.concatenate(outputs), np.concatenate(labels)


def _class_likelihood(rows: Array, labels: Array) -> float:
    if not len(rows) or rows.shape[1] < 2:
        return 0.0  # a softmax over one number is a constant
    logs = _normalized(rows)
    if labels.ndim > 1:
        share = labels.mean(axis=0)
        lost = -(labels * logs).sum(axis=1).mean()
        floor = -(labels * np.log(np.maximum(labels, 1e-12))).sum(axis=1).mean()
    else:
        if labels.min() < 0 or labels.max() >= rows.shape[1]:
            return -1.0
        share = np.bincount(labels) / len(labels)
        lost, floor = -logs[np.arange(len(labels)), labels].mean(), 0.0
    base = -(share[share > 0] * np.log(share[share > 0])).sum()
    return float((base - lost) / max(base - floor, 1e-9)) if base - floor > 1e-9 else 0.0


def _normalized(rows: Array) -> Array:
    """Logarithms of probabilities; what is no logarithm of one becomes it."""
    shifted = rows - rows.max(axis=1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _sigmoid(logit: Array) -> Array:
    found: Array = 1.0 / (1.0 + np.exp(-np.clip(logit, -500, 500)))
    return found


def _class_accuracy(rows: Array, labels: Array) -> float:
    known = labels.argmax(axis=1) if labels.ndim > 1 else labels
    return _accuracy(rows.argmax(axis=1), known) if len(known) else 0.0


def _binary_likelihood(output: Array, target: Array, function: str) -> float:
    if output.size != target.size:
        return -1.0
    target = target.reshape(output.shape)
    values = np.unique(target[:4096])
    if len(values) == 2:  # whatever the two are called
        target = (target > values.mean()).astype(np.float64)
    elif target.min() < 0 or target.max() > 1:
        return -1.0
    if function == "binary_cross_entropy":
        p = np.clip(output, 1e-7, 1 - 1e-7)
        logit = np.log(p) - np.log1p(-p)
    else:
        logit = output
    lost = (np.logaddexp(0.0, logit) - target * logit).mean()
    base = _entropy(target.mean(axis=0)).mean()
    floor = _entropy(target).mean()
    return float((base - lost) / (base - floor)) if base - floor > 1e-9 else 0.0


def _entropy(share: Array) -> Array:
    p = np.clip(share, 1e-12, 1 - 1e-12)
    found: Array = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    return found


def _explained(output: Array, target: Array) -> float:
    if output.size != target.size:
        return -1.0
    apart = output.reshape(target.shape) - target
    return float(1.0 - (apart**2).mean() / max(float(target.var(axis=0).mean()), 1e-12))


def _as_labels(output: Array, target: Array) -> tuple[Array, Array] | None:
    """Labels said and true, where real targets are class numbers or one-hot rows."""
    if target.shape[1] > 1:
        onehot = ((target == 0) | (target == 1)).all() and (target.sum(axis=1) == 1).all()
        if onehot and output.shape == target.shape:
            return output.argmax(axis=1), target.argmax(axis=1)
        return None
    values = np.unique(target)
    whole = len(values) <= MOST_CLASSES and bool((values == np.round(values)).all())
    if not whole or len(values) < 2 or output.size != target.size:
        return None
    edges = (values[1:] + values[:-1]) / 2
    return np.searchsorted(edges, output.ravel()), np.searchsorted(edges, target.ravel())


def _accuracy(said: Array, true: Array) -> float:
    """Share of right answers beyond that of the commonest class."""
    _, counts = np.unique(true, return_counts=True)
    chance = counts.max() / counts.sum()
    return float(((said == true).mean() - chance) / max(1.0 - chance, 1e-9))


__all__ = ["BINARY", "CLASSIFYING", "MEASURES", "REGRESSING", "skills"]
