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

Short rows are written out, column after column, and the loop over the rows is the innermost.

Every operand has a step (in elements) for each axis of the nest, 0 where it is broadcast; a
reduction's result has step 0 along what it sums. Neighbouring axes are merged where all operands
allow it, and the innermost loop is left to LLVM's vectorizer: operands are arguments marked
`noalias`, and sums may be reassociated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import reduce
from typing import Any

import numpy as np

from fathom.compile.native.elements import (
    RULES,
    TRUTHS,
    TYPES,
    Numbers,
    literal,
    shortcut,
)
from fathom.compile.native.group import (
    IDENTITY,
    Group,
    Operand,
    Passes,
    compute_dtype,
    is_reduction,
    merge,
    reduces_rows,
    share_exponentials,
)
from fathom.compile.native.text import Writer
from fathom.compile.plan import Step, Value

__all__ = [
    "Group", "Kernel", "Operand", "compute_dtype", "is_reduction", "merge", "reduces_rows",
]  # fmt: skip
SHORT, FEW_ROWS = 16, 32  # columns at most and rows at least of rows that are written out
MOST_WRITTEN = 400  # operations of such a row
_COMBINE = {"max": "maximum", "amax": "maximum", "min": "minimum", "amin": "minimum",
            "all": "logical_and", "any": "logical_or"}  # fmt: skip


class Kernel:
    """Writes the function for one group.

    reads, writes : where the values from outside lie, and where results go.
    scalars : numbers of the call, by value, as indices into the table of scalars.
    writer : what makes the text; one of vectors writes a kernel for a block of networks.
    """

    def __init__(
        self,
        group: Group,
        reads: dict[Value, Operand],
        writes: dict[Value, Operand],
        scalars: dict[Value, int],
        pointers: int,
        functions: set[tuple[str, str]],
        writer: Writer | None = None,
    ) -> None:
        self.scalars = scalars
        self.pointers = pointers
        self.w = writer or Writer()
        self.numbers = Numbers(self.w, functions)
        group = self.group = Group(group.shape, share_exponentials(group.steps))
        self.passes = Passes(group)
        held = [*reads.items(), *writes.items()]
        several = len(self.passes.loops) > 1
        self.sizes, merged = merge(group.shape, [o for _, o in held], several)
        self.reads = dict(zip(reads, merged[: len(reads)], strict=True))
        self.writes = dict(zip(writes, merged[len(reads) :], strict=True))
        self.reductions = {s.out: s for s in group.steps if is_reduction(s)}
        written = self.sizes[-1] * len(group.steps)
        self.short = (
            several
            and len(self.sizes) > 1
            and self.sizes[-2] >= FEW_ROWS
            and self.sizes[-1] <= SHORT
            and written <= MOST_WRITTEN
        )

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
        for value in () if self.short else self.passes.held:
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
        columns: list[dict[Value, str]] = [{} for _ in range(self.sizes[-1] if self.short else 0)]
        with ExitStack() as stack:
            indices = [stack.enter_context(w.loop(n)).index for n in self.sizes[:inner]]
            row: dict[Value, str] = {}
            for number, steps in enumerate(self.passes.loops):
                if self.short:
                    self._written(number, steps, indices, row, columns)
                else:
                    self._loop(number, steps, indices, row)
                for step in self.passes.between[number]:
                    self._load(step, row, indices)
                    row[step.out] = self._compute(step, row)
                    self._store(step.out, row[step.out], indices)

    def _gathered(self, steps: list[Step]) -> list[Step]:
        """The reductions along the innermost axis."""
        return [s for s in steps if is_reduction(s) and self.writes[s.out].steps[-1] == 0]

    def _loop(
        self, number: int, steps: list[Step], indices: list[str], row: dict[Value, str]
    ) -> None:
        """One loop over the innermost axis; `row` gets the reductions that are done then."""
        gathered = self._gathered(steps)
        with self.w.loop(self.sizes[-1]) as turn:
            carried = {s.out: turn.carry(*self._begin(s)) for s in gathered}
            following = self._body(number, steps, [*indices, turn.index], carried, dict(row))
            turn.step([following[s.out] for s in gathered])
        self._gathered_all(gathered, following, indices, row)

    def _written(
        self, number: int, steps: list[Step], indices: list[str],
        row: dict[Value, str], columns: list[dict[Value, str]],
    ) -> None:  # fmt: skip
        """The same for a short row, column by column: LLVM vectorizes the loop over the rows.

        `columns` keeps what was loaded and made for the loops that follow.
        """
        gathered = self._gathered(steps)
        start = {s.out: self._begin(s)[1] for s in gathered}
        parts: dict[Value, list[str]] = {
            s.out: [] for s in gathered if s.primitive.name == "sum" and not self._whole(s.out)
        }
        carried = dict(start)
        for i, names in enumerate(columns):
            names.update(row)
            carried = self._body(number, steps, [*indices, str(i)], carried, names)
            for value, held in parts.items():
                held.append(carried[value])
                carried[value] = start[value]
        carried.update((value, self._sum(self._type(value), held)) for value, held in parts.items())
        self._gathered_all(gathered, carried, indices, row)

    def _whole(self, value: Value) -> bool:
        return self._type(value) not in ("float", "double")

    def _sum(self, kind: str, parts: list[str]) -> str:
        """The sum of a short row in NumPy's order: pairs of pairs of eight, then the rest."""

        def add(a: str, b: str) -> str:
            return self.w.op(f"fadd contract {kind} {a}, {b}")

        while len(parts) >= 16:
            parts = [*map(add, parts[:8], parts[8:16]), *parts[16:]]
        eight, rest = (parts[:8], parts[8:]) if len(parts) >= 8 else (parts[:1], parts[1:])
        while len(eight) > 1:
            eight = [add(a, b) for a, b in zip(eight[::2], eight[1::2], strict=True)]
        return reduce(add, rest, eight[0])

    def _gathered_all(
        self, gathered: list[Step], totals: dict[Value, str], indices: list[str],
        row: dict[Value, str],
    ) -> None:  # fmt: skip
        """Put what a loop gathered where it belongs."""
        for step in gathered:
            total = self._total(step, totals[step.out])
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
        carried: dict[Value, str], names: dict[Value, str],
    ) -> dict[Value, str]:  # fmt: skip
        """The innermost turn: load, compute, store; the next values of what is gathered."""
        following = {}
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
        short = shortcut(step)
        if short is not None and short[1] in names and dtype == out:
            return self.numbers.math(short[0], TYPES[out.name], names[short[1]])
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
