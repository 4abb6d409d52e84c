"""Metrics: one number that says how good outputs are, and curves and tables that say more.

Those used in training take (outputs, targets); `METRICS` has them by name. The rest take
(targets, predictions or scores), the order of scikit-learn, and agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Array
from fathom.train.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    log_loss,
    perplexity,
    reliability,
)
from fathom.train.metrics.classification import (
    accuracy,
    balanced_accuracy,
    chosen,
    classification_report,
    cohen_kappa,
    confusion_matrix,
    f1_score,
    fbeta_score,
    matthews_corrcoef,
    precision,
    recall,
    top_k_accuracy,
)
from fathom.train.metrics.curves import (
    auc,
    average_precision,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)
from fathom.train.metrics.regression import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    median_absolute_error,
    r2,
    root_mean_squared_error,
)
from fathom.train.metrics.text import bleu, rouge_l, rouge_n

Metric = Callable[[Array, Array], float]


def top_5(outputs: Array, targets: Array) -> float:
    """Share of rows whose target is among the five largest outputs."""
    return top_k_accuracy(outputs, targets, min(5, outputs.shape[1]))


def _by_class(measure: Callable[..., Any]) -> Metric:
    """A metric of labels, averaged over the classes, as one of outputs."""

    def metric(outputs: Array, targets: Array) -> float:
        return float(measure(targets, chosen(outputs), average="macro"))

    return metric


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "top_5": top_5,
    "balanced_accuracy": lambda outputs, targets: balanced_accuracy(targets, chosen(outputs)),
    "kappa": lambda outputs, targets: cohen_kappa(targets, chosen(outputs)),
    "matthews": lambda outputs, targets: matthews_corrcoef(targets, chosen(outputs)),
    "precision": _by_class(precision),
    "recall": _by_class(recall),
    "f1": _by_class(f1_score),
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "rmse": root_mean_squared_error,
    "mape": mean_absolute_percentage_error,
    "median_ae": median_absolute_error,
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


__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "bleu",
    "brier_score",
    "classification_report",
    "cohen_kappa",
    "confusion_matrix",
    "expected_calibration_error",
    "f1_score",
    "fbeta_score",
    "find",
    "log_loss",
    "matthews_corrcoef",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "median_absolute_error",
    "perplexity",
    "precision",
    "precision_recall_curve",
    "r2",
    "recall",
    "reliability",
    "roc_auc",
    "roc_curve",
    "root_mean_squared_error",
    "rouge_l",
    "rouge_n",
    "top_k_accuracy",
]
