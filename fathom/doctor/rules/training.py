"""Symptoms of the run as a whole: values that are not finite, the learning rate, weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fathom.doctor.case import NAN, Case, Step
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.progress import FEW, Progress, progress
from fathom.doctor.rules.measures import (
    Pace,
    besides,
    finite,
    log_strength,
    middle,
    paces,
    weights_kept,
)
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.setup import bad_data, not_finite_data
from fathom.engine.tensor import Array

HEALTHY_RATIO = "0.0005 to 0.015"


@rule(
    "non_finite", "symptom", "error",
    formula="the loss, a gradient or a weight is nan or infinite",
    why="From here on every number that depends on it is nan.",
    exempt=("steps that a gradient scaler skips", "a run that goes on with finite losses"),
    explains=("not_learning", "exploding_gradients", "dead_units", "learning_rate_too_low",
              "constant_output", "still_improving", "no_gradient", "off_centre", "no_signal",
              "duplicate_units", "saturated_units", "vanishing_gradients", "underfitting"),
)  # fmt: skip
def non_finite(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    spoilt = not_finite_data(case)
    if spoilt is not None:
        yield bad_data(*spoilt)
        return
    first = next((s for s in case.steps if s.first_bad or not finite(s)), None)
    if progress(case).finite and (first is None or finite(case.steps[-1])):
        return
    curve = case.course()
    bad = np.flatnonzero(~np.isfinite(curve)).tolist()[:1]
    step = int(min([*bad, *([first.number] if first else [])], default=case.usage.steps))
    before = [v for v in case.curve[max(step - 8, 0) : step] if math.isfinite(v)]
    evidence = [Evidence("first step that is not finite", step, "none")]
    if before:
        evidence.append(Evidence("largest loss in the 8 steps before", max(before)))
    fix = Fix("a smaller learning rate and gradient clipping, where the loss rose before; else "
              "look for log(0), sqrt(0), division by 0 or exp of large numbers at this place",
              "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
              (Edit("lr", value=0.1), Edit("clip", value=1.0)))  # fmt: skip
    yield Hit(_bad_place(case), tuple(evidence), fix, step, 1.0)


def _bad_place(case: Case) -> str:
    """The first module, in forward order, that put out what is not finite."""
    for step in case.steps:
        layer = next((n for n, s in step.layers.items() if not s.finite), "")
        bad = step.first_bad or layer or _bad_gradient(case, step)
        if bad:
            return bad
    return case.bad_at or "loss"


def _bad_gradient(case: Case, step: Step) -> str:
    """Where gradients, on their way back, were first not finite: the last layer with such a one;
    the loss, where it is the last of all."""
    owners = {n: p.layer or n for n, p in case.parameters.items()}
    bad = {owners.get(n, n) for n, s in step.parameters.items() if not s.finite}
    if not bad:
        return ""
    moved = {owners.get(n, n) for n, s in step.parameters.items() if not math.isnan(s.gradient)}
    order = [n for n in case.layers if n in moved | bad] or sorted(bad)
    return "loss" if order[-1] in bad else next((n for n in reversed(order) if n in bad), "loss")


# -- the learning rate -----------------------------------------------------------------------------


@rule(
    "learning_rate_too_high", "symptom", "error",
    formula="a loss that rises, or is no better than a constant answer's, with a median over "
    "layers of update/weight > 0.1; or > 0.02 where it rose to 3 times its start or jumps by a "
    "quarter of itself from step to step; in the first 32 steps: a loss at twice its start (in "
    "the first 8: 20 times)",
    thresholds={"ratio": 0.1, "some": 0.02, "rise": 3.0, "wild": 0.25, "blown": 100.0,
                "early": 2.0, "long": 128, "wide": 0.5},
    corpus="healthy runs: median update/weight 5e-4 to 1.5e-2 (5 to 95 %), 99 % below 0.08",
    why="Steps are longer than the landscape is smooth: each one overshoots.",
    exempt=("the first step", "what weight decay moves", "runs that learn: large steps alone, and "
            "a peak that is over, are no fault", "warm-up", "a handwritten logarithm of 0"),
    explains=("exploding_gradients", "dead_units", "saturated_units", "constant_output",
              "not_learning", "non_finite", "off_centre", "duplicate_units", "still_improving",
              "vanishing_gradients", "underfitting", "no_signal", "overfitting", "train_eval_gap",
              "learning_rate_too_low", "learning_rate_range", "one_batch", "linear_baseline",
              "inputs_ignored"),
)  # fmt: skip
def learning_rate_too_high(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    state, moved = progress(case), paces(case)
    curve = case.course()
    curve = curve[np.isfinite(curve)]
    if not len(curve) or not moved:
        return
    typical, risen = _typical(moved, state), _risen(state, curve)
    seen = sum(math.isfinite(p.median) for p in moved)
    if not state.finite and seen == 1 and typical < 1.0 and risen < 1.5:
        return  # one step, as long as Adam's first is, says nothing
    strength = _overshoots(state, limits, typical, risen, _wildness(curve))
    if state.finite and not _suffers(case, state, limits, curve):
        return
    if strength < (STRONG if state.doubtful else 0.1) or (state.warming and state.finite):
        return
    if not state.finite and _of_zero(case):
        return
    evidence = (
        Evidence("median update over weight", typical, HEALTHY_RATIO),
        Evidence("highest loss over the first", risen, "below 1.3"),
    )
    lr = case.optimizer.lr if case.optimizer else NAN
    factor = min(max(0.003 / max(typical, 1e-12), 1e-4), 0.1)
    fix = Fix(f"a learning rate of about {lr * factor:.1g} instead of {lr:.3g}",
              f"lr={lr * factor:.1g}", (Edit("lr", value=factor),))  # fmt: skip
    yield Hit("optimizer", evidence, fix, _began(case, state, limits), strength)


def _of_zero(case: Case) -> bool:
    """Whether a handwritten loss takes logarithms of probabilities, one of which became 0 in a run
    whose loss had not risen before: it is the loss that does not hold, at whatever rate."""
    call, curve = case.loss, case.course()
    if call is None or "log" not in call.path[:1]:
        return False
    bad = np.flatnonzero(~np.isfinite(curve))
    before = curve[: bad[0]] if len(bad) else curve
    return len(before) > 3 and float(np.median(before[-4:])) <= float(before[:3].max())


STRONG = 0.7  # what it takes where a run is neither stuck nor well on its way


def _typical(moved: list[Pace], state: Progress) -> float:
    """Update over weight that is not weight decay's: of the last steps, or, in a run that never
    got anywhere, of the first ones if it is more."""
    ratios = [max(p.median - p.decay, 0.0) for p in moved if math.isfinite(p.median)]
    if any(not math.isfinite(p.median) for p in moved[:4]) and not ratios:
        return math.inf
    if len(ratios) == 1 and state.steps > 1:  # the first step alone, as long as Adam's ever are
        ratios = [ratios[0] / 2]
    early = [] if state.state == "plateau" else ratios[1:5] or ratios
    return max((middle(part) for part in (early, ratios[-4:]) if part), default=0.0)


def _risen(state: Progress, curve: Array) -> float:
    """The highest loss over the first one, or over that of a constant answer if it is more."""
    first = max(state.base if math.isfinite(state.base) else 0.0, abs(float(curve[0])), 1e-12)
    return float(curve[1:].max()) / first if len(curve) > 1 else 1.0


def _suffers(case: Case, state: Progress, limits: Mapping[str, float], curve: Array) -> bool:
    """Whether the loss says so, too."""
    base = state.base if math.isfinite(state.base) else 0.0
    first = max(base, state.start)
    if state.steps < FEW:
        least = limits["early"] * max(base, curve[0])
        far = len(curve) >= 5 and float(curve[-3:].min()) > 10 * least
        return far or (len(curve) >= 8 and float(curve[-4:].min()) > least)
    if state.now > limits["blown"] * first:
        return True
    if not state.known:
        lasting = [p.median for p in paces(case)[-4:]]
        few = not state.learning and len(lasting) > 3 and min(lasting) > limits["ratio"]
        wide = few or (len(lasting) > 2 and min(lasting) > limits["wide"])
        return wide or state.now > limits["early"] * state.start > 0
    if case.ended:
        fallen = state.state == "worse" and state.skill < 0.5  # else it may be a moment's
        resting = state.state == "plateau" and state.skill < 0.75
        return fallen or resting or state.skill < 0.1 or state.state == "stuck"
    long = state.steps >= limits["long"]  # before, a run may only be slow to begin
    return state.state == "worse" or (state.state == "stuck" and long)


def _overshoots(
    state: Progress, limits: Mapping[str, float], typical: float, risen: float, wild: float
) -> float:
    """Strength of the evidence; 0 for none."""
    if not state.finite and (risen > 1.5 or typical > limits["ratio"]):
        return 0.95
    if risen > limits["blown"] and state.skill < 0.9 and state.known:
        return 0.9
    if state.steps < 4 or not typical > 0 or (state.learning and not state.doubtful):
        return 0.0
    if typical > limits["ratio"]:
        return log_strength(typical, limits["ratio"], STRONG)
    if typical > limits["some"]:
        if risen > limits["rise"]:
            return 0.75
        if wild > limits["wild"] and risen > 1.3:
            return 0.6
    return 0.6 if risen > 10 * limits["rise"] and typical > 0.1 * limits["some"] else 0.0


def _wildness(curve: Array) -> float:
    """Mean jump from step to step over the mean loss, in the last half."""
    last = curve[len(curve) // 2 :][-256:]
    if len(last) < 8:
        return 0.0
    return float(np.abs(np.diff(last)).mean() / max(abs(float(last.mean())), 1e-12))


def _began(case: Case, state: Progress, limits: Mapping[str, float]) -> int:
    """The first step behind which the loss is well above the first one, or behind which the
    weights had moved too far; 1 at the earliest."""
    curve = case.course()
    first = max(state.base if math.isfinite(state.base) else 0.0, state.start, 1e-12)
    first = max(first, float(curve[0])) if math.isfinite(curve[0]) else first
    high = np.flatnonzero(~(curve <= 1.3 * first)).tolist()[:1]
    far = [p.number for p in paces(case) if p.median > limits["ratio"]][:1]
    return max(min([*high, *far], default=1), 1)


@rule(
    "learning_rate_too_low", "symptom", "warning",
    formula="largest update/weight of all layers < 3e-5; or times the steps of the run < 0.05 "
    "(their median: 0.02); or "
    "a schedule that has come below 1e-3 of its highest rate half way, in a run that rests",
    thresholds={"ratio": 3e-5, "path": 0.05, "some": 3e-4, "skill": 0.5, "off": 1e-3},
    corpus="healthy runs: 99 % above 3e-5",
    why="Steps are so short that the run would take a multiple of its time.",
    exempt=("runs that are more than half of the way to the floor", "warm-up",
            "gradients too small for any learning rate: another fault's"),
    explains=("not_learning", "still_improving", "underfitting", "constant_output", "no_signal",
              "frozen_parameters", "learning_rate_range", "one_batch", "linear_baseline"),
    gates=("not learning",),
)  # fmt: skip
def learning_rate_too_low(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    state, moved = progress(case), paces(case)
    if len(moved) < (1 if case.ended else 3) or case.optimizer is None or not state.finite:
        return
    if _switched_off(case, limits) and state.state in ("stuck", "plateau"):
        yield _run_out(case, limits)
        return
    top = max((p.top for p in moved[-4:] if math.isfinite(p.top)), default=NAN)
    if math.isnan(top) or not moved[-1].gradient > 0:
        return
    steps = case.usage.steps if case.ended else max(case.planned or 0, case.usage.steps)
    path = top * max(steps, 1)
    usual = middle([p.median for p in moved[-4:] if math.isfinite(p.median)])
    short = path < limits["path"] or usual * max(steps, 1) < 0.4 * limits["path"]
    short = short and (case.ended or bool(case.planned)) and usual < limits["some"]
    if state.skill <= limits["skill"] and (short or top < limits["ratio"]):
        strength = log_strength(limits["some"], max(min(usual, limits["some"]), 1e-12), STRONG)
        yield _too_slow(case, moved, top, path, strength)


def _switched_off(case: Case, limits: Mapping[str, float]) -> bool:
    """Whether a schedule has taken the learning rate away in the first half of the run."""
    rates = np.asarray(case.rates)
    if len(rates) < 16 or not np.isfinite(rates).all():
        return False
    return bool(rates[len(rates) // 2 :].max() < limits["off"] * rates.max())


def _run_out(case: Case, limits: Mapping[str, float]) -> Hit:
    rates = np.asarray(case.rates)
    highest, half = float(rates.max()), float(rates[len(rates) // 2])
    evidence = (
        Evidence("learning rate half way over its highest", half / highest, "above 0.1"),
        Evidence("learning rate now", float(rates[-1])),
        Evidence("share of the way from a constant answer to the floor", progress(case).skill),
    )
    fix = Fix("a schedule as long as the run: scheduler.step() once an epoch, or steps counted "
              "in batches", "scheduler.step()  # behind each epoch, not each batch",
              (Edit("lr", value=highest / max(float(rates[-1]), 1e-12)),))  # fmt: skip
    gone = int(np.flatnonzero(rates < limits["off"] * highest)[0])
    return Hit("optimizer", evidence, fix, gone, 0.75)


def _too_slow(case: Case, moved: list[Pace], top: float, path: float, strength: float) -> Hit:
    lr = case.optimizer.lr if case.optimizer else NAN
    factor = min(0.002 / max(top, 1e-12), 1e7)
    better = lr * factor if lr > 0 and top > 0 else 1e-3
    evidence = (
        Evidence("largest update over weight of all layers", top, "above 0.00003"),
        Evidence("the same times the steps of the run", path, "above 0.05"),
        Evidence("learning rate", lr),
        Evidence("share of the way from a constant answer to the floor", progress(case).skill),
    )
    fix = Fix(f"a learning rate of about {better:.1g}", f"lr={better:.1g}",
              (Edit("lr", value=factor),))  # fmt: skip
    slow = [p.number for p in moved if not p.top > 3 * top + 1e-12]
    return Hit("optimizer", evidence, fix, slow[0] if slow else 0, strength)


@rule(
    "strong_regularization", "symptom", "warning",
    formula="weight decay's pull over the data's gradient (norms) > 2 at most of the first or the "
    "last sampled steps, or decay that takes more than 0.1 % of the weights in a step; or a term "
    "added to the loss that was larger than it, while weights shrank and the sum stays above half "
    "a constant answer's loss",
    thresholds={"pull": 2.0, "step": 1e-3, "shrunk": 0.3, "decay": 1e-3, "added": 1.0, "rest": 0.5},
    why="The penalty outweighs the data: weights shrink to 0 and the answers become constant.",
    exempt=("runs that learn", "decay below 0.001", "weights that did not shrink",
            "added terms of runs whose weights keep their size"),
    explains=("constant_output", "not_learning", "vanishing_gradients", "dead_units", "off_centre",
              "learning_rate_too_low", "still_improving", "underfitting", "duplicate_units",
              "learning_rate_too_high", "saturated_units", "no_signal"),
    gates=("not learning",),
)  # fmt: skip
def strong_regularization(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    facts, moved = case.optimizer, paces(case)
    if facts is None or len(moved) < (1 if case.ended else 3):
        return
    if case.ended and (hit := _penalized(case, limits)) is not None:
        yield hit
        return
    decay = max((float(g.get("weight_decay") or 0.0) for g in facts.groups), default=0.0)
    if decay < limits["decay"]:
        return
    pulls = [decay * p.weight / max(p.gradient, 1e-12) for p in moved]
    pull = max(middle(pulls[:4]), middle(pulls[-4:]))
    shrunk = min(p.weight for p in moved) / max(moved[0].weight, 1e-12)
    shrunk = min(shrunk, weights_kept(case)) if case.ended else shrunk
    each = middle([p.decay for p in moved])
    heavy = pull > limits["pull"] or each > limits["step"]
    few = len(moved) < 3  # then only what became of the weights tells
    if not heavy or (shrunk > limits["shrunk"] and (few or pull < 10 * limits["pull"])):
        return
    evidence = (
        Evidence("pull of the penalty over the data's gradient", pull, "below 0.5"),
        Evidence("weights at their least over at first (norm)", shrunk, "0.8 or more"),
        Evidence("weight decay", decay, "0 to 0.01 (0.1 decoupled)"),
    )
    fix = Fix("a weight decay of 1e-4 or none", "weight_decay=1e-4",
              (Edit("weight_decay", value=1e-4),))  # fmt: skip
    since = next((p.number for p in moved if p.weight < 0.9 * moved[0].weight), 0)
    yield Hit("optimizer", evidence, fix, since, 0.95 if shrunk < limits["shrunk"] else 0.75)


def _penalized(case: Case, limits: Mapping[str, float]) -> Hit | None:
    """A term of the loop's own, added to the loss, that has outweighed it and the weights."""
    added, state = besides(case), progress(case)
    if not added or not math.isfinite(state.base) or not all(rest > 0 for _, _, rest in added):
        return None
    share = added[0][2] / max(added[0][1], 1e-12)
    kept = weights_kept(case)
    if share < limits["added"] or kept > limits["shrunk"]:
        return None
    if state.now - state.floor < limits["rest"] * (state.base - state.floor):
        return None
    evidence = (
        Evidence("what is added to the loss, over the loss", share, "below 0.3"),
        Evidence("size of the weights now over at first (sum of absolute values)", kept,
                 "0.8 or more"),
        Evidence("loss with it", state.now, f"well below {state.base:.3g}, a constant answer's"),
    )  # fmt: skip
    fix = Fix(f"a factor of the penalty {10 * share:.0f} times smaller, or none")
    return Hit("loss", evidence, fix, added[0][0], 0.9)
