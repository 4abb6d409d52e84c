"""Which runs there are: faulty ones that count, with their measured harm, and healthy ones.

`cases.json` lists the combinations of family, fault and strength that do harm; `harm.py` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import fathom.doctor.corpus.families  # noqa: F401  (declares them)
from fathom.doctor.corpus.api import api
from fathom.doctor.corpus.faults import FAULTS
from fathom.doctor.corpus.healthy import HEALTHY
from fathom.doctor.corpus.recipe import FAMILIES, Family, Fault, Program


@dataclass(frozen=True)
class Run:
    """One run of the corpus, by names: `fault` is "" for a healthy one."""

    family: str
    fault: str
    strength: str
    engine: str
    seed: int

    @property
    def id(self) -> str:
        return "/".join((self.family, self.fault or "healthy", self.strength, self.engine,
                         str(self.seed)))  # fmt: skip

    @property
    def source(self) -> Family:
        return FAMILIES.get(self.family) or HEALTHY[self.family]

    @property
    def of(self) -> Fault | None:
        return FAULTS[self.fault] if self.fault else None

    def program(self, steps: int = 0) -> Program:
        """The run, built and not yet trained; steps : fewer than its recipe says."""
        fault = self.of
        recipe = fault.recipe(self.source, self.strength) if fault else self.source.recipe
        if steps:
            recipe = recipe.but(steps=min(steps, recipe.steps))
        return self.source.program(api(self.engine), recipe, self.seed)


@cache
def counted() -> tuple[dict[str, Any], ...]:
    """The faulty combinations that count, with the scores of faulty and healthy twin."""
    file = resources.files("fathom.doctor.corpus") / "cases.json"
    if not file.is_file():
        return ()
    found: list[dict[str, Any]] = json.loads(file.read_text())["cases"]
    return tuple(found)


def faulty(split: str, engine: str, seeds: Sequence[int] = (0,)) -> Iterator[Run]:
    """The faulty runs of a split on an engine."""
    for case in counted():
        fits = FAMILIES[case["family"]].split == split or split == "all"
        if fits and engine in case["engines"]:
            for seed in seeds:
                yield Run(case["family"], case["fault"], case["strength"], engine, seed)


def healthy(split: str, engine: str, seeds: Sequence[int] = (0, 1, 2)) -> Iterator[Run]:
    """The healthy runs of a split on an engine: the families' own, and the odd ones."""
    for source in (*FAMILIES.values(), *HEALTHY.values()):
        if source.split == split or split == "all":
            for seed in seeds:
                yield Run(source.name, "", "", engine, seed)


__all__ = ["FAMILIES", "FAULTS", "HEALTHY", "Run", "counted", "faulty", "healthy"]
