"""Contracts between the model's last operations and the loss; known at its first call."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping

import numpy as np

from fathom.doctor.case import Case, LossCall
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.rule import Hit, rule
from fathom.engine.tensor import Array

LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
SQUARED = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
SOFT = frozenset({"softmax", "log_softmax"})
SQUEEZING = ("relu", "sigmoid", "tanh", "relu6", "hardtanh", "hardsigmoid")
STUCK = ("not_learning", "learning_rate_too_low", "constant_output", "still_improving",
         "underfitting", "vanishing_gradients", "no_signal")  # fmt: skip
DROP = Fix("leave it out: the loss takes logits", "# no softmax, sigmoid or relu before the loss",
           (Edit("drop_output_activation"),))  # fmt: skip


def last(call: LossCall) -> str:
    """The operation whose result the loss is given; "" if that is the last layer's own output."""
    return call.path[0] if call.path else ""


def classes(call: LossCall) -> int:
    """The size of the axis of classes."""
    return int(call.output.shape[1]) if call.output.ndim > 1 else 1


def share(mask: Array) -> float:
    """How many are True."""
    return float(np.mean(mask)) if np.size(mask) else 0.0


def span(values: Array) -> str:
    """From where to where, in words."""
    return f"{float(values.min()):.4g} to {float(values.max()):.4g}"


def _readable(call: LossCall | None) -> bool:
    return call is not None and bool(call.output.size) and bool(np.isfinite(call.output).all())


def _sum_off(p: Array, axis: int) -> float:
    """How far sums along an axis are from 1, at most."""
    return float(np.abs(p.astype(np.float64).sum(axis=axis) - 1).max())


@rule(
    "one_unit_softmax", "contract", "error",
    formula="softmax, or a cross-entropy on logits, over an axis of size 1",
    thresholds={"tolerance": 1e-6},
    why="A softmax over one number is 1 whatever the number: the output is constant, its "
    "gradient 0, and nothing is learned.",
    exempt=("a softmax over the batch, which is another fault",),
    explains=(*STUCK, "loss_zero_at_start", "no_gradient", "frozen_parameters", "wrong_loss",
              "label_range", "unreachable_targets", "initial_loss", "inputs_ignored",
              "softmax_wrong_axis", "loss_broadcast", "softmax_before_cross_entropy",
              "sigmoid_before_bce_with_logits", "one_batch", "no_nonlinearity"),
)  # fmt: skip
def one_unit_softmax(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or not call.output.size:
        return
    logits = call.function == "cross_entropy" and call.output.ndim > 1 and classes(call) == 1
    constant = 0.0 if last(call) == "log_softmax" else 1.0
    inside = last(call) in SOFT and bool(np.ptp(call.output) <= limits["tolerance"])
    inside = inside and abs(float(call.output.flat[0]) - constant) <= limits["tolerance"]
    if not (logits or inside):
        return
    edits = (Edit("loss", value="binary_cross_entropy_with_logits"), Edit("squeeze"))
    fix = Fix(
        "one unit says yes or no: a sigmoid and binary cross-entropy on its logit",
        "loss_fn = nn.BCEWithLogitsLoss()  # and no softmax; targets as floats of shape (n, 1)",
        (Edit("drop_output_activation"), *edits) if inside else edits,
    )
    evidence = (Evidence("units the softmax runs over", 1, "2 or more"),)
    yield Hit("output", evidence, fix, strength=1.0)


@rule(
    "softmax_before_cross_entropy", "contract", "error",
    formula="softmax in the path to a cross-entropy on logits, and |row sum - 1| <= 1e-4; or a "
    "(log-)softmax whose input is a softmax, and within a row log-probabilities apart by <= 1",
    thresholds={"tolerance": 1e-4, "apart": 1.0},
    why="Cross-entropy takes logits and applies softmax itself. Applied twice, outputs lie in "
    "[0, 1], the loss cannot fall below ln(e + C - 1) - 1, and gradients are small.",
    exempt=("logits scaled to [0, 1] by hand: there must be a softmax in the graph",
            "log-probabilities, on which a second softmax changes nothing"),
    explains=(*STUCK, "activation_on_logits", "softmax_wrong_axis", "one_batch"),
)  # fmt: skip
def softmax_before_cross_entropy(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or call.function not in ("cross_entropy", "nll_loss") or classes(call) < 2:
        return
    if "softmax" not in call.path or not _readable(call):
        return
    off = _sum_off(call.output, 1)
    once = call.function == "cross_entropy" and float(call.output.min()) >= 0
    twice = _is_twice(call, {"softmax", "log_softmax"}, "softmax") and bool(
        (call.output.max(1) - call.output.min(1) <= limits["apart"] + limits["tolerance"]).all()
    )
    if not (twice or (once and off <= limits["tolerance"])):
        return
    evidence = (
        Evidence("softmaxes one behind the other, with the loss's own", 2, "1"),
        Evidence("largest distance of a row's sum from 1", off, "logits do not sum to 1"),
        Evidence("the loss cannot fall below", math.log(math.e + classes(call) - 1) - 1, "0"),
    )
    yield Hit("output", evidence, DROP, strength=1.0)


def _is_twice(call: LossCall, outer: Container[str], inner: str) -> bool:
    """Whether what the loss is given is a function of that very kind of function, and nothing in
    between."""
    path = call.path[1:] if call.path[:1] == ("log",) else call.path
    return len(path) > 1 and path[0] in outer and path[1] == inner and not call.scaled


@rule(
    "sigmoid_before_bce_with_logits", "contract", "error",
    formula="sigmoid in the path to binary_cross_entropy_with_logits, outputs in [0, 1]; a sigmoid "
    "of a sigmoid before binary_cross_entropy",
    why="The loss applies the sigmoid itself. Applied twice, no answer can be surer than 0.73 "
    "or less sure than 0.5, and the loss cannot come near 0.",
    exempt=("outputs that happen to lie in [0, 1] without a sigmoid",
            "gates: a sigmoid multiplied by something else"),
    explains=(*STUCK, "activation_on_logits", "one_batch"),
)  # fmt: skip
def sigmoid_before_bce_with_logits(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or call.function not in BINARY or not _readable(call):
        return
    squeezed = bool({"sigmoid", "softmax"} & set(call.path)) and not call.scaled
    if call.function == "binary_cross_entropy":
        squeezed = _is_twice(call, {"sigmoid"}, "sigmoid") and bool(call.output.min() >= 0.499)
    if not squeezed or not _inside(call.output, 0.0, 1.0):
        return
    evidence = (Evidence("what the loss is given", span(call.output), "any number"),)
    yield Hit("output", evidence, DROP, strength=1.0)


def _inside(values: Array, low: float, high: float) -> bool:
    return bool(values.min() >= low and values.max() <= high)


# -- losses that take probabilities ----------------------------------------------------------------


@rule(
    "probabilities_expected", "contract", "error",
    formula="binary cross-entropy on values outside [0, 1], or from no sigmoid; NLL and KL on what "
    "are no log-probabilities",
    thresholds={"tolerance": 1e-6, "sum": 0.05, "rows": 0.5},
    why="The loss takes (log-)probabilities and is given something else: it turns nan or "
    "negative without bound, or is clipped to where there is no gradient.",
    exempt=("probabilities made in another way (exp of log-probabilities, a mean of several, a "
            "clamped sigmoid)", "logarithms of probabilities that were clamped"),
    explains=(*STUCK, "non_finite", "loss_below_bound", "dead_units", "unreachable_targets",
              "initial_loss", "learning_rate_too_high", "exploding_gradients", "loss_zero_at_start",
              "softmax_wrong_axis", "activation_on_logits", "one_batch", "loss_broadcast"),
)  # fmt: skip
def probabilities_expected(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or not call.output.size or np.isnan(call.output).any():
        return
    if call.function == "binary_cross_entropy":
        yield from _no_probabilities(call, limits)
    elif call.function in ("nll_loss", "kl_div") and call.output.ndim:
        yield from _no_logarithms(call, limits)


def _no_probabilities(call: LossCall, limits: Mapping[str, float]) -> Iterator[Hit]:
    low, high = float(call.output.min()), float(call.output.max())
    outside = low < -limits["tolerance"] or high > 1 + limits["tolerance"]
    raw = ("", "relu", "leaky_relu", "tanh", "dropout", "elu", "gelu", "silu", "softplus")
    straight = bool(call.layer) and (last(call) in raw or call.path == ("clamp",))
    if not outside and not (straight and not call.scaled):
        return
    edits = (Edit("loss", value="binary_cross_entropy_with_logits"),)
    fix = Fix("hand logits to binary_cross_entropy_with_logits, or put a sigmoid before the loss",
              "loss_fn = nn.BCEWithLogitsLoss()",
              (Edit("drop_output_activation"), *edits) if call.path else edits)  # fmt: skip
    evidence = (Evidence("values the loss is given", span(call.output), "0 to 1"),)
    yield Hit("output", evidence, fix, strength=1.0 if outside else 0.8)


def _no_logarithms(call: LossCall, limits: Mapping[str, float]) -> Iterator[Hit]:
    values = call.output.astype(np.float64)
    with np.errstate(over="ignore"):
        p = np.exp(values)
    axes = (1,) if call.function == "nll_loss" and values.ndim > 1 else range(values.ndim)
    sums = [p.sum(axis=axis) for axis in axes]
    summing = any(share(np.abs(s - 1) > limits["sum"]) < limits["rows"] for s in sums)
    logs = bool({"log", "log_softmax", "logsigmoid"} & set(call.path))
    if summing or (logs and not _of_sigmoids(call)):
        return
    loss = call.function
    edits = [Edit("drop_output_activation")] if "softmax" in call.path else []
    if loss == "nll_loss":
        fix = Fix("cross_entropy on the logits, or log_softmax before nll_loss",
                  "loss_fn = nn.CrossEntropyLoss()  # on logits, without softmax",
                  (*edits, Edit("loss", value="cross_entropy")))  # fmt: skip
    else:
        fix = Fix("kl_div takes log-probabilities as its first argument", "F.log_softmax(z, dim=1)",
                  (*edits, Edit("output_activation", value="log_softmax")))  # fmt: skip
    evidence = (
        Evidence("values the loss is given", span(values), "below 0"),
        Evidence("mean sum of exp over a row", float(sums[-1].mean()), "1"),
    )
    yield Hit("output", evidence, fix, strength=1.0)


def _of_sigmoids(call: LossCall) -> bool:
    """Whether one class's probability is the logarithm of a sigmoid, which knows of no other
    class: a network that says yes to all of them has no loss."""
    ways = (("logsigmoid",), ("log", "sigmoid"), ("log", "clamp", "sigmoid"))
    single = call.function == "nll_loss" and not call.scaled and classes(call) > 1
    return single and call.path in ways


# -- what stands between the last layer and the loss -----------------------------------------------


@rule(
    "activation_on_logits", "contract", "warning",
    formula="relu, tanh, sigmoid or dropout between the last layer and a loss on logits; dropout "
    "between the last layer and any loss",
    thresholds={"zeros": 0.3},
    why="Logits may be any number. Cut off or squeezed, wrong answers get no gradient or no answer "
    "can be sure; dropped at random, the loss sees noise.",
    exempt=("outputs multiplied by something behind it (soft capping, gates)",
            "pooling behind the activation"),
    explains=(*STUCK, "dead_units", "unreachable_targets", "no_gradient", "train_eval_gap",
              "saturated_units", "one_batch"),
)  # fmt: skip
def activation_on_logits(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or call.scaled or not call.output.size:
        return
    act = last(call)
    squeezed = call.function in LOGITS and act in SQUEEZING
    dropped = call.function in LOGITS + SQUARED and act == "dropout"
    if not (squeezed or dropped) or (act == "sigmoid" and "with_logits" in call.function):
        return
    zeros = share(call.output == 0)
    evidence = (
        Evidence("operation between the last layer and the loss", act, "none"),
        Evidence("share of outputs that are exactly 0", zeros, "0"),
    )
    grave = act == "relu" and zeros > limits["zeros"]
    yield Hit("output", evidence, DROP, strength=0.9 if grave or dropped else 0.7,
              severity="error" if grave else "warning")  # fmt: skip


@rule(
    "softmax_wrong_axis", "contract", "error",
    formula="outputs of a softmax that do not sum to 1 over the classes; a softmax inside the "
    "network over the axis of the examples",
    thresholds={"tolerance": 1e-3},
    why="The softmax runs over the wrong axis: examples or places compete with each other instead "
    "of classes.",
    exempt=("attention maps: sums over places, in losses without classes",
            "losses of which only the first rows are kept", "outputs of which a part is taken",
            "graphs and sets that are one batch (the same targets in each step), similarities of "
            "all examples with each other, assignments that are normalized both ways, weights of "
            "examples"),
    explains=(*STUCK, "learning_rate_too_high", "overfitting",
              "softmax_before_cross_entropy", "initial_loss", "sample_mixing",
              "probabilities_expected", "activation_on_logits", "unreachable_targets",
              "one_batch", "label_range"),
)  # fmt: skip
def softmax_wrong_axis(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or not _readable(call):
        return
    found = _over_other_axis(call, limits["tolerance"]) if call.over else None
    found = found or next(_of_outputs(call, limits["tolerance"]), None)
    found = found or next(_over_examples(case, call), None)
    if found is not None:
        yield found


def _over_other_axis(call: LossCall, tolerance: float) -> Hit | None:
    """A softmax known by its axis, whose values the loss is given in whatever order."""
    if call.function not in ("cross_entropy", "nll_loss") or call.over is None or classes(call) < 2:
        return None
    axis, shape = call.over
    p = np.exp(call.output) if bool((call.output <= 0).all()) else call.output
    off = _sum_off(p, 1)
    moved = math.prod(shape) == math.prod(call.shapes[0])  # all of it: nothing was cut off
    if not moved or call.scaled or off <= tolerance:
        return None
    over = "the batch" if axis == 0 else f"axis {axis} of {shape}"
    evidence = (Evidence("largest |sum over the classes - 1|", off, "0"),
                Evidence("the softmax runs over", over, "the classes"))  # fmt: skip
    logits = (Edit("drop_output_activation"), Edit("loss", value="cross_entropy"))
    return Hit("output", evidence, Fix("let it run over the classes", "softmax(dim=-1)", logits),
               0, 1.0)  # fmt: skip


def _over_examples(case: Case, call: LossCall) -> Iterator[Hit]:
    """A softmax inside the network over the axis of the examples. That is known for sure where a
    batch is inputs, outputs and targets by rows, and other rows come with each."""
    rows = call.shapes[0][0] if case.softmaxes and len(call.shapes[0]) in (1, 2) else 0
    aligned = bool(case.inputs) and all(len(x) == rows for x in case.inputs if x.ndim)
    if rows < 2 or not aligned or call.shapes[1][:1] != (rows,) or not _batches_differ(case):
        return
    for layer, axis, shape in case.softmaxes:
        if axis or max(shape[1:], default=1) < 2 or shape[0] != rows or rows in shape[1:]:
            continue
        if (axis, shape) == call.over or any(s == shape and a for _, a, s in case.softmaxes):
            continue
        evidence = (
            Evidence("the softmax runs over axis", axis, "1 or higher"),
            Evidence("its shape", str(shape)),
            Evidence("examples in the batch", rows),
        )
        fix = Fix("let it run over the places or channels of each example", "softmax(dim=1)")
        yield Hit(layer or "output", evidence, fix, 0, 0.9)


def _batches_differ(case: Case) -> bool:
    """Whether targets change from step to step: not one graph, or one set, as a whole."""
    kept = [c.target for c in case.losses if c.target is not None and c.target.size]
    kept += [t for t in case.kept_targets() if kept and t.size] if len(kept) == 1 else []
    return any(t.shape != kept[0].shape or not np.array_equal(t, kept[0]) for t in kept[1:])


def _of_outputs(call: LossCall, tolerance: float) -> Iterator[Hit]:
    """Outputs of a softmax that sum to 1 along the wrong axis."""
    if not SOFT & set(call.path):
        return
    ndim, rows = call.output.ndim, len(call.output) if call.output.ndim else 0
    if ndim < 2 or rows < 2 or call.output.shape[1] < 2 or call.shapes[0][0] > rows:
        return
    p = np.exp(call.output) if bool((call.output <= 0).all()) else call.output
    of_classes = call.function in ("cross_entropy", "nll_loss")
    axis = 1 if of_classes else ndim - 1
    others = [a for a in range(ndim) if a != axis] if of_classes else [0]
    wrong = [a for a in others if p.shape[a] > 1 and _sum_off(p, a) <= tolerance]
    off = _sum_off(p, axis)
    if not wrong or off <= tolerance:
        return
    over = "the batch" if wrong[0] == 0 else f"axis {wrong[0]}"
    evidence = (
        Evidence("largest |sum over the classes - 1|", off, "0"),
        Evidence(f"largest |sum over {over} - 1|", _sum_off(p, wrong[0]), "not 0"),
    )
    logits = (Edit("drop_output_activation"), Edit("loss", value="cross_entropy"))
    edits = logits if of_classes else (Edit("softmax_axis"),)
    fix = Fix("let it run over the classes", f"softmax(dim={axis})", edits)
    yield Hit("output", evidence, fix, strength=1.0)
