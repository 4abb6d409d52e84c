"""Symptoms of layers: gradients that vanish or explode, dead and saturated units, outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fathom.doctor.case import NORMS, RECURRENT, Case
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.progress import progress
from fathom.doctor.rules.measures import (
    LOOKED_AT,
    PERSISTENT,
    held,
    log_strength,
    middle,
    paces,
    recent,
    relative_gradients,
    since,
)
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.structure import over_one_value

SLOW = ("learning_rate_too_low", "not_learning", "still_improving", "underfitting", "no_signal",
        "one_batch", "linear_baseline")  # fmt: skip
STRONG = 0.75  # counts in runs that creep, too
SATURATING = frozenset({"sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign"})


@rule(
    "exploding_gradients", "symptom", "warning",
    formula="norm of the gradient > 100 times its median over the samples before; or > 1e3, the "
    "first layer's over its weights > 1e3 times the last one's, or in a recurrent net; in one at "
    "the very first step > 1e5 where the loss is 100 times a constant answer's",
    thresholds={"growth": 100.0, "ratio": 1e3, "norm": 1e3, "deep": 30.0, "blown": 1e5},
    why="Gradients grow on their way back through the layers, or from step to step: a single batch "
    "throws the weights far off.",
    exempt=("runs that learn", "steps a gradient scaler skips", "gradients that start at 0"),
    explains=("non_finite", "saturated_units", "not_learning", "dead_units", "still_improving",
              "constant_output", "off_centre", "learning_rate_too_high", "no_signal",
              "learning_rate_too_low", "one_batch", "linear_baseline"),
    gates=("not learning",),
)  # fmt: skip
def exploding_gradients(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    moved = paces(case)
    if progress(case).finite:  # what is not finite in between is skipped
        moved = [p for p in moved if math.isfinite(p.gradient)]
    norms = [p.gradient for p in moved]
    recurrent = any(layer.kind in RECURRENT for layer in case.layers.values())
    blown = recurrent and bool(norms) and norms[0] > limits["blown"] and _far_above(case)
    if not (len(norms) > 1 or blown) or not any(v > 0 for v in norms):
        return
    grown, at = _growth(norms)
    layers = relative_gradients(case)
    ratio = layers[0][1] / layers[-1][1] if len(layers) > 2 and layers[-1][1] > 0 else 0.0
    large = max(norms[:4]) > limits["norm"] and (recurrent or ratio > limits["deep"])
    if grown < limits["growth"] and ratio < limits["ratio"] and not large:
        return
    evidence = (
        Evidence("largest growth of the gradient's norm", grown, "below 10"),
        Evidence("largest norm of the gradient", max(norms), "0.01 to 10"),
        Evidence("relative gradient, first layer over last", ratio, "0.05 to 20"),
    )
    fix = Fix("clip the gradient's norm", "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
              (Edit("clip", value=1.0),))  # fmt: skip
    begun = moved[at].number if grown >= limits["growth"] else moved[0].number
    strength = 0.9 if blown else 0.7 if large or ratio >= limits["ratio"] else 0.6
    yield Hit(_steepest(case, moved[at].number), evidence, fix, begun, strength)


def _far_above(case: Case) -> bool:
    """Whether the loss is more than 100 times that of a constant answer."""
    state = progress(case)
    return state.known and state.skill < -100.0


def _growth(norms: list[float]) -> tuple[float, int]:
    """(largest norm over the median of those before it, at which sample)."""
    grown, at = 0.0, 0
    for i in range(max(len(norms) - 8, 1), len(norms)):
        before = middle(norms[max(i - 32, 0) : i])
        if before > 1e-9 and norms[i] / before > grown:
            grown, at = norms[i] / before, i
    return grown, at


def _steepest(case: Case, number: int) -> str:
    """The layer with the largest gradient in a sampled step."""
    stats = next(s.parameters for s in case.steps if s.number == number and s.parameters)
    worst = max(stats, key=lambda n: np.nan_to_num(stats[n].gradient))
    known = case.parameters.get(worst)
    return known.layer if known is not None and known.layer else worst


@rule(
    "vanishing_gradients", "symptom", "warning",
    formula="gradient over weight (norms) of the first layer over that of the last < 5e-3; or in a "
    "plain RNN of which only the last states are used, what is left of a gradient that has gone "
    "back through all time steps < 1e-6, skill < 0.1 after 64 steps of usual length",
    thresholds={"ratio": 5e-3, "left": 1e-6, "steps": 64, "skill": 0.1, "low": 3e-4, "high": 0.05},
    corpus="healthy runs: 99 % above 0.05",
    why="The gradient shrinks from layer to layer on its way back: the first layers stay as they "
    "were drawn.",
    exempt=("runs that learn", "fewer than 3 layers with weights", "gradients of 0 in fewer than 3 "
            "sampled steps: layers behind one that starts at 0", "LSTM and GRU, RNNs whose states "
            "are all used, learning rates that are too low to tell"),
    explains=(*SLOW, "constant_output", "off_centre", "duplicate_units"),
    gates=("not learning",),
)  # fmt: skip
def vanishing_gradients(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    yield from _through_time(case, limits)
    layers = relative_gradients(case)
    if len(layers) < 3 or layers[-1][1] <= 0:
        return
    if len(case.steps) < PERSISTENT and not (case.ended and min(g for _, g in layers) > 0):
        return
    ratio = layers[0][1] / max(g for _, g in layers[-2:])
    if ratio >= limits["ratio"]:
        return
    kinds = {case.layers[n].activation or "" for n, _ in layers if n in case.layers} - {""}
    evidence = (
        Evidence("relative gradient, first layer over last", ratio, "above 0.05"),
        Evidence("layers with weights", len(layers)),
        Evidence("activations", ", ".join(sorted(kinds)) or "none"),
    )
    new = Edit("initialize", "", "kaiming")
    if kinds & SATURATING:
        fix = Fix("relu kinds instead of sigmoid and tanh; normalization; shortcuts", "nn.ReLU()",
                  (Edit("activation", "", "relu"), new))  # fmt: skip
    else:
        fix = Fix("initial weights by He's rule; normalization; shortcuts", edits=(new,))
    strength = log_strength(ratio, limits["ratio"], 0.55)
    yield Hit(layers[0][0], evidence, fix, case.steps[0].number, strength)


def _through_time(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    """Plain recurrent layers that cannot learn from what was long ago."""
    state = progress(case)
    if not state.known or state.steps < limits["steps"] or state.skill >= limits["skill"]:
        return
    if not limits["low"] < middle([p.median for p in paces(case)[-LOOKED_AT:]]) < limits["high"]:
        return
    for name, layer in case.layers.items():
        left = recent(case, name, "memory") if layer.kind == "RNN" else []
        if not held([v < limits["left"] for v in left], case.ended):
            continue
        evidence = (
            Evidence("of a gradient that has gone back through all time steps is left", left[-1],
                     "above 0.001"),
            Evidence("sampled steps in which it was so", len(left)),
        )  # fmt: skip
        why = ("The gradient shrinks from time step to time step on its way back: what was long "
               "ago has no part in what is learned.")  # fmt: skip
        words = ("an LSTM or a GRU; recurrent weights that begin as the identity or orthogonal; "
                 "shorter sequences")  # fmt: skip
        fix = Fix(words, "nn.GRU(input_size, hidden_size, batch_first=True)")
        yield Hit(name, evidence, fix, case.steps[0].number, STRONG, why=why)


@rule(
    "dead_units", "symptom", "warning",
    formula="share of relu units that are 0 on the union of >= 512 examples > 0.6; or all of a "
    "layer's values are 0 at 3 of the last 4 sampled steps",
    thresholds={"share": 0.6, "examples": 512},
    corpus="healthy runs at their end: 95 % below 0.50, 99 % below 0.68",
    why="A unit that is 0 for every example has no gradient and stays so.",
    exempt=("runs that learn", "fewer than 512 examples, unless the whole layer is dead"),
    explains=(*SLOW, "constant_output", "vanishing_gradients", "no_gradient", "off_centre",
              "duplicate_units", "saturated_units", "inputs_ignored"),
    gates=("not learning",),
)  # fmt: skip
def dead_units(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    found, lost = [], {hit.where for hit in over_one_value(case)}
    for name in case.layers:
        if name in lost:  # it is 0 by itself
            continue
        zeros, dead = recent(case, name, "zero"), recent(case, name, "dead")
        if not dead:
            continue
        examples = case.steps[-1].layers[name].examples if name in case.steps[-1].layers else 0
        gone = held([z >= 1.0 for z in zeros], case.ended)
        if gone or (examples >= limits["examples"] and dead[-1] > limits["share"]):
            found.append((name, 1.0 if gone else dead[-1]))
    if not found:
        return
    name, share = max(found, key=lambda f: f[1])  # the first of equals: nearest to the input
    evidence = (
        Evidence("share of dead units", share, "at most 0.5"),
        Evidence("layers like this", len(found), "0"),
    )
    fix = Fix("a smaller learning rate, He's initial weights, biases of 0; leaky relu keeps "
              "a slope",
              "nn.LeakyReLU(0.01)",
              (Edit("initialize", name, "kaiming"), Edit("activation", name, "leaky_relu"),
               Edit("lr", value=0.3)))  # fmt: skip
    begun = since(case, name, "zero", 0.999 if share == 1.0 else limits["share"])
    yield Hit(name, evidence, fix, begun, share, "error" if share == 1.0 else "warning")


@rule(
    "saturated_units", "symptom", "warning",
    formula="share of hidden sigmoid/tanh values with |f'| below 1 % of its largest > 0.5",
    thresholds={"share": 0.5},
    corpus="healthy runs at their start: 99 % below 0.10",
    why="Where the activation is flat there is no gradient: such units learn slowly or not at all.",
    exempt=("the output layer", "gates of LSTM and GRU", "attention", "runs that learn"),
    explains=(*SLOW, "vanishing_gradients", "constant_output", "off_centre", "inputs_ignored"),
    gates=("not learning",),
)  # fmt: skip
def saturated_units(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    last = case.loss.layer if case.loss is not None else ""
    shares = {n: recent(case, n, "flat") for n in case.layers if n != last}
    found = [n for n, values in shares.items() if held([v > limits["share"] for v in values])]
    if not found:
        return
    name = max(found, key=lambda n: shares[n][-1])
    share = shares[name][-1]
    evidence = (
        Evidence("share of values where the activation is flat", share, "below 0.1"),
        Evidence("layers like this", len(found), "0"),
    )
    fix = Fix("smaller initial weights, scaled inputs, normalization, or another activation",
              "nn.init.xavier_uniform_(layer.weight)",
              (Edit("initialize", name, "xavier"), Edit("scale_inputs")))  # fmt: skip
    begun = since(case, name, "flat", limits["share"])
    yield Hit(name, evidence, fix, begun, 0.5 + 0.5 * min(share, 1.0))


@rule(
    "off_centre", "symptom", "advice",
    formula="share of hidden units with |mean| / std > 3 over the batch > 0.5",
    thresholds={"share": 0.5},
    why="Values far to one side of 0 make the next layer's gradients point all in one direction.",
    exempt=("runs that learn", "layers in front of a normalization", "the output layer",
            "embeddings"),
    gates=("not learning",),
)  # fmt: skip
def off_centre(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    last = case.loss.layer if case.loss is not None else ""
    names = list(case.layers)
    for name, behind in zip(names, [*names[1:], ""], strict=False):
        normed = bool(behind) and case.layers[behind].kind in NORMS
        shares = recent(case, name, "off")
        if name == last or normed or not held([v > limits["share"] for v in shares]):
            continue
        evidence = (Evidence("share of units with |mean| > 3 std", shares[-1], "below 0.5"),)
        fix = Fix("centre the inputs, or put a normalization before it",
                  edits=(Edit("scale_inputs"),))  # fmt: skip
        yield Hit(name, evidence, fix, since(case, name, "off", limits["share"]), 0.7)
        return


@rule(
    "constant_output", "symptom", "error",
    formula="std over examples of the output over its mean absolute value < 1e-4",
    thresholds={"spread": 1e-4, "step": 8},
    why="The network gives the same answer whatever it is asked.",
    exempt=("targets that do not vary", "one example a batch", "a last layer that starts at 0, in "
            "the first steps", "runs that learn", "sequences whose first axis is not the batch"),
    explains=("not_learning", "still_improving", "no_signal", "off_centre", "underfitting"),
    gates=("not learning",),
)  # fmt: skip
def constant_output(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    spreads = [(s.number, s.output_spread) for s in case.steps if math.isfinite(s.output_spread)]
    if not held([v < limits["spread"] for _, v in spreads]) or spreads[-1][0] < limits["step"]:
        return
    state = progress(case)
    if not state.known:
        return
    evidence = (Evidence("spread of the outputs over examples", spreads[-1][1], "above 0.01"),)
    fix = Fix("find where the signal is lost: dead layers, symmetric weights, inputs that are all "
              "alike, weight decay", edits=(Edit("initialize", "", "kaiming"),))  # fmt: skip
    begun = spreads[-1][0]
    for number, value in reversed(spreads):
        if value >= limits["spread"]:
            break
        begun = number
    where = case.loss.layer if case.loss is not None and case.loss.layer else "output"
    yield Hit(where, evidence, fix, begun, 0.8)


@rule(
    "duplicate_units", "symptom", "warning",
    formula="share of units whose incoming weights have |cosine| > 0.999 with another's > 0.2",
    thresholds={"share": 0.2, "cosine": 0.999, "units": 256},
    why="Units with the same weights do the same work: the layer is worth as many as differ.",
    exempt=("inputs of fewer than 4 numbers", "more than 256 units: 256 are looked at",
            "runs that learn", "while the run goes on, but for steps 64 and 256"),
    explains=("underfitting", "not_learning", "still_improving", "no_signal"),
    gates=("not learning",),
)  # fmt: skip
def duplicate_units(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    if progress(case).learning or not (case.ended or case.usage.steps in (64, 256)):
        return  # the gate, here too: this is the only rule that is not cheap
    found = []
    for p in case.weights():
        if p.trainable and p.form[0] >= 4 and math.prod(p.form[1:]) >= 4:
            share = _twins(p.units(p.value()), int(limits["units"]), limits["cosine"])
            if share > limits["share"]:
                found.append((p, share))
    if found:
        p, share = max(found, key=lambda f: f[1])
        evidence = (Evidence("share of units with a twin", share, "below 0.01"),
                    Evidence("layers like this", len(found), "0"))  # fmt: skip
        fix = Fix("draw the weights anew", edits=(Edit("initialize", p.layer),))
        yield Hit(p.layer or p.name, evidence, fix, 0, 0.5 + 0.45 * share)


def _twins(weights: np.ndarray, units: int, cosine: float) -> float:
    """Share of units with another one whose weights point the same way, or the opposite one."""
    w = weights.reshape(len(weights), -1)[:units].astype(np.float64)
    lengths = np.linalg.norm(w, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        return 0.0
    w = w / np.maximum(lengths, 1e-30)
    return float((np.abs(w @ w.T - np.eye(len(w))).max(axis=1) > cosine).mean())
