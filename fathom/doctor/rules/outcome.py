"""Symptoms of how a run comes out: training against validation, and whether it got anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fathom.doctor.baselines import BINARY, CLASSES, constant_loss
from fathom.doctor.case import BATCH_NORMS, DROPOUTS, NAN, Case
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.progress import Progress, as_called, progress, rooted, smoothed
from fathom.doctor.rules.measures import middle, paces, relative_gradients
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.structure import averaging
from fathom.engine.tensor import Array

# -- training against validation -------------------------------------------------------------------


def _validated(case: Case) -> tuple[list[int], list[float]]:
    """Steps and losses of the evaluations, on the scale of the training loss; none of sums, which
    depend on how many examples there are."""
    known = [(step, v) for step, v in case.validation if math.isfinite(v)]
    if case.loss is not None and case.loss.options.get("reduction") == "sum":
        return [], []
    scaled = [as_called(case, v) for _, v in known] if _are_called(case) else [v for _, v in known]
    return [step for step, _ in known], scaled


def _are_called(case: Case) -> bool:
    """Whether evaluations tell the loss that was seen, and not its root which is trained on."""
    if not rooted(case):
        return True
    seen, told = case.evaluation, next((v for _, v in case.validation if v > 0), NAN)
    if seen is None or seen.value <= 0:
        return False
    return abs(math.log(told / seen.value)) < abs(math.log(told / math.sqrt(seen.value)))


def _training_loss(case: Case) -> Array:
    curve = case.course()
    return smoothed(curve[np.isfinite(curve)]) if np.isfinite(curve).any() else np.zeros(1)


@rule(
    "overfitting", "symptom", "warning",
    formula="lowest validation loss 3 evaluations ago or more, risen since by > 10 %, by 3 "
    "standard errors and by 5 % of a constant answer's, while the training loss fell by > 10 %",
    thresholds={"evaluations": 4, "old": 3, "rise": 0.1, "fall": 0.1, "errors": 3.0,
                "room": 0.05, "fine": 0.75},
    why="From its lowest validation loss on, the run learns its examples by heart.",
    exempt=("fewer than 4 evaluations", "ups and downs of the validation loss",
            "validation that is three quarters of the way to the floor nevertheless"),
    explains=("still_improving", "underfitting", "train_eval_gap"),
)  # fmt: skip
def overfitting(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    steps, values = _validated(case)
    best = int(np.argmin(values)) if values else 0
    if len(values) < limits["evaluations"] or len(values) - 1 - best < limits["old"]:
        return
    after, training = np.asarray(values[best:]), _training_loss(case)
    rise = (float(after[-2:].mean()) - after[0]) / max(abs(after[0]), 1e-12)
    noise = float(np.median(np.abs(np.diff(np.diff(values))))) / 2.45  # two differences of noise
    at = training[min(max(steps[best] - 1, 0), len(training) - 1)]
    fell = 1.0 - training[-1] / at if at > 0 else 0.0
    parts = [part.mean() for part in np.array_split(after, min(len(after), 8))]
    up = float(np.mean(np.diff(parts) > -0.02 * rise * after[0]))  # or stays where it has come to
    if rise < limits["rise"] or up < 0.6 or fell < limits["fall"]:
        return
    state = progress(case)
    now = float(after[-2:].mean())
    slight = now - after[0] < limits["room"] * state.room
    if math.isfinite(state.base) and (slight or state.base - now > limits["fine"] * state.room):
        return
    if after[-1] - after[0] < limits["errors"] * noise:
        return
    evidence = (
        Evidence("validation loss now over its lowest", float(1 + rise), "at most 1.1"),
        Evidence("evaluations since then", len(values) - 1 - best, "fewer than 3"),
        Evidence("training loss since then", f"{at:.3g} -> {training[-1]:.3g}"),
    )
    fix = Fix("keep the weights of the lowest validation loss; more data, augmentation, dropout or "
              "weight decay", "EarlyStopping(patience=3, restore_best=True)",
              (Edit("weight_decay", value=1e-2),))  # fmt: skip
    yield Hit("model", evidence, fix, steps[best], float(min(0.5 + rise, 0.95)))


@rule(
    "train_eval_gap", "symptom", "warning",
    formula="momentum of a batch normalization by which (1 - momentum)^steps > 0.5 after 64 steps, "
    "or of 0.9 and more; or in the first 3 evaluations a validation loss above that of a constant "
    "answer by > 20 "
    "%, and > 3 times the training loss",
    thresholds={"evaluations": 3, "over": 1.2, "times": 3.0, "steps": 30},
    why="In eval mode the network is another one: its batch statistics, its dropout or its "
    "inputs' scaling are not those it was trained with.",
    exempt=("models without batch normalization or dropout", "the first 30 steps, in which running "
            "statistics are not there yet"),
    explains=("overfitting", "still_improving", "underfitting", "no_signal"),
)  # fmt: skip
def train_eval_gap(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    yield from averaging(case)
    state, (steps, values) = progress(case), _validated(case)
    noisy = [n for n, layer in case.layers.items() if layer.kind in BATCH_NORMS | DROPOUTS]
    if not state.known or not noisy or not values:
        return
    training = _training_loss(case)
    early = list(zip(steps, values, strict=True))[: int(limits["evaluations"])]
    apart = []
    for step, value in early:
        train = training[min(max(step - 1, 0), len(training) - 1)]
        if step >= limits["steps"]:
            far = value - state.floor > limits["times"] * max(train - state.floor, 0.0)
            apart.append(far and value > limits["over"] * state.base)
    if not apart or not all(apart):
        return
    evidence = (
        Evidence("validation loss", values[0], f"below {state.base:.3g}, that of a constant"),
        Evidence("training loss", float(training[-1])),
    )
    fix = Fix("larger batches or group normalization; model.eval() before an evaluation; the same "
              "preprocessing for both", edits=(Edit("normalize"),))  # fmt: skip
    yield Hit(noisy[0], evidence, fix, steps[0], 0.7)


@rule(
    "no_signal", "symptom", "warning",
    formula="validation loss never below that of a constant answer, and not falling, while "
    "training is better than one; or no skill after 100 steps with update/weight and gradients as "
    "in "
    "healthy runs",
    thresholds={"skill": 0.03, "train": 0.02, "steps": 100, "low": 3e-4, "high": 0.05,
                "gradient": 1e-4, "reach": 0.02},
    why="What is learned of the training examples says nothing about others: targets and inputs "
    "do not belong together, as after shuffling one of them, or inputs do not tell.",
    exempt=("runs with skill on validation data", "losses whose scale is not known"),
    explains=("not_learning", "overfitting", "still_improving", "underfitting"),
)  # fmt: skip
def no_signal(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    state, (steps, values) = progress(case), _validated(case)
    if not state.known or state.steps < FEWEST or state.base - state.floor <= 0:
        return
    gained = _gained(case, state, values)
    learned = max(gained, default=NAN)
    by_heart = _examples(case, steps) >= FEWEST and _by_heart(case, state, gained, limits)
    if not by_heart and not (_nothing_to_learn(case, state, limits) and not learned > 0.1):
        return
    evidence = (
        Evidence("skill on the training examples", state.skill, "above 0.1"),
        Evidence("best skill on validation data",
                 learned if values else "not measured", "near that of training"),
    )  # fmt: skip
    fix = Fix("look at a few inputs beside their targets as the model gets them; the probes "
              "permuted_labels and linear_baseline tell for sure",
              "fathom.doctor.examine(model, data, loss, optimizer, probes=True)")  # fmt: skip
    yield Hit("targets", evidence, fix, 0, 0.8 if by_heart else 0.5)


FEWEST = 64  # steps and examples from which on a lack of skill says something


def _examples(case: Case, steps: list[int]) -> float:
    """How many examples, about, lie between two evaluations: those of an epoch, as a rule."""
    gaps = np.diff([0, *steps])
    rows = len(case.loss.target) if case.loss is not None and case.loss.target is not None else 0
    return float(np.median(gaps)) * rows if len(gaps) else 0.0


def _gained(case: Case, state: Progress, values: list[float]) -> list[float]:
    """Skill of each evaluation, against a constant answer to its own targets where they were
    seen."""
    call, base = case.evaluation, NAN
    if call is not None and call.target is not None and case.validation:
        target = np.asarray(call.target)
        if target.ndim and len(target) >= 24:
            base = as_called(case, constant_loss(call, target))
    base = base if math.isfinite(base) else state.base
    room = max(base - state.floor, 1e-12)
    return [(base - v) / room for v in values]


def _by_heart(
    case: Case, state: Progress, gained: list[float], limits: Mapping[str, float]
) -> bool:
    """Whether training got better than a constant answer, and validation never did, nor gets
    better any more."""
    if len(gained) < 3 or max(gained) > limits["skill"]:
        return False
    trained = state.skill * state.room > max(limits["train"] * state.room, 2 * state.noise)
    half = len(gained) // 2
    later = max(gained[half:]) - max(gained[:half])
    still = later < limits["skill"] and (case.ended or len(gained) >= 8)
    return trained and still and state.steps >= limits["steps"]


def _nothing_to_learn(case: Case, state: Progress, limits: Mapping[str, float]) -> bool:
    """Stuck, with everything inside as in healthy runs."""
    last = paces(case)[-4:]
    if not _no_skill(case, state) or state.steps < limits["steps"] or len(last) < 3:
        return False
    ratio = middle([p.median for p in last])
    gradient = middle([p.gradient / max(p.weight, 1e-12) for p in last])
    layers = [g for _, g in relative_gradients(case)]
    reaches = len(layers) < 3 or layers[0] > limits["reach"] * max(layers[-2:])
    return limits["low"] < ratio < limits["high"] and gradient > limits["gradient"] and reaches


def _no_skill(case: Case, state: Progress) -> bool:
    """Stuck, or at the end of a run of 200 steps not a twentieth of the way further: noisy labels
    leave no more than a tenth to be learned."""
    creeping = case.ended and state.state == "slow" and state.steps >= 200 and state.skill < 0.05
    return creeping or (state.skill < 0.1 and state.state in ("stuck", "worse"))


# -- how the run came out --------------------------------------------------------------------------


@rule(
    "underfitting", "symptom", "warning",
    formula="a loss that falls no more at skill < 0.7, and a hidden layer of at most 4 units "
    "between more inputs, or of at most 2",
    thresholds={"skill": 0.7, "units": 4, "few": 2, "steps": 128},
    why="The network is too small for the task: it has come to the end of what it can do.",
    exempt=("models without hidden layers", "autoencoders",
            "inputs of up to twice as many numbers as the layer has units"),
    explains=("still_improving", "not_learning", "no_signal"),
    gates=("not learning",),
)  # fmt: skip
def underfitting(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    state = progress(case)
    if state.state not in ("plateau", "stuck") or state.steps < limits["steps"]:
        return
    if not case.ended or state.skill > limits["skill"]:
        return
    matrices = [p for p in case.weights() if len(p.shape) == 2]
    if not matrices or not (_classifies(case) or matrices[-1].form[0] <= limits["units"]):
        return  # nothing, or an autoencoder
    hidden = matrices[:-1]
    small = [p for p in hidden if p.form[0] <= limits["few"]
             or (p.form[0] <= limits["units"] and p.form[1] > 2 * p.form[0])]  # fmt: skip
    if small:
        evidence = (Evidence("share of the way to the floor", state.skill, "above 0.7"),
                    Evidence("units", small[0].form[0], "16 or more"))  # fmt: skip
        fix = Fix("more units in the hidden layers", edits=(Edit("widen", small[0].layer),))
        yield Hit(small[0].layer, evidence, fix, 0, 0.7)


def _classifies(case: Case) -> bool:
    return case.loss is not None and case.loss.function in (*BINARY, *CLASSES)


@rule(
    "still_improving", "symptom", "advice",
    formula="the loss still falls significantly at the end, or fell at all in fewer than 64 steps; "
    "skill < 0.9",
    thresholds={"skill": 0.9},
    why="Nothing is wrong as far as can be seen: the run ended while it was getting better.",
    exempt=("runs that go on", "losses whose scale is not known"),
)  # fmt: skip
def still_improving(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    state = progress(case)
    if not case.ended or not state.known or not state.finite or state.rising:
        return
    short = state.steps < FEWEST and state.now < state.start
    if not (state.falling or short) or state.skill >= limits["skill"] or state.steps < 8:
        return
    more = _steps_to_go(state)
    evidence = (
        Evidence("share of the way from a constant answer to the floor", state.skill),
        Evidence("steps to go at this pace, about", more),
    )
    fix = Fix(f"about {more:,} more steps", edits=(Edit("steps", value=2),))
    yield Hit("run", evidence, fix, state.steps, 0.5)


def _steps_to_go(state: Progress) -> int:
    """Until nine tenths of the way are done, if what is missing shrinks on as it does; rounded."""
    missing, goal = state.now - state.floor, 0.1 * state.room
    fall = -state.slope * abs(state.now)  # a step
    if missing <= goal or fall <= 0 or goal <= 0:
        return 0
    more = min(math.log(missing / goal) * missing / fall, 1e9)
    return int(float(f"{more:.1g}")) if more > 10 else 10


@rule(
    "not_learning", "symptom", "warning",
    formula="skill < 0.1 after 64 steps and a loss that does not fall (one-sided t, p > 0.05), or "
    "skill < 0.05 at the end of 200 steps or more",
    thresholds={"steps": 64},
    why="The answers are no better than those of a constant. The cause is not clear from what was "
    "seen; the probes tell model, data and learning rate apart.",
    exempt=("losses whose scale is not known", "learning rates that are still warming up"),
    gates=("not learning",),
)  # fmt: skip
def not_learning(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    state = progress(case)
    if not state.known or state.steps < limits["steps"]:
        return
    if not _no_skill(case, state):
        return
    evidence = (
        Evidence("loss", state.now, f"well below {state.base:.3g}, that of a constant answer"),
        Evidence("share of the way to the floor", state.skill, "above 0.1"),
    )
    fix = Fix("run the probes: one batch, learning-rate range, inputs, a linear baseline",
              "fathom.doctor.examine(model, data, loss, optimizer, probes=True)")  # fmt: skip
    yield Hit("run", evidence, fix, 0, 0.7)
