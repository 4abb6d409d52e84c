"""How long activations take in several engines: the same functions, timed side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import activations
from fathom.book.evidence import Routes, Sample

Array = NDArray[Any]
Task = Callable[[], Any]
NAMES = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu")


def in_numpy(x: Array) -> dict[str, Task]:
    """Each activation as one writes it in NumPy; the error function is SciPy's.

    >>> in_numpy(np.array([-1.0, 2.0]))["relu"]().tolist()
    [0.0, 2.0]
    """

    def gelu() -> Any:
        from scipy.special import erf

        return 0.5 * x * (1.0 + erf(x * np.float32(np.sqrt(0.5))))

    c = np.float32(np.sqrt(2 / np.pi))
    return {
        "relu": lambda: np.maximum(x, 0.0),
        "leaky_relu": lambda: np.where(x > 0, x, np.float32(0.01) * x),
        "sigmoid": lambda: 1.0 / (1.0 + np.exp(-x)),
        "tanh": lambda: np.tanh(x),
        "gelu": gelu,
        "gelu_tanh": lambda: 0.5 * x * (1.0 + np.tanh(c * (x + np.float32(0.044715) * x * x * x))),
        "silu": lambda: x / (1.0 + np.exp(-x)),
    }


def in_fathom(x: Array) -> dict[str, Task]:
    """Each activation compiled by Fathom."""
    at = fathom.tensor(x)

    def task(name: str) -> Task:
        formula = getattr(activations, name)
        run = fathom.compile(lambda t: formula(t))

        def call() -> Any:
            with fathom.no_grad():
                return run(at)

        return call

    return {name: task(name) for name in NAMES}


def in_torch(x: Array) -> dict[str, Task]:
    """Each activation as PyTorch has it, one thread."""
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(1)
    at = torch.from_numpy(x)
    calls = {
        "relu": lambda: f.relu(at), "leaky_relu": lambda: f.leaky_relu(at, 0.01),
        "sigmoid": lambda: torch.sigmoid(at), "tanh": lambda: torch.tanh(at),
        "gelu": lambda: f.gelu(at),
        "gelu_tanh": lambda: f.gelu(at, approximate="tanh"), "silu": lambda: f.silu(at),
    }  # fmt: skip

    def without_gradient(call: Task) -> Task:
        def run() -> Any:
            with torch.no_grad():
                return call()

        return run

    return {name: without_gradient(call) for name, call in calls.items()}


ENGINES: dict[str, Callable[[Array], dict[str, Task]]] = {
    "PyTorch": in_torch, "Fathom, compiled": in_fathom, "NumPy": in_numpy,
}  # fmt: skip


ENOUGH = 0.0015  # seconds of one measurement, at least; a run of 0.1 ms is repeated 15 times


def shortest(run: Task) -> float:
    """Seconds on the clock of the quickest of the runs that fit into `ENOUGH`, one at least."""
    best, spent = float("inf"), 0.0
    while spent < ENOUGH:
        began = time.perf_counter()
        run()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return best


def processor(run: Task) -> float:
    """Seconds the processor spent on a run, the mean of those that fit; waiting does not count."""
    began, runs, spent = time.process_time(), 0, 0.0
    while spent < ENOUGH:
        run()
        runs, spent = runs + 1, time.process_time() - began
    return spent / runs


CLOCKS: dict[str, Callable[[Task], float]] = {
    "quickest run": shortest, "processor time": processor,
}  # fmt: skip


def rounds_of(
    tasks: Mapping[str, Task], clock: Callable[[Task], float], rounds: int, turns: int = 3
) -> Any:
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


class Costs:
    """The times of all activations by engine and clock, and ratios of them as evidence.

    >>> costs = Costs({"NumPy": in_numpy}, {"few": np.ones(64, "f")}, 3, 1, {"wall": shortest})
    >>> costs.ratio("NumPy", "tanh", "relu")["wall"].n
    3
    """

    def __init__(
        self, engines: Mapping[str, Callable[[Array], dict[str, Task]]], data: Mapping[str, Array],
        rounds: int, turns: int = 3, clocks: Mapping[str, Callable[[Task], float]] = CLOCKS,
    ) -> None:  # fmt: skip
        rows = list(data.values())
        self.times = {
            engine: {
                clock: rounds_of(make(rows[i % len(rows)]), measure, rounds, turns)
                for i, (clock, measure) in enumerate(clocks.items())
            }
            for engine, make in engines.items()
        }

    def ratio(self, engine: str, slow: str, fast: str) -> Routes:
        """Time of one over that of another, one number a round, by each clock."""
        return Routes({clock: Sample(t[slow] / t[fast]) for clock, t in self.times[engine].items()})

    def share(self, engine: str, pairs: Sequence[tuple[str, str]]) -> Routes:
        """Share of (quick, slow) pairs in that order, one number a round, by each clock."""
        return Routes({
            clock: Sample(np.mean([t[quick] < t[slow] for quick, slow in pairs], axis=0))
            for clock, t in self.times[engine].items()
        })  # fmt: skip


def costs(rng: np.random.Generator, size: int, rounds: int, turns: int) -> Costs:
    """All engines on `size` float32 numbers: normal ones for one clock, even ones for the other."""
    data = {
        "normal": rng.standard_normal(size).astype(np.float32),
        "even": rng.uniform(-4.0, 4.0, size).astype(np.float32),
    }
    return Costs(ENGINES, data, rounds, turns)
