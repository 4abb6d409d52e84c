"""`Question`: one question of the book with its answer, its checks and its figures.

A question is a module in `fathom.book.questions` that makes one `Question` and hangs plain
functions on it:

    question = Question("2.1.8", title=T(...), ...)

    @question.exact("C2.1.8-01", T("Without a bias ...", "..."), at_most(1e-12))
    def origin_on_the_boundary(lab): ...

    @question.figure(T("Accuracy against the shift of the data", "..."))
    def shifted(lab): ...
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from fathom.book.evidence import Evidence
from fathom.book.region import Region, stated, true
from fathom.book.text import T
from fathom.engine.errors import ArgumentError

if TYPE_CHECKING:
    from fathom.book.figure import Figure
    from fathom.book.lab import Lab

Measure: TypeAlias = "Callable[[Lab], Evidence]"
Draw: TypeAlias = "Callable[[Lab], Figure]"
KINDS = ("exact", "experiment", "reference", "unmeasurable")


@dataclass(frozen=True)
class Claim:
    """What the book says, in our words, and how it is checked.

    `correction` says what is true instead, should the claim be refuted or depend on something; it
    may name measured numbers in braces: `{value}` for a lone one, else `{n[name]}`.
    `needs` names packages without which the check cannot be made ("torch").
    """

    id: str
    text: T
    kind: str
    region: Region
    measure: Measure
    correction: T | None = None
    weight: int = 1  # how much it matters to a practitioner, 1 to 5
    needs: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The first paragraph of the check's docstring."""
        text = inspect.getdoc(self.measure) or ""
        return " ".join(text.split("\n\n")[0].split())

    @property
    def code(self) -> str:
        """The check's source."""
        return inspect.getsource(self.measure)


@dataclass(frozen=True)
class Drawn:
    """An experiment of the question that ends in a figure."""

    title: T
    draw: Draw

    @property
    def name(self) -> str:
        """The function's name; files and anchors use it."""
        return self.draw.__name__

    @property
    def code(self) -> str:
        """The experiment's source."""
        return inspect.getsource(self.draw)


@dataclass
class Question:
    """A question, answered.

    Attributes
    ----------
    id : chapter.section.number, or S.number for the supplement.
    title : the question.
    difficulty, frequency : 1 to 5; how hard it is, how often interviewers ask.
    topics : words to find it by.
    answer : 3 to 8 sentences one could say in an interview.
    flips : the condition under which the answer turns round.
    analogy : an everyday picture of it.
    generative, classical, driving : one line each on where it matters.
    change : what to change in the experiment to see the answer flip.
    alone : it measures time, so nothing else may run beside it.
    """

    id: str
    title: T
    difficulty: int
    frequency: int
    topics: tuple[str, ...]
    answer: T
    flips: T
    analogy: T
    generative: T
    classical: T
    driving: T
    change: T
    alone: bool = False
    claims: dict[str, Claim] = field(default_factory=dict)
    figures: dict[str, Drawn] = field(default_factory=dict)

    def exact(
        self, id: str, text: T, region: Region, *, correction: T | None = None, weight: int = 1,
        needs: tuple[str, ...] = (),
    ) -> Callable[[Measure], Measure]:  # fmt: skip
        """A claim that computing settles: identities, values, what a piece of code prints."""
        return self._claim(id, text, "exact", region, correction, weight, needs)

    def experiment(
        self, id: str, text: T, region: Region, *, correction: T | None = None, weight: int = 1,
        needs: tuple[str, ...] = (),
    ) -> Callable[[Measure], Measure]:  # fmt: skip
        """A claim that takes runs over seeds; the region holds the effect size that counts."""
        return self._claim(id, text, "experiment", region, correction, weight, needs)

    def reference(
        self, id: str, text: T, region: Region | None = None, *, correction: T | None = None,
        weight: int = 1,
    ) -> Callable[[Measure], Measure]:  # fmt: skip
        """A claim about the literature, checked by `Published` facts.

        Numbers need a region; without one the facts are phrases, compared with the claim's own.
        """
        return self._claim(id, text, "reference", region or stated(), correction, weight, ())

    def unmeasurable(self, id: str, text: T, *, weight: int = 1) -> Callable[[Measure], Measure]:
        """A claim that no experiment here can settle; the check returns `NotMeasurable`."""
        return self._claim(id, text, "unmeasurable", true(), None, weight, ())

    def figure(self, title: T) -> Callable[[Draw], Draw]:
        """An experiment whose result is a figure."""

        def add(draw: Draw) -> Draw:
            if draw.__name__ in self.figures:
                raise ArgumentError(f"{self.id} has a figure {draw.__name__!r} already")
            self.figures[draw.__name__] = Drawn(title, draw)
            return draw

        return add

    def _claim(
        self, id: str, text: T, kind: str, region: Region, correction: T | None, weight: int,
        needs: tuple[str, ...],
    ) -> Callable[[Measure], Measure]:  # fmt: skip
        if not re.fullmatch(rf"C{re.escape(self.id)}-\d\d", id) or id in self.claims:
            raise ArgumentError(f"{id!r} is not a new claim of question {self.id}")

        def add(measure: Measure) -> Measure:
            self.claims[id] = Claim(id, text, kind, region, measure, correction, weight, needs)
            return measure

        return add

    @property
    def chapter(self) -> str:
        """`2` of `2.1.8`; `S` of the supplement."""
        return self.id.split(".")[0]

    @property
    def section(self) -> str:
        """`2.1` of `2.1.8`; `S` of the supplement."""
        return self.id.rsplit(".", 1)[0]

    @property
    def order(self) -> tuple[int, ...]:
        """Where it stands in the book; the supplement comes last."""
        return tuple(99 if part == "S" else int(part) for part in self.id.split("."))
