"""ROC and precision-recall curves, and the areas under them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import DataError, ShapeError
from fathom.engine.tensor import Array
from fathom.train.metrics.checks import binary, one_of, ratio


def _steps(truth: Array, scores: Array) -> tuple[Array, Array, Array]:
    """Hits and false alarms at each distinct threshold, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    truth, scores = truth[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(truth)[ends].astype(np.float64)
    return hits, 1.0 + ends - hits, scores[ends]


def roc_curve(targets: Any, scores: Any, pos_label: Any = 1) -> tuple[Array, Array, Array]:
    """(false positive rate, true positive rate, threshold), from (0, 0) to (1, 1).

    >>> fpr, tpr, _ = roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    truth, s = binary(targets, scores, pos_label)
    hits, alarms, thresholds = _steps(truth, s)
    if not hits[-1] or not alarms[-1]:
        raise DataError("a ROC curve needs rows of both classes")
    hits, alarms = np.append(0.0, hits), np.append(0.0, alarms)
    return alarms / alarms[-1], hits / hits[-1], np.append(np.inf, thresholds)


def precision_recall_curve(
    targets: Any, scores: Any, pos_label: Any = 1
) -> tuple[Array, Array, Array]:
    """(precision, recall, threshold), thresholds rising; the last point is (1, 0)."""
    truth, s = binary(targets, scores, pos_label)
    hits, alarms, thresholds = _steps(truth, s)
    precision = ratio(hits, hits + alarms)
    recall = hits / hits[-1] if hits[-1] else np.ones_like(hits)
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds[::-1]


def auc(x: Any, y: Any) -> float:
    """The area under a curve by the trapezoidal rule; x must rise or fall throughout."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    steps = np.diff(a)
    if len(a) < 2 or a.shape != b.shape:
        raise ShapeError(f"a curve needs two points or more; x has {a.shape}, y {b.shape}")
    if (steps < 0).any() and (steps > 0).any():
        raise DataError("x neither rises nor falls throughout")
    return float(abs(np.sum(steps * (b[1:] + b[:-1]) / 2.0)))


def roc_auc(targets: Any, scores: Any, average: str = "macro") -> float:
    """The chance that a positive row scores above a negative one, ties half.

    scores : (n,) for two classes; (n, classes) for more, each class against the rest, averaged
    plainly ("macro") or by rows ("weighted").

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    s, t = np.asarray(scores, np.float64), np.asarray(targets)
    if s.ndim == 1:
        fpr, tpr, _ = roc_curve(t, s)
        return auc(fpr, tpr)
    one_of(average, ("macro", "weighted"), "average")
    each = [roc_auc((t == c).astype(int), s[:, c]) for c in range(s.shape[1])]
    rows = [float((t == c).sum()) for c in range(s.shape[1])]
    return float(np.average(each, weights=rows if average == "weighted" else None))


def average_precision(targets: Any, scores: Any, pos_label: Any = 1) -> float:
    """The area under the precision-recall curve: sum of (step in recall) * precision."""
    precision, recall, _ = precision_recall_curve(targets, scores, pos_label)
    return float(-np.sum(np.diff(recall) * precision[:-1]))
