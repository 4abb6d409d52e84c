"""What a trial of a fix has shown, and the rule for when a fix has helped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fathom.doctor.adapters.scoring import MEASURES
from fathom.engine.errors import ArgumentError

SMALL_GAIN = 0.03  # gains below it have to be surer


@dataclass(frozen=True)
class Trial:
    """A fix, tried: scores, one a seed, without and with it.

    before, after : scores. curve_before, curve_after : losses of the first seed's runs (they may
    differ in kind). steps : that each twin was trained. helped : see `treat`. measure : what the
    scores are made of: "likelihood", "squared error", "accuracy", "agreement" or "loss".
    points_before, points_after : skill after a tenth, a quarter, half, three quarters and all of
    the first seed's runs. fix : the words of what was tried. tried : how many fixes there were
    trials of. left_out : what the run does and the twins do not.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    curve_before: tuple[float, ...]
    curve_after: tuple[float, ...]
    steps: int
    helped: bool
    why_not: str = ""
    measure: str = ""
    points_before: tuple[float, ...] = ()
    points_after: tuple[float, ...] = ()
    fix: str = ""
    tried: int = 1
    seconds: float = 0.0
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.why_not:
            return f"could not be tried: {self.why_not}"
        old, new = mean_of(self.before), mean_of(self.after)
        word = "proven" if self.helped else "did not help"
        n = len(self.before)
        seeds = f"{n} seed{'s' if n > 1 else ''}, {self.steps} steps each"
        scale = "1 is perfect, 0 a constant answer"
        if self.measure == "agreement":
            scale = "1: the same examples get the same answers again"
        old, new = (round(value, 2) + 0.0 for value in (old, new))  # no -0.00
        said = f"{word}: score {old:.2f} -> {new:.2f} ({seeds}; {scale})"
        return said + (f"; left out: {', '.join(self.left_out)}" if self.left_out else "")


@dataclass(frozen=True)
class Course:
    """What one twin did: skills at `POINTS` on what it was trained on and on what was held out,
    by measure; its losses; what it was trained with."""

    fitted: tuple[dict[str, float], ...]
    unseen: tuple[dict[str, float], ...]
    curve: tuple[float, ...]
    function: str
    examples: int  # held out

    def skill(self, measure: str, unseen: bool = False) -> tuple[float, ...]:
        """One measure at all points; not finite or not there: -1."""
        points = self.unseen if unseen else self.fitted
        values = [point.get(measure, -1.0) for point in points]
        values = [v if math.isfinite(v) else -1.0 for v in values]
        return tuple(values if unseen else [max(v, -1.0) for v in values])


def measure_of(before: Course, after: Course) -> str:
    """The finest measure that both twins have."""
    one, other = before.fitted[-1], after.fitted[-1]
    if not one:  # the run itself fails
        one = other
    for measure in ("agreement", *MEASURES):
        same = measure != "loss" or before.function == after.function
        if measure in one and measure in other and same:
            return measure
    raise ArgumentError("there is no score that goes for both the loss as it is and the one of "
                        f"the fix: {before.function}, {after.function}")  # fmt: skip


def better(before: Sequence[float], after: Sequence[float]) -> bool:
    """The rule of `treat` for the scores.

    >>> better((0.1, 0.2, 0.1), (0.8, 0.9, 0.8)), better((0.1, 0.2, 0.1), (0.1, 0.1, 0.9))
    (True, False)
    >>> better((0.98, 0.98), (0.985, 0.985)), better((0.9, 0.9), (0.97, 0.96))
    (False, True)
    """
    gains = [b - a for a, b in zip(before, after, strict=True)]
    mean = mean_of(gains)
    spread = math.sqrt(mean_of([(g - mean) ** 2 for g in gains]))
    missing = min(max(1.0 - mean_of(before), 0.0), 1.0)
    sure = spread if mean >= SMALL_GAIN else 2 * spread
    return all(g > 0 for g in gains) and mean >= max(0.1 * missing, 0.01) and mean > sure


def stopped(courses: Sequence[Course], measure: str) -> list[float]:
    """Held-out skills where the other seeds' twins were best."""
    skills = [c.skill(measure, unseen=True) for c in courses]
    found = []
    for i, own in enumerate(skills):
        others = [s for j, s in enumerate(skills) if j != i] or [own]
        means = [mean_of([s[k] for s in others]) for k in range(len(own))]
        found.append(own[means.index(max(means))])
    return found


def mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


__all__ = ["Course", "Trial", "better", "mean_of", "measure_of", "stopped"]
