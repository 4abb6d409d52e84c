"""What hand-written kernels share: loop nests, offsets, whole numbers, copies of strided blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np

from fathom.compile.native.elements import TYPES
from fathom.compile.native.kernel import Operand, merge
from fathom.compile.native.text import SIZES, Index, Writer
from fathom.compile.native.tiling import host_target


@contextmanager
def nest(w: Writer, shape: Sequence[int]) -> Iterator[list[Index]]:
    """Loops over all of a shape: the index along each axis."""
    with ExitStack() as stack:
        yield [stack.enter_context(w.turns(n)) for n in shape]


def offset(w: Writer, indices: Sequence[Index], steps: Sequence[int]) -> Index:
    """Where an element lies; steps may be negative."""
    total: Index = 0
    for index, step in zip(indices, steps, strict=True):
        total = plus(w, total, times(w, index, step))
    return total


def times(w: Writer, index: Index, step: int) -> Index:
    """A product of signed numbers."""
    if isinstance(index, int) or step == 0:
        return index * step if isinstance(index, int) else 0
    return index if step == 1 else w.op(f"mul nsw i64 {index}, {step}")


def plus(w: Writer, a: Index, b: Index) -> Index:
    """A sum of signed numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0 or b == 0:
        return b if a == 0 else a
    return w.op(f"add nsw i64 {a}, {b}")


def carried(w: Writer, shape: Sequence[int], start: list[tuple[str, str]], step: Any) -> Any:
    """Values carried through nested loops: `step(indices, values) -> values`."""

    def run(axis: int, indices: list[Index], held: Sequence[str]) -> list[str]:
        if axis == len(shape):
            return list(step(indices, held))
        with w.loop(shape[axis]) as turn:
            inner = [turn.carry(kind, value) for (kind, _), value in zip(start, held, strict=True)]
            after = run(axis + 1, [*indices, turn.index], inner)
            turn.step(after)
        return after

    return tuple(run(0, [], [value for _, value in start]))


def whole_number(w: Writer, pointer: str, dtype: Any, at: Index) -> str:
    """An element of an array of whole numbers, as i64."""
    kind = TYPES[np.dtype(dtype).name]
    place = w.at(pointer, at, kind)
    value = w.op(f"load {kind}, ptr {place}, align {np.dtype(dtype).itemsize}")
    widen = "zext" if np.dtype(dtype).kind in "ub" else "sext"
    return value if kind == "i64" else w.op(f"{widen} {kind} {value} to i64")


def clamped(w: Writer, index: str, n: int, wraps: bool = True) -> str:
    """An index inside of [0, n); negative ones count from the end (if it `wraps`)."""
    if wraps:
        below = w.op(f"icmp slt i64 {index}, 0")
        moved = w.op(f"add i64 {index}, {n}")
        index = w.op(f"select i1 {below}, i64 {moved}, i64 {index}")
    index = w.call("llvm.smax.i64", "i64", ("i64", index), ("i64", "0"))
    return w.call("llvm.smin.i64", "i64", ("i64", index), ("i64", str(n - 1)))


def load(w: Writer, pointer: str, at: Index, dtype: Any) -> str:
    kind = TYPES[np.dtype(dtype).name]
    return w.op(f"load {kind}, ptr {w.at(pointer, at, kind)}, align {np.dtype(dtype).itemsize}")


def store(w: Writer, value: str, pointer: str, at: Index, dtype: Any) -> None:
    kind = TYPES[np.dtype(dtype).name]
    w.line(f"store {kind} {value}, ptr {w.at(pointer, at, kind)}, align {np.dtype(dtype).itemsize}")


def add_to(w: Writer, value: str, pointer: str, at: Index, dtype: Any) -> None:
    """pointer[at] += value."""
    kind = TYPES[np.dtype(dtype).name]
    place = w.at(pointer, at, kind)
    before = w.op(f"load {kind}, ptr {place}, align {np.dtype(dtype).itemsize}")
    total = w.op(f"{'fadd' if np.dtype(dtype).kind == 'f' else 'add'} {kind} {before}, {value}")
    w.line(f"store {kind} {total}, ptr {place}, align {np.dtype(dtype).itemsize}")


def zero(w: Writer, pointer: str, nbytes: int) -> None:
    """Fill memory with zeros."""
    w.call("llvm.memset.p0.i64", "void", ("ptr", pointer), ("i8", "0"), ("i64", str(nbytes)),
           ("i1", "false"))  # fmt: skip


@cache
def lanes_of(dtype: str) -> int:
    """Numbers in a vector of this machine."""
    return host_target().lanes(dtype)


def copy(
    w: Writer, source: str, target: str, shape: Sequence[int], walks: Sequence[Sequence[int]],
    dtype: Any,
) -> None:  # fmt: skip
    """Copy a block; `walks`: its steps in source and target."""
    held = [Operand(i, np.dtype(dtype), tuple(walk)) for i, walk in enumerate(walks)]
    sizes, merged = merge(shape, held)
    steps = [operand.steps for operand in merged]
    kind = TYPES[np.dtype(dtype).name]
    if kind not in SIZES or not steps[0][-1] == steps[1][-1] == 1 or sizes[-1] > 8 * lanes_of(kind):
        with nest(w, sizes) as indices:
            value = load(w, source, offset(w, indices, steps[0]), dtype)
            store(w, value, target, offset(w, indices, steps[1]), dtype)
        return
    with nest(w, sizes[:-1]) as indices:
        places = [offset(w, indices, s[:-1]) for s in steps]
        a, b = (w.at(p, at, kind) for p, at in zip((source, target), places, strict=True))
        for at, lanes, used in vectors(kind, sizes[-1]):
            value = w.load(w.at(a, at, kind), kind, lanes, used)
            w.store(value, w.at(b, at, kind), kind, lanes, used)


def vectors(dtype: str, n: int) -> Iterator[tuple[int, int, int]]:
    """A row of n numbers in vectors: start, lanes, lanes in use."""
    lanes = lanes_of(dtype)
    for at in range(0, n, lanes):
        left = min(lanes, n - at)
        yield at, min(lanes, 1 << (left - 1).bit_length()), left
