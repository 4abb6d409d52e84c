"""Are probabilities what they say? Log loss, perplexity, Brier score, reliability, ECE."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array
from fathom.train.metrics.checks import one_of, probabilities, ratio


def log_loss(targets: Any, given: Any) -> float:
    """Mean of -ln(probability of the true class), in nats.

    Probabilities are (n, classes), or (n,) for class 1.

    >>> round(log_loss([1, 0], [0.5, 0.5]), 4)
    0.6931
    """
    t, p = probabilities(targets, given)
    likely = np.clip(p[np.arange(len(t)), t], np.finfo(np.float64).eps, 1.0)
    return float(-np.log(likely).mean())


def perplexity(targets: Any, given: Any) -> float:
    """exp(log loss): the number of equally likely classes that would be as surprising.

    >>> round(perplexity([0, 1], [[0.25] * 4, [0.25] * 4]), 6)
    4.0
    """
    return float(np.exp(log_loss(targets, given)))


def brier_score(targets: Any, given: Any) -> float:
    """Mean squared error of probabilities (Brier, 1950).

    (n,) probabilities of class 1: mean (p - y)^2. (n, classes): summed over the classes.
    """
    t, p = probabilities(targets, given)
    if np.ndim(given) == 1:
        return float(np.square(p[:, 1] - t).mean())
    hit = np.arange(p.shape[1]) == t[:, None]
    return float(np.square(p - hit).sum(axis=1).mean())


def reliability(
    targets: Any, given: Any, bins: int = 10, strategy: str = "uniform"
) -> dict[str, Array]:
    """The diagram of confidence against accuracy: mean of both, and rows, in each filled bin.

    (n,) probabilities of class 1 are compared with the share of class 1 (as scikit-learn's
    `calibration_curve`); of (n, classes) the largest one with the share of right answers.
    Bins have equal width ("uniform") or equal rows ("quantile").
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ArgumentError(f"bins must be a whole number >= 1; received {bins!r}")
    one_of(strategy, ("uniform", "quantile"), "strategy")
    t, p = probabilities(targets, given)
    if np.ndim(given) == 1:
        sure, right = p[:, 1], t.astype(np.float64)
    else:
        sure, right = p.max(axis=1), (p.argmax(axis=1) == t).astype(np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    if strategy == "quantile":
        edges = np.quantile(sure, edges)
    place = np.searchsorted(edges[1:-1], sure)
    rows = np.bincount(place, minlength=bins)
    filled = rows > 0
    return {
        "confidence": ratio(np.bincount(place, sure, bins), rows)[filled],
        "accuracy": ratio(np.bincount(place, right, bins), rows)[filled],
        "rows": rows[filled],
    }


def expected_calibration_error(targets: Any, given: Any, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over bins of equal width (Naeini et al., 2015).

    >>> round(expected_calibration_error([1, 1, 0, 1], [0.75] * 4), 12)
    0.0
    """
    found = reliability(targets, given, bins)
    gaps = np.abs(found["confidence"] - found["accuracy"])
    return float(np.average(gaps, weights=found["rows"]))
