"""Metrics: one number that says how good outputs are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Array

Metric = Callable[[Array, Array], float]


def accuracy(outputs: Array, targets: Array) -> float:
    """Share of rows whose largest output is the target class.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(np.argmax(outputs, axis=1) == targets))


def mean_absolute_error(outputs: Array, targets: Array) -> float:
    """Mean of |output - target|."""
    return float(np.mean(np.abs(_flat(outputs, targets) - targets)))


def mean_squared_error(outputs: Array, targets: Array) -> float:
    """Mean of (output - target)^2."""
    return float(np.mean(np.square(_flat(outputs, targets) - targets)))


def r2(outputs: Array, targets: Array) -> float:
    """Share of the target's variance that is explained: 1 is perfect, 0 the mean's work."""
    total = float(np.sum(np.square(targets - targets.mean(axis=0)), dtype=np.float64))
    rest = float(np.sum(np.square(_flat(outputs, targets) - targets), dtype=np.float64))
    return 1.0 - rest / total if total else float("nan")


def confusion_matrix(targets: Array, predicted: Array, classes: int) -> Array:
    """Counts (classes, classes): row = the true class, column = the predicted one.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    array([[1, 0],
           [1, 1]])
    """
    flat = np.asarray(targets) * classes + np.asarray(predicted)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def _flat(outputs: Array, targets: Array) -> Array:
    return outputs.reshape(targets.shape)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "r2": r2,
}


def find(metrics: Any) -> dict[str, Metric]:
    """Metrics by name from names or functions."""
    found: dict[str, Metric] = {}
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if callable(metric):
            found[getattr(metric, "__name__", "metric")] = metric
        elif metric in METRICS:
            found[metric] = METRICS[metric]
        else:
            raise ArgumentError(f"unknown metric {metric!r}", fix=suggest(str(metric), METRICS))
    return found
