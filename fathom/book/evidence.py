"""What a check returns: numbers, samples over seeds, and how they belong together.

A leaf is a number (exact) or a `Sample` (one number a seed). Leaves are put together by what they
are to the claim: `Routes` measure the same thing independently, `All` are parts that must all
hold, `Settings` are the same claim under different conditions. `Published` and `NotMeasurable`
stand where nothing can be computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from fathom.book.region import Region
from fathom.book.statistics import interval, sign_flip
from fathom.book.text import T
from fathom.engine.errors import ArgumentError

Number: TypeAlias = float | int | bool | np.generic


class Sample:
    """One number for each seed; what counts is their mean, with a 95 % interval.

    Pass paired differences where two things are compared on the same seeds.

    >>> sample = Sample([1.0, 2.0, 3.0, 2.0, 1.5, 2.5])
    >>> sample.mean, sample.n
    (2.0, 6)
    >>> sample.low < 2.0 < sample.high
    True
    """

    def __init__(self, values: Sequence[float] | np.ndarray[Any, Any]) -> None:
        self.values = np.asarray(values, np.float64).ravel()
        if self.values.size < 2:
            raise ArgumentError(f"a sample needs two seeds or more; received {self.values.size}")
        self.low, self.high = interval(self.values)

    @property
    def n(self) -> int:
        """How many seeds."""
        return int(self.values.size)

    @property
    def mean(self) -> float:
        """The number judged."""
        return float(self.values.mean())

    @property
    def p(self) -> float:
        """Two-sided sign-flip probability of a mean so far from 0, if nothing were there."""
        return sign_flip(self.values)


@dataclass(frozen=True)
class Check:
    """A number with a region of its own, inside `All`."""

    value: Evidence
    region: Region


class Routes(dict[str, "Evidence"]):
    """The same quantity by independent ways: name -> evidence. A refutation needs two of them.

    >>> sorted(Routes({"closed form": 0.5, "autodiff": 0.5}))
    ['autodiff', 'closed form']
    """


class All(dict[str, "Evidence | Check"]):
    """Parts of a claim which must all hold: name -> evidence, or `Check(evidence, region)`."""


@dataclass(frozen=True)
class Settings:
    """The claim measured at two settings or more of what it may depend on.

    `variable` names what is changed, `at` maps each of its settings to the evidence there.
    """

    variable: T
    at: Mapping[str, Evidence]

    def __post_init__(self) -> None:
        if len(self.at) < 2:
            raise ArgumentError("Settings needs two settings or more")


@dataclass(frozen=True)
class Source:
    """Where a fact is published. `confidence`: how sure we are that it says so, 0 to 1."""

    work: str
    year: int
    confidence: float


@dataclass(frozen=True)
class Published:
    """A fact as its sources state it, each of them; whether the claim holds is not for it to say.

    Attributes
    ----------
    value : a number, which the claim's region judges as it does every number, or a short phrase
        ("GELU", "behind the residual sum").
    sources : the works that state the value.
    expected : what the claim says in the same terms; a phrase needs it and must equal it.

    Raises
    ------
    ArgumentError
        No source; a yes or no in place of a fact; a phrase with nothing to compare it with; a
        number with a phrase to compare it with.

    >>> paper = Source("Radford et al., Improving Language Understanding", 2018, 0.97)
    >>> Published("GELU", (paper,), "ReLU").expected
    'ReLU'
    >>> Published(True, (paper,))
    Traceback (most recent call last):
        ...
    fathom.engine.errors.ArgumentError: a published fact is a number or a phrase; received True
    try: give what the source states ("GELU", 1943, 15.3); the verdict is computed from it
    """

    value: float | str
    sources: tuple[Source, ...]
    expected: str | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise ArgumentError("a published fact needs a source")
        for said in (self.value, self.expected):
            if isinstance(said, bool | np.bool_):
                raise ArgumentError(
                    f"a published fact is a number or a phrase; received {said}",
                    fix='give what the source states ("GELU", 1943, 15.3); the verdict is '
                    "computed from it",
                )
        if isinstance(self.value, str) != isinstance(self.expected, str):
            raise ArgumentError(
                f"{self.value!r} cannot be compared with expected={self.expected!r}",
                fix="a phrase needs `expected`, the claim's own phrase; a number takes none, the "
                "claim's region judges it",
            )


@dataclass(frozen=True)
class NotMeasurable:
    """Why it cannot be measured here, and what it would take.

    `nearest` may hold what small-scale evidence there is: numbers shown, not judged.
    """

    needs: T
    nearest: Mapping[str, float] = field(default_factory=dict)


Evidence: TypeAlias = Number | Sample | Routes | All | Settings | Published | NotMeasurable


def as_json(evidence: Evidence | Check) -> Any:
    """The evidence as plain JSON values; `kind` says what each part is."""
    match evidence:
        case Sample():
            values = [_short(v) for v in evidence.values]
            return {
                "kind": "sample", "mean": _short(evidence.mean), "n": evidence.n,
                "interval": [_short(evidence.low), _short(evidence.high)],
                "p": _short(evidence.p), "values": values,
            }  # fmt: skip
        case Check():
            region = evidence.region.words._asdict()
            return {"kind": "check", "region": region, "of": as_json(evidence.value)}
        case Routes() | All():
            kind = "routes" if isinstance(evidence, Routes) else "all"
            return {"kind": kind, "of": {k: as_json(v) for k, v in evidence.items()}}
        case Settings():
            parts = {k: as_json(v) for k, v in evidence.at.items()}
            return {"kind": "settings", "variable": evidence.variable._asdict(), "of": parts}
        case Published():
            fact = evidence.value
            return {
                "kind": "published", "value": fact if isinstance(fact, str | int) else _short(fact),
                "expected": evidence.expected, "sources": [vars(s) for s in evidence.sources],
            }  # fmt: skip
        case NotMeasurable():
            nearest = {k: _short(v) for k, v in evidence.nearest.items()}
            return {
                "kind": "not measurable", "needs": evidence.needs._asdict(), "nearest": nearest
            }  # fmt: skip
        case _:
            return {"kind": "number", "value": _short(evidence)}


def numbers(evidence: Evidence | Check, path: str = "") -> dict[str, float]:
    """Every leaf's number by its path ("closed form", "16/loss"); a lone one is "value".

    >>> numbers(All({"a": 1.0, "b": Routes({"c": 2.0})}))
    {'a': 1.0, 'b/c': 2.0}
    """
    match evidence:
        case Sample():
            return {path or "value": evidence.mean}
        case Check():
            return numbers(evidence.value, path)
        case Routes() | All():
            parts: Mapping[str, Any] = evidence
        case Settings():
            parts = evidence.at
        case Published():
            fact = evidence.value
            return {} if isinstance(fact, str) else {path or "value": float(fact)}
        case NotMeasurable():
            return {}
        case _:
            return {path or "value": float(evidence)}
    found: dict[str, float] = {}
    for name, part in parts.items():
        found |= numbers(part, f"{path}/{name}" if path else name)
    return found


def samples(evidence: Evidence | Check) -> list[Sample]:
    """All samples in it."""
    match evidence:
        case Sample():
            return [evidence]
        case Check():
            return samples(evidence.value)
        case Routes() | All():
            return [s for part in evidence.values() for s in samples(part)]
        case Settings():
            return [s for part in evidence.at.values() for s in samples(part)]
        case _:
            return []


def _short(value: Any) -> Any:
    """JSON has no NaN and no infinity, and 12 digits are enough."""
    number = float(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return float(f"{number:.12g}") if np.isfinite(number) else str(number)
