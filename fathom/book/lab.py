"""`Lab`: what a check is given: seeds, random numbers, and whether to be quick."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from fathom.engine.random import Random

Value = TypeVar("Value")
ROOT_SEED = 20_240


class Lab:
    """The surroundings of one question's run.

    Everything random comes from one seed and the question's id, so a question gives the same
    numbers alone, in any order, and in any process.

    Parameters
    ----------
    question : id of the question.
    quick : fewer seeds and smaller sizes, through `seeds` and `pick`.

    >>> Lab("2.1.8").seeds(3) == Lab("2.1.8").seeds(3)
    True
    >>> len(Lab("2.1.8", quick=True).seeds(20, quick=4))
    4
    """

    def __init__(self, question: str, quick: bool = False) -> None:
        self.quick = quick
        self._random = Random(ROOT_SEED).spawn(question)
        self._done: dict[Any, Any] = {}

    def seeds(self, full: int, quick: int | None = None) -> list[int]:
        """`full` seeds, or `quick` of them (a quarter, at least 3) when time is short."""
        count = full if not self.quick else (quick or max(3, full // 4))
        return [self._random.spawn(f"seed {i}").seed % 2**31 for i in range(count)]

    def pick(self, full: Value, quick: Value) -> Value:
        """`full`, or `quick` when time is short."""
        return quick if self.quick else full

    def rng(self, name: str) -> np.random.Generator:
        """NumPy's generator of that name, the same at each call."""
        return np.random.Generator(np.random.Philox(self._random.spawn(name).seed))


def once(measure: Callable[..., Value]) -> Callable[..., Value]:
    """A function of a lab (and plain arguments) that several checks share: run once a lab.

    >>> @once
    ... def draw(lab):
    ...     return lab.rng("draw").random()
    >>> lab = Lab("2.1.1")
    >>> draw(lab) is draw(lab)
    True
    """

    @wraps(measure)
    def shared(lab: Lab, *args: Any) -> Value:
        key = (measure, *args)
        if key not in lab._done:
            lab._done[key] = measure(lab, *args)
        return lab._done[key]

    return shared
