"""The ticks of textbook tables, checked: which properties does an activation really have?

>>> said = {"gelu": {"zero_centred": True, "monotone": False}, "tanh": {"zero_centred": True}}
>>> for found in disagreements(said):
...     print(found)
gelu: zero_centred is said to be True, measured False: mean 0.282 for N(0, 1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fathom.activations.measure import Audit, audit
from fathom.engine.errors import ArgumentError, suggest

PROPERTIES = ("nonlinear", "differentiable", "monotone", "zero_centred", "non_saturating")


@dataclass(frozen=True)
class Disagreement:
    """A tick that the measurement does not bear out, with the number that decides."""

    activation: str
    property: str
    said: bool
    measured: bool
    evidence: str

    def __str__(self) -> str:
        return (
            f"{self.activation}: {self.property} is said to be {self.said}, measured "
            f"{self.measured}: {self.evidence}"
        )


def ticks(activation: Any) -> dict[str, bool]:
    """The measured properties: nonlinear, differentiable (a slope everywhere), monotone (never
    falls, or never rises), zero_centred (|mean| < 0.01 for N(0, 1)), non_saturating (no end
    settles at a finite value).

    >>> ticks("elu")["differentiable"], ticks("elu")["zero_centred"]
    (True, False)
    """
    found = _audit(activation)
    return {name: _measured(found, name)[0] for name in PROPERTIES}


def disagreements(said: Mapping[str, Mapping[str, bool]]) -> list[Disagreement]:
    """Where a table of ticks, {activation: {property: tick}}, differs from what is measured."""
    found = []
    for name, row in said.items():
        measured = _audit(name)
        for title, tick in row.items():
            if title not in PROPERTIES:
                raise ArgumentError(f"unknown property {title!r}", fix=suggest(title, PROPERTIES))
            truth, evidence = _measured(measured, title)
            if truth != bool(tick):
                found.append(Disagreement(name, title, bool(tick), truth, evidence))
    return found


def _audit(activation: Any) -> Audit:
    found = audit(activation, timing=False)
    if not isinstance(found, Audit):
        raise ArgumentError("ticks are those of one activation")
    return found


def _measured(found: Audit, title: str) -> tuple[bool, str]:
    low, high = found.slopes
    if title == "nonlinear":
        return low != high, f"slopes from {low:.4g} to {high:.4g}"
    if title == "differentiable":
        kinks = [k for k in found.kinks if k.order <= 1]
        places = ", ".join(f"{k.x:g}" for k in kinks)
        smooth = (
            "infinitely often" if math.isinf(found.smoothness) else f"{found.smoothness:g} times"
        )
        return not kinks, f"the slope jumps at {places}" if kinks else f"differentiable {smooth}"
    if title == "monotone":
        return found.monotone, f"slopes from {low:.4g} to {high:.4g}"
    if title == "zero_centred":
        return found.zero_centred, f"mean {found.mean:.3g} for N(0, 1)"
    sides = " and ".join(found.saturates) or "neither side"
    return not found.saturates, f"settles at a finite value on the {sides}"
