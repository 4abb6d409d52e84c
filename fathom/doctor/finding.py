"""`Finding`: what is wrong, how sure that is, where, since when, on what evidence, and the fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fathom.doctor.table import plain

SEVERITIES = ("error", "warning", "advice")  # gravest first


@dataclass(frozen=True)
class Evidence:
    """A measured value, with what it is in healthy runs beside it.

    >>> print(Evidence("share of dead units", 0.93, "at most 0.5"))
    share of dead units: 0.93 (healthy: at most 0.5)
    """

    name: str
    value: float | int | str
    healthy: str = ""

    def __str__(self) -> str:
        shown = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{self.name}: {shown}" + (f" (healthy: {self.healthy})" if self.healthy else "")


@dataclass(frozen=True)
class Edit:
    """One change to a run, as data; `treatment` carries it out on a copy.

    action : see `treatment.ACTIONS` ("lr", "drop_output_activation", "zero_grad", ...).
    target : the layer, parameter or part it is done to; "" where there is but one.
    value : its number or word, if it needs one.
    """

    action: str
    target: str = ""
    value: Any = None


@dataclass(frozen=True)
class Fix:
    """What to do about it: in words, as a line of code, and as edits that can be tried.

    alternatives : what else may help, tried one after the other where this one does not.
    """

    words: str
    code: str = ""
    edits: tuple[Edit, ...] = ()
    alternatives: tuple[Fix, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One cause of trouble.

    Attributes
    ----------
    kind : the name of the rule ("softmax_before_cross_entropy"); `rules.RULES[kind]` tells more.
    severity : "error" (it cannot be meant), "warning" (it hurts), "advice".
    probability : that this is a fault of the run, as calibrated on the corpus.
    where : the layer, parameter or part of the run ("fc1", "optimizer", "loss", "inputs").
    since_step : the optimizer step at which it was first seen; 0 before the first.
    evidence : measured values, each with its healthy range.
    why : what it does, in a sentence or two.
    fix : what to do about it.
    explains : kinds of further symptoms which this one accounts for.
    trial : what trying the fix has shown, once `treat` was asked; see `treatment.Trial`.
    """

    kind: str
    severity: str
    probability: float
    where: str
    since_step: int
    evidence: tuple[Evidence, ...]
    why: str
    fix: Fix
    explains: tuple[str, ...] = ()
    trial: Any = field(default=None, compare=False)
    strength: float = 0.5  # of its strongest hit; `probability` comes from it

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        import dataclasses

        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return found

    def __str__(self) -> str:
        head = f"{self.severity}: {self.kind} in {self.where}, step {self.since_step}"
        lines = [f"{head} (probability {self.probability:.0%})", f"  {self.why}"]
        lines += [f"  {e}" for e in self.evidence]
        lines.append(f"  fix: {self.fix.words}")
        lines += [f"       {line}" for line in self.fix.code.splitlines()]
        if self.explains:
            lines.append(f"  explains: {', '.join(self.explains)}")
        if self.trial is not None:
            lines.append(f"  tried: {self.trial}")
        return "\n".join(lines)


__all__ = ["SEVERITIES", "Edit", "Evidence", "Finding", "Fix"]
