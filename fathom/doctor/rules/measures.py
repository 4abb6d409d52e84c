"""What several symptom rules measure, worked out once for each sampled step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fathom.doctor.case import NAN, Case, LayerStats, Step
from fathom.doctor.progress import EXACT, rooted

PERSISTENT, LOOKED_AT = 3, 4  # a symptom is one if it holds at 3 of the last 4 sampled steps


@dataclass(frozen=True)
class Pace:
    """A sampled step's movement: over all matrices of weights the median and the largest of
    update over weight, of it the part that weight decay makes (decay); norms of the gradient and
    the weights as a whole."""

    number: int
    lr: float
    median: float
    top: float
    decay: float
    gradient: float
    weight: float


def paces(case: Case) -> list[Pace]:
    """One for each sampled step that has parameters."""
    known, seen = case.remembered.get("paces", ([], 0))
    if seen == len(case.steps):
        return list(known)
    names = _moving(case)
    facts = case.optimizer
    decay = max((float(g.get("weight_decay") or 0.0) for g in facts.groups), default=0.0) \
        if facts else 0.0  # fmt: skip
    known = known + [_pace(s, names, decay) for s in case.steps[seen:] if s.parameters]
    case.remembered["paces"] = (known, len(case.steps))
    return known


def _moving(case: Case) -> list[str]:
    """Matrices that are trained, but for those that start at 0: any step is a large one to them."""
    first = next((s.parameters for s in case.steps if s.parameters), {})
    return [
        p.name for p in case.weights()
        if p.trainable and (p.name not in first or first[p.name].weight > 1e-6)
    ]  # fmt: skip


def _pace(step: Step, names: Sequence[str], decay: float) -> Pace:
    stats = [step.parameters[n] for n in names if n in step.parameters]
    ratios = [s.ratio for s in stats if math.isfinite(s.ratio)]
    gradients = [s.gradient for s in step.parameters.values() if not math.isnan(s.gradient)]
    return Pace(
        step.number, step.lr, middle(ratios), max(ratios, default=NAN), step.lr * decay,
        math.hypot(*gradients, 0.0), math.hypot(*(s.weight for s in stats), 0.0),
    )  # fmt: skip


def besides(case: Case) -> list[tuple[int, float, float]]:
    """(step, the loss's own value, what the loop added to it) of the calls that were seen; none
    where the loss is backpropagated as it is, times a number, or its root."""
    if case.usage.accumulation > 1 or rooted(case):
        return []
    pairs = [
        (call.step, call.value, case.curve[call.step] - call.value) for call in case.losses
        if call.count == 1 and call.step < len(case.curve) and call.value > 1e-9
        and math.isfinite(case.curve[call.step])
    ]  # fmt: skip
    ratios = [rest / own for _, own, rest in pairs]
    apart = len(ratios) > 1 and max(ratios) - min(ratios) > 2 * EXACT * (1.0 + abs(middle(ratios)))
    return pairs if apart else []


def weights_kept(case: Case) -> float:
    """Sum of the absolute weights as they are now over that at first; 1 where it is not known."""
    pairs = [
        (p.value(), p.initial) for p in case.weights() if p.trainable and p.initial is not None
    ]
    first = sum(float(np.abs(old).sum()) for _, old in pairs)
    now = sum(float(np.abs(new).sum()) for new, _ in pairs)
    return now / first if first > 1e-9 and math.isfinite(now) else 1.0


def middle(values: Sequence[float]) -> float:
    """The median; nan of nothing."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return NAN
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def recent(case: Case, layer: str, statistic: str) -> list[float]:
    """A layer's statistic at the last sampled steps where it was measured, at most four."""
    found: list[float] = []
    for step in reversed(case.steps[-2 * LOOKED_AT :]):
        value = float(getattr(step.layers.get(layer, NOTHING), statistic))
        if not math.isnan(value) and len(found) < LOOKED_AT:
            found.append(value)
    return found[::-1]


NOTHING = LayerStats()


def held(values: Sequence[bool], ended: bool = False) -> bool:
    """Whether something held at 3 of the last 4 sampled steps, and there were so many; or, in a
    run that has ended before, at all there were."""
    if ended and 0 < len(values) < PERSISTENT:
        return all(values)
    return sum(values[-LOOKED_AT:]) >= PERSISTENT


def since(case: Case, layer: str, statistic: str, above: float) -> int:
    """The step from which on a layer's statistic has always been above a limit."""
    first = case.steps[-1].number if case.steps else 0
    for step in reversed(case.steps):
        value = getattr(step.layers.get(layer, NOTHING), statistic)
        if math.isnan(value):
            continue
        if value <= above:
            break
        first = step.number
    return first


def relative_gradients(case: Case) -> list[tuple[str, float]]:
    """(layer, median of gradient over weight at the last sampled steps) of each matrix of weights,
    in the order of the forward pass."""
    kept = case.remembered.get("relative gradients")
    if kept is None or kept[0] != len(case.steps):
        kept = (len(case.steps), _relative(case))
        case.remembered["relative gradients"] = kept
    return list(kept[1])


def _relative(case: Case) -> list[tuple[str, float]]:
    order = {name: i for i, name in enumerate(case.layers)}
    found = []
    for p in sorted(case.weights(), key=lambda p: order.get(p.layer, 0)):
        if not p.trainable:
            continue
        stats = [s.parameters[p.name] for s in case.steps[-LOOKED_AT:] if p.name in s.parameters]
        values = [s.gradient / s.weight for s in stats if s.weight > 0 and s.gradient >= 0]
        if values:
            found.append((p.layer or p.name, middle(values)))
    return found


def finite(step: Step) -> bool:
    """Whether all outputs and parameters of a sampled step are."""
    return all(s.finite for s in step.layers.values()) and all(
        s.finite for s in step.parameters.values()
    )


def log_strength(value: float, limit: float, least: float = 0.5, decade: float = 0.15) -> float:
    """`least` at the limit and more with each power of ten beyond it, at most 1."""
    beyond = abs(math.log10(max(value, 1e-30) / limit))
    return min(least + decade * beyond, 1.0)


def spread_of(values: Sequence[float]) -> float:
    """Standard deviation; 0 of fewer than two."""
    return float(np.std(values)) if len(values) > 1 else 0.0


__all__ = ["LOOKED_AT", "PERSISTENT", "Pace", "besides", "finite", "held", "log_strength",
           "middle", "paces",
           "recent", "relative_gradients", "since", "spread_of", "weights_kept"]  # fmt: skip
