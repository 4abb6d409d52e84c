"""How long GELU and its stand-ins take: one pass over float32 numbers, in three engines."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import activations
from fathom.book.material.activation_cost import Costs, Task, processor

Array = NDArray[Any]
NAMES = ("relu", "silu", "gelu", "gelu_tanh", "gelu_sigmoid")


def in_numpy(x: Array) -> dict[str, Task]:
    """Each form as one writes it in NumPy; the error function is SciPy's.

    >>> sorted(in_numpy(np.ones(2, np.float32))) == sorted(NAMES)
    True
    """

    def exact() -> Any:
        from scipy.special import erf

        return 0.5 * x * (1.0 + erf(x * np.float32(np.sqrt(0.5))))

    c, k = np.float32(np.sqrt(2 / np.pi)), np.float32(1.702)
    return {
        "relu": lambda: np.maximum(x, 0.0),
        "silu": lambda: x / (1.0 + np.exp(-x)),
        "gelu": exact,
        "gelu_tanh": lambda: 0.5 * x * (1.0 + np.tanh(c * (x + np.float32(0.044715) * x * x * x))),
        "gelu_sigmoid": lambda: x / (1.0 + np.exp(-k * x)),
    }


def in_fathom(x: Array) -> dict[str, Task]:
    """Each form compiled by Fathom, one kernel each."""
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
    """Each form as PyTorch has it, one thread; the sigmoid form is two operations there."""
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(1)
    at = torch.from_numpy(x)

    def task(form: Any) -> Task:
        def call() -> Any:
            with torch.no_grad():
                return form(at)

        return call

    return {
        "relu": task(f.relu),
        "silu": task(f.silu),
        "gelu": task(f.gelu),
        "gelu_tanh": task(lambda t: f.gelu(t, approximate="tanh")),
        "gelu_sigmoid": task(lambda t: t * torch.sigmoid(1.702 * t)),
    }


SPAN = 0.015  # seconds over which the quickest run is sought: longer than a turn of others


def quickest(run: Task) -> float:
    """Seconds on the clock of the quickest of three runs or more, over `SPAN`.

    >>> quickest(lambda: None) < quickest(lambda: sum(range(9000)))
    True
    """
    best, runs, began = float("inf"), 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - began < SPAN:
        start = time.perf_counter()
        run()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best


CLOCKS = {"quickest run": quickest, "processor time": processor}
NEEDS = {"PyTorch": "torch", "Fathom": "fathom", "NumPy": "scipy"}
ENGINES: dict[str, Callable[[Array], dict[str, Task]]] = {
    "PyTorch": in_torch, "Fathom": in_fathom, "NumPy": in_numpy,
}  # fmt: skip


def gelu_costs(rng: np.random.Generator, size: int, rounds: int, turns: int = 2) -> Costs:
    """The engines that are installed, on `size` numbers: normal ones for one clock, even ones
    for the other.

    >>> list(gelu_costs(np.random.default_rng(0), 256, 2).times["Fathom"])
    ['quickest run', 'processor time']
    """
    data = {
        "normal": rng.standard_normal(size).astype(np.float32),
        "even": rng.uniform(-4.0, 4.0, size).astype(np.float32),
    }
    found = {name: make for name, make in ENGINES.items() if find_spec(NEEDS[name])}
    return Costs(found, data, rounds, turns, CLOCKS)
