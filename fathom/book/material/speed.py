"""Which of several functions is quicker, measured so that a busy machine does not decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fathom.book.evidence import Sample

Task = Callable[[], Any]
Clock = Callable[[Task], float]
ENOUGH = 0.0015  # seconds of one measurement, at least; a run of 0.1 ms is repeated 15 times


def seconds(run: Task, repeats: int = 5) -> float:
    """The shortest of several runs."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def ratio(slow: Task, fast: Task, rounds: int = 15) -> Sample:
    """Time of `slow` over time of `fast`, one number a round; both run alternately.

    >>> ratio(lambda: sum(range(9000)), lambda: sum(range(90)), rounds=3).mean > 2
    True
    """
    slow(), fast()
    times = [(seconds(slow, 3), seconds(fast, 3)) for _ in range(rounds)]
    return Sample(np.array([a / b for a, b in times]))


def shortest(run: Task) -> float:
    """Seconds on the clock of the quickest of the runs that fit into `ENOUGH`, one at least."""
    best, spent = float("inf"), 0.0
    while spent < ENOUGH:
        took = seconds(run, 1)
        best, spent = min(best, took), spent + took
    return best


def processor(run: Task) -> float:
    """Seconds the processor spent on a run, the mean of those that fit; waiting does not count."""
    began, runs, spent = time.process_time(), 0, 0.0
    while spent < ENOUGH:
        run()
        runs, spent = runs + 1, time.process_time() - began
    return spent / runs


CLOCKS: dict[str, Clock] = {"quickest run": shortest, "processor time": processor}


def rounds_of(
    tasks: Mapping[str, Task], clock: Clock, rounds: int, turns: int = 3
) -> dict[str, Any]:
    """{name: (rounds,) seconds}; everything is run in turn, so that a disturbance hits all alike,
    and each round keeps the least of its turns.

    >>> found = rounds_of({"a": lambda: sum(range(9000)), "b": lambda: None}, shortest, 3)
    >>> found["a"].shape, bool((found["a"] > found["b"]).all())
    ((3,), True)
    """
    for run in tasks.values():
        run()
        run()
    times = [[[clock(run) for run in tasks.values()] for _ in range(turns)] for _ in range(rounds)]
    return dict(zip(tasks, np.min(times, axis=1).T, strict=True))
