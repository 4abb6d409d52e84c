"""Which of two functions is quicker, measured so that a busy machine does not decide."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.book.evidence import Sample


def seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """The shortest of several runs."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def ratio(slow: Callable[[], Any], fast: Callable[[], Any], rounds: int = 15) -> Sample:
    """Time of `slow` over time of `fast`, one number a round; both run alternately.

    >>> ratio(lambda: sum(range(9000)), lambda: sum(range(90)), rounds=3).mean > 2
    True
    """
    slow(), fast()
    times = [(seconds(slow, 3), seconds(fast, 3)) for _ in range(rounds)]
    return Sample(np.array([a / b for a, b in times]))
