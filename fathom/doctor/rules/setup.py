"""Contracts of the data that comes in and of the weights at the start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from fathom.doctor.case import EMBEDDINGS, NORMS, RECURRENT, WEIGHTED, Case, Parameter
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.progress import baseline, lower_bound, progress
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.trained import trained_before
from fathom.engine.tensor import Array

SLOW = ("learning_rate_too_low", "not_learning", "still_improving", "underfitting",
        "linear_baseline")  # fmt: skip
ROUGH = ("learning_rate_too_high", "exploding_gradients", "non_finite", "dead_units",
         "saturated_units", "off_centre", "constant_output", "initial_loss", "vanishing_gradients",
         "initialization_scale")  # fmt: skip
SOME = 1 << 15  # elements that scales are worked out of
CLASSIFYING = ("cross_entropy", "nll_loss", "binary_cross_entropy",
               "binary_cross_entropy_with_logits")  # fmt: skip


# -- inputs ----------------------------------------------------------------------------------------


def not_finite_data(case: Case) -> tuple[str, float] | None:
    """Whether inputs or targets hold nan or infinity: which of them, and the share of it."""
    key = (len(case.inputs), id(case.loss))
    if case.remembered.get("bad data", (None,))[0] != key:
        case.remembered["bad data"] = (key, _not_finite(case))
    found: tuple[str, float] | None = case.remembered["bad data"][1]
    return found


def _not_finite(case: Case) -> tuple[str, float] | None:
    floats = [x for x in case.inputs if np.issubdtype(x.dtype, np.floating) and x.size]
    target = case.loss.target if case.loss is not None else None
    kinds = [("inputs", x) for x in floats]
    if target is not None and target.size and np.issubdtype(target.dtype, np.floating):
        kinds.append(("targets", target))
    for where, values in kinds:
        bad = float(np.mean(np.isnan(values) | np.isposinf(values)))  # -inf stands in masks
        if bad:
            return where, bad
    return None


def bad_data(where: str, share: float) -> Hit:
    """The hit of `non_finite` for data that is nan or infinite before anything is computed."""
    evidence = (Evidence(f"share of the {where} that is nan or infinite", share, "0"),)
    fix = Fix(f"clean the {where}: drop or fill in such values",
              f"{where} = torch.nan_to_num({where})")  # fmt: skip
    return Hit(where, evidence, fix, 0, 1.0)


def _entering(case: Case) -> Array | None:
    """What the first layer with weights is given; the model's input where that was not seen."""
    if case.entering:
        return case.entering[0]
    kinds = (layer.kind for layer in case.layers.values())
    first = next((k for k in kinds if k in WEIGHTED | NORMS | EMBEDDINGS), "")
    return case.inputs[0] if case.inputs and first in WEIGHTED else None


def _undone(case: Case) -> bool:
    """Whether the first layer with weights is normalized: its output and its gradient are then the
    same whatever the scale of the inputs."""
    first = next((layer for layer in case.layers.values() if layer.kind in WEIGHTED), None)
    return first is not None and first.normalized


def _some(x: Array) -> Array:
    """Evenly spaced examples, so many as make some 32,000 elements, and 64 at least."""
    most = max(SOME // max(x[0].size, 1), 64) if x.ndim > 1 and len(x) else SOME
    return x[:: -(-len(x) // most)] if x.ndim and len(x) else x


def _features(x: Array) -> Array:
    """(rows, features): channels of images, the last axis else."""
    if x.ndim >= 4:
        return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    return x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(-1, 1)


@rule(
    "input_scale", "contract", "warning",
    formula="what the first layer with weights gets: max |x| > 50, feature std outside [5e-3, 10] "
    "or of ratio > 1e3, median |mean| / std > 10",
    thresholds={"largest": 50.0, "low": 5e-3, "high": 10.0, "ratio": 1e3, "wide": 3.0, "mean": 10.0,
                "offset": 1.0, "rows": 8},
    corpus="healthy runs: 95 % of max |x| below 10, 99 % below 31",
    why="Inputs far from mean 0 and standard deviation 1 make gradients of the first layer large "
    "and lopsided: units die or saturate, and no learning rate fits all weights.",
    exempt=("a normalization, an embedding or a scaling before the first weights",
            "a normalization right behind them, which undoes any scale that all features share",
            "one-hot and 0/1 inputs", "fewer than 8 rows", "inputs that are all the same"),
    explains=(*ROUGH, *SLOW, "duplicate_units", "train_eval_gap", "one_batch"),
    reads=("entering", "inputs", "layers"),
)  # fmt: skip
def input_scale(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    x, undone = _entering(case), _undone(case)
    if x is None or not np.issubdtype(x.dtype, np.floating) or not np.isfinite(x).all():
        return
    largest = max(float(x.max()), -float(x.min())) if x.size else 0.0
    rows = _features(_some(x).astype(np.float64))
    mean = rows.mean(axis=0)
    std = np.sqrt(np.square(rows - mean).mean(axis=0))
    varied = std > 1e-7 * (1 + np.abs(mean))
    if len(rows) < limits["rows"] or not varied.any() or bool(((rows == 0) | (rows == 1)).all()):
        return
    high, low = float(std.max()), float(std[varied].min())
    offset = float(np.median(np.abs(mean[varied]) / std[varied]))
    ratio = "ratio of the features' standard deviations"
    widest = "largest standard deviation of a feature"
    reasons = [
        (largest > limits["largest"] and not undone, "largest |input|", largest, "at most 31"),
        (high > limits["high"] and not undone, widest, high, "about 1"),
        (high < limits["low"] and not undone, widest, high, "about 1"),
        (high / low > limits["ratio"] and high > limits["wide"], ratio, high / low, "below 100"),
        (offset > limits["mean"] and offset * high > limits["offset"],
         "|mean| / standard deviation", offset, "below 3"),
    ]  # fmt: skip
    evidence = tuple(Evidence(name, value, fine) for bad, name, value, fine in reasons if bad)
    if evidence:
        extent = max(largest / 50, high / 10, 5e-3 / high, offset / 10)
        words = "standardize: subtract each feature's mean and divide by its standard deviation"
        code = "x = (x - x_train.mean(0)) / x_train.std(0)"
        fix = Fix(words, code, (Edit("scale_inputs"),))
        yield Hit("inputs", evidence, fix, 0, min(0.5 + 0.2 * math.log10(max(extent, 1)), 1.0))


@rule(
    "inputs_constant", "contract", "error",
    formula="standard deviation over the examples of every input feature is 0, targets differ",
    thresholds={"rows": 4},
    why="All examples are the same to the model: there is nothing to tell them apart by.",
    exempt=("batches of fewer than 4 examples", "targets that are all the same",
            "further inputs that differ (graphs with constant features)"),
    explains=(*SLOW, "constant_output", "inputs_ignored", "no_signal", "input_scale",
              "batchnorm_few_samples", "one_batch", "duplicate_units"),
    reads=("inputs", "losses"),
)  # fmt: skip
def inputs_constant(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    target = case.loss.target if case.loss is not None else None
    if not case.inputs or target is None or target.ndim == 0 or len(target) < limits["rows"]:
        return
    arrays = [x for x in case.inputs if x.ndim and len(x) >= limits["rows"] and x[0].size]
    if len(arrays) < len(case.inputs) or not np.ptp(target, axis=0).any():
        return
    if all(bool((x == x[:1]).all()) for x in arrays):
        evidence = (Evidence("largest difference between two examples", 0.0, "above 0"),)
        yield Hit("inputs", evidence, Fix("look at what the loader yields"), 0, 0.95)


# -- initial weights -------------------------------------------------------------------------------


@rule(
    "symmetric_initialization", "contract", "error",
    formula="a trainable weight matrix with all rows equal to 1e-8 of its norm, whose next layer "
    "has equal columns, or which is still so after 3 sampled steps; or a linear layer of 8 units "
    "or more that has a quarter as many different rows",
    thresholds={"tolerance": 1e-8, "still": 1e-6, "steps": 3, "copied": 8, "each": 4},
    why="Units that start alike and feed alike get the same gradient and stay alike: the layer is "
    "worth one unit.",
    exempt=("zeros in the last layer, in residual branches, LoRA's B, gates and adapters: where "
            "gradients tell the units apart", "one unit", "depthwise kernels",
            "layers the loss does not depend on", "steps in which nothing moves (warm-up)",
            "of copies: rows of zeros, convolutions (sub-pixel), fewer than 8 units or inputs"),
    explains=(*SLOW, "constant_output", "duplicate_units", "vanishing_gradients", "no_gradient",
              "initialization_scale", "dead_units", "frozen_parameters", "initial_loss",
              "exploding_gradients", "one_batch", "saturated_units", "inputs_ignored"),
)  # fmt: skip
def symmetric_initialization(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    matrices = [p for p in case.weights() if _feeds(p, case)]
    alike = [p for p in matrices if _alike(p, p.initial, limits["tolerance"])]
    alike = alike if len(matrices) > 1 else []
    sure = alike if len(alike) == len(matrices) else _chained(matrices, alike)
    if not sure and _moves(case) >= limits["steps"]:
        last = case.loss.layer if case.loss is not None else matrices[-1].layer
        hidden = [p for p in alike if p.layer != last]
        sure = [p for p in hidden if _alike(p, p.value(), limits["still"])]
    if not sure:
        yield from _copies(case, matrices, limits)
        return
    p = sure[0]
    rows = p.units(np.asarray(p.initial))
    evidence = (
        Evidence("largest difference between two units' weights", float(np.ptp(rows, 0).max()),
                 "above 0"),
        Evidence("layers like this", len(sure), "0"),
    )  # fmt: skip
    fix = Fix("draw the weights at random", "nn.init.kaiming_uniform_(layer.weight)",
              tuple(Edit("initialize", q.layer) for q in sure))  # fmt: skip
    yield Hit(p.layer or p.name, evidence, fix, 0, 0.95)


def _copies(case: Case, matrices: list[Parameter], limits: Mapping[str, float]) -> Iterator[Hit]:
    """A linear layer of which most units begin as copies of a few others."""
    if "copies" not in case.remembered:
        linear = [p for p in matrices if len(p.shape) == 2 and min(p.shape) >= limits["copied"]
                  and p.layer in case.layers and case.layers[p.layer].kind == "Linear"]  # fmt: skip
        counted = [(*_distinct(p), p) for p in linear]
        case.remembered["copies"] = [
            (n, rows, p) for n, rows, p in counted
            if rows >= limits["copied"] and n <= rows / limits["each"]
        ]  # fmt: skip
    for n, rows, p in case.remembered["copies"][:1]:
        evidence = (Evidence("units that differ", n, f"all {rows}"),)
        fix = Fix("draw the weights at random", "nn.init.kaiming_uniform_(layer.weight)",
                  (Edit("initialize", p.layer),))  # fmt: skip
        yield Hit(p.layer, evidence, fix, 0, 0.9, severity="warning")


def _distinct(p: Parameter) -> tuple[int, int]:
    """How many units begin with weights that no other has, and of how many which are not 0; by
    their first 64."""
    rows = p.units(np.asarray(p.initial))[:, :64]
    rows = rows[rows.any(axis=1)]
    if not len(rows):
        return 0, 0
    return len(np.unique(rows @ np.cos(np.arange(rows.shape[1]) + 1.0))), len(rows)


def _feeds(p: Parameter, case: Case) -> bool:
    """Whether a matrix is trained, known from the start, and of a layer that mixes its inputs."""
    layer = case.layers.get(p.layer)
    grouped = layer is not None and int(layer.options.get("groups") or 1) > 1
    known = p.trainable and p.initial is not None and not grouped
    return known and (not case.reached or p.name in case.reached)


def _alike(p: Parameter, weight: Array | None, tolerance: float) -> bool:
    """Whether all units of a layer are the same."""
    if weight is None or not np.isfinite(weight).all():
        return False
    rows = p.units(weight)
    reach = 2 * tolerance * float(np.abs(rows).max()) * math.sqrt(rows.size)
    if len(rows) < 2 or float(np.abs(rows[0] - rows[-1]).max()) > reach:
        return False  # nearly always: no need to look at all of them
    rows = rows.astype(np.float64)
    most = tolerance * max(float(np.linalg.norm(rows)), 1e-30)
    return float(np.ptp(rows, axis=0).max()) <= most


def _chained(matrices: list[Parameter], alike: list[Parameter]) -> list[Parameter]:
    """Those with equal rows, not 0, whose next matrix has equal columns: sure without a step."""
    found = []
    for p, after in pairwise(matrices):
        if p not in alike or not np.any(p.initial) or after.form[1] != p.form[0]:
            continue
        onward = np.asarray(after.initial)
        if not np.ptp(onward, axis=0 if after.turned else 1).any() and np.any(onward):
            found.append(p)
    return found


def _moves(case: Case) -> int:
    """Sampled steps that changed something."""
    return sum(any(s.update > 0 for s in step.parameters.values()) for step in case.steps)


@rule(
    "initialization_scale", "contract", "warning",
    formula="std of weights * sqrt(fan in) outside [0.02, 8] in a hidden layer; or below 0.15 or "
    "above 3 in half of 3 layers or more while the run does not learn",
    thresholds={"low": 0.02, "high": 8.0, "mild_low": 0.15, "mild_high": 3.0, "layers": 3,
                "steps": 16},
    corpus="usual initializations: 0.58 (uniform to 1/sqrt(fan in)), 1 (Glorot), 1.41 (He), "
    "0.15 to 0.6 (normal of 0.02)",
    why="Signals shrink or grow from layer to layer: outputs start constant or enormous, and "
    "gradients with them.",
    exempt=("a last layer of small weights, embeddings, recurrent layers", "weights that are 0",
            "networks of which most layers are normalized", "weights that were trained before",
            "one layer that starts small beside others that do not (branches, gates)"),
    explains=(*SLOW, "vanishing_gradients", "exploding_gradients", "saturated_units", "dead_units",
              "initial_loss", "constant_output", "learning_rate_too_high", "non_finite",
              "duplicate_units", "off_centre", "one_batch", "strong_regularization"),
)  # fmt: skip
def initialization_scale(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    last = case.loss.layer if case.loss is not None else ""
    gains = [(_gain(p, case), p) for p in case.weights()]
    gains = [(gain, p) for gain, p in gains if gain > 0]
    hidden = [(gain, p) for gain, p in gains if p.layer != last]
    if not hidden or _normalized(case):
        return
    small = [(gain, p) for gain, p in hidden if gain < limits["low"]]
    odd = [(gain, p) for gain, p in gains if gain > limits["high"]]
    odd += small if 2 * len(small) >= len(hidden) else []
    if not odd and len(gains) >= limits["layers"] and stuck(case, limits["steps"]):
        usual = (limits["mild_low"], limits["mild_high"])
        mild = [(gain, p) for gain, p in hidden if not usual[0] < gain < usual[1]]
        odd = mild if 2 * len(mild) >= len(hidden) else []
    if not odd or trained_before(case, [p for _, p in odd]):
        return
    gain, p = max(odd, key=lambda pair: abs(math.log(pair[0])))
    evidence = (
        Evidence("standard deviation of the weights times sqrt(fan in)", gain, "0.3 to 1.5"),
        Evidence("layers like this", len(odd), "0"),
    )
    fix = Fix("the usual scale: He's for relu kinds, Glorot's for tanh kinds",
              "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')",
              tuple(Edit("initialize", q.layer) for _, q in odd))  # fmt: skip
    yield Hit(p.layer, evidence, fix, 0, min(0.5 + 0.2 * abs(math.log10(gain)), 0.95))


def _gain(p: Parameter, case: Case) -> float:
    """Standard deviation of the initial weights times sqrt(fan in); 0 where it does not count."""
    layer = case.layers.get(p.layer)
    if p.initial is None or not p.trainable or layer is None:
        return 0.0
    if layer.kind not in WEIGHTED or layer.kind in RECURRENT or p.initial.size < 8:
        return 0.0
    fan_in = max(math.prod(p.form[1:]), 1)
    gain = float(p.initial.std()) * math.sqrt(fan_in)
    return gain if math.isfinite(gain) else 0.0


def _normalized(case: Case) -> bool:
    """Whether most layers are followed by a normalization, which undoes any scale."""
    norms = sum(layer.kind in NORMS for layer in case.layers.values())
    weighted = sum(layer.kind in WEIGHTED for layer in case.layers.values())
    return 2 * norms >= weighted - 1 > 0


def stuck(case: Case, steps: float) -> bool:
    state = progress(case)
    return state.steps >= steps and not state.learning


@rule(
    "initial_loss", "contract", "warning",
    formula="first loss over the loss of the best constant answer > 3",
    thresholds={"warn": 3.0, "grave": 10.0, "error": 100.0, "room": 0.05},
    corpus="300 healthy classification runs: median 1.04, 95 % below 1.35, 99 % below 2.1",
    why="A fresh network should answer about like the class frequencies; it starts out sure and "
    "wrong, and the first steps only undo that.",
    exempt=("regression", "runs that learn nevertheless", "several losses a step"),
    explains=("learning_rate_too_high",),
    gates=("not learning",),
    reads=("losses",),
)  # fmt: skip
def initial_loss(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    if call is None or call.step or call.count > 1 or call.function not in CLASSIFYING:
        return
    base, floor = baseline(case, call), lower_bound(call)
    if not math.isfinite(base) or base - floor < limits["room"] or not math.isfinite(call.value):
        return
    several = max(call.output.shape[1] if call.output.ndim > 1 else 2, 2)
    summed = call.options.get("reduction") == "sum"
    reference = base if summed else max(base, math.log(several))
    ratio = call.value / reference
    if ratio <= limits["warn"]:
        return
    evidence = (
        Evidence("first loss", call.value, f"about {reference:.3g}"),
        Evidence("over that of a constant answer", ratio, "at most 2.1"),
    )
    fix = Fix("smaller weights in the last layer, a bias that fits the class frequencies; scaled "
              "inputs", edits=(Edit("initialize_output"),))  # fmt: skip
    severity = "error" if ratio > limits["error"] else "warning"
    strength = 0.8 if ratio > limits["grave"] else 0.4
    yield Hit(call.layer or "output", evidence, fix, 0, strength, severity)
