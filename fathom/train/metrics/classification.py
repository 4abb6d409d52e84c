"""Metrics of labels: accuracy, precision and its kin, agreement beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, AxisError, DataError
from fathom.engine.tensor import Array
from fathom.train.metrics.checks import labels, one_of, ratio

AVERAGES = ("binary", "micro", "macro", "weighted", None)


def accuracy(outputs: Array, targets: Array) -> float:
    """Share of rows whose largest output is the target class.

    One output a row is the logit of yes; targets are then 0 and 1, or -1 and 1. So are they, one
    for each output, where targets have the shape of several outputs.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    >>> accuracy(np.array([[2.0], [-1.0]]), np.array([1, 1]))
    0.5
    """
    if outputs.ndim > 1 and outputs.shape == targets.shape and outputs.shape[1] > 1:
        return float(np.mean((outputs > 0) == (targets > 0)))
    if _one_column(outputs):
        return float(np.mean(chosen(outputs) == (targets.reshape(-1) > 0)))
    return float(np.mean(chosen(outputs) == targets))


def _one_column(outputs: Array) -> bool:
    return outputs.ndim == 1 or outputs.shape[1:] == (1,)


def chosen(outputs: Array) -> Array:
    """The class of each row: that of the largest output, or whether its only one is above 0."""
    if _one_column(outputs):
        return np.asarray(outputs.reshape(-1) > 0, np.int64)
    return np.asarray(outputs.argmax(axis=1))


def top_k_accuracy(outputs: Array, targets: Array, k: int = 5) -> float:
    """Share of rows whose target is among the k largest outputs.

    >>> top_k_accuracy(np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]), np.array([2, 2]), k=2)
    0.5
    """
    if not 1 <= k <= outputs.shape[1]:
        raise ArgumentError(f"k must lie in 1 ... {outputs.shape[1]} (classes); received {k}")
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    return float(np.mean((best == np.asarray(targets)[:, None]).any(axis=1)))


def confusion_matrix(targets: Array, predicted: Array, classes: int) -> Array:
    """Counts (classes, classes): row = the true class, column = the predicted one.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    array([[1, 0],
           [1, 1]])
    """
    t, p = np.asarray(targets), np.asarray(predicted)
    for name, given in (("targets", t), ("predictions", p)):
        if given.size and (given.min() < 0 or given.max() >= classes):
            raise AxisError(f"{name} must be labels from 0 to {classes - 1}")
    flat = t * classes + p
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def _counts(targets: Any, predicted: Any) -> tuple[Array, Array, Array, Array]:
    """The labels that occur, and their hits, rows and predictions."""
    t, p = labels(targets, predicted)
    names, codes = np.unique(np.concatenate([t, p]), return_inverse=True)
    t, p, size = codes[: len(t)], codes[len(t) :], len(names)
    hits = np.bincount(t[t == p], minlength=size)
    return names, hits, np.bincount(t, minlength=size), np.bincount(p, minlength=size)


def fbeta_score(
    targets: Any, predicted: Any, beta: float = 1.0, average: str | None = "binary",
    pos_label: Any = 1,
) -> Any:  # fmt: skip
    """(1 + beta^2) * precision * recall / (beta^2 * precision + recall) (van Rijsbergen, 1979).

    average : "binary" (of `pos_label` alone), "micro" (counts of all classes together), "macro"
    (plain mean over classes), "weighted" (mean by rows of the class), None (one value each).

    >>> round(fbeta_score([0, 1, 1, 1], [0, 1, 0, 1]), 3)
    0.8
    """
    if not beta >= 0:
        raise ArgumentError(f"beta must be >= 0; received {beta!r}")
    square = beta * beta
    return _averaged(
        targets, predicted, average, pos_label,
        lambda hits, rows, said: ratio((1 + square) * hits, square * rows + said),
    )  # fmt: skip


def f1_score(
    targets: Any, predicted: Any, average: str | None = "binary", pos_label: Any = 1
) -> Any:
    """The harmonic mean of precision and recall: `fbeta_score` with beta 1."""
    return fbeta_score(targets, predicted, 1.0, average, pos_label)


def precision(
    targets: Any, predicted: Any, average: str | None = "binary", pos_label: Any = 1
) -> Any:
    """Share of the predictions of a class that are right.

    >>> precision([0, 1, 1, 1], [1, 1, 0, 1], average=None).tolist()
    [0.0, 0.6666666666666666]
    """
    return _averaged(targets, predicted, average, pos_label, lambda h, rows, said: ratio(h, said))


def recall(targets: Any, predicted: Any, average: str | None = "binary", pos_label: Any = 1) -> Any:
    """Share of the rows of a class that are found."""
    return _averaged(targets, predicted, average, pos_label, lambda h, rows, said: ratio(h, rows))


def _averaged(targets: Any, predicted: Any, average: str | None, pos_label: Any, score: Any) -> Any:
    one_of(average, AVERAGES, "average")
    names, hits, rows, said = _counts(targets, predicted)
    if average == "binary":
        if len(names) > 2:
            raise DataError(
                f"{len(names)} classes occur, and average='binary' is for two",
                fix="average='macro', 'micro', 'weighted' or None",
            )
        place = np.flatnonzero(names == pos_label)
        return float(score(hits, rows, said)[place[0]]) if len(place) else 0.0
    if average == "micro":
        return float(score(hits.sum(), rows.sum(), said.sum()))
    each = score(hits, rows, said)
    if average is None:
        return each
    return float(np.average(each, weights=rows if average == "weighted" else None))


def balanced_accuracy(targets: Any, predicted: Any) -> float:
    """The mean recall of the classes that occur among the targets."""
    _, hits, rows, _ = _counts(targets, predicted)
    return float((hits[rows > 0] / rows[rows > 0]).mean())


def matthews_corrcoef(targets: Any, predicted: Any) -> float:
    """The correlation of truth and prediction, -1 to 1; 0 is chance (Matthews, 1975)."""
    _, hits, rows, said = (np.asarray(a, np.float64) for a in _counts_float(targets, predicted))
    n = rows.sum()
    covariance = hits.sum() * n - rows @ said
    spread = (n * n - said @ said) * (n * n - rows @ rows)
    return float(covariance / np.sqrt(spread)) if spread else 0.0


def cohen_kappa(targets: Any, predicted: Any) -> float:
    """Agreement beyond what the class shares alone would give (Cohen, 1960)."""
    _, hits, rows, said = _counts_float(targets, predicted)
    n = rows.sum()
    seen, chance = hits.sum() / n, float(rows @ said) / n**2
    return float((seen - chance) / (1.0 - chance)) if chance < 1.0 else float("nan")


def _counts_float(targets: Any, predicted: Any) -> tuple[Array, Array, Array, Array]:
    _, hits, rows, said = _counts(targets, predicted)
    return rows, hits.astype(np.float64), rows.astype(np.float64), said.astype(np.float64)


def classification_report(targets: Any, predicted: Any) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows of each class, and their plain and weighted means.

    >>> classification_report([0, 1, 1], [0, 1, 0])["1"]["recall"]
    0.5
    """
    names, hits, rows, said = _counts(targets, predicted)
    columns = {
        "precision": ratio(hits, said),
        "recall": ratio(hits, rows),
        "f1": ratio(2 * hits, rows + said),
    }
    report = {
        str(name): {k: float(v[i]) for k, v in columns.items()} | {"rows": float(rows[i])}
        for i, name in enumerate(names)
    }
    total = {"rows": float(rows.sum())}
    report["macro"] = {k: float(v.mean()) for k, v in columns.items()} | total
    report["weighted"] = {k: float(np.average(v, weights=rows)) for k, v in columns.items()} | total
    return report
