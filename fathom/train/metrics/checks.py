"""What the metrics ask of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.tensor import Array


def labels(targets: Any, predicted: Any) -> tuple[Array, Array]:
    """Two arrays of labels, one for each row."""
    t, p = np.asarray(targets), np.asarray(predicted)
    if t.shape != p.shape or t.ndim != 1:
        raise ShapeError(
            f"targets have shape {t.shape} and predictions {p.shape}; both must be (n,)",
            fix="outputs.argmax(axis=1) gives labels",
        )
    if not len(t):
        raise DataError("there are no rows to measure")
    return t, p


def binary(targets: Any, scores: Any, pos_label: Any = 1) -> tuple[Array, Array]:
    """Truth as booleans and finite scores, one for each row."""
    t, s = labels(targets, np.asarray(scores, np.float64))
    found = np.unique(t)
    if len(found) > 2:
        raise DataError(
            f"targets hold {len(found)} classes; a curve needs two",
            fix="one class against the rest: targets == c, scores[:, c]",
        )
    if not np.isfinite(s).all():
        raise DataError("scores hold values that are not finite")
    return t == pos_label, s


def probabilities(targets: Any, given: Any) -> tuple[Array, Array]:
    """Labels (n,) and probabilities (n, classes); a vector is the probability of class 1."""
    t, p = np.asarray(targets), np.asarray(given, np.float64)
    if p.ndim == 1:
        p = np.stack([1.0 - p, p], axis=1)
    if t.ndim != 1 or p.ndim != 2 or len(t) != len(p):
        raise ShapeError(f"targets {t.shape} and probabilities {p.shape} do not belong together")
    if not len(t):
        raise DataError("there are no rows to measure")
    if (p < 0).any() or not np.allclose(p.sum(axis=1), 1.0, atol=1e-4):
        raise DataError(
            "rows of probabilities must be >= 0 and sum to 1", fix="softmax the outputs first"
        )
    if t.dtype.kind not in "iub" or t.min() < 0 or t.max() >= p.shape[1]:
        raise DataError(f"targets must be labels from 0 to {p.shape[1] - 1}")
    return t.astype(np.int64), p


def one_of(value: Any, known: tuple[Any, ...], name: str) -> Any:
    if value not in known:
        raise ArgumentError(f"{name} is one of {', '.join(map(repr, known))}; received {value!r}")
    return value


def ratio(above: Any, below: Any) -> Array:
    """above / below, 0 where there is nothing to divide by."""
    a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)
