"""One loop nest for a group of elementwise operations and the reductions that end it.

    for i in rows:                for i in rows:
        for j in columns:             total = 0
            t = a[i, j] * b[j]        for j in columns:
            y[i, j] = exp(t)              total += ...
                                      out[i] += total

Operations that use a reduction of their own rows follow in a further loop over the row, which lies
in the cache still (softmax: the largest, the sum of exponentials, the quotients):

    for i in rows:
        for j in columns: top = max(top, x[i, j])
        for j in columns: e[j] = exp(x[i, j] - top); total += e[j]
        for j in columns: y[i, j] = e[j] / total

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

from fathom.compile.native.elements import ANY, ORDER, RULES, TRUTHS, TYPES, Numbers, literal
from fathom.compile.native.text import Writer
from fathom.compile.plan import Step, Value

IDENTITY = {"sum": 0, "max": -math.inf, "amax": -math.inf, "min": math.inf, "amin": math.inf,
            "all": 1, "any": 0}  # fmt: skip
LONGEST = 1 << 12  # numbers of a row that is gone through several times
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
        self.passes = Passes(group)
        held = [*reads.items(), *writes.items()]
        several = len(self.passes.loops) > 1
        self.sizes, merged = merge(group.shape, [o for _, o in held], several)
        self.reads = dict(zip(reads, merged[: len(reads)], strict=True))
        self.writes = dict(zip(writes, merged[len(reads) :], strict=True))
        self.reductions = {s.out: s for s in group.steps if is_reduction(s)}

    def text(self, name: str) -> str:
        """The function: `void name(ptr noalias..., ptr scalars)`."""
        w = self.w
        self._load_scalars()
        self._buffers()
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

    def _buffers(self) -> None:
        """Memory for what one loop over a row leaves for another."""
        self.rows: dict[Value, str] = {}
        for value in self.passes.held:
            if value not in self.writes:
                kind = TYPES[value.dtype.name]
                self.rows[value] = self.w.op(f"alloca [{self.sizes[-1]} x {kind}], align 64")

    def _at_once(self, value: Value) -> bool:
        """Whether a reduction is done when the innermost loop is."""
        steps = self.writes[value].steps
        apart = (s for n, s in zip(self.sizes, steps[:-1], strict=False) if n > 1)
        return steps[-1] == 0 and all(apart)

    def _fill(self) -> None:
        """Put the starting values of reductions into memory, where they gather there."""
        for value, step in self.reductions.items():
            if self._at_once(value):
                continue
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
            row: dict[Value, str] = {}
            for number, steps in enumerate(self.passes.loops):
                self._loop(number, steps, indices, row)
                for step in self.passes.between[number]:
                    self._load(step, row, indices)
                    row[step.out] = self._compute(step, row)
                    self._store(step.out, row[step.out], indices)

    def _loop(
        self, number: int, steps: list[Step], indices: list[str], row: dict[Value, str]
    ) -> None:
        """One loop over the innermost axis; `row` gets the reductions that are done then."""
        w, inner = self.w, len(self.sizes) - 1
        gathered = [s for s in steps if is_reduction(s) and self.writes[s.out].steps[inner] == 0]
        with w.loop(self.sizes[inner]) as turn:
            carried = {s.out: turn.carry(*self._begin(s)) for s in gathered}
            following = self._body(number, steps, [*indices, turn.index], carried, row)
            turn.step([following[s.out] for s in gathered])
        for step in gathered:
            total = self._total(step, following[step.out])
            if step.out in self.passes.known:
                row[step.out] = total
            if self._at_once(step.out):
                self._store(step.out, total, indices)
            else:
                place = self._place(self.writes[step.out], indices)
                self._combine_in_memory(step, place, total)

    def _type(self, value: Value) -> str:
        return TYPES[self.writes[value].dtype.name]

    def _place(self, operand: Operand, indices: Sequence[Any]) -> str:
        offset: Any = 0
        for index, step in zip(indices, operand.steps, strict=False):
            if step:
                part = index if step == 1 else self.w.op(f"mul nsw i64 {index}, {step}")
                offset = part if offset == 0 else self.w.op(f"add nsw i64 {offset}, {part}")
        return self.w.at(f"%p{operand.pointer}", offset, TYPES[operand.dtype.name])

    def _body(
        self, number: int, steps: list[Step], indices: Sequence[Any],
        carried: dict[Value, str], row: dict[Value, str],
    ) -> dict[Value, str]:  # fmt: skip
        """The innermost turn: load, compute, store; the next values of what is gathered."""
        names, following = dict(row), {}
        for step in steps:
            self._load(step, names, indices, number)
        for step in steps:
            if is_reduction(step):
                source = self._operand(step.args[0], names, self.writes[step.out].dtype)
                if step.out in carried:
                    following[step.out] = self._gather(step, carried[step.out], source)
                else:
                    place = self._place(self.writes[step.out], indices)
                    self._combine_in_memory(step, place, source)
                continue
            names[step.out] = self._compute(step, names)
            self._store(step.out, names[step.out], indices)
            if step.out in self.rows:
                kind = TYPES[step.out.dtype.name]
                place = self.w.at(self.rows[step.out], indices[-1], kind)
                self.w.line(f"store {kind} {names[step.out]}, ptr {place}")
        return following

    def _load(
        self, step: Step, names: dict[Value, str], indices: Sequence[Any], number: int = 0
    ) -> None:
        """What a step needs from memory: from outside, or from an earlier loop over the row."""
        for value in step.inputs():
            if value in names or value in self.loaded or self.passes.made.get(value) == number:
                continue
            kind = TYPES[value.dtype.name]
            if value in self.rows:
                place = self.w.at(self.rows[value], indices[-1], kind)
            else:
                place = self._place((self.reads | self.writes)[value], indices)
            names[value] = self.w.op(f"load {kind}, ptr {place}, align {value.dtype.itemsize}")

    def _store(self, value: Value, name: str, indices: Sequence[Any]) -> None:
        """Put a value where it is to lie, if it is to lie anywhere."""
        if value in self.writes:
            target = self.writes[value]
            kind, place = TYPES[target.dtype.name], self._place(target, indices)
            self.w.line(f"store {kind} {name}, ptr {place}, align {target.dtype.itemsize}")

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

    def _ordered(self, step: Step) -> bool:
        """Extremes of floats are gathered as whole numbers in the same order, nan at the end."""
        return step.primitive.name != "sum" and self._type(step.out) in ("float", "double")

    def _begin(self, step: Step) -> tuple[str, str]:
        """Type and start of what a loop carries for a reduction."""
        dtype = self.writes[step.out].dtype
        start = _start(step.primitive.name, dtype)
        if self._ordered(step):
            whole = np.dtype(f"i{dtype.itemsize}")
            bits = int(np.array(start, dtype).view(whole))
            return f"i{8 * dtype.itemsize}", str(bits if bits >= 0 else bits ^ np.iinfo(whole).max)
        return self._type(step.out), literal(start, dtype)

    def _gather(self, step: Step, total: str, x: str) -> str:
        """What a loop carries on: vectorizers know sums, and extremes of whole numbers."""
        if not self._ordered(step):
            return self._combine(step, total, x)
        w, kind, size = self.w, self._type(step.out), 8 * self.writes[step.out].dtype.itemsize
        largest = step.primitive.name in ("max", "amax")
        end = 2 ** (size - 1) - 1 if largest else -(2 ** (size - 1))
        key = self._turned(w.op(f"bitcast {kind} {x} to i{size}"), size)
        key = w.op(f"select i1 {w.op(f'fcmp uno {kind} {x}, {x}')}, i{size} {end}, i{size} {key}")
        return w.call(f"llvm.{'smax' if largest else 'smin'}.i{size}", f"i{size}",
                      (f"i{size}", total), (f"i{size}", key))  # fmt: skip

    def _turned(self, bits: str, size: int) -> str:
        """The bits of a float as a whole number in the same order, or back."""
        sign = self.w.op(f"ashr i{size} {bits}, {size - 1}")
        mask = self.w.op(f"and i{size} {sign}, {2 ** (size - 1) - 1}")
        return self.w.op(f"xor i{size} {bits}, {mask}")

    def _total(self, step: Step, carried: str) -> str:
        if not self._ordered(step):
            return carried
        kind, size = self._type(step.out), 8 * self.writes[step.out].dtype.itemsize
        return self.w.op(f"bitcast i{size} {self._turned(carried, size)} to {kind}")

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


def _start(name: str, dtype: Any) -> Any:
    start = IDENTITY[name]
    if np.dtype(dtype).kind == "b":
        return int(start > 0)
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
    if dtype == np.uint8 and name in ORDER:  # LLVM's rules here compare with signs
        return np.dtype(np.int16)
    return dtype
