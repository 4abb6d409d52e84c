"""One loop nest for a group of elementwise operations and the reductions that end it.

    for i in rows:                for i in rows:
        for j in columns:             total = 0
            t = a[i, j] * b[j]        for j in columns:
            y[i, j] = exp(t)              total += ...
                                      out[i] += total

Every operand has a step (in elements) for each axis of the nest, 0 where it is broadcast; a
reduction's result has step 0 along what it sums. Neighbouring axes are merged where all operands
allow it, and the innermost loop is left to LLVM's vectorizer: operands are arguments marked
`noalias`, and sums may be reassociated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.compile.native.elements import ANY, RULES, TRUTHS, TYPES, Numbers, literal
from fathom.compile.native.text import Writer
from fathom.compile.plan import Step, Value

IDENTITY = {"sum": 0, "max": -math.inf, "amax": -math.inf, "min": math.inf, "amin": math.inf,
            "all": 1, "any": 0}  # fmt: skip
_COMBINE = {"max": "maximum", "amax": "maximum", "min": "minimum", "amin": "minimum",
            "all": "logical_and", "any": "logical_or"}  # fmt: skip


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


def merge(shape: Sequence[int], operands: Sequence[Operand]) -> tuple[list[int], list[Operand]]:
    """The nest with as few axes as possible: neighbours that every operand walks in one go."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in operands]
    for axis, n in enumerate(shape):
        own = [o.steps[axis] for o in operands]
        if n == 1:
            continue
        if sizes and all(s[-1] == step * n for s, step in zip(steps, own, strict=True)):
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


class Kernel:
    """Writes the function for one group.

    reads, writes : where the values from outside lie, and where results go.
    scalars : numbers of the call, by value, as indices into the table of scalars.
    """

    def __init__(
        self,
        group: Group,
        reads: dict[Value, Operand],
        writes: dict[Value, Operand],
        scalars: dict[Value, int],
        pointers: int,
        functions: set[tuple[str, str]],
    ) -> None:
        self.group = group
        self.scalars = scalars
        self.pointers = pointers
        self.w = Writer()
        self.numbers = Numbers(self.w, functions)
        held = [*reads.items(), *writes.items()]
        self.sizes, merged = merge(group.shape, [o for _, o in held])
        self.reads = dict(zip(reads, merged[: len(reads)], strict=True))
        self.writes = dict(zip(writes, merged[len(reads) :], strict=True))
        self.reductions = {s.out: s for s in group.steps if is_reduction(s)}

    def text(self, name: str) -> str:
        """The function: `void name(ptr noalias..., ptr scalars)`."""
        w = self.w
        self._load_scalars()
        self._fill()
        self._nest()
        w.line("ret void")
        arguments = ", ".join(
            [*(f"ptr noalias nocapture %p{i}" for i in range(self.pointers)), "ptr nocapture %s"]
        )
        body = "\n".join(["entry:", *w.lines])
        return f"define internal void @{name}({arguments}) #0 {{\n{body}\n}}\n"

    def _load_scalars(self) -> None:
        self.loaded: dict[Value, str] = {}
        for value, i in self.scalars.items():
            place = self.w.at("%s", i, "double")
            self.loaded[value] = self.w.op(f"load double, ptr {place}, align 8")

    def _fill(self) -> None:
        """Put the starting values of reductions into memory, where they gather there."""
        for value, step in self.reductions.items():
            target = self.writes[value]
            size = math.prod(n for n, s in zip(self.sizes, target.steps, strict=True) if s)
            kind = TYPES[target.dtype.name]
            start = literal(_start(step.primitive.name, target.dtype), target.dtype)
            with self.w.loop(size) as turn:
                place = self.w.at(f"%p{target.pointer}", turn.index, kind)
                self.w.line(f"store {kind} {start}, ptr {place}, align {target.dtype.itemsize}")

    def _nest(self) -> None:
        w, inner = self.w, len(self.sizes) - 1
        with ExitStack() as stack:
            indices = [stack.enter_context(w.loop(n)).index for n in self.sizes[:inner]]
            gathered = {
                value: self._type(value) for value, o in self.writes.items()
                if value in self.reductions and o.steps[inner] == 0
            }  # fmt: skip
            with w.loop(self.sizes[inner]) as turn:
                carried = {}
                for value, kind in gathered.items():
                    step = self.reductions[value]
                    dtype = self.writes[value].dtype
                    carried[value] = turn.carry(
                        kind, literal(_start(step.primitive.name, dtype), dtype)
                    )
                following = self._body([*indices, turn.index], carried)
                turn.step([following[v] for v in gathered])
            for value in gathered:
                self._add_to_memory(value, following[value], indices)

    def _type(self, value: Value) -> str:
        return TYPES[self.writes[value].dtype.name]

    def _place(self, operand: Operand, indices: Sequence[Any]) -> str:
        offset: Any = 0
        for index, step in zip(indices, operand.steps, strict=False):
            if step:
                part = index if step == 1 else self.w.op(f"mul nsw i64 {index}, {step}")
                offset = part if offset == 0 else self.w.op(f"add nsw i64 {offset}, {part}")
        return self.w.at(f"%p{operand.pointer}", offset, TYPES[operand.dtype.name])

    def _body(self, indices: Sequence[Any], carried: dict[Value, str]) -> dict[Value, str]:
        """The innermost turn: load, compute, store; the next values of what is gathered."""
        w = self.w
        names: dict[Value, str] = {}
        for value, operand in self.reads.items():
            kind = TYPES[operand.dtype.name]
            place = self._place(operand, indices)
            names[value] = w.op(f"load {kind}, ptr {place}, align {operand.dtype.itemsize}")
        following: dict[Value, str] = {}
        for step in self.group.steps:
            if is_reduction(step):
                source = self._operand(step.args[0], names, self.writes[step.out].dtype)
                if step.out in carried:
                    following[step.out] = self._combine(step, carried[step.out], source)
                else:
                    place = self._place(self.writes[step.out], indices)
                    self._combine_in_memory(step, place, source)
                continue
            names[step.out] = self._compute(step, names)
            if step.out in self.writes:
                target = self.writes[step.out]
                kind = TYPES[target.dtype.name]
                place = self._place(target, indices)
                w.line(
                    f"store {kind} {names[step.out]}, ptr {place}, align {target.dtype.itemsize}"
                )
        return following

    def _operand(self, a: Any, names: dict[Value, str], dtype: Any) -> str:
        if not isinstance(a, Value):
            return literal(a, dtype)
        if a in self.loaded:
            return self.numbers.convert(self.loaded[a], np.float64, dtype)
        return self.numbers.convert(names[a], a.dtype, dtype)

    def _compute(self, step: Step, names: dict[Value, str]) -> str:
        name, out = step.primitive.name, step.out.dtype
        dtype = compute_dtype(step)
        kinds = [dtype] * len(step.args)
        if name == "where":
            kinds[0] = np.dtype(bool)
        if name.startswith("logical"):
            dtype = np.dtype(bool)
            kinds = [dtype] * len(step.args)
        args = [self._operand(a, names, k) for a, k in zip(step.args, kinds, strict=True)]
        result = RULES[name](self.numbers, name, TYPES[dtype.name], *args)
        return self.numbers.convert(result, np.dtype(bool) if name in TRUTHS else dtype, out)

    def _combine(self, step: Step, total: str, x: str) -> str:
        kind, name = self._type(step.out), step.primitive.name
        if name == "sum":
            add = "fadd reassoc contract" if kind in ("float", "double") else "add"
            return self.w.op(f"{add} {kind} {total}, {x}")
        if kind in ("float", "double"):
            suffix = "f32" if kind == "float" else "f64"
            return self.w.call(f"llvm.{_COMBINE[name]}.{suffix}", kind, (kind, total), (kind, x))
        return RULES[_COMBINE[name]](self.numbers, _COMBINE[name], kind, total, x)

    def _combine_in_memory(self, step: Step, place: str, x: str) -> None:
        target = self.writes[step.out]
        kind, align = TYPES[target.dtype.name], target.dtype.itemsize
        before = self.w.op(f"load {kind}, ptr {place}, align {align}")
        self.w.line(f"store {kind} {self._combine(step, before, x)}, ptr {place}, align {align}")

    def _add_to_memory(self, value: Value, total: str, indices: Sequence[Any]) -> None:
        self._combine_in_memory(
            self.reductions[value], self._place(self.writes[value], indices), total
        )


def _start(name: str, dtype: Any) -> Any:
    start = IDENTITY[name]
    if np.dtype(dtype).kind != "f" and not math.isfinite(start):
        info = np.iinfo(dtype)
        return info.min if start < 0 else info.max
    return start


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
    return dtype
