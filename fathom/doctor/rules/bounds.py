"""Symptoms in the loss itself: values that it cannot have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fathom.doctor.case import Case, LossCall
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.progress import progress
from fathom.doctor.rules.rule import Hit, rule

NONNEGATIVE = frozenset({
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits",
})  # fmt: skip


@rule(
    "loss_below_bound", "symptom", "error",
    formula="a loss that cannot be negative (cross-entropy, squared error) is",
    why="The loss has no lower bound for what it is given: the run chases minus infinity.",
    exempt=("losses of the user's own", "sums with terms that may be negative"),
    explains=("learning_rate_too_high", "exploding_gradients", "saturated_units",
              "still_improving", "dead_units", "underfitting"),
)  # fmt: skip
def loss_below_bound(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    low = [c for c in case.losses if c.function in NONNEGATIVE and c.value < -1e-6
           and _is_alone(case, c)]  # fmt: skip
    if low:
        evidence = (Evidence("loss", low[0].value, "0 or more"),
                    Evidence("loss function", low[0].function))  # fmt: skip
        fix = Fix("look at the labels' range, at what the loss is given, and at the sign",
                  edits=(Edit("sign"),))  # fmt: skip
        yield Hit("loss", evidence, fix, low[0].step, 0.95)


def _is_alone(case: Case, call: LossCall) -> bool:
    """Whether what was backpropagated is this loss, and no sum of which it is a part."""
    if call.step >= len(case.curve) or case.usage.accumulation > 1:
        return True
    return abs(case.curve[call.step] - call.value) <= 1e-3 * abs(call.value)


@rule(
    "loss_zero_at_start", "symptom", "error",
    formula="loss < 1e-6 at the first step, with targets that vary",
    thresholds={"loss": 1e-6},
    why="A fresh network cannot be right everywhere: the loss does not measure what it should.",
    exempt=("targets that are all the same", "hinges and triplets, which start at 0",
            "targets the best constant answers that well"),
    explains=("not_learning", "constant_output", "no_gradient", "vanishing_gradients"),
)  # fmt: skip
def loss_zero_at_start(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call, target = case.loss, case.targets()
    if call is None or call.step or target is None or call.function not in NONNEGATIVE:
        return
    base = progress(case).base
    if abs(call.value) < limits["loss"] and base > 100 * limits["loss"]:
        evidence = (Evidence("first loss", call.value, f"about {base:.3g}"),)
        yield Hit("loss", evidence, Fix("look at what the loss is given"), 0, 0.9)
