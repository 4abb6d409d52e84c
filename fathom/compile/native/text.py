"""`Writer`: LLVM IR as text, with fresh names, loops and vector loads and stores.

>>> w = Writer()
>>> with w.loop(4) as turn:
...     _ = w.op(f"add i64 {turn.index}, 7")
>>> print("\\n".join(w.lines[1:5]))
head1:
  %index1 = phi i64 [0, %entry], [%next1, %latch1]
  %v1 = add i64 %index1, 7
  br label %latch1
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

SIZES = {"float": 4, "double": 8}
SUFFIXES = {"float": "f32", "double": "f64"}
Index = str | int  # the name of an i64, or a number known now


def vector(dtype: str, lanes: int) -> str:
    """The IR type of `lanes` numbers (a scalar's own type if there is only one)."""
    return dtype if lanes == 1 else f"<{lanes} x {dtype}>"


@dataclass
class Loop:
    """An open loop: its index, and values carried from turn to turn."""

    writer: Writer
    number: int
    before: str  # block from which it is entered
    index: str
    place: int  # line at which the phis of carried values go
    carried: list[tuple[str, str, str]] = field(default_factory=list)  # type, name, start
    following: list[str] = field(default_factory=list)

    def carry(self, type: str, start: str) -> str:
        """A value that begins as `start`; its value in the next turn is given to `step`."""
        name = f"%carry{self.number}.{len(self.carried)}"
        self.carried.append((type, name, start))
        return name

    def step(self, values: Sequence[str]) -> None:
        self.following = list(values)

    def phis(self) -> list[str]:
        rows = zip(self.carried, self.following, strict=True)
        return [
            f"  {name} = phi {type} [{start}, %{self.before}], [{after}, %latch{self.number}]"
            for (type, name, start), after in rows
        ]


class Writer:
    """The body of one function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: set[str] = set()  # and functions: what a module needs once
        self.block = "entry"
        self._counts: dict[str, int] = {}

    def count(self, kind: str) -> int:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return self._counts[kind]

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def op(self, text: str) -> str:
        """A line that computes something; returns its name."""
        name = f"%v{self.count('v')}"
        self.line(f"{name} = {text}")
        return name

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    # -- control ------------------------------------------------------------------------

    @contextmanager
    def loop(self, stop: Index, start: Index = 0, step: int = 1) -> Iterator[Loop]:
        """`do ... while` from `start` in steps up to `stop`: the first turn is always made."""
        number = self.count("loop")
        before, index = self.block, f"%index{number}"
        self.line(f"br label %head{number}")
        self.label(f"head{number}")
        self.line(f"{index} = phi i64 [{start}, %{before}], [%next{number}, %latch{number}]")
        turn = Loop(self, number, before, index, len(self.lines))
        yield turn
        self.line(f"br label %latch{number}")
        self.label(f"latch{number}")
        self.line(f"%next{number} = add nuw nsw i64 {index}, {step}")
        self.line(f"%more{number} = icmp ult i64 %next{number}, {stop}")
        self.line(f"br i1 %more{number}, label %head{number}, label %done{number}")
        self.label(f"done{number}")
        self.lines[turn.place : turn.place] = turn.phis()

    @contextmanager
    def turns(self, count: int, step: int = 1, start: int = 0) -> Iterator[Index]:
        """`count` numbers from `start` on; a single one needs no loop."""
        if count == 1:
            yield start
        else:
            with self.loop(start + count * step, start, step) as turn:
                yield turn.index

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        number = self.count("when")
        self.line(f"br i1 {condition}, label %then{number}, label %after{number}")
        self.label(f"then{number}")
        yield
        self.line(f"br label %after{number}")
        self.label(f"after{number}")

    # -- numbers and addresses ------------------------------------------------------------

    def times(self, index: Index, factor: int) -> Index:
        if isinstance(index, int):
            return index * factor
        return index if factor == 1 else self.op(f"mul nuw nsw i64 {index}, {factor}")

    def plus(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self.op(f"add nuw nsw i64 {a}, {b}")

    def at(self, pointer: str, offset: Index, dtype: str) -> str:
        """The address of element `offset` (a number of elements)."""
        if offset == 0:
            return pointer
        return self.op(f"getelementptr inbounds {dtype}, ptr {pointer}, i64 {offset}")

    # -- vectors ----------------------------------------------------------------------------

    def call(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """Call an intrinsic with (type, value) arguments."""
        types = ", ".join(type for type, _ in arguments)
        self.declarations.add(f"declare {result} @{name}({types})")
        call = f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in arguments)})"
        if result == "void":
            self.line(call)
            return ""
        return self.op(call)

    def load(self, pointer: str, dtype: str, lanes: int, used: int | None = None) -> str:
        """`lanes` numbers at an address; lanes from `used` on are zero and are not touched."""
        type, align = vector(dtype, lanes), SIZES[dtype]
        if used is None or used == lanes:
            return self.op(f"load {type}, ptr {pointer}, align {align}")
        return self.call(
            f"llvm.masked.load.v{lanes}{SUFFIXES[dtype]}.p0", type, ("ptr", pointer),
            ("i32", str(align)), (f"<{lanes} x i1>", mask(lanes, used)), (type, "zeroinitializer"),
        )  # fmt: skip

    def store(
        self, value: str, pointer: str, dtype: str, lanes: int, used: int | None = None
    ) -> None:
        """Write the first `used` lanes of a vector."""
        type, align = vector(dtype, lanes), SIZES[dtype]
        if used is None or used == lanes:
            self.line(f"store {type} {value}, ptr {pointer}, align {align}")
            return
        self.call(
            f"llvm.masked.store.v{lanes}{SUFFIXES[dtype]}.p0", "void", (type, value),
            ("ptr", pointer), ("i32", str(align)), (f"<{lanes} x i1>", mask(lanes, used)),
        )  # fmt: skip

    def broadcast(self, scalar: str, dtype: str, lanes: int) -> str:
        """A vector with one number in every lane."""
        if lanes == 1:
            return scalar
        type = vector(dtype, lanes)
        one = self.op(f"insertelement {type} poison, {dtype} {scalar}, i64 0")
        return self.op(
            f"shufflevector {type} {one}, {type} poison, <{lanes} x i32> zeroinitializer"
        )

    def shuffle(self, a: str, b: str, order: Sequence[int], type: str) -> str:
        """Lanes picked from two vectors laid end to end."""
        lanes = ", ".join(f"i32 {i}" for i in order)
        return self.op(f"shufflevector {type} {a}, {type} {b}, <{len(order)} x i32> <{lanes}>")

    def fma(self, a: str, b: str, c: str, dtype: str, lanes: int) -> str:
        """a * b + c, in one rounding where the machine can."""
        type = vector(dtype, lanes)
        suffix = SUFFIXES[dtype] if lanes == 1 else f"v{lanes}{SUFFIXES[dtype]}"
        return self.call(f"llvm.fmuladd.{suffix}", type, (type, a), (type, b), (type, c))

    def total(self, value: str, dtype: str, lanes: int) -> str:
        """The sum of all lanes, halves first."""
        if lanes == 1:
            return value
        type, half = vector(dtype, lanes), lanes // 2
        parts = [self.shuffle(value, "poison", range(s, s + half), type) for s in (0, half)]
        if half == 1:
            parts = [self.op(f"extractelement {type} {value}, i64 {i}") for i in range(2)]
        return self.total(
            self.op(f"fadd {vector(dtype, half)} {parts[0]}, {parts[1]}"), dtype, half
        )


def mask(lanes: int, used: int) -> str:
    return "<" + ", ".join(f"i1 {int(lane < used)}" for lane in range(lanes)) + ">"
