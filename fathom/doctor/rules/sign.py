"""The sign of the loss, by what was called and what was backpropagated; part of `wrong_loss`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fathom.doctor.adapters.graph import WEIGHTING
from fathom.doctor.baselines import CLASSES, baseline
from fathom.doctor.case import Case, LossCall
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.output import BINARY, SQUARED
from fathom.doctor.rules.rule import Hit


def maximized(case: Case, calls: float, exact: float, trained: float) -> Iterator[Hit]:
    """A loss that the optimizer makes larger: its sign is wrong.

    calls : how many must have been seen. exact : how far, of its range, what is minimized may be
    from a straight line in the loss. trained : share of a constant answer's loss below which the
    network knew better at first.
    """
    call, facts = case.loss, case.optimizer
    if call is None or call.function not in (*CLASSES, *BINARY, *SQUARED):
        return
    upward = facts is not None and all(bool(g.get("maximize")) for g in facts.groups)
    pairs = [
        (c.value, case.curve[c.step]) for c in case.losses if c.function == call.function
        and c.step < len(case.curve) and math.isfinite(c.value) and c.value >= 0
        and math.isfinite(case.curve[c.step])
    ]  # fmt: skip
    several = case.usage.accumulation > 1 or any(c.count > 1 for c in case.losses)
    if several or len(pairs) < calls or not _is_own(case, call):
        return
    slope = _slope(pairs, exact)
    first, base = pairs[0][0], baseline(case, call)
    knew = math.isfinite(base) and first < trained * base
    rises = pairs[-1][0] > first and pairs[-1][0] > float(np.median([v for v, _ in pairs[:-1]]))
    if not (slope > 0 if upward else slope < 0) or knew or not rises:
        return
    evidence = (
        Evidence("what is minimized grows with the loss by", -slope if upward else slope, "1"),
        Evidence("loss at first", first),
        Evidence("loss at last", pairs[-1][0], f"below {first:.4g}"),
    )
    words = "without maximize" if upward else "the loss as it is, without a minus before it"
    fix = Fix(words, "" if upward else "loss.backward()  # not (-loss).backward()",
              () if upward else (Edit("sign"),))  # fmt: skip
    why = ("The loss is made as large as it can be: its sign is wrong, and the network learns to "
           "be as wrong as possible.")  # fmt: skip
    yield Hit("loss", evidence, fix, 0, 1.0, "error", why)


def _slope(pairs: list[tuple[float, float]], exact: float) -> float:
    """By how much what is minimized grows with the loss, where that is one number; else nan."""
    own, whole = np.asarray(pairs).T
    if float(np.ptp(own)) <= 1e-2 * float(np.abs(own).max()):
        return math.nan
    slope = float(np.ptp(whole) / np.ptp(own))
    slope = slope if (whole[own.argmax()] > whole[own.argmin()]) else -slope
    apart = whole - whole[0] - slope * (own - own[0])
    return slope if float(np.abs(apart).max()) <= exact * float(np.ptp(whole)) else math.nan


def _is_own(case: Case, call: LossCall) -> bool:
    """Whether the loss is of what the network itself puts out, and all that the loss reaches is
    trained by this optimizer: no adversary, no inputs that are optimized."""
    facts = case.optimizer
    reached = [p for n, p in case.parameters.items() if n in case.reached and p.trainable]
    strange = facts is not None and (facts.strangers or not all(p.in_optimizer for p in reached))
    return bool(call.layer) and not (strange or WEIGHTING & set(call.path))


__all__ = ["maximized"]
