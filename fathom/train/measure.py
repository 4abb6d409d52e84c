"""Outputs, losses and metrics of a model on arrays, in eval mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.ops.loss import check_labels
from fathom.train.compiled import Wanted, forward_of, tell_eager
from fathom.train.losses import (
    BOXES,
    CLASSES,
    DISTANCES,
    LISTS,
    PROBABILITIES,
    TWO_SIDED,
    Loss,
    check_agreement,
    entry_of,
)
from fathom.train.metrics import Metric, accuracy, find


def hardened(y: Array, output: Tensor) -> Array:
    """Labels from the shares of classes that mixing made; other targets as they are."""
    soft = y.shape == output.shape and y.ndim == 2 and y.shape[1] > 1
    return y.argmax(axis=1) if soft and np.allclose(y.sum(axis=1), 1.0, atol=1e-4) else y


def measure(metrics: dict[str, Metric], outputs: Array, targets: Array) -> dict[str, float]:
    return {name: metric(outputs, targets) for name, metric in metrics.items()}


def outputs_of(model: Module, x: Array, batch_size: int, compile: Wanted = "auto") -> Array:
    """The model's outputs in eval mode, batch by batch; its mode is put back afterwards.

    compile : whether batches run as a plan: "auto" where all is Fathom's own and 16 batches of a
        shape have come, in this call and those before.
    """
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad():
            forward = forward_of(model)
            reason = forward.expect(x, batch_size, compile)
            if reason:
                tell_eager("the forward pass", reason)
            eager = compile is False or bool(reason)
            starts = range(0, len(x), batch_size)
            parts = [forward(x[i : i + batch_size], eager) for i in starts]
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    return np.concatenate(parts)


def evaluate_arrays(
    model: Module,
    x: Array,
    y: Array,
    loss: Loss,
    metrics: dict[str, Metric],
    size: int = 1024,
    compile: Wanted = "auto",
) -> dict[str, float]:
    outputs = outputs_of(model, x, size, compile)
    with no_grad():
        value = float(loss(Tensor(outputs), Tensor(y)).item())
    return {"loss": value, **measure(metrics, outputs, y)}


def check_outputs(model: Module, x: Array, y: Array, loss: Any) -> Array:
    """Fail before the first step, not in the middle; the output for the first row.

    What is checked: shapes, what the loss needs of targets and outputs, labels against outputs.
    """
    output = outputs_of(model, x[:1], 1, compile=False)
    entry = entry_of(loss, y)
    labels = entry is not None and entry.target == CLASSES and y.dtype.kind == "i"
    if labels and output.ndim == y.ndim + 1:
        check_labels(y, output.shape[1], getattr(loss, "ignore_index", -100))
    check_agreement(loss, y, output)
    return output


def find_metrics(metrics: Any, y: Array, loss: Any, output: Array) -> dict[str, Metric]:
    """Metrics by name; "auto" is what fits the targets and the loss."""
    if not (isinstance(metrics, str) and metrics == "auto"):
        return find(metrics or ())
    entry = entry_of(loss, y)
    target, kind = (entry.target, entry.output) if entry is not None else ("", "")
    if target in (BOXES, LISTS) or kind == DISTANCES:
        return {}
    if target in TWO_SIDED and kind == PROBABILITIES:
        return {"accuracy": lambda outputs, targets: accuracy(outputs - 0.5, targets)}
    if target in TWO_SIDED or y.dtype.kind == "i":
        return find("accuracy")
    return find(("mae", "r2")) if output.size == y[:1].size else {}
