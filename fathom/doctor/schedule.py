"""Which steps are sampled: often at the start, then rarely, and never for more than a share."""

from __future__ import annotations

import time

from fathom.engine.errors import ArgumentError

EARLY_SHARE = 0.1  # of the first `EARLY_SECONDS` that watching may take beyond its budget
EARLY_SECONDS = 0.06
QUICK = 0.002  # seconds that a step counts at least
ALLOWED = 0.02  # seconds of watching beyond the budget in a run of quick steps
SMALL = 0.006  # seconds that one of the first samples may cost whatever a step costs
clock = time.thread_time  # what watching costs is measured with: processor time of its thread


class Schedule:
    """0, 1, 2, 4, ..., `every`, then each `every`-th step; later where watching costs too much.

    budget : share of the run's time that samples and decisions together may take, measured as it
    goes: processor time of the watching thread, against the time on the clock or the processor
    time of the process, whichever is less (waiting for data buys no samples). What is due waits
    until it fits in, at the cost it had last time, and leaves room for the decision at the end; at
    the start, where most is to be seen, a tenth of the first 60 ms may come on top. Steps quicker
    than 2 ms count as so much, and 20 ms may come on top of them in all. Not in the budget are the
    first `free` samples, while one costs no more than 6 ms or a step; the decisions at the first
    loss, after steps 1, 3 and 8, at a fault of the loop and at the end; and what runs in every step
    (counters: some 20 microseconds).

    >>> schedule = Schedule(every=8)
    >>> [step for step in range(40) if schedule.due(step)]
    [0, 1, 2, 4, 8, 16, 24, 32]
    """

    def __init__(self, every: int = 64, budget: float = 0.01, free: int = 3) -> None:
        if every < 1 or not 0.0 < budget <= 1.0:
            raise ArgumentError(
                f"a schedule needs every >= 1 and a budget in (0, 1]; received {every}, {budget}"
            )
        self.every, self.budget, self.free = every, budget, free
        self.spent = 0.0  # seconds of watching
        self.samples = 0
        self._next = 0
        self._taken = 0  # steps so far
        self._last = 0.0  # what the last sample has cost
        self.decision = 0.0  # what the last decision has cost
        self._first = 0.0  # seconds of the first step, without watching
        self.begin()

    def begin(self) -> None:
        """The run begins now."""
        self._began = time.perf_counter(), time.process_time()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began that count."""
        wall, processor = self._began
        return min(time.perf_counter() - wall, time.process_time() - processor)

    def due(self, step: int) -> bool:
        """Whether the step with this number (from 0) is to be sampled; moves on if so."""
        self._taken = step
        if step < self._next:
            return False
        if not (self._is_free(step) or self.affords(self._last)):
            self._next = step + 1 + step // 16  # asking costs time, too
            return False
        self.samples += 1
        self._last = 0.0
        self._next = max(2 * step, step + 1) if step < self.every else step + self.every
        return True

    def _is_free(self, step: int) -> bool:
        """Whether it is one of the first samples, and those are not dear."""
        if self.samples >= self.free:
            return False
        if not self.samples:
            return True
        unwatched = self.elapsed - self.spent
        if step == 1:  # nothing is known of a step yet: the first one may have compiled something
            self._first = unwatched
        return self._last <= max(SMALL, (unwatched - self._first) / max(step - 1, 1))

    def affords(self, seconds: float = 0.0) -> bool:
        """Whether so much more would be within the budget."""
        if self.budget == 1.0:
            return True
        elapsed, least = self.elapsed, QUICK * self._taken
        early = ALLOWED if elapsed < least else EARLY_SHARE * min(elapsed, EARLY_SECONDS)
        return self.spent + seconds + self.decision <= self.budget * max(elapsed, least) + early

    def took(self, seconds: float) -> None:
        """Note what a sample has cost, or a part of it."""
        self.spent += seconds
        self._last += seconds

    def decided(self, seconds: float) -> None:
        """Note what a decision has cost."""
        self.spent += seconds
        self.decision = seconds

    @property
    def share(self) -> float:
        """Share of the time since the start that went into watching."""
        return self.spent / max(self.elapsed, 1e-9)


__all__ = ["Schedule", "clock"]
