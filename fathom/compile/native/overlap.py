"""Windows put back: columns (c, *kernel, *positions) added up where they were taken from."""

from __future__ import annotations

from collections.abc import Sequence

from fathom.compile.native.loops import add_to, lanes_of, load, nest, offset, plus, vectors
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, SUFFIXES, Index, Writer, vector
from fathom.compile.native.windows import Windows


def overlap(w: Writer, ws: Windows, columns: str, sums: str, start: Index, size: int) -> None:
    """Add the columns of some windows, from `start` on, to the (padded) sample `sums`.

    Short rows of the result are kept in registers while all their parts are added.
    """
    own, rank = contiguous((ws.channels, *ws.sizes)), len(ws.kernel)
    inside, between = ws.walks(own)
    counts = (size, *ws.counts[1:])
    shape = (ws.channels, *ws.kernel, *counts)
    walk = contiguous(shape)
    base = w.at(sums, offset(w, [start], between[:1]), ws.dtype)
    short = ws.stride[-1] == 1 and ws.sizes[-1] <= 6 * lanes_of(ws.dtype)
    if not short or rank == 1:
        with nest(w, shape) as at:
            value = load(w, columns, offset(w, at, walk), ws.numpy)
            add_to(w, value, base, offset(w, at, (own[0], *inside, *between)), ws.numpy)
        return
    once = ws.stride[-2] == ws.dilation[-2] == 1
    tall = (counts[-2] + ws.kernel[-2] - 1,) if once else (ws.kernel[-2], counts[-2])
    with nest(w, (ws.channels, *ws.kernel[:-2], *counts[:-2], *tall)) as at:
        outer, last = at[: 2 * rank - 3], at[2 * rank - 3 :]
        source = offset(w, outer, [*walk[: rank - 1], *walk[1 + rank : 2 * rank - 1]])
        target = offset(w, outer, [own[0], *inside[:-2], *between[:-2]])
        part, row = w.at(columns, source, ws.dtype), w.at(base, target, ws.dtype)
        down = (walk[rank - 1], walk[2 * rank - 1])  # place in the kernel, position
        if once:
            row = w.at(row, offset(w, last, between[-2:-1]), ws.dtype)
            _gather_row(w, ws, part, row, last[0], counts[-2], (*down, walk[rank]))
        else:
            row = w.at(row, offset(w, last, [inside[-2], between[-2]]), ws.dtype)
            there = w.at(part, offset(w, last, down), ws.dtype)
            _store(w, ws, row, _shifted(w, ws, there, walk[rank], _load(w, ws, row)))


def _gather_row(
    w: Writer, ws: Windows, part: str, row: str, i: Index, count: int, walk: tuple[int, int, int]
) -> None:
    """Row i of a plane of sums: what all rows of the kernel leave there."""
    below = plus(w, i, 1 - count)
    first = w.call("llvm.smax.i64", "i64", ("i64", str(below)), ("i64", "0"))
    above = plus(w, i, 1)
    stop = w.call("llvm.smin.i64", "i64", ("i64", str(above)), ("i64", str(ws.kernel[-2])))
    start, kinds = _load(w, ws, row), _pieces(ws)
    with w.loop(stop, first) as turn:
        held = [
            turn.carry(vector(ws.dtype, lanes), x)
            for (_, lanes, _), x in zip(kinds, start, strict=True)
        ]
        back = w.op(f"sub nsw i64 {i}, {turn.index}")
        there = w.at(part, offset(w, [turn.index, back], walk[:2]), ws.dtype)
        total = _shifted(w, ws, there, walk[2], held)
        turn.step(total)
    _store(w, ws, row, total)


def _pieces(ws: Windows) -> list[tuple[int, int, int]]:
    """A row of sums in vectors."""
    return list(vectors(ws.dtype, ws.counts[-1] + ws.dilation[-1] * (ws.kernel[-1] - 1)))


def _load(w: Writer, ws: Windows, row: str) -> list[str]:
    return [w.load(w.at(row, at, ws.dtype), ws.dtype, *rest) for at, *rest in _pieces(ws)]


def _store(w: Writer, ws: Windows, row: str, sums: Sequence[str]) -> None:
    for (at, *rest), value in zip(_pieces(ws), sums, strict=True):
        w.store(value, w.at(row, at, ws.dtype), ws.dtype, *rest)


def _shifted(w: Writer, ws: Windows, source: str, step: int, sums: Sequence[str]) -> list[str]:
    """A row of sums, and for each place along the kernel the positions moved by as much."""
    count, found = ws.counts[-1], []
    for (at, lanes, _), value in zip(_pieces(ws), sums, strict=True):
        total = value
        for k in range(ws.kernel[-1]):
            first = at - k * ws.dilation[-1]  # of the source, in lane 0
            low, high = max(0, -first), min(lanes, count - first)
            if low < high:
                there = w.at(source, k * step + first, ws.dtype)
                more = _between(w, ws, there, lanes, low, high)
                total = w.op(f"fadd {vector(ws.dtype, lanes)} {total}, {more}")
        found.append(total)
    return found


def _between(w: Writer, ws: Windows, place: str, lanes: int, low: int, high: int) -> str:
    """A vector of which only lanes from `low` to `high` are read, zeros elsewhere."""
    if low == 0 or lanes == 1:
        return w.load(place, ws.dtype, lanes, high)
    kind, size = vector(ws.dtype, lanes), SIZES[ws.dtype]
    mask = ", ".join(f"i1 {int(low <= i < high)}" for i in range(lanes))
    name = f"llvm.masked.load.v{lanes}{SUFFIXES[ws.dtype]}.p0"
    return w.call(
        name, kind, ("ptr", place), ("i32", str(size)),
        (f"<{lanes} x i1>", f"<{mask}>"), (kind, "zeroinitializer"),
    )  # fmt: skip
