"""One native plan for many networks of the same make: each has its state, threads have memory.

A plan names the state it reads and writes by address. A `Replica` is a table of addresses for
another network (its parameters, buffers and optimizer state) and the numbers of its own options;
a `Lane` is what a thread needs besides: an arena, and memory for shuffled batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile.native.code import ARENA, FIRST
from fathom.compile.native.epoch import Turns, address
from fathom.compile.native.memory import aligned
from fathom.engine.errors import GraphError
from fathom.engine.tensor import Tensor

if TYPE_CHECKING:
    from fathom.compile.function import Entry


def twins(pairs: list[tuple[Any, Any]]) -> dict[int, Any]:
    """Which object of a new network stands for which of the first: (model, optimizer) pairs.

    Arrays go by their place among the attributes of a module (parameters, buffers, and what a
    layer keeps besides), an optimizer's groups and flat buffers by number.
    """
    found: dict[int, Any] = {}
    for first, second in pairs:
        found[id(first)] = second
        if hasattr(first, "named_modules"):
            others = dict(second.named_modules())
            for name, module in first.named_modules():
                _pair(vars(module), vars(others[name]), found)
            continue
        for a, b in zip(first.param_groups, second.param_groups, strict=True):
            found[id(a)] = b
        for mine, theirs in zip(first.flats(), second.flats(), strict=True):
            for flat, other in zip(mine, theirs, strict=True):
                found[id(flat)] = other
                found[id(flat.steps)] = other.steps
                for name, array in flat.state.items():
                    found[id(array)] = other.state[name]
    return found


def _pair(a: Any, b: Any, found: dict[int, Any]) -> None:
    """Note the arrays of `a` with what stands in their places in `b`."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        found[id(a)] = b
        _pair(a.data, b.data, found)
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if isinstance(owner(b), np.ndarray) and owner(b).flags.c_contiguous:
            found[id(owner(a))] = owner(b)
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() & b.keys():
            _pair(a[key], b[key], found)
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        for x, y in zip(a, b, strict=False):
            _pair(x, y, found)


def owner(array: Any) -> Any:
    """The array whose memory another one shows, or itself."""
    return array if array.base is None else array.base


class Lane:
    """The memory of one thread."""

    def __init__(self, entry: Entry) -> None:
        program = entry.program
        self.turns = Turns(program)
        self.memory = aligned(len(program.arena))
        self.arena = address(self.memory)


class Replica:
    """A network that a plan of another one may train."""

    def __init__(self, entry: Entry, twin: dict[int, Any]) -> None:
        plan = entry.plan
        moving = entry.book.moving(plan.guards, entry.texts, plan.counters)
        if entry.turns_to_come(1) < 1 or entry.program.kept_slots or moving:
            raise GraphError("only a plan that runs without Python can have replicas")
        self.entry, program = entry, entry.program
        self.table, self.draws = program.table.copy(), program.draws.twin()
        twin = {**twin, id(program.draws.table): self.draws.table}
        self.held: list[Any] = []  # what the table points to
        for n, value in enumerate(program.arrays):
            if value.kind != "argument":
                self.table[FIRST + n] = self._address(value, twin)
        self.sources = {k: twin.get(id(v), v) for k, v in entry.book.sources.items()}
        self.counters = [(twin.get(id(c), c), places) for c, places in entry.plan.counters]

    def _address(self, value: Any, twin: dict[int, Any]) -> int:
        origin = value.origin
        if isinstance(origin, Tensor):
            data = twin.get(id(origin), origin).data
            if not data.flags.c_contiguous:
                raise GraphError("a parameter does not lie in memory in one piece")
            self.held.append(data)
            return address(data)
        base = owner(origin)
        other = twin.get(id(base))
        if other is None:  # the same for all
            self.held.append(origin)
            return address(origin)
        self.held.append(other)
        return address(other) + address(origin) - address(base)

    def run(self, lane: Lane, count: int, order: Any, data: list[Any]) -> tuple[list[Any], int]:
        """`count` steps on batches of rows `order`: what they return, and how many were made."""
        entry = self.entry
        numbers = entry.book.turns(entry.texts, count, self.counters, self.sources)
        self.table[ARENA] = lane.arena
        self.draws.ready(count)
        return lane.turns.run(self.table, numbers, count, order, data, self.counters)
