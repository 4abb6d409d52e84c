"""Weights of classes and rows in the loss, and the moving average of a model's weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.nn.module import Module


def class_weights(class_weight: Any, labels: Any) -> dict[int, float]:
    """The weight of each class: "balanced", a dictionary, or a list by class number.

    "balanced" gives rows / (classes * rows of the class), as in scikit-learn; classes that a
    dictionary leaves out weigh 1.

    >>> class_weights("balanced", [0, 0, 0, 1])
    {0: 0.6666666666666666, 1: 2.0}
    """
    y = np.asarray(labels)
    if y.ndim != 1 or y.dtype.kind not in "iub":
        raise ArgumentError(
            f"class_weight needs one label for each row; y has shape {y.shape} and holds {y.dtype}"
        )
    found, counts = np.unique(y, return_counts=True)
    classes = [int(c) for c in found]
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ArgumentError(f"class_weight is 'balanced' or weights; got {class_weight!r}")
        return {c: float(len(y) / (len(found) * n)) for c, n in zip(classes, counts, strict=True)}
    if not isinstance(class_weight, Mapping):
        class_weight = dict(enumerate(np.asarray(class_weight, float).tolist()))
    weights = {c: float(class_weight.get(c, 1.0)) for c in classes}
    bad = {c: w for c, w in weights.items() if not 0.0 <= w < np.inf}
    if bad:
        raise ArgumentError(f"class weights must be finite and >= 0; received {bad}")
    return weights


def row_weights(sample_weight: Any, class_weight: Any, y: Array) -> Array | None:
    """One weight for each row, the product of its own and its class'; None if neither is given."""
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(y))
    if sample_weight is not None:
        given = np.asarray(sample_weight, np.float64)
        if given.shape != (len(y),):
            raise ShapeError(f"sample_weight has shape {given.shape}; expected ({len(y)},)")
        if not np.isfinite(given).all() or (given < 0).any():
            raise DataError("sample_weight holds values that are negative or not finite")
        weights = given.copy()
    if class_weight is not None:
        by_class = class_weights(class_weight, y)
        weights *= np.array([by_class[int(label)] for label in y])
    if not weights.sum() > 0:
        raise DataError("all rows have weight 0: there is nothing to learn from")
    return weights


def unreduced(loss: Any) -> Any:
    """A loss that returns one value for each row, from one that returns their mean."""
    if isinstance(loss, Module) and hasattr(loss, "reduction"):
        loss = copy.copy(loss)
        loss.reduction = "none"
        return loss
    try:
        takes = "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        takes = False
    return partial(loss, reduction="none") if takes else loss


def weighted_mean(each: Tensor, weights: Array) -> Tensor:
    """sum(w * loss) / sum(w) over rows; what a row has on further axes is averaged first."""
    if each.ndim == 0 or each.shape[0] != len(weights):
        raise ArgumentError(
            f"weights need a loss for each of the {len(weights)} rows; the loss returned shape "
            f"{each.shape}",
            fix="let the loss take reduction='none', or return one value for each row",
        )
    rows = each.reshape(len(weights), -1).mean(axis=1)
    total = float(weights.sum())
    return (rows * Tensor(weights.astype(each.dtype))).sum() / (total or 1.0)


class MovingAverage:
    """The exponential moving average of a model's parameters (Polyak & Juditsky, 1992).

    average = decay * average + (1 - decay) * weights after each step, the decay held below
    (1 + n) / (10 + n) in step n, so that the first weights are soon forgotten.

    >>> from fathom import nn
    >>> model = nn.Linear(1, 1)
    >>> average = MovingAverage(model, 0.5)
    >>> average.update()
    >>> with average.in_place():
    ...     y = model(Tensor(np.ones((1, 1), np.float32)))
    """

    def __init__(self, model: Module, decay: float) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ArgumentError(f"ema is a decay in [0, 1), such as 0.999; received {decay!r}")
        self.model, self.decay, self.count = model, float(decay), 0
        self.arrays = {name: p.value().copy() for name, p in model.named_parameters()}

    def update(self) -> None:
        """Take in the present weights."""
        self.count += 1
        decay = min(self.decay, (1.0 + self.count) / (10.0 + self.count))
        for name, p in self.model.named_parameters():
            average = self.arrays[name]
            average += (1.0 - decay) * (p.value() - average)

    def give(self) -> None:
        """Write the average into the model."""
        for name, p in self.model.named_parameters():
            p.value()[...] = self.arrays[name]
            mark_written(p)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights."""
        kept = {name: p.value().copy() for name, p in self.model.named_parameters()}
        self.give()
        try:
            yield
        finally:
            for name, p in self.model.named_parameters():
                p.value()[...] = kept[name]
                mark_written(p)
