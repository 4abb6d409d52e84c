"""`Rule`: one record for each thing the doctor can find, made with `@rule` beside its function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fathom.doctor.case import Case
from fathom.doctor.finding import SEVERITIES, Evidence, Fix
from fathom.engine.errors import ArgumentError

KINDS = ("contract", "symptom", "probe")


@dataclass(frozen=True)
class Hit:
    """What a rule's function yields where it applies.

    strength : how far beyond the threshold, 0 (at it) to 1 (as far as it goes); reasoning turns
    it into a probability. severity : in place of the rule's own, where it depends.
    """

    where: str
    evidence: tuple[Evidence, ...]
    fix: Fix
    since_step: int = 0
    strength: float = 0.5
    severity: str = ""
    why: str = ""  # in place of the rule's own


Look = Callable[[Case, Mapping[str, float]], Iterable[Hit]]


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong.

    Attributes
    ----------
    name : its stable name, the `kind` of its findings.
    kind : "contract" (before the first step), "symptom" (while it runs), "probe" (by a trial).
    severity : of its findings, as a rule.
    formula : what is measured, in the field's notation.
    thresholds : by name; `look` gets them. corpus : what they were calibrated on.
    gates : names of what must hold for it to count ("not learning", "persistent", "warmed up").
    exempt : the cases in which it is silent, in words.
    explains : names of rules whose findings it accounts for.
    reads : names of all parts of the case that it looks at ("inputs", "losses"), where these only
        grow: until one has grown, its last hits stand. () : it is asked each time.
    why : what the fault does.
    look : the function `(case, thresholds) -> hits`.
    """

    name: str
    kind: str
    severity: str
    formula: str
    why: str
    look: Look = field(repr=False)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    corpus: str = ""
    gates: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    def __call__(self, case: Case) -> list[Hit]:
        """The hits in a case; gates are the business of `reasoning`."""
        key = tuple(len(getattr(case, name)) for name in self.reads)
        kept = case.remembered.get(f"hits of {self.name}") if key else None
        if kept is None or kept[0] != key:
            kept = (key, list(self.look(case, self.thresholds)))
            case.remembered[f"hits of {self.name}"] = kept
        return list(kept[1])


RULES: dict[str, Rule] = {}  # in the order in which they were declared


def rule(
    name: str, kind: str, severity: str, *, formula: str, why: str,
    thresholds: Mapping[str, float] | None = None, corpus: str = "", gates: tuple[str, ...] = (),
    exempt: tuple[str, ...] = (), explains: tuple[str, ...] = (), reads: tuple[str, ...] = (),
) -> Callable[[Look], Rule]:  # fmt: skip
    """Declare a rule; decorates its function `(case, thresholds) -> hits`."""
    if kind not in KINDS or severity not in SEVERITIES or name in RULES:
        raise ArgumentError(f"rule {name!r}: declared twice, or no such kind or severity")

    def made(look: Look) -> Rule:
        found = Rule(name, kind, severity, formula, why, look, dict(thresholds or {}), corpus,
                     gates, exempt, explains, reads)  # fmt: skip
        RULES[name] = found
        return found

    return made


def run(rules: Iterable[Rule], case: Case, off: dict[str, str]) -> dict[str, list[Hit]]:
    """Every rule's hits. One that raises is noted in `off`, with its error, and not run again."""
    found: dict[str, list[Hit]] = {}
    for each in rules:
        if each.name in off:
            continue
        try:
            hits = each(case)
        except Exception as error:  # a watcher never stops what it watches
            off[each.name] = f"{type(error).__name__}: {error}"
            continue
        if hits:
            found[each.name] = hits
    return found


__all__ = ["KINDS", "RULES", "Hit", "Rule", "rule", "run"]
