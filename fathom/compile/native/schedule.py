"""Which operations share a loop, and in which order the loops run.

Operations are taken in an order that respects what they need. Elementwise ones over the same
shape, and reductions of it, join the group that is open; when none fits any more, the group is
closed and the next operation opens another.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.compile.native.custom import handles
from fathom.compile.native.elements import RULES, TYPES, supported
from fathom.compile.native.kernel import (
    compute_dtype,
    is_reduction,
    reduces_rows,
)
from fathom.compile.native.places import Place, can_view, view, whole
from fathom.compile.plan import Plan, Step, Value

MOST_STEPS, MOST_VALUES = 48, 24  # of a group: more would not fit the registers
FEW = 12  # steps of a check that is made first


@dataclass
class Unit:
    """One thing that runs: a group's loop nest, a product, a join of parts, or NumPy."""

    kind: str  # "loops", "product", "join", "copy", "custom", "host", "check"
    steps: list[Step] = field(default_factory=list)
    late: bool = False  # after the checks
    checks: list[int] = field(default_factory=list)
    rows: set[Value] = field(default_factory=set)  # one number a row, made by a group
    staged: bool = False  # rows are gone through several times


@dataclass
class Schedule:
    """The units in order, and where every value lies."""

    units: list[Unit]
    places: dict[Value, Place]


def kind_of(step: Step) -> str:
    """How a step is carried out."""
    name, out = step.primitive.name, step.out
    if handles(step):
        return "custom"
    values = [a for a in step.args if isinstance(a, Value)]
    known = all(v.dtype.name in TYPES for v in (*values, *step.outs))
    if (
        step.effect
        or not known
        or not out.size
        or len(step.outs) > 1
        or any(isinstance(p, Value) for p in step.params.values())
    ):
        return "host"
    if is_reduction(step) and values and values[0].size and values[0].kind != "scalar":
        return "loops" if step.primitive.listed and _reduces(step) else "host"
    plain = all(isinstance(a, Value) or np.ndim(a) == 0 for a in step.args)
    if name in RULES and step.primitive.listed and plain and step.primitive.name != "gate":
        if supported(name, compute_dtype(step)) and (values or name == "astype"):
            return "loops"
    if name == "matmul" and _multiplies(step):
        return "product"
    if name == "concatenate":
        return "join"
    return "host"


def _reduces(step: Step) -> bool:
    axis = step.params.get("axis")
    return isinstance(axis, tuple) and step.out.dtype.kind in "fib"


def _multiplies(step: Step) -> bool:
    a, b = step.args
    if not (isinstance(a, Value) and isinstance(b, Value)) or min(a.ndim, b.ndim) < 2:
        return False
    same = a.dtype == b.dtype == step.out.dtype and a.dtype.name in ("float32", "float64")
    return same and 0 not in (*a.shape, *b.shape)


def shape_of(step: Step) -> tuple[int, ...]:
    """The shape a step's loops run over."""
    return step.args[0].shape if is_reduction(step) else step.out.shape


class Scheduler:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.places: dict[Value, Place] = {}
        self.units: list[Unit] = []
        self.made: dict[Value, Unit | None] = {}  # by which unit; None for inputs
        self.open: Unit | None = None
        self.shape: tuple[int, ...] = ()
        self.values: set[Value] = set()
        self.kinds: dict[Step, str] = {}
        self.early = _early(plan)
        self.late = _late(plan, self.early)

    def run(self) -> Schedule:
        for value in self.plan.inputs():
            self.places[value] = whole(value)
            self.made[value] = None
        checks = range(len(self.plan.checks))
        first = [s for s in self.plan.steps if s in self.early.steps]
        self.take(first, False, [i for i in checks if i in self.early.checks])
        rest = [s for s in self.plan.steps if s not in self.late and s not in self.early.steps]
        self.take(rest, False, [i for i in checks if i not in self.early.checks])
        self.take([s for s in self.plan.steps if s in self.late], True)
        return Schedule(self.units, self.places)

    def take(self, steps: list[Step], late: bool, checks: list[int] | None = None) -> None:
        """Schedule some steps, each after those it needs, and checks when they are done."""
        self._take(steps, late)
        self.close()
        if checks:
            self.units.append(Unit("check", checks=checks))

    def _take(self, steps: list[Step], late: bool) -> None:
        number = {s: i for i, s in enumerate(steps)}
        waiting: dict[Step, int] = {}
        users: dict[Value, list[Step]] = {}
        ready: list[int] = []
        for step in steps:
            missing = {v for v in step.inputs() if v not in self.made}
            waiting[step] = len(missing)
            for v in missing:
                users.setdefault(v, []).append(step)
            if not missing:
                heapq.heappush(ready, number[step])
        held: list[int] = []  # ready, but not for the open group
        while ready or held:
            if not ready:
                self.close()
                ready, held = held, []
                heapq.heapify(ready)
            i = heapq.heappop(ready)
            step = steps[i]
            if not self.place(step, late):
                held.append(i)
                continue
            for v in step.outs:
                for user in users.get(v, ()):
                    waiting[user] -= 1
                    if not waiting[user]:
                        heapq.heappush(ready, number[user])

    def place(self, step: Step, late: bool) -> bool:
        """Put a step into the open group, or into a unit of its own; False: not now."""
        if can_view(step):
            shown = view(step, self.places[step.args[0]])
            if shown is not None:
                for value, place in zip(step.outs, shown, strict=True):
                    self.places[value] = place
                    self.made[value] = self.made[step.args[0]]
                return True
        kind = self.kinds.get(step)
        if kind is None:
            kind = kind_of(step)
            if kind == "host" and step.primitive.name == "reshape" and len(step.outs) == 1:
                kind = "copy"
            self.kinds[step] = kind
        if self.open is not None:
            if kind != "loops" or not self.fits(step):
                return False
        elif kind == "loops":
            self.open, self.shape, self.values = Unit("loops", late=late), shape_of(step), set()
            self.units.append(self.open)
        unit = self.open
        if kind == "loops" and unit is not None:
            unit.staged |= not unit.rows.isdisjoint(step.inputs())
            if shape_of(step) != self.shape or reduces_rows(step):
                unit.rows.add(step.out)
            unit.steps.append(step)
            self.values.update(step.inputs(), step.outs)
        else:
            unit = Unit(kind, [step], late)
            self.units.append(unit)
        for value in step.outs:
            self.places[value] = whole(value)
            self.made[value] = unit
        return True

    def fits(self, step: Step) -> bool:
        """Whether a step may join the open group: over its shape, or over its rows."""
        unit, shape = self.open, shape_of(step)
        if unit is None or (shape != self.shape and shape != (*self.shape[:-1], 1)):
            return False
        own = [v for v in step.inputs() if self.made.get(v) is unit]
        if any(self.places[v].root is not v for v in own):  # seen as it is made
            return False
        if shape != self.shape:
            fine = bool(own) and unit.rows.issuperset(own) and not is_reduction(step)
        else:
            reduced = _reduced(unit)
            fine = all(v in unit.rows or (v.shape == shape and v not in reduced) for v in own)
        grown = self.values.union(step.inputs(), step.outs)
        return fine and len(unit.steps) < MOST_STEPS and len(grown) <= MOST_VALUES + len(unit.steps)

    def close(self) -> None:
        self.open = None


def _reduced(unit: Unit) -> set[Value]:
    return {s.out for s in unit.steps if is_reduction(s)}


@dataclass
class Early:
    """Checks of what comes in: cheap, and made before anything else."""

    steps: set[Step]
    checks: set[int]


def _early(plan: Plan) -> Early:
    found = Early(set(), set())
    for i, (value, _) in enumerate(plan.checks):
        needed: set[Step] = set()
        waiting = [value]
        while waiting and len(needed) <= FEW:
            step = waiting.pop().origin
            if isinstance(step, Step) and step not in needed:
                needed.add(step)
                waiting.extend(step.inputs())
        if len(needed) <= FEW and all(can_view(s) or kind_of(s) == "loops" for s in needed):
            found.steps |= needed
            found.checks.add(i)
    return found


def _late(plan: Plan, early: Early) -> set[Step]:
    """With checks at the end: the steps that only make new contents of tensors, after them."""
    if len(plan.checks) == len(early.checks):
        return set()
    readers: dict[Value, int] = {}
    for step in plan.steps:
        for v in step.inputs():
            readers[v] = readers.get(v, 0) + 1
    kept = [*plan.outputs, *(v for _, v in plan.gradients if v), *(v for v, _ in plan.checks)]
    late = set()
    for target, value in plan.writes:
        step = value.origin
        if isinstance(target, np.ndarray) or not isinstance(step, Step):
            continue
        if not readers.get(value) and value not in kept and len(step.outs) == 1:
            late.add(step)
    return late


def pieces(step: Step, place: Place) -> list[Place]:
    """Where the parts of a concatenation go in its result."""
    axis, at, found = step.params["axis"], 0, []
    for part in step.args:
        found.append(Place(place.root, place.offset + at * place.steps[axis], place.steps))
        at += part.shape[axis]
    return found


def schedule(plan: Plan) -> Schedule:
    """The units of a lowered plan, in order."""
    return Scheduler(plan).run()


def steps_of(place: Place, shape: Any, over: tuple[int, ...]) -> tuple[int, ...]:
    """The steps of a value along the axes of a larger shape: 0 where it is broadcast."""
    lead = len(over) - len(shape)
    return (0,) * lead + tuple(
        0 if n == 1 and m != 1 else s
        for s, n, m in zip(place.steps, shape, over[lead:], strict=True)
    )
