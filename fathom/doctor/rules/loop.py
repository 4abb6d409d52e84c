"""How the loop goes about it: gradients cleared, steps taken, modes switched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from fathom.doctor.case import BATCH_NORMS, DROPOUTS, Case
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.rule import Hit, rule

STUCK = ("not_learning", "learning_rate_too_low", "constant_output", "still_improving",
         "underfitting", "one_batch", "no_signal", "linear_baseline",
         "learning_rate_range")  # fmt: skip
WILD = ("learning_rate_too_high", "exploding_gradients", "non_finite", "dead_units",
        "saturated_units", "strong_regularization", "not_learning", "constant_output",
        "still_improving", "vanishing_gradients", "off_centre", "duplicate_units",
        "underfitting")  # fmt: skip


def _noisy(case: Case) -> str:
    """The first layer that behaves differently in train and eval mode."""
    kinds = BATCH_NORMS | DROPOUTS
    return next((n for n, layer in case.layers.items() if layer.kind in kinds), "model")


@rule(
    "missing_zero_grad", "contract", "error",
    formula="at 2 of the first steps, no backward pass since the last step began with clear "
    "gradients",
    thresholds={"steps": 2, "share": 0.2},
    why="Each step adds its gradient to those of all steps before it: the updates grow and point "
    "where the model was long ago.",
    exempt=("several backward passes before a step (accumulation)", "other losses' passes between",
            "closures (L-BFGS)", "less than a fifth of the steps"),
    explains=WILD,
)  # fmt: skip
def missing_zero_grad(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    stale, looked = case.usage.stale_steps, min(case.usage.steps, 16) - case.usage.unseen
    if len(stale) < max(limits["steps"], limits["share"] * looked):
        return
    evidence = (
        Evidence("steps with the last step's gradient still in place", len(stale), "0"),
        Evidence("steps looked at closely", looked),
    )
    fix = Fix("clear the gradients in each step", "optimizer.zero_grad()  # before loss.backward()",
              (Edit("zero_grad"),))  # fmt: skip
    yield Hit("optimizer", evidence, fix, stale[0], 1.0)


@rule(
    "gradients_cleared", "contract", "error",
    formula="gradients present after a backward pass, absent at the optimizer's step, at 2 steps",
    thresholds={"steps": 2},
    why="The gradients are cleared between the backward pass and the step: the step has nothing to "
    "go by, and the weights stay as they are.",
    exempt=("gradients that are 0 of themselves",),
    explains=(*STUCK, "frozen_parameters", "no_gradient", "missing_zero_grad"),
)  # fmt: skip
def gradients_cleared(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    empty = case.usage.empty_steps
    if not empty or len(empty) < min(limits["steps"], case.usage.steps):
        return
    code = "optimizer.zero_grad(); loss.backward(); optimizer.step()"
    fix = Fix("clear them before the backward pass, not behind it", code, (Edit("zero_grad"),))
    evidence = (Evidence("steps without a gradient behind a backward pass", len(empty), "0"),)
    yield Hit("optimizer", evidence, fix, empty[0], 1.0)


@rule(
    "missing_step", "contract", "error",
    formula="no step of the optimizer in 64 backward passes, or in 3 between which the gradients "
    "were cleared, or in the whole run",
    thresholds={"backwards": 64, "cleared": 3, "ended": 2},
    why="Gradients are worked out and never used: the weights stay as they are.",
    exempt=("loops without an optimizer that was handed over", "accumulation over up to 64 passes",
            "steps that run the passes themselves (closures), as L-BFGS's do"),
    explains=(*STUCK, "frozen_parameters", "missing_zero_grad", "no_gradient"),
)  # fmt: skip
def missing_step(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    usage = case.usage
    if case.optimizer is None or usage.steps or usage.closures:
        return
    over = case.ended and usage.backwards >= limits["ended"]
    cleared = usage.zeroings >= limits["cleared"]
    if not (over or cleared or usage.backwards >= limits["backwards"]):
        return
    evidence = (
        Evidence("backward passes", usage.backwards),
        Evidence("steps of the optimizer", usage.steps, "one for each, or each few"),
    )
    fix = Fix("take the step", "optimizer.step()  # behind loss.backward()", (Edit("step"),))
    yield Hit("optimizer", evidence, fix, 0, 1.0)


def _frozen(case: Case) -> bool:
    """Whether all normalization and dropout belongs to frozen layers: norms that are frozen
    themselves, dropout in front of frozen weights."""
    trained = {p.layer for p in case.parameters.values() if p.trainable}
    onward, found = False, []  # whether the next weights are frozen
    for name, layer in reversed(case.layers.items()):
        if layer.kind in DROPOUTS:
            found.append(onward)
        if layer.parameters:
            onward = name not in trained
            if layer.kind in BATCH_NORMS:
                found.append(onward)
    return bool(found) and all(found)


@rule(
    "eval_mode_in_training", "contract", "warning",
    formula="3 steps or more, and a fifth of all, trained with the whole model in eval mode",
    thresholds={"steps": 3, "share": 0.2},
    why="Dropout does nothing and batch normalization goes by its running statistics, which never "
    "change: most often model.train() was not called again behind an evaluation.",
    exempt=("some of the layers only: a frozen backbone, frozen normalization",
            "dropout and normalization inside of what is frozen",
            "models without dropout and batch normalization"),
    explains=("train_eval_gap", "overfitting", "non_finite", "exploding_gradients",
              "learning_rate_too_high", "initialization_scale", "saturated_units", "off_centre",
              "dead_units", "not_learning"),
)  # fmt: skip
def eval_mode_in_training(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    steps = case.usage.eval_steps
    if len(steps) < max(limits["steps"], limits["share"] * case.usage.steps) or _frozen(case):
        return
    evidence = (
        Evidence("steps trained in eval mode", len(steps), "0"),
        Evidence("of all steps so far", case.usage.steps),
    )
    fix = Fix("switch to train mode before each epoch", "model.train()", (Edit("train_mode"),))
    yield Hit(_noisy(case), evidence, fix, steps[0], 0.9)


@rule(
    "train_mode_in_evaluation", "contract", "warning",
    formula="2 forward passes or more without gradients in train mode, or one that the loss was "
    "worked out of, behind some of the steps",
    thresholds={"passes": 2, "share": 0.5},
    why="Dropout and batch statistics make what is measured noisy, and evaluation moves the "
    "running statistics of batch normalization.",
    exempt=("generators, targets and rollouts run without gradients in most steps",
            "passes before the first step", "losses that are not known (RL)"),
    explains=("train_eval_gap",),
)  # fmt: skip
def train_mode_in_evaluation(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    passes = Counter(case.usage.noisy_evaluations)
    total = sum(passes.values())
    if not case.task_known or total < (1 if case.evaluation is not None else limits["passes"]):
        return
    if len(passes) > max(limits["share"] * case.usage.steps, 1):
        return
    evidence = (Evidence("passes without gradients in train mode", total, "0"),)
    code = "model.eval()\nwith torch.no_grad(): ...\nmodel.train()"
    fix = Fix("eval mode before an evaluation, train mode behind it", code, (Edit("train_mode"),))
    yield Hit(_noisy(case), evidence, fix, min(passes), 0.8)
