"""What active probes have shown: rules that read `case.probes`; see `doctor.probing`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fathom.doctor.case import Case
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.structure import over_one_value

STUCK = ("not_learning", "still_improving", "underfitting")


@rule(
    "inputs_ignored", "probe", "error",
    formula="mean |f(x) - f(x of another example)| and |f(x) - f(0)| over mean |f(x)| < 1e-5; "
    "without a probe: a layer, RMS or group normalization over one value",
    why="The answers stay the same whatever the inputs are: a dead path, or the wrong tensor.",
    exempt=("runs that were not probed", "normalizations over one value that are not used; group "
            "normalization where there are several places"),
    explains=(*STUCK, "constant_output", "one_batch", "learning_rate_range", "linear_baseline",
              "permuted_labels", "no_signal", "vanishing_gradients", "learning_rate_too_low",
              "off_centre", "no_gradient", "frozen_parameters"),
)  # fmt: skip
def inputs_ignored(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    yield from over_one_value(case)
    found = case.probes.get("inputs_ignored")
    if found is None or not found.ignored:
        return
    evidence = (Evidence("change of the answers with other inputs", found.change, "above 0.01"),)
    yield Hit("inputs", evidence, Fix("follow the inputs through forward: what is made of them?",
                                      edits=(Edit("initialize"),)), strength=0.9)  # fmt: skip


@rule(
    "one_batch", "probe", "warning",
    formula="skill after 200 steps on one batch of 64 < 0.8",
    why="Not even one batch can be learned by heart: model, loss or learning rate are at fault, "
    "not the data.",
    exempt=("runs that were not probed", "batches whose labels do not vary", "no usable rate"),
    explains=("not_learning",),
    gates=("not learning",),
)  # fmt: skip
def one_batch(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    found = case.probes.get("one_batch")
    if found is None or found.learnt:
        return
    evidence = (
        Evidence("skill on the one batch it is trained on", found.skill, "above 0.8"),
        Evidence("loss of that batch", f"{found.start:.3g} -> {found.end:.3g}"),
    )
    rates = case.probes.get("learning_rate_range")
    words = str(rates) if rates is not None else "see which learning rates make its loss fall"
    yield Hit("model", evidence, Fix(f"get one batch to be learned first: {words}"), strength=0.3)


@rule(
    "learning_rate_range", "probe", "warning",
    formula="learning rate beyond 3 times the range in which the loss of one batch falls",
    thresholds={"factor": 3.0},
    why="The learning rate lies outside of the range in which it makes the loss fall.",
    exempt=("no usable rate: another fault is to be fixed first", "runs that were not probed",
            "runs that learn"),
    explains=("one_batch", *STUCK),
    gates=("not learning",),
)  # fmt: skip
def learning_rate_range(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    found = case.probes.get("learning_rate_range")
    if found is None or not found.usable or not found.now > 0:
        return
    best = math.sqrt(found.low * found.high)
    if found.low / limits["factor"] <= found.now <= found.high * limits["factor"]:
        return
    evidence = (
        Evidence("learning rate", found.now, f"{found.low:.1g} to {found.high:.1g}"),
        Evidence("share of range tests with such a range", found.confidence, "1"),
    )
    fix = Fix(f"a learning rate of about {best:.1g}", f"lr={best:.1g}",
              (Edit("lr", value=best / found.now),))  # fmt: skip
    yield Hit("optimizer", evidence, fix, strength=0.7 * found.confidence)


@rule(
    "linear_baseline", "probe", "warning",
    formula="score of ridge regression on held-out examples - score of the network > 0.15",
    why="A line does better than the network: the data are learnable, the network's training is "
    "at fault.",
    exempt=("inputs that are no rows of numbers", "runs that were not probed"),
    explains=("not_learning", "permuted_labels", "no_signal"),
    gates=("not learning",),
)  # fmt: skip
def linear_baseline(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    found = case.probes.get("linear_baseline")
    if found is None or not found.beaten:
        return
    evidence = (
        Evidence(f"{found.measure} of a linear model, held out", found.linear),
        Evidence(f"{found.measure} of the network, held out", found.network, "no less"),
    )
    fix = Fix("scale the inputs, and look at learning rate and initial weights",
              edits=(Edit("scale_inputs"),))  # fmt: skip
    yield Hit("model", evidence, fix, strength=0.4)


@rule(
    "permuted_labels", "probe", "warning",
    formula="held-out score on true labels no better than on permuted ones, and no line is",
    thresholds={"linear": 0.1},
    why="Training on shuffled labels gives the same: the labels have nothing to do with the inputs "
    "as far as the network and a line can tell.",
    exempt=("runs that were not probed", "networks that cannot learn one batch"),
    explains=("not_learning", "overfitting", "train_eval_gap", "underfitting", "still_improving",
              "linear_baseline"),
)  # fmt: skip
def permuted_labels(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    found, line = case.probes.get("permuted_labels"), case.probes.get("linear_baseline")
    batch = case.probes.get("one_batch")
    if found is None or found.signal or found.examples < 32:
        return
    if (line is not None and line.linear > limits["linear"]) or (
        batch is not None and batch.skill < 0.3
    ):
        return
    evidence = (
        Evidence("score on held-out examples, trained on the labels", found.true, "above 0.1"),
        Evidence("trained on the labels shuffled", found.permuted, "about 0"),
    )
    fix = Fix("look at how labels and inputs are put together: one of them may be in another order")
    yield Hit("targets", evidence, fix, strength=0.6)
