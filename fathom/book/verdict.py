"""`decide`: the one place where a verdict is made, from numbers and a rule stated beforehand.

confirmed       every part, route and setting lies inside the region
refuted         outside, by two independent routes
depends         inside at one setting, outside at another
undecided       the interval straddles the region's edge, routes disagree, or one route only
not measurable  nothing to judge here; the check says what it would take
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from fathom.book.evidence import (
    All,
    Check,
    Evidence,
    NotMeasurable,
    Published,
    Routes,
    Sample,
    Settings,
)
from fathom.book.region import Region
from fathom.book.text import T


class Verdict(Enum):
    """The words of a verdict; `.words` in both languages."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    DEPENDS = "depends"
    UNDECIDED = "undecided"
    NOT_MEASURABLE = "not measurable"

    @property
    def words(self) -> T:
        return T(self.value, _CHINESE[self.value])


_CHINESE = {
    "confirmed": "证实",
    "refuted": "证伪",
    "depends": "视条件而定",
    "undecided": "未决",
    "not measurable": "此处无法测量",
}


@dataclass(frozen=True)
class Decision:
    """A verdict, and in words how the numbers led to it."""

    verdict: Verdict
    reason: T


@dataclass(frozen=True)
class _Judged:
    holds: bool | None
    routes: int = 1  # independent ways that agree on it
    differs: bool = False  # holds at one setting, fails at another


def decide(evidence: Evidence, region: Region) -> Decision:
    """The verdict that follows from evidence and region.

    >>> from fathom.book.region import equals
    >>> decide(0.7311, equals(0.731, 0.0005)).verdict
    <Verdict.CONFIRMED: 'confirmed'>
    >>> decide(0.8, equals(0.731, 0.0005)).verdict  # one route does not refute
    <Verdict.UNDECIDED: 'undecided'>
    >>> decide(Routes({"by hand": 0.8, "library": 0.8}), equals(0.731, 0.0005)).verdict
    <Verdict.REFUTED: 'refuted'>
    """
    if isinstance(evidence, NotMeasurable):
        return Decision(Verdict.NOT_MEASURABLE, evidence.needs)
    judged = _judge(evidence, region)
    if judged.differs and isinstance(evidence, Settings):
        return Decision(Verdict.DEPENDS, _by_setting(evidence, region))
    if region.in_words:
        return _by_sources(judged)
    if judged.holds is True:
        return Decision(Verdict.CONFIRMED, T("inside the region", "落在规定范围内"))
    if judged.holds is None:
        return Decision(Verdict.UNDECIDED, T(
            "the interval straddles the edge of the region, or routes disagree",
            "区间跨越边界，或各独立途径结论不一",
        ))  # fmt: skip
    if judged.routes < 2:
        return Decision(Verdict.UNDECIDED, T(
            "outside the region by one route; a second has not been taken",
            "仅有一条途径落在范围外，尚缺第二条独立途径",
        ))  # fmt: skip
    return Decision(Verdict.REFUTED, T(
        f"outside the region by {judged.routes} independent routes",
        f"{judged.routes} 条独立途径均落在范围外",
    ))  # fmt: skip


def holds(evidence: Evidence | Check, region: Region) -> bool | None:
    """Whether one part lies inside (True), outside (False), or cannot be told (None)."""
    return _judge(evidence, region).holds


def _judge(evidence: Evidence | Check, region: Region) -> _Judged:
    match evidence:
        case Check():
            return _judge(evidence.value, evidence.region)
        case Sample():
            return _Judged(region.judge(evidence.low, evidence.high))
        case Routes():
            return _agree([_judge(part, region) for part in evidence.values()])
        case All():
            return _together([_judge(part, region) for part in evidence.values()])
        case Settings():
            return _across([_judge(part, region) for part in evidence.at.values()])
        case Published():
            return _published(evidence, region)
        case NotMeasurable():
            return _Judged(None)
        case _:
            number = float(evidence)
            return _Judged(region.judge(number, number))


def _agree(parts: list[_Judged]) -> _Judged:
    """Independent routes: they count together where all say the same."""
    first = parts[0].holds
    if any(part.holds is not first for part in parts):
        return _Judged(None)
    return _Judged(first, sum(part.routes for part in parts))


def _together(parts: list[_Judged]) -> _Judged:
    """Parts of one claim: one that fails is enough to fail; its routes are those that count."""
    failed = [part for part in parts if part.holds is False]
    if failed:
        return _Judged(False, max(part.routes for part in failed))
    if any(part.holds is None for part in parts):
        return _Judged(None)
    return _Judged(True, min(part.routes for part in parts))


def _across(parts: list[_Judged]) -> _Judged:
    """Settings: to differ is a finding; to fail at all of them takes two routes at each."""
    found = {part.holds for part in parts}
    if {True, False} <= found:
        return _Judged(None, differs=True)
    if None in found:
        return _Judged(None)
    return _Judged(parts[0].holds, min(part.routes for part in parts))


def _published(fact: Published, region: Region) -> _Judged:
    sure = [s for s in fact.sources if s.confidence >= 0.5]
    if not sure:
        return _Judged(None)
    if isinstance(fact.value, str):
        return _Judged(fact.value == fact.expected, len(sure))
    return _Judged(region.judge(fact.value, fact.value), len(sure))


def _by_sources(judged: _Judged) -> Decision:
    """The same rule in words, where phrases of sources are compared with the claim's."""
    if judged.holds is True:
        return Decision(
            Verdict.CONFIRMED, T("the sources state what the claim says", "来源所述与论断一致")
        )
    if judged.holds is None:
        return Decision(Verdict.UNDECIDED, T(
            "no source is sure enough, or sources disagree", "没有足够可信的来源，或来源之间不一致"
        ))  # fmt: skip
    if judged.routes < 2:
        return Decision(Verdict.UNDECIDED, T(
            "one source states otherwise; a second has not been found",
            "仅有一个来源与论断不符，尚缺第二个来源",
        ))  # fmt: skip
    return Decision(Verdict.REFUTED, T(
        f"{judged.routes} sources state otherwise", f"{judged.routes} 个来源的说法与论断不符"
    ))  # fmt: skip


def _by_setting(evidence: Settings, region: Region) -> T:
    """Which settings lie inside and which outside."""
    said: dict[Any, list[str]] = {True: [], False: [], None: []}
    for name, part in evidence.at.items():
        said[_judge(part, region).holds].append(name)
    en, zh = evidence.variable
    words = [
        (said[True], f"holds for {en} = ", f"在{zh} = ", "时成立"),
        (said[False], f"fails for {en} = ", f"在{zh} = ", "时不成立"),
        (said[None], f"undecided for {en} = ", f"在{zh} = ", "时未决"),
    ]
    used = [w for w in words if w[0]]
    return T(
        "; ".join(e + ", ".join(names) for names, e, _, _ in used),
        "；".join(z + "、".join(names) + end for names, _, z, end in used),
    )
