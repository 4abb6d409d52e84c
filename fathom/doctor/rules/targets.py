"""Contracts between targets, loss and output: ranges, encodings, shapes, scales."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fathom.doctor.case import Case, LossCall
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.output import BINARY, SQUARED, STUCK, classes, last, share, span
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.sign import maximized
from fathom.doctor.rules.tasks import are_names, classifying, mismatch, reconstructs
from fathom.engine.tensor import Array

BOUNDED = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0),
           "relu": (0.0, math.inf), "hardsigmoid": (0.0, 1.0), "softplus": (0.0, math.inf),
           "hardtanh": (-1.0, 1.0), "relu6": (0.0, 6.0), "exp": (0.0, math.inf)}  # fmt: skip
SIGNED = ("soft_margin_loss", "hinge_loss", "hinge_embedding_loss", "margin_ranking_loss",
          "cosine_embedding_loss")  # fmt: skip
IGNORED = -100


@rule(
    "unreachable_targets", "contract", "warning",
    formula="share of targets outside the closed range of the last activation (a softmax's rows "
    "sum to 1)",
    thresholds={"share": 0.01, "grave": 0.1, "slack": 1e-3, "sum": 0.05},
    why="The last activation cannot put out these targets, however long it trains.",
    exempt=("targets beyond the range by less than a thousandth of it",
            "outputs that are multiplied or moved behind the activation"),
    explains=(*STUCK, "saturated_units", "target_scale", "dead_units", "initial_loss",
              "wrong_loss", "one_batch"),
)  # fmt: skip
def unreachable_targets(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call, target = case.loss, case.targets()
    if call is None or target is None or not target.size or call.scaled:
        return
    act = last(call)
    if act not in BOUNDED or call.function not in (*SQUARED, "binary_cross_entropy"):
        return
    low, high = BOUNDED[act]
    slack = limits["slack"] * (high - low if math.isfinite(high) else 1.0)
    if not call.output.size or call.output.max() > high + slack or call.output.min() < low - slack:
        return
    outside = share((target < low - slack) | (target > high + slack))
    if call.function == "binary_cross_entropy":
        outside = 0.0  # label_range tells of those
    if act == "softmax" and target.ndim > 1 and target.shape == call.output.shape:
        outside = max(outside, share(np.abs(target.sum(axis=-1) - 1) > limits["sum"]))
    if outside <= limits["share"]:
        return
    evidence = (
        Evidence(f"targets outside what {act} can put out", outside, "0"),
        Evidence("targets", span(target), f"{low:g} to {high:g}"),
    )
    fix = Fix(f"leave out the {act} behind the last layer, or scale the targets into its range",
              edits=(Edit("drop_output_activation"),))  # fmt: skip
    grave = outside > limits["grave"]
    yield Hit("output", evidence, fix, strength=0.95 if grave else 0.6,
              severity="error" if grave else "warning")  # fmt: skip


# -- the loss and the kind of task -----------------------------------------------------------------


@rule(
    "wrong_loss", "contract", "warning",
    formula="whole numbers from 0 as targets of a squared or absolute error, on softmax, on one "
    "sigmoid unit, on a unit a class, or on one linear unit where all of 0 ... K-1 are as frequent "
    "(chi-square, 1 %) and the run has not come to its end; a target handed over as the output; "
    "what is minimized is a constant less the loss (or the optimizer maximizes the loss), and the "
    "loss rises",
    thresholds={"classes": 100, "size": 8, "one_hot": 0.99, "most": 20, "each": 10,
                "calls": 3, "exact": 1e-4, "trained": 0.5},
    why="The loss does not fit the task: class numbers are names, not amounts, and what is nearest "
    "to the mean of two classes is neither.",
    exempt=("real-valued targets", "reconstruction of inputs",
            "counts, grades and ratings with one linear output: they are not all as frequent",
            "squared errors on 0 and 1 (Brier's score): advice at most",
            "a loss subtracted from others, or times what differs from step to step (rewards)",
            "adversaries: networks that the loss reaches through another one, or with one that "
            "this optimizer does not train", "trained networks that are to forget"),
    explains=(*STUCK, "unreachable_targets", "initial_loss", "loss_broadcast", "target_scale",
              "learning_rate_too_high", "probabilities_expected", "exploding_gradients",
              "saturated_units", "dead_units", "non_finite", "off_centre"),
)  # fmt: skip
def wrong_loss(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call, target = case.loss, case.targets()
    if call is not None and call.swapped:
        yield Hit(
            "loss",
            (Evidence("first argument", "does not depend on the weights", "output"),),
            Fix("the output first, then the target", "loss_fn(output, target)"),
            0,
            0.9,
        )
    yield from maximized(case, limits["calls"], limits["exact"], limits["trained"])
    if call is None or target is None or call.function not in SQUARED:
        return
    values = np.unique(target)
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
    if target.size < limits["size"] or not whole or values[0] < 0 or reconstructs(case, call):
        return
    if not 2 <= len(values) <= limits["classes"]:
        return
    onehot = target.ndim > 1 and target.shape[-1] > 1
    onehot = onehot and share(target.sum(axis=-1) == 1) > limits["one_hot"]
    found = mismatch(call, len(values), onehot)
    if found is None and are_names(case, call, limits["most"], limits["each"]):
        found = 0.6, "warning"
    if found is None:
        return
    strength, severity = found
    evidence = (
        Evidence("distinct targets, all whole numbers", len(values), "many, or no classes"),
        Evidence("loss", call.function, "cross_entropy"),
        Evidence("operation before the loss", last(call) or "linear"),
    )
    yield Hit("loss", evidence, classifying(call, onehot), 0, strength, severity)


# -- labels ----------------------------------------------------------------------------------------


@rule(
    "label_range", "contract", "error",
    formula="labels that are no whole numbers 0 ... C-1 (cross-entropy), lie outside [0, 1] "
    "(binary), are 0 where -1 is meant (hinges), do not sum to 1 (soft), or are all the same",
    thresholds={"tolerance": 1e-6, "sum": 1e-2, "rows": 0.01, "same": 64, "few": 0.1,
                "many_classes": 20},
    why="The labels are not what the loss takes: it raises, has no lower bound, or most of the "
    "classes never occur.",
    exempt=("ignore_index", "label smoothing and mixtures of labels in [0, 1]",
            "two classes, one of them rare", "vocabularies", "similarities of pairs",
            "several losses a step (GAN)"),
    explains=(*STUCK, "loss_below_bound", "non_finite", "unreachable_targets", "initial_loss",
              "wrong_loss", "learning_rate_too_high", "exploding_gradients",
              "one_batch", "loss_zero_at_start", "saturated_units"),
    reads=("losses", "layers"),
)  # fmt: skip
def label_range(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call, target = case.loss, case.targets()
    if call is None or target is None or not target.size or not np.isfinite(target).all():
        return
    if call.error and call.target is not None:
        target = call.target
    if call.function in BINARY:
        yield from _binary_labels(call, target, limits)
    elif call.function in SIGNED:
        yield from _signed_labels(target)
    elif call.function in ("cross_entropy", "nll_loss") and classes(call) > 1:
        soft = np.issubdtype(target.dtype, np.floating) and target.shape[1:] == call.shapes[0][1:]
        if soft and call.function == "cross_entropy":
            yield from _soft_labels(target, limits)
        elif call.error:
            yield from _refused_labels(call, target)
        elif not np.issubdtype(target.dtype, np.floating):
            yield from _class_numbers(case, call, target, limits)


def _labels(target: Array, healthy: str) -> Evidence:
    shown = f"{span(target)}, {len(np.unique(target))} distinct, {target.dtype}"
    return Evidence("labels", shown, healthy)


def _binary_labels(call: LossCall, target: Array, limits: Mapping[str, float]) -> Iterator[Hit]:
    low, high = float(target.min()), float(target.max())
    values = np.unique(target)
    evidence = (_labels(target, "0 to 1"),)
    if low < -limits["tolerance"] or high > 1 + limits["tolerance"]:
        two = len(values) == 2
        fix = Fix("labels 0 and 1 for two classes; cross_entropy with a unit a class for more",
                  "y = (y > 0).float()" if two else "loss_fn = nn.CrossEntropyLoss()",
                  (Edit("labels"),) if two else ())  # fmt: skip
        yield Hit("targets", evidence, fix, strength=1.0)
    elif call.error and call.shapes[0] == call.shapes[1] and target.dtype.kind in "iub":
        yield Hit("targets", evidence, Fix("labels as floats", "y = y.float()"), strength=0.9)
    elif 2 <= len(values) <= 20 and 0 < high < 0.2 and call.output.shape[1:] in ((), (1,)):
        if np.allclose(values * 255, np.round(values * 255), atol=1e-4):
            fix = Fix("divide the inputs by 255, not the labels", "y = y * 255", (Edit("labels"),))
            yield Hit("targets", evidence, fix, strength=0.9)


def _signed_labels(target: Array) -> Iterator[Hit]:
    if set(np.unique(target).tolist()) == {0, 1}:
        fix = Fix("labels -1 and 1: those of 0 give no gradient", "y = 2 * y - 1")
        yield Hit("targets", (_labels(target, "-1 and 1"),), fix, strength=1.0)


def _soft_labels(target: Array, limits: Mapping[str, float]) -> Iterator[Hit]:
    off = share(np.abs(target.sum(axis=1) - 1) > limits["sum"])
    if off > limits["rows"] or target.min() < -limits["tolerance"]:
        evidence = (Evidence("rows of target probabilities that do not sum to 1", off, "0"),)
        words = "class numbers, or rows of probabilities; binary cross-entropy for several labels"
        fix = Fix(words, edits=(Edit("loss", value="binary_cross_entropy_with_logits"),))
        yield Hit("targets", evidence, fix, strength=0.9)


def _refused_labels(call: LossCall, target: Array) -> Iterator[Hit]:
    """The loss raised: what about the labels made it do so."""
    number = classes(call)
    kept = target[target != call.options.get("ignore_index", IGNORED)]
    shape = (*call.shapes[0][:1], *call.shapes[0][2:])
    wanted = f"whole numbers 0 to {number - 1}, of shape {shape}"
    evidence = (_labels(target, wanted), Evidence("shape", str(call.shapes[1])),
                Evidence("the loss raised", call.error))  # fmt: skip
    fix, edits = "class numbers as integers", (Edit("labels"),)
    if kept.size and (kept.min() < 0 or kept.max() >= number):
        fix = f"labels from 0 to {number - 1}, or as many units as there are classes"
        yield Hit("targets", evidence, Fix(fix, edits=edits), strength=1.0)
    elif target.ndim >= call.output.ndim and target.shape[1:2] == (number,):
        yield Hit("targets", evidence, Fix(f"{fix}, not one-hot rows", "y = y.argmax(1)"), 0, 1.0)
    elif np.issubdtype(target.dtype, np.floating):
        yield Hit("targets", evidence, Fix(fix, "y = y.long()"), strength=1.0)
    elif target.ndim == call.output.ndim and target.shape[1:] == (1,):
        yield Hit("targets", evidence, Fix(f"{fix}, of one axis", "y = y.squeeze(1)"), 0, 1.0)


def _class_numbers(
    case: Case, call: LossCall, target: Array, limits: Mapping[str, float]
) -> Iterator[Hit]:
    number = classes(call)
    labels = np.unique(target[target != call.options.get("ignore_index", IGNORED)])
    words = any(layer.kind.startswith("Embedding") for layer in case.layers.values())
    if not len(labels) or call.count > 1 or target.ndim > 1:
        return
    expected = number * -math.expm1(-target.size / number)  # distinct ones, if all are as likely
    evidence = (_labels(target, f"0 to {number - 1}"),)
    straight = bool(call.layer) and not call.path  # logits, not similarities of pairs
    if len(labels) == 1 and number > 2 and target.size >= limits["same"] and straight:
        fix = Fix("look at how the labels are made: they are all the same")
        yield Hit("targets", evidence, fix, strength=0.8)
    elif words or number < limits["many_classes"]:
        return
    elif len(labels) <= limits["few"] * expected:
        fix = Fix("as many units as there are classes", edits=(Edit("labels"),))
        yield Hit("targets", evidence, fix, strength=0.5, severity="advice")


# -- shapes, reduction, scale ----------------------------------------------------------------------


@rule(
    "loss_broadcast", "contract", "error",
    formula="output and target of a loss of different shapes whose broadcast has more elements, or "
    "which do not fit each other",
    why="Every output is compared with every target: the best answer is the mean of all targets, "
    "whatever the input.",
    exempt=("targets of one element", "broadcasts that have no more elements than the output",
            "reduction 'none', but for a column and a row of as many numbers"),
    explains=(*STUCK, "initial_loss", "inputs_ignored", "overfitting", "one_batch",
              "non_finite", "wrong_loss", "linear_baseline"),
)  # fmt: skip
def loss_broadcast(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None:
        return
    output, target = call.shapes
    if not _each_with_each(call) and (
        call.options.get("reduction") == "none" or call.function == "custom"
    ):
        return
    if call.function in ("cross_entropy", "nll_loss"):
        if call.error and output[:1] != target[:1]:
            yield _unlike(call, "not comparable", "class numbers: one for each row of the output")
        return
    if output == target or min(map(math.prod, call.shapes)) <= 1:
        return
    try:
        both = np.broadcast_shapes(output, target)
    except ValueError:
        both = ()
    if call.error or math.prod(both) > max(math.prod(output), math.prod(target)):
        yield _unlike(call, str(both) if both else "not comparable", "give both one shape")


def _each_with_each(call: LossCall) -> bool:
    """Whether a column is compared with a row of as many numbers."""
    column, row = sorted(call.shapes, key=len, reverse=True)
    return len(row) == 1 and column == (*row, 1)


def _unlike(call: LossCall, both: str, words: str) -> Hit:
    output, target = call.shapes
    evidence = (
        Evidence("output", str(output), "the target's shape"),
        Evidence("target", str(target), "the output's shape"),
        Evidence("compared", both, str(output)),
    )
    fix = Fix(words, "loss_fn(output.squeeze(-1), target)", (Edit("squeeze"),))
    return Hit("loss", evidence, fix, strength=1.0)


@rule(
    "sum_reduction", "contract", "advice",
    formula="reduction 'sum' with a learning rate that is usual for means",
    thresholds={"step": 0.05, "batch": 8},
    corpus="healthy runs: median update/weight 5e-4 to 1.5e-2 (5 to 95 %)",
    why="The gradient grows with the batch: the learning rate that fits depends on the batch size.",
    exempt=("a learning rate that is small for it: update/weight below 0.05",
            "adaptive optimizers, which do not heed the scale", "small batches"),
    explains=("learning_rate_too_high", "exploding_gradients", "non_finite", "dead_units",
              "saturated_units", "constant_output", "not_learning"),
    gates=("not learning",),
)  # fmt: skip
def sum_reduction(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call, facts = case.loss, case.optimizer
    if call is None or facts is None or call.options.get("reduction") != "sum":
        return
    batch = call.shapes[0][0] if call.shapes[0] else 1
    if facts.kind not in ("SGD", "ASGD", "Nesterov", "Momentum") or batch < limits["batch"]:
        return
    ratios = [s.ratio for step in case.steps[:4] for s in step.parameters.values()]
    ratios = [r for r in ratios if math.isfinite(r)]
    if not ratios or float(np.median(ratios)) < limits["step"]:
        return
    fix = Fix("the mean over the batch, or a learning rate divided by the batch size",
              "reduction='mean'", (Edit("reduction", value="mean"),))  # fmt: skip
    evidence = (Evidence("median update over weight", float(np.median(ratios)), "below 0.015"),)
    yield Hit("loss", evidence, fix, 0, 0.8, "warning")


@rule(
    "target_scale", "contract", "warning",
    formula="standard deviation of real targets > 50 or < 1e-3, or |mean| / std > 20",
    thresholds={"high": 50.0, "low": 1e-3, "offset": 20.0, "mean": 3.0, "ready": 0.2, "rows": 8},
    why="A fresh network puts out values about 0 with standard deviation below 1: it spends its "
    "steps on getting to the scale of the targets, with gradients as large as they are.",
    exempt=("classes", "batches of fewer than 8 examples",
            "outputs that start at that scale, or near the targets' mean"),
    explains=(*STUCK, "learning_rate_too_high", "exploding_gradients", "non_finite", "dead_units",
              "saturated_units", "off_centre", "strong_regularization", "initial_loss"),
)  # fmt: skip
def target_scale(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call, target = case.loss, case.targets()
    if call is None or target is None or call.function not in SQUARED or not call.output.size:
        return
    if len(target) < limits["rows"] or not np.isfinite(target).all():
        return
    std, mean = float(target.std()), float(target.mean())
    apart = abs(mean - float(call.output.mean()))
    high = std > limits["high"] and float(call.output.std()) < limits["ready"] * std
    far = apart > limits["offset"] * max(std, 1e-12) and abs(mean) > limits["mean"]
    if not (high or far or 0 < std < limits["low"]):
        return
    evidence = (
        Evidence("standard deviation of the targets", std, "about 1"),
        Evidence("mean of the targets", mean, "about 0"),
        Evidence("standard deviation of the outputs", float(call.output.std())),
    )
    fix = Fix("standardize the targets, and undo it for predictions",
              f"y = (y - {mean:.6g}) / {std:.6g}", (Edit("scale_targets"),))  # fmt: skip
    yield Hit("targets", evidence, fix, 0, min(0.6 + 0.2 * math.log10(max(std / 50, 1)), 1.0))
