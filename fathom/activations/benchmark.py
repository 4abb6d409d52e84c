"""What activations cost: best of N runs, forward and with backward, on a machine that is named.

The implementations are those one would choose between: the formula (NumPy in cache-sized blocks
that reuse memory), the plain NumPy expression (a new array for every operation), the primitive
where the library has one, and for INT8 a table of 256 entries.

>>> result = benchmark(["relu", "gelu"], size=1024, repeats=3)
>>> sorted(result.ranking("formula"))
['gelu', 'relu']
>>> result.machine["numpy"] == np.__version__
True
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fathom.activations.formulas import FORMULAS
from fathom.activations.measure import FUSED
from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.modes import no_grad
from fathom.engine.random import Random
from fathom.engine.tensor import Array, Tensor
from fathom.ops.expression import substitute
from fathom.ops.formula import Formula

Task = Callable[[], Any]

IMPLEMENTATIONS = ("formula", "plain", "primitive", "table")
TABLE_RANGE = 8.0  # the table of 256 entries spans -8 ... 8


@dataclass(frozen=True)
class Timing:
    """Seconds for one activation in one implementation, over `size` float32 numbers.

    forward, both : the least of the runs without and with the backward pass (nan for a table,
    which has none). forward_median, both_median : of the same runs.
    """

    name: str
    implementation: str
    forward: float
    forward_median: float
    both: float
    both_median: float


@dataclass(frozen=True)
class Benchmark:
    """All timings, and the machine they hold for."""

    rows: tuple[Timing, ...]
    machine: dict[str, Any]
    size: int
    repeats: int

    def select(self, implementation: str = "formula") -> dict[str, Timing]:
        """The timings of one implementation, by name of the activation."""
        if implementation not in IMPLEMENTATIONS:
            raise ArgumentError(
                f"benchmark: unknown implementation {implementation!r}",
                fix=suggest(str(implementation), IMPLEMENTATIONS),
            )
        return {row.name: row for row in self.rows if row.implementation == implementation}

    def ranking(self, implementation: str = "formula", what: str = "forward") -> list[str]:
        """The names from quick to slow; what : "forward" or "both"."""
        if what not in ("forward", "both"):
            raise ArgumentError(f"ranking: what is 'forward' or 'both'; received {what!r}")
        found = self.select(implementation)
        return sorted(found, key=lambda name: (getattr(found[name], what), name))

    def stability(
        self, other: Benchmark, implementation: str = "formula", what: str = "forward"
    ) -> float:
        """Spearman's correlation of the two rankings: 1 if another run gives the same order."""
        mine, theirs = (b.ranking(implementation, what) for b in (self, other))
        if set(mine) != set(theirs) or len(mine) < 2:
            raise ArgumentError("stability compares two benchmarks of the same activations")
        return spearman([mine.index(name) for name in mine], [theirs.index(name) for name in mine])

    def cells(self) -> list[tuple[str, ...]]:
        """A row of text per timing: nanoseconds per number, and the cost relative to ReLU."""
        unit = 1e9 / self.size
        base = self.select("primitive").get("relu") or self.select("formula").get("relu")
        return [
            (
                row.name,
                row.implementation,
                *(_text(v * unit) for v in (row.forward, row.forward_median, row.both)),
                _text(row.forward / base.forward) if base else "-",
            )
            for row in sorted(self.rows, key=lambda row: (row.implementation, row.forward))
        ]

    header = ("activation", "implementation", "forward ns", "median ns", "with backward ns",
              "x ReLU")  # fmt: skip

    def __str__(self) -> str:
        table = [self.header, *self.cells()]
        widths = [max(len(line[i]) for line in table) for i in range(len(self.header))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        about = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n".join([*lines, f"{self.size} float32, best of {self.repeats}; {about}"])

    __repr__ = __str__


def benchmark(
    names: Sequence[str] | None = None,
    size: int = 1 << 16,
    repeats: int = 15,
    implementations: Sequence[str] = IMPLEMENTATIONS,
    seed: int = 0,
) -> Benchmark:
    """Time activations by name (all of `FORMULAS` without) on `size` normal float32 numbers.

    Every round runs everything once, so that a disturbance hits all alike; the least of the
    `repeats` rounds counts, after one round to warm up.
    """
    chosen = list(FORMULAS) if names is None else [str(name).lower() for name in names]
    for name in chosen:
        if name not in FORMULAS:
            raise ArgumentError(f"benchmark: unknown {name!r}", fix=suggest(name, FORMULAS))
    for what, number in (("size", size), ("repeats", repeats)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ArgumentError(f"benchmark: {what} is a whole number >= 1; received {number!r}")
    wrong = [name for name in implementations if name not in IMPLEMENTATIONS]
    if wrong:
        raise ArgumentError(
            f"benchmark: unknown implementation {wrong[0]!r}",
            fix=suggest(str(wrong[0]), IMPLEMENTATIONS),
        )
    x = Random(seed).stream("benchmark").normal((size,))
    tasks = _tasks(chosen, implementations, x)
    seen: dict[tuple[str, str, str], list[float]] = {key: [] for key in tasks}
    with np.errstate(all="ignore"):
        for turn in range(repeats + 1):
            for key, task in tasks.items():
                start = time.perf_counter()
                task()
                if turn:
                    seen[key].append(time.perf_counter() - start)
    rows = tuple(_row(name, kind, seen) for name, kind, what in seen if what == "forward")
    return Benchmark(rows, machine(), size, repeats)


def _row(name: str, kind: str, seen: dict[tuple[str, str, str], list[float]]) -> Timing:
    forward, both = seen[name, kind, "forward"], seen.get((name, kind, "both"), [math.nan])
    middle = statistics.median
    return Timing(name, kind, min(forward), middle(forward), min(both), middle(both))


def _tasks(
    names: Sequence[str], kinds: Sequence[str], x: Array
) -> dict[tuple[str, str, str], Task]:
    """What is timed, by (name, implementation, "forward" or "both")."""
    found: dict[tuple[str, str, str], Task] = {}
    for name in names:
        formula = FORMULAS[name]
        for kind in kinds:
            if kind == "primitive" and name not in FUSED:
                continue
            if kind == "table":
                found[name, kind, "forward"] = _table(formula, x)
                continue
            function = _function(formula, kind)
            found[name, kind, "forward"] = _forward(function, Tensor(x))
            found[name, kind, "both"] = _both(function, Tensor(x, True))
    return found


def _function(formula: Formula, kind: str) -> Callable[[Tensor], Any]:
    if kind == "formula":
        return formula
    if kind == "primitive":
        return FUSED[formula.name]
    fixed = {name: formula.defaults[name] for name in formula.names[1:]}
    return lambda x: substitute(formula.expr, {formula.names[0]: x, **fixed})


def _forward(function: Callable[[Tensor], Any], x: Tensor) -> Task:
    def run() -> None:
        with no_grad():
            function(x)

    return run


def _both(function: Callable[[Tensor], Any], x: Tensor) -> Task:
    ones = Tensor(np.ones(x.shape, x.dtype))

    def run() -> None:
        y = function(x)
        if getattr(y, "requires_grad", False):  # step and sign have no slope to pass
            grad([y], [x], [ones], allow_unused=True)

    return run


def table_of(formula: Formula) -> Array:
    """256 float32 values of a formula, for the codes 0 ... 255 of -8 ... 8.

    >>> table_of(FORMULAS["relu"])[[0, 255]].tolist()
    [0.0, 8.0]
    """
    fixed = [formula.defaults[name] for name in formula.names[1:]]
    return np.asarray(formula.apply(np.linspace(-TABLE_RANGE, TABLE_RANGE, 256), *fixed), "f")


def _table(formula: Formula, x: Array) -> Task:
    codes = np.clip(np.rint((x / TABLE_RANGE + 1.0) * 127.5), 0, 255).astype(np.uint8)
    table = table_of(formula)
    return lambda: np.take(table, codes)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """The correlation of two rankings without ties (Spearman, 1904).

    >>> spearman([0, 1, 2], [0, 1, 2]), spearman([0, 1, 2], [2, 1, 0])
    (1.0, -1.0)
    """
    n = len(a)
    apart = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return 1.0 - 6.0 * apart / (n * (n * n - 1))


def machine() -> dict[str, Any]:
    """What timings depend on: processor, cores, system, versions, threads of the BLAS."""
    import threadpoolctl

    pools = threadpoolctl.threadpool_info()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "threads": max((pool["num_threads"] for pool in pools), default=1),
    }


def _processor() -> str:
    """The model of the processor, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"
