"""Whether a loss and its targets belong to one kind of task; part of `wrong_loss`."""

from __future__ import annotations

import math

import numpy as np

from fathom.doctor.case import Case, LossCall
from fathom.doctor.finding import Edit, Fix
from fathom.doctor.progress import progress
from fathom.doctor.rules.output import last


def mismatch(call: LossCall, values: int, onehot: bool) -> tuple[float, str] | None:
    """How sure, and how grave; None where loss and targets can be meant."""
    act, single = last(call), call.output.ndim < 2 or call.output.shape[-1] == 1
    absolute = call.function == "l1_loss"
    if single:
        if act == "sigmoid" and (values > 2 or absolute):
            return (0.8 if values > 2 else 0.6), "warning"
        return (0.3, "advice") if act == "" and 2 < values <= 20 and absolute else None
    if onehot:
        grave = absolute and call.output.shape[-1] > 2  # its median is 0 everywhere
        return (0.6, "warning") if grave else (0.3, "advice")
    if act == "softmax" or len(call.shapes[1]) < call.output.ndim:
        return 0.8, "warning"
    return None


def are_names(case: Case, call: LossCall, most: float, each: float) -> bool:
    """Whether one linear unit is to put out numbers 0 ... K-1 which are all as frequent, as those
    of balanced classes are and amounts are not; a run that gets there all the same is left alone.

    most : names at most. each : examples of each, at least.
    """
    single = call.output.ndim < 2 or call.output.shape[1:] == (1,)
    if not single or last(call) not in ("", "relu") or call.count > 1:
        return False
    kept = case.kept_targets() or [c.target for c in case.losses if c.target is not None]
    labels = np.concatenate([np.ravel(t) for t in kept])
    if not len(labels) or not (labels == np.round(labels)).all() or labels.min() < 0:
        return False
    number = int(labels.max()) + 1
    if not 3 <= number <= most or len(labels) < each * number:
        return False
    usual = len(labels) / number
    apart = float(((np.bincount(labels.astype(np.intp)) - usual) ** 2).sum()) / usual
    free = number - 1
    even = free * (1 - 2 / (9 * free) + 2.33 * math.sqrt(2 / (9 * free))) ** 3  # Wilson, Hilferty
    return apart < even and progress(case).state != "done"


def reconstructs(case: Case, call: LossCall) -> bool:
    """Whether the target is (the beginning of) an input."""
    return any(
        x.shape == call.target.shape and np.array_equal(x, call.target)
        for x in case.inputs if call.target is not None
    )  # fmt: skip


def classifying(call: LossCall, onehot: bool) -> Fix:
    """A loss for classes, and what goes with it."""
    single = call.output.ndim < 2 or call.output.shape[-1] == 1
    if single and last(call) != "sigmoid":
        return Fix("a unit for each class, and cross-entropy on them", "loss_fn = "
                   "nn.CrossEntropyLoss()  # on (n, classes), with targets as integers",
                   (Edit("classes"),))  # fmt: skip
    if single:
        return Fix("binary cross-entropy for two classes, cross-entropy with a unit a class for "
                   "more", "loss_fn = nn.BCELoss()",
                   (Edit("loss", value="binary_cross_entropy"),))  # fmt: skip
    edits = (Edit("drop_output_activation"),) if call.path else ()
    return Fix("cross-entropy on logits, one for each class",
               "loss_fn = nn.CrossEntropyLoss()  # and no softmax before it",
               (*edits, Edit("loss", value="cross_entropy")))  # fmt: skip


__all__ = ["are_names", "classifying", "mismatch", "reconstructs"]
