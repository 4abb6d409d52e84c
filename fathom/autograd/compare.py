"""Four ways to a gradient, side by side: numeric, symbolic, forward and reverse."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.backward import grad
from fathom.engine.forward import Dual, tangent_of
from fathom.engine.levels import new_level, watching
from fathom.engine.primitive import record
from fathom.engine.tensor import Array, Tensor
from fathom.ops.expression import differentiate, trace
from fathom.ops.formula import Plan

Function = Callable[..., Any]


@dataclass(frozen=True)
class Way:
    """One way of differentiating: what it found and what it cost."""

    name: str
    gradient: Array
    passes: int  # how often the function was run
    operations: int  # scalar operations in all passes together
    written: int  # operations of the derivative written out as one expression; 0 if it is not
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The four ways on one function; prints as a table."""

    value: float
    ways: tuple[Way, ...]

    def __getitem__(self, name: str) -> Way:
        return next(way for way in self.ways if way.name == name)

    def __str__(self) -> str:
        best = self["reverse"].gradient
        lines = [f"{'way':<9} {'passes':>6} {'operations':>10} {'written out':>11} {'differs':>9}"]
        lines += [
            f"{w.name:<9} {w.passes:>6} {w.operations:>10} {w.written or '-':>11} "
            f"{float(np.abs(w.gradient - best).max()):>9.1e}"
            for w in self.ways
        ]
        return "\n".join(lines)


class _Counter:
    """Counts the operations that run inside a block, all levels taken together."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, primitive: Any, args: Any, params: Any, mode: bool) -> Any:
        self.count += primitive.form == "elementwise"
        return record(primitive, args, params, mode)


def compare_gradients(function: Function, at: Sequence[float], step: float = 1e-6) -> Comparison:
    """The gradient of a function of numbers at a point, found in four ways.

    `function` takes as many numbers as `at` has and returns one; it may use every elementwise
    operation. Symbolic differentiation writes the derivatives out as expressions, which swell;
    numeric and forward mode pay one pass or two for each number; reverse mode one in all.

    >>> def f(a, b, c):
    ...     return a * b * c
    >>> table = compare_gradients(f, [1.0, 2.0, 3.0])
    >>> table["reverse"].gradient.tolist(), table["reverse"].passes, table["numeric"].passes
    ([6.0, 3.0, 2.0], 1, 6)
    """
    point = np.asarray(at, np.float64)
    value = float(function(*(Tensor(p) for p in point)).item())
    ways = (_numeric(function, point, step), _symbolic(function, point),
            _forward(function, point), _reverse(function, point))  # fmt: skip
    return Comparison(value, ways)


def _numeric(function: Function, point: Array, step: float) -> Way:
    began, counter, found = time.perf_counter(), _Counter(), np.zeros_like(point)
    with watching(counter):
        for i in range(len(point)):
            width = step * max(1.0, abs(float(point[i])))
            ends = []
            for sign in (1.0, -1.0):
                moved = point.copy()
                moved[i] += sign * width
                ends.append(float(function(*(Tensor(p) for p in moved)).item()))
            found[i] = (ends[0] - ends[1]) / (2.0 * width)
    passes = 2 * len(point)
    return Way("numeric", found, passes, counter.count, 0, time.perf_counter() - began)


def _symbolic(function: Function, point: Array) -> Way:
    began = time.perf_counter()
    names = [f"x{i}" for i in range(len(point))]
    expr = trace(function, names)
    slopes = [differentiate(expr, name) for name in names]
    found = [float(Plan(slope, names)(*point)) for slope in slopes]
    shared = sum(slope.operations() for slope in slopes)
    written = sum(slope.operations(shared=False) for slope in slopes)
    return Way("symbolic", np.asarray(found), 1, shared, written, time.perf_counter() - began)


def _forward(function: Function, point: Array) -> Way:
    began, counter, found = time.perf_counter(), _Counter(), np.zeros_like(point)
    with watching(counter):
        for i in range(len(point)):
            with new_level() as level:
                numbers = [Tensor(p) for p in point]
                ends = [
                    Dual(p, Tensor(np.ones(())), level) if i == k else p
                    for k, p in enumerate(numbers)
                ]
                found[i] = float(tangent_of(function(*ends), level).item())
    passes = len(point)
    return Way("forward", found, passes, counter.count, 0, time.perf_counter() - began)


def _reverse(function: Function, point: Array) -> Way:
    began, counter = time.perf_counter(), _Counter()
    with watching(counter):
        leaves = [Tensor(p, True) for p in point]
        out = function(*leaves)
        gradients = grad(out, leaves, create_graph=True, allow_unused=True)  # so that it counts
    found = [0.0 if g is None else float(g.item()) for g in gradients]
    return Way("reverse", np.asarray(found), 1, counter.count, 0, time.perf_counter() - began)
