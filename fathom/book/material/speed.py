"""Which of several functions is quicker, measured so that a busy machine does not decide.

Things are run in turn, after a run to warm up; the quickest of several turns counts. What is left
is how a machine feels that day: a ratio of times moves by some percent between two runs. So a
`Ratio` lies inside or outside a region only by a margin, and the regions of ratios that a book
prints (`about`) are a fifth wider than printed, since they come from another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fathom.book.evidence import Sample
from fathom.book.region import Region, within
from fathom.book.statistics import slope

Task = Callable[[], Any]
Clock = Callable[[Task], float]
Times: TypeAlias = NDArray[Any]
ENOUGH = 0.0015  # seconds of one measurement, at least; a run of 0.1 ms is repeated 15 times
MARGIN = 0.1  # of a ratio, by which it must clear the edge of a region
TOLERANCE = 0.2  # of a printed ratio, that another machine may differ


class Ratio(Sample):
    """Times over times, one number a round; the interval is wider by `MARGIN` at either end.

    >>> found = Ratio(np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    >>> found.mean, found.low, found.high
    (2.0, 1.8, 2.2)
    """

    def __init__(self, over: Times, under: Times) -> None:
        super().__init__(over / under)
        self.low, self.high = self.low - MARGIN * abs(self.low), self.high * (1 + MARGIN)


class Saved(Sample):
    """The share of time that the quicker saves, 1 - quick / slow, with the margin of a `Ratio`.

    >>> found = Saved(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> found.mean, round(found.low, 6), round(found.high, 6)
    (0.5, 0.45, 0.55)
    """

    def __init__(self, quick: Times, slow: Times) -> None:
        super().__init__(1 - quick / slow)
        left = Ratio(quick, slow)
        self.low, self.high = 1 - left.high, 1 - left.low


class Exponent(Sample):
    """The slope of log time, (rounds, sizes), over log size, one number a round; the margin is
    that of a `Ratio` of the time at the largest size to that at the smallest.

    >>> sizes = np.array([10.0, 20.0, 40.0])
    >>> found = Exponent(sizes, np.array([sizes**2, sizes**2]))
    >>> round(found.mean, 6), round(found.high, 2)
    (2.0, 2.07)
    """

    def __init__(self, sizes: Times, times: Times) -> None:
        super().__init__([slope(np.log(sizes), np.log(row)) for row in times])
        margin = np.log(1 + MARGIN) / np.log(sizes[-1] / sizes[0])
        self.low, self.high = float(self.low - margin), float(self.high + margin)


def about(low: float, high: float | None = None) -> Region:
    """The region of a ratio of times that is printed as `low`, or as `low` to `high`.

    >>> about(5.0, 10.0).words.en
    'between 4 and 12'
    """
    high = low if high is None else high
    return within(low * (1 - TOLERANCE), high * (1 + TOLERANCE))


def seconds(run: Task, repeats: int = 5) -> float:
    """The shortest of several runs."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def ratio(slow: Task, fast: Task, rounds: int = 15) -> Ratio:
    """Processor time of `slow` over that of `fast`, one number a round; both run alternately.

    >>> ratio(lambda: sum(range(9000)), lambda: sum(range(90)), rounds=3).mean > 2
    True
    """
    times = rounds_of({"slow": slow, "fast": fast}, processor, rounds)
    return Ratio(times["slow"], times["fast"])


def shortest(run: Task) -> float:
    """Seconds on the clock of the quickest of as many runs as would fit into `ENOUGH`, were all as
    quick: a run that had to wait is one of many."""
    best, runs = seconds(run, 1), 1
    while runs * best < ENOUGH:
        best, runs = min(best, seconds(run, 1)), runs + 1
    return best


def processor(run: Task) -> float:
    """Seconds the processor spent on a run, the mean of as many as it takes; waiting does not
    count, nor does reading the clock."""
    runs = 1
    while True:
        began = time.process_time()
        for _ in range(runs):
            run()
        spent = time.process_time() - began
        if spent >= ENOUGH:
            return spent / runs
        runs *= 2


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
