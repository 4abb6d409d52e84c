"""From hits to at most three ranked causes: gates, what explains what, probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from fathom.doctor.calibration import probability
from fathom.doctor.case import Case
from fathom.doctor.finding import SEVERITIES, Evidence, Finding
from fathom.doctor.progress import FEW, Progress, progress
from fathom.doctor.rules import RULES, Hit, Rule

MOST = 3
SURE = 0.9  # strength from which a symptom counts at first sight
LASTING = frozenset({"no_gradient", "frozen_parameters"})  # seen at several steps by themselves
STRONG = 0.7  # strength from which a symptom counts where it is not clear how the run goes
LIKELY = 0.6  # probability from which a contract stands before all symptoms


@dataclass(frozen=True)
class Opinion:
    """findings : the causes, likeliest first. notes : hits that a gate holds back, in words."""

    findings: tuple[Finding, ...] = ()
    progress: Progress | None = None
    notes: tuple[str, ...] = ()

    def replaced(self, old: Finding, new: Finding) -> Opinion:
        """The same with one finding in place of another."""
        found = tuple(new if f is old else f for f in self.findings)
        return dataclasses.replace(self, findings=found)


def reason(case: Case, hits: Mapping[str, list[Hit]]) -> Opinion:
    """The causes behind all hits."""
    state = progress(case)
    passed = {name: these for name, found in hits.items() if (these := _open(name, found, state))}
    passed = _persistent(case, passed)
    held = tuple(f"{n}: {h[0].where}" for n, h in hits.items() if n not in passed)
    explained = {other for name in passed for other in _explained_by(name, passed)}
    found = [_finding(name, these, passed) for name, these in passed.items()
             if name not in explained]  # fmt: skip
    if any(f.severity != "advice" and f.kind != "not_learning" for f in found):
        found = [f for f in found if f.severity != "advice" or _is_contract(f.kind)]
    found.sort(key=_rank)
    return Opinion(tuple(found[:MOST]), state, held)


def _persistent(case: Case, passed: Mapping[str, list[Hit]]) -> dict[str, list[Hit]]:
    """Without symptoms which, while the run goes on, were not there at the decision before: those
    that come and go are none, unless they are as strong as can be. Steps without decisions are
    many later on; by then what is not finite is told at once."""
    now = case.usage.steps
    before: dict[str, int] = case.remembered.get("symptoms", {})
    first = {n: before.get(n, now) for n in passed if RULES[n].kind == "symptom"}
    case.remembered["symptoms"] = first
    if case.ended:
        return dict(passed)
    at_once = LASTING | {"non_finite"} if now > FEW else LASTING
    return {n: h for n, h in passed.items() if first.get(n, -1) < now or n in at_once
            or max(each.strength for each in h) >= SURE}  # fmt: skip


def _is_contract(name: str) -> bool:
    return RULES[name].kind == "contract"


def worth_asking(case: Case) -> list[Rule]:
    """The rules whose gates are not closed; of a run that is over all, to tell what they hold
    back."""
    state = progress(case)
    return [rule for rule in RULES.values() if case.ended or not _closed(rule, state)]


def _closed(rule: Rule, state: Progress) -> bool:
    """Whether nothing that a rule finds would count: the run learns, or warms up."""
    if "not learning" not in rule.gates:
        return False
    if state.warming and state.finite:
        return True
    return state.learning and not state.doubtful


def _open(name: str, hits: list[Hit], state: Progress) -> list[Hit]:
    """The hits that a rule's gates let through: of symptoms only strong ones where a run goes
    slowly, or has come to rest half way."""
    rule = RULES[name]
    if _closed(rule, state):
        return []
    if "not learning" in rule.gates and state.doubtful:
        return [h for h in hits if h.strength >= STRONG or _is_contract(name)]
    return hits


def _explained_by(name: str, passed: Mapping[str, list[Hit]]) -> list[str]:
    """The other hits which a rule's hits account for. Where two account for each other: a contract
    for a symptom, what began first, what is graver, what was declared first."""
    found = []
    for other in RULES[name].explains:
        if other not in passed or other == name:
            continue
        mutual = name in RULES[other].explains
        if not mutual or _earlier(name, passed) < _earlier(other, passed):
            found.append(other)
    return found


def _earlier(name: str, passed: Mapping[str, list[Hit]]) -> tuple[bool, int, int, int]:
    hits = passed[name]
    severity = SEVERITIES.index(hits[0].severity or RULES[name].severity)
    since = min(h.since_step for h in hits)
    return (not _is_contract(name), since, severity, list(RULES).index(name))


def _finding(name: str, hits: list[Hit], passed: Mapping[str, list[Hit]]) -> Finding:
    """One finding of all hits of a rule: the strongest, and how many there are."""
    rule = RULES[name]
    worst = max(hits, key=lambda h: h.strength)
    evidence = worst.evidence
    if len(hits) > 1:
        places = ", ".join(dict.fromkeys(h.where for h in hits))
        evidence = (*evidence, Evidence("found in", f"{len(hits)} places: {places}", "none"))
    return Finding(
        name, worst.severity or rule.severity, probability(name, worst.strength), worst.where,
        min(h.since_step for h in hits), evidence, worst.why or rule.why, worst.fix,
        tuple(_explained_by(name, passed)), strength=worst.strength,
    )  # fmt: skip


def _rank(finding: Finding) -> tuple[bool, bool, int, float, int, int]:
    """Advice last; contracts that are likely first; then by gravity, probability and time."""
    contract = _is_contract(finding.kind) and finding.probability >= LIKELY
    return (finding.severity == "advice", not contract, SEVERITIES.index(finding.severity),
            -finding.probability, finding.since_step, list(RULES).index(finding.kind))  # fmt: skip


__all__ = ["LIKELY", "MOST", "STRONG", "Opinion", "reason", "worth_asking"]
