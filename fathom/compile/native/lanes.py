"""Explicit vectors: elementwise code over the rows of arrays, several numbers at a time.

    def body(v: Lanes, row: Index, column: Index) -> None:
        x = v.load("%x", v.w.plus(v.w.times(row, 8), column))
        v.store(x * v.sigmoid(x), "%y", ...)

    rows_of(w, "float", 4, 8, body)

For loops whose arrays share memory, in which LLVM's vectorizer would have to prove too much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fathom.compile.native import vecmath
from fathom.compile.native.elements import literal
from fathom.compile.native.gemm import host_target
from fathom.compile.native.text import Index, Writer, vector
from fathom.compile.native.tiling import power_above

DTYPES = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}


@dataclass(frozen=True)
class Num:
    """A vector; `+ - *` write an instruction. Multiply-adds may be fused."""

    lanes: Lanes
    name: str

    def __add__(self, other: Num) -> Num:
        return self.lanes.op("fadd", self, other)

    def __sub__(self, other: Num) -> Num:
        return self.lanes.op("fsub", self, other)

    def __mul__(self, other: Num) -> Num:
        return self.lanes.op("fmul", self, other)


@dataclass(frozen=True)
class Lanes:
    """Vectors of `lanes` numbers, of which the first `used` lie in memory."""

    w: Writer
    kind: str
    lanes: int
    used: int

    @property
    def type(self) -> str:
        return vector(self.kind, self.lanes)

    def op(self, name: str, x: Num, y: Num) -> Num:
        return Num(self, self.w.op(f"{name} contract {self.type} {x.name}, {y.name}"))

    def number(self, value: float) -> Num:
        """A constant in every lane."""
        text = literal(value, DTYPES[self.kind])
        return Num(self, text if self.lanes == 1 else f"splat ({self.kind} {text})")

    def load(self, pointer: str, offset: Index) -> Num:
        place = self.w.at(pointer, offset, self.kind)
        return Num(self, self.w.load(place, self.kind, self.lanes, self.used))

    def store(self, x: Num, pointer: str, offset: Index) -> None:
        place = self.w.at(pointer, offset, self.kind)
        self.w.store(x.name, place, self.kind, self.lanes, self.used)

    def spread(self, pointer: str, offset: Index) -> Num:
        """One number of memory in every lane."""
        one = self.w.load(self.w.at(pointer, offset, self.kind), self.kind, 1)
        return Num(self, self.w.broadcast(one, self.kind, self.lanes))

    def function(self, name: str, x: Num) -> Num:
        """One of `vecmath`'s functions."""
        dtype = DTYPES[self.kind]
        self.w.declarations.add(vecmath.definition(name, dtype, self.lanes))
        symbol = vecmath.symbol(name, dtype, self.lanes)
        return Num(self, self.w.op(f"call {self.type} {symbol}({self.type} {x.name})"))

    def tanh(self, x: Num) -> Num:
        return self.function("tanh", x)

    def sigmoid(self, x: Num) -> Num:
        return self.function("sigmoid", x)

    def where_positive(self, test: Num, x: Num, y: Num) -> Num:
        """x where test > 0, y elsewhere (where test is not a number, too)."""
        zero, flag = self.number(0.0).name, "i1" if self.lanes == 1 else f"<{self.lanes} x i1>"
        more = self.w.op(f"fcmp ogt {self.type} {test.name}, {zero}")
        return Num(
            self, self.w.op(f"select {flag} {more}, {self.type} {x.name}, {self.type} {y.name}")
        )


def rows_of(
    w: Writer, kind: str, rows: int, width: int, body: Callable[[Lanes, Index, Index], None]
) -> None:
    """`body(lanes, row, column)` for all vectors of `rows` rows of `width` numbers."""
    lanes = min(host_target().lanes(kind), power_above(width))
    whole, rest = divmod(width, lanes)
    with w.turns(rows) as row:
        if whole:
            with w.turns(whole, lanes) as column:
                body(Lanes(w, kind, lanes, lanes), row, column)
        if rest:
            body(Lanes(w, kind, lanes, rest), row, whole * lanes)
