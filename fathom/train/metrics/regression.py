"""Metrics of amounts. Outputs may be a column (n, 1) for targets (n,)."""

from __future__ import annotations

import numpy as np

from fathom.engine.tensor import Array


def mean_absolute_error(outputs: Array, targets: Array) -> float:
    """Mean of |output - target|."""
    return float(np.mean(np.abs(_flat(outputs, targets) - targets)))


def mean_squared_error(outputs: Array, targets: Array) -> float:
    """Mean of (output - target)^2."""
    return float(np.mean(np.square(_flat(outputs, targets) - targets)))


def root_mean_squared_error(outputs: Array, targets: Array) -> float:
    """The square root of the mean squared error, in the units of the target."""
    return float(np.sqrt(mean_squared_error(outputs, targets)))


def median_absolute_error(outputs: Array, targets: Array) -> float:
    """Median of |output - target|: outliers do not count.

    >>> median_absolute_error(np.array([1.0, 2.0, 99.0]), np.array([0.0, 2.0, 3.0]))
    1.0
    """
    rest = np.abs(_flat(outputs, targets) - targets)
    return float(np.mean(np.median(rest, axis=0)))


def mean_absolute_percentage_error(outputs: Array, targets: Array) -> float:
    """Mean of |output - target| / |target|, as a share: 0.1 is 10 %. Huge for targets near 0."""
    floor = np.maximum(np.abs(targets), np.finfo(np.float64).eps)
    return float(np.mean(np.abs(_flat(outputs, targets) - targets) / floor))


def r2(outputs: Array, targets: Array) -> float:
    """Share of the target's variance that is explained: 1 is perfect, 0 the mean's work."""
    total = float(np.sum(np.square(targets - targets.mean(axis=0)), dtype=np.float64))
    rest = float(np.sum(np.square(_flat(outputs, targets) - targets), dtype=np.float64))
    return 1.0 - rest / total if total else float("nan")


def _flat(outputs: Array, targets: Array) -> Array:
    return outputs.reshape(targets.shape)
