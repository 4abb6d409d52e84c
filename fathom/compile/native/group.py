"""What shares a loop nest: operands and how they lie, a group of operations, passes over rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.compile.native.elements import ANY, ORDER
from fathom.compile.plan import Step, Value
from fathom.engine.primitive import TABLE

IDENTITY = {"sum": 0, "max": -math.inf, "amax": -math.inf, "min": math.inf, "amin": math.inf,
            "all": 1, "any": 0}  # fmt: skip
LONGEST = 1 << 12  # numbers of a row that is gone through several times


@dataclass(frozen=True)
class Operand:
    """A value in memory: which pointer of the kernel, dtype, and its steps along the axes."""

    pointer: int
    dtype: np.dtype[Any]
    steps: tuple[int, ...]


@dataclass
class Group:
    """What a kernel does: operations in order, over a common shape."""

    shape: tuple[int, ...]
    steps: list[Step]

    def made(self) -> set[Value]:
        return {v for s in self.steps for v in s.outs}


def is_reduction(step: Step) -> bool:
    return step.primitive.name in IDENTITY


def reduces_rows(step: Step) -> bool:
    """Whether a reduction gives one number a row, which later loops over the row may use."""
    source = step.args[0]
    return (
        is_reduction(step)
        and bool(step.params.get("keepdims"))
        and tuple(step.params["axis"]) == (source.ndim - 1,)
        and 1 < source.shape[-1] <= LONGEST
    )


def merge(
    shape: Sequence[int], operands: Sequence[Operand], rows: bool = False
) -> tuple[list[int], list[Operand]]:
    """The nest with as few axes as possible: neighbours that every operand walks in one go.

    With `rows`, the last axis stays as it is.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in operands]
    for axis, n in enumerate(shape):
        own = [o.steps[axis] for o in operands]
        if n == 1:
            continue
        last = rows and axis == len(shape) - 1
        if (
            sizes
            and not last
            and all(s[-1] == step * n for s, step in zip(steps, own, strict=True))
        ):
            sizes[-1] *= n
            for s, step in zip(steps, own, strict=True):
                s[-1] = step
            continue
        sizes.append(n)
        for s, step in zip(steps, own, strict=True):
            s.append(step)
    if not sizes:
        sizes, steps = [1], [[0] for _ in operands]
    merged = [Operand(o.pointer, o.dtype, tuple(s)) for o, s in zip(operands, steps, strict=True)]
    return sizes, merged


class Passes:
    """The loops over a row: which operations run in which, and which between them.

    Attributes
    ----------
    loops : for each loop its operations.
    between : for each loop the operations on one number a row that follow it.
    made : for each value of a loop, the loop that makes it.
    known : for each number of a row, the loop after which it is there.
    held : values of one loop that a later one needs.
    """

    def __init__(self, group: Group) -> None:
        self.loops: list[list[Step]] = [[]]
        self.between: list[list[Step]] = [[]]
        self.made: dict[Value, int] = {}
        self.known: dict[Value, int] = {}
        self.held: dict[Value, None] = {}
        for step in group.steps:
            self._add(step)

    def _add(self, step: Step) -> None:
        inputs = list(step.inputs())
        after = [self.known[v] for v in inputs if v in self.known]
        if after and step.out.shape[-1] == 1:  # rows are longer than that
            self.known[step.out] = max(after)
            self.between[max(after)].append(step)
            return
        own = [v for v in inputs if v in self.made]
        loop = max([0, *(k + 1 for k in after), *(self.made[v] for v in own)])
        if loop == len(self.loops):
            self.loops.append([])
            self.between.append([])
        self.loops[loop].append(step)
        self.held.update((v, None) for v in own if self.made[v] < loop)
        if not is_reduction(step):
            self.made[step.out] = loop
        elif reduces_rows(step):
            self.known[step.out] = loop


def share_exponentials(steps: list[Step]) -> list[Step]:
    """exp(s - log(sum exp(s))) as exp(s) / sum exp(s), where the group has both already."""
    made = {v: s for s in steps for v in s.outs}

    def maker(a: Any, name: str) -> Step | None:
        found = made.get(a) if isinstance(a, Value) else None
        return found if found is not None and found.primitive.name == name else None

    def quotient(step: Step) -> Step | None:
        shifted = maker(step.args[0], "sub") if step.primitive.name == "exp" else None
        log = maker(shifted.args[1], "log") if shifted is not None else None
        total = maker(log.args[0], "sum") if log is not None else None
        first = maker(total.args[0], "exp") if total is not None else None
        if shifted is None or total is None or first is None or not reduces_rows(total):
            return None
        if first.args[0] is not shifted.args[0] or first.out.shape != step.out.shape:
            return None
        return Step(TABLE["div"], (first.out, total.out), {}, step.outs, site=step.site)

    return [quotient(s) or s for s in steps]


def compute_dtype(step: Step) -> np.dtype[Any]:
    """The dtype in which NumPy would work an elementwise step out."""
    name = step.primitive.name
    args = step.args[1:] if name == "where" else step.args
    if name in ("astype", "clone"):
        return step.out.dtype
    kinds: list[Any] = []
    for a in args:
        if isinstance(a, Value):
            kinds.append(1.0 if a.kind == "scalar" else a.dtype)
        else:
            kinds.append(a.dtype if isinstance(a, np.generic) else a)
    arrays = [k for k in kinds if isinstance(k, np.dtype)]
    if not arrays:
        return step.out.dtype
    dtype = np.result_type(*kinds)
    if name not in ANY and step.out.dtype.kind == "f" and dtype.kind != "f":
        return step.out.dtype
    if dtype == np.uint8 and name in ORDER:  # LLVM's rules here compare with signs
        return np.dtype(np.int16)
    return dtype
