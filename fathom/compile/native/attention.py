"""Attention by tiles: softmax(A @ B) @ V without a matrix of all scores, and its way back.

`tiled` finds attention in a plan and puts two steps in its place. Forward, a block of queries
meets the keys block by block; the largest score of each row and the sum of exponentials are kept
up to date, and what was gathered for a smaller largest score is scaled down (Milakov and
Gimelshein, "Online normalizer calculation for softmax", 2018). The logarithm of each sum is kept,
from which the backward pass makes the scores of each tile again (Dao et al., "FlashAttention",
2022). Memory grows with the length, not with its square; that costs a fifth product on the way
back, and so it is done only where the scores would leave the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.compile.native.attention_plan import BACKWARD, FORWARD
from fathom.compile.native.code import pair
from fathom.compile.native.custom import Made, Site, emitter, moved
from fathom.compile.native.elements import TYPES, literal
from fathom.compile.native.gemm import Product
from fathom.compile.native.lanes import DTYPES, Lanes, Num
from fathom.compile.native.loops import lanes_of, nest, offset, zero
from fathom.compile.native.pack import Panel, pack_panel
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, SUFFIXES, Index, Writer, vector
from fathom.compile.plan import Value

ROWS, COLUMNS = 64, 256  # of a tile of scores: with its twin it stays in the second cache
Matrix = tuple[str, tuple[int, int]]  # where it begins, and its steps


def block(n: int, most: int) -> int:
    """The size of blocks: one that divides n, if there is a fair one.

    >>> block(1000, 64), block(512, 64), block(101, 64)
    (50, 64, 64)
    """
    return next((b for b in range(min(n, most), most // 2, -1) if n % b == 0), min(n, most))


def parts(n: int, size: int) -> list[tuple[int, int, int]]:
    """Blocks of n: how many, how long, and where they begin."""
    whole, rest = divmod(n, size)
    found = [(whole, size, 0), (int(rest > 0), rest, n - rest)]
    return [part for part in found if part[0]]


class Tiles:
    """What the code of both directions has in common: sizes, operands, products.

    A is (rows, width), B (width, columns), V (columns, out), each for every entry of `lead`.
    """

    def __init__(self, site: Site) -> None:
        a, b, v = site.step.args[:3]
        self.site, self.causal = site, site.step.params["causal"]
        self.lead = a.shape[:-2]
        self.m, self.d, self.n, self.out = a.shape[-2], a.shape[-1], b.shape[-1], v.shape[-1]
        self.kind = TYPES[a.dtype.name]
        self.size = SIZES[self.kind]
        self.rows, self.columns = block(self.m, ROWS), block(self.n, COLUMNS)
        wide = -(-self.n // 16) * 16
        self.wide = wide + 16 * (wide * self.size % 1024 == 0)  # rows in sets of their own
        self.room = 0  # bytes that products need to work in
        self.lines: list[str] = []
        self.walks: dict[Value, tuple[int, ...]] = {}
        self.starts: dict[Value, str] = {}

    def operand(self, v: Value) -> None:
        """Where a value lies; one that has no neighbours in its rows is moved first."""
        walk = self.site.steps(v)
        self.starts[v] = self.site.address(v)
        if 1 not in walk[-2:] or 0 in walk[-2:]:
            lines, self.starts[v] = self.site.dense(v)
            self.lines += lines
            walk = contiguous(v.shape)
        self.walks[v] = walk

    def whole(self, *values: Value) -> None:
        """Results, which lie in one piece."""
        for v in values:
            self.starts[v], self.walks[v] = self.site.address(v), contiguous(v.shape)

    def product(
        self, m: int, n: int, k: int, a: tuple[int, int], b: tuple[int, int], c: int, more: bool
    ) -> Callable[..., None]:
        made: Made = self.site.product(Product(m, n, k, a, b, c, self.kind, more))
        self.room = max(self.room, made.scratch)

        def call(w: Writer, x: str, y: str, z: str) -> None:
            made.call(w, x, y, z, scratch="%room")

        return call

    def shared(self, bytes_of: list[int], body: Callable[..., None]) -> list[str]:
        """The lines for all entries of `lead`, cut along its longest axis.

        `body(w, pointers by value, scratch pointers)` writes one entry; `bytes_of` scratch.
        """
        site, values, lead = self.site, list(self.walks), self.lead or (1,)
        axis = int(np.argmax(lead))
        walks = {v: self.walks[v][: len(self.lead)] or (0,) for v in values}
        room = -(-self.room // 64) * 64

        def write(first: int, count: int) -> list[str]:
            shape = tuple(count if i == axis else n for i, n in enumerate(lead))

            def function(w: Writer, *pointers: str) -> None:
                *given, scratch = pointers
                held, at = [], room
                for size in bytes_of:
                    held.append(w.op(f"getelementptr i8, ptr {scratch}, i64 {at}"))
                    at += -(-size // 64) * 64
                w.line(f"%room = getelementptr i8, ptr {scratch}, i64 0")
                with nest(w, shape) as indices:
                    places = {
                        v: w.at(p, offset(w, indices, walks[v]), self.kind)
                        for v, p in zip(values, given, strict=True)
                    }
                    body(w, places, held)

            total = room + sum(-(-size // 64) * 64 for size in bytes_of)
            addresses = [
                moved(self.starts[v], first * walks[v][axis] * v.dtype.itemsize) for v in values
            ]
            return site.kernel([*addresses, site.scratch(total)], function)

        work = 4 * int(np.prod(lead)) * self.m * self.n * self.d
        return [*self.lines, *site.shared(lead[axis], work, write)]

    # -- tiles ------------------------------------------------------------------------------

    def turned(self, w: Writer, source: str, steps: tuple[int, int], count: int, into: str) -> None:
        """Rows of `count` features as columns."""
        panel = Panel(into, source, self.kind, steps, self.n, self.wide, lanes_of(self.kind))
        pack_panel(w, panel, count)

    def queries(self, w: Writer) -> Iterator[tuple[Any, int]]:
        for count, rows, start in parts(self.m, self.rows):
            yield w.turns(count, rows, start), rows

    @contextmanager
    def keys(self, w: Writer, part: tuple[int, int, int], row: Index, rows: int) -> Iterator[Index]:
        """The blocks of keys that a block of queries may look at."""
        count, columns, start = part
        if not self.causal:
            with w.turns(count, columns, start) as column:
                yield column
            return
        stop = w.plus(row, rows)  # the first key that nobody sees
        if count == 1:
            with w.when(w.op(f"icmp ugt i64 {stop}, {start}")):
                yield start
        else:
            end = start + count * columns
            stop = w.call("llvm.umin.i64", "i64", ("i64", str(stop)), ("i64", str(end)))
            with w.loop(stop, start, columns) as turn:
                yield turn.index

    def scores(self, v: Lanes, tile: str, at: Index, row: Index, column: Index) -> Num:
        """Scores of a tile; -inf for keys behind the query, if they are not to be seen."""
        x, w = v.load(tile, at), v.w
        if not self.causal:
            return x
        kind, flag = ("i64", "i1") if v.lanes == 1 else (f"<{v.lanes} x i64>", f"<{v.lanes} x i1>")
        last, lanes = w.op(f"sub i64 {row}, {column}"), "0"  # the last lane that is seen
        if v.lanes > 1:
            one = w.op(f"insertelement {kind} poison, i64 {last}, i64 0")
            mask = f"<{v.lanes} x i32> zeroinitializer"
            last = w.op(f"shufflevector {kind} {one}, {kind} poison, {mask}")
            lanes = f"<{', '.join(f'i64 {i}' for i in range(v.lanes))}>"
        seen = w.op(f"icmp sge {kind} {last}, {lanes}")
        low = v.number(-np.inf).name
        return Num(v, w.op(f"select {flag} {seen}, {v.type} {x.name}, {v.type} {low}"))

    def one(self, w: Writer) -> Lanes:
        return Lanes(w, self.kind, 1, 1)

    def each(self, w: Writer, width: int, body: Callable[[Lanes, Index], None]) -> None:
        for count, lanes, start in spans(self.kind, width):
            with w.turns(count, lanes, start) as at:
                body(Lanes(w, self.kind, lanes, lanes), at)

    def gathered(
        self, w: Writer, width: int, start: float, how: str, body: Callable[[Lanes, Index], Num]
    ) -> Num:
        """The sum ("fadd") or the largest ("maxnum") of what a body gives along a row."""
        total: Num | None = None
        for count, lanes, first in spans(self.kind, width):
            v = Lanes(w, self.kind, lanes, lanes)
            if count == 1:
                found = body(v, first).name
            else:
                with w.loop(first + count * lanes, first, lanes) as turn:
                    held = turn.carry(v.type, v.number(start).name)
                    found = joined(w, how, self.kind, lanes, held, body(v, turn.index).name)
                    turn.step([found])
            one = across(w, how, self.kind, lanes, found)
            total = Num(self.one(w), one if total is None
                        else joined(w, how, self.kind, 1, total.name, one))  # fmt: skip
        return total or self.one(w).number(start)


def spans(kind: str, width: int) -> Iterator[tuple[int, int, int]]:
    """A row in whole vectors, ever shorter ones at its end: how many, lanes, start."""
    lanes, at = lanes_of(kind), 0
    while at < width:
        count = (width - at) // lanes
        if count:
            yield count, lanes, at
            at += count * lanes
        lanes //= 2


def joined(w: Writer, how: str, kind: str, lanes: int, x: str, y: str) -> str:
    type = vector(kind, lanes)
    if how == "fadd":
        return w.op(f"fadd {type} {x}, {y}")
    suffix = SUFFIXES[kind] if lanes == 1 else f"v{lanes}{SUFFIXES[kind]}"
    return w.call(f"llvm.maxnum.{suffix}", type, (type, x), (type, y))


def across(w: Writer, how: str, kind: str, lanes: int, x: str) -> str:
    """One number of all lanes."""
    if lanes == 1 or how == "fadd":
        return w.total(x, kind, lanes)
    name = f"llvm.vector.reduce.fmax.v{lanes}{SUFFIXES[kind]}"
    return w.call(name, kind, (vector(kind, lanes), x))


def spread(v: Lanes, x: Num) -> Num:
    return Num(v, v.w.broadcast(x.name, v.kind, v.lanes))


# -- forward -----------------------------------------------------------------------------------


@emitter("attend", primitive=FORWARD)
def _attend(site: Site) -> list[str]:
    t = Tiles(site)
    a, b, v = site.step.args
    out, logs = site.step.outs
    for x in (a, b, v):
        t.operand(x)
    t.whole(out, logs)
    a_steps, b_steps, v_steps = (pair(t.walks[x]) for x in (a, b, v))
    turn = b_steps[1] != 1
    keys = (t.wide, 1) if turn else b_steps
    products = {
        (rows, columns): (
            t.product(rows, columns, t.d, a_steps, keys, columns, False),
            t.product(rows, t.out, columns, (columns, 1), v_steps, t.out, True),
        )
        for _, rows, _ in parts(t.m, t.rows)
        for _, columns, _ in parts(t.n, t.columns)
    }
    scratch = [t.rows * t.columns * t.size, t.rows * t.size, t.rows * t.size]
    scratch.append(t.d * t.wide * t.size if turn else 0)

    def body(w: Writer, at: dict[Value, str], held: list[str]) -> None:
        tile, tops, sums, turned = held
        source = turned if turn else at[b]
        if turn:
            t.turned(w, at[b], (b_steps[1], b_steps[0]), t.d, turned)
        for turns, rows in t.queries(w):
            with turns as row:
                into = w.at(at[out], w.times(row, t.out), t.kind)
                zero(w, into, rows * t.out * t.size)
                zero(w, sums, rows * t.size)
                with w.turns(rows) as r:
                    t.one(w).store(t.one(w).number(-np.inf), tops, r)
                for part in parts(t.n, t.columns):
                    with t.keys(w, part, row, rows) as column:
                        score, gather = products[rows, part[1]]
                        score(
                            w, w.at(at[a], w.times(row, a_steps[0]), t.kind),
                            w.at(source, w.times(column, keys[1]), t.kind), tile,
                        )  # fmt: skip
                        with w.turns(rows) as r:
                            spot = (w.plus(row, r), column)
                            _online(t, w, tile, r, part[1], spot, (tops, sums, into))
                        gather(w, tile, w.at(at[v], w.times(column, v_steps[0]), t.kind), into)
                with w.turns(rows) as r:
                    one = t.one(w)
                    total, top = one.load(sums, r), one.load(tops, r)
                    one.store(top + one.function("log", total), at[logs], w.plus(row, r))
                    share = one.op("fdiv", one.number(1.0), total)
                    _scale(t, w, into, r, share)

    return t.shared(scratch, body)


def _online(
    t: Tiles, w: Writer, tile: str, r: Index, columns: int, spot: tuple[Index, Index],
    held: tuple[str, str, str],
) -> None:  # fmt: skip
    """One row of a tile: exponentials in the place of scores, and what was gathered scaled."""
    tops, sums, into = held
    start, one = w.times(r, columns), t.one(w)

    def seen(v: Lanes, at: Index) -> Num:
        return t.scores(v, tile, w.plus(start, at), spot[0], w.plus(spot[1], at))

    old = one.load(tops, r)
    top = t.gathered(w, columns, -np.inf, "maxnum", seen)
    top = Num(one, joined(w, "maxnum", t.kind, 1, top.name, old.name))
    none = w.op(f"fcmp oeq {t.kind} {top.name}, {one.number(-np.inf).name}")
    level = Num(one, w.op(f"select i1 {none}, {t.kind} 0.0, {t.kind} {top.name}"))

    def raised(v: Lanes, at: Index) -> Num:
        e = v.function("exp", seen(v, at) - spread(v, level))
        v.store(e, tile, w.plus(start, at))
        return e

    total = t.gathered(w, columns, 0.0, "fadd", raised)
    share = one.function("exp", old - level)
    one.store(one.load(sums, r) * share + total, sums, r)
    one.store(top, tops, r)
    with w.when(w.op(f"fcmp une {t.kind} {share.name}, {literal(1.0, DTYPES[t.kind])}")):
        _scale(t, w, into, r, share)


def _scale(t: Tiles, w: Writer, into: str, r: Index, share: Num) -> None:
    start = w.times(r, t.out)

    def body(v: Lanes, at: Index) -> None:
        place = w.plus(start, at)
        v.store(v.load(into, place) * spread(v, share), into, place)

    t.each(w, t.out, body)


# -- backward ----------------------------------------------------------------------------------


@emitter("attend_backward", primitive=BACKWARD)
def _attend_backward(site: Site) -> list[str]:
    t = Tiles(site)
    a, b, v, out, logs, g = site.step.args
    da, db, dv = site.step.outs
    for x in (a, b, v, g, out):
        t.operand(x)
    t.whole(logs, da, db, dv)
    steps = {x: pair(t.walks[x]) for x in (a, b, v, g, out)}
    keys = (t.wide, 1)
    products = {
        (rows, columns): (
            t.product(rows, columns, t.d, steps[a], keys, columns, False),
            t.product(rows, columns, t.out, steps[g], keys, columns, False),
            t.product(columns, t.out, rows, (1, columns), steps[g], t.out, True),
            t.product(rows, t.d, columns, (columns, 1), steps[b][::-1], t.d, True),
            t.product(t.d, columns, rows, steps[a][::-1], (columns, 1), t.n, True),
        )
        for _, rows, _ in parts(t.m, t.rows)
        for _, columns, _ in parts(t.n, t.columns)
    }
    panel = t.rows * t.columns * t.size
    scratch = [panel, panel, t.rows * t.size, t.d * t.wide * t.size, t.out * t.wide * t.size]

    def body(w: Writer, at: dict[Value, str], held: list[str]) -> None:
        tile, twin, dots, turned_b, turned_v = held
        t.turned(w, at[b], steps[b][::-1], t.d, turned_b)
        t.turned(w, at[v], steps[v], t.out, turned_v)
        for x in (da, db, dv):
            zero(w, at[x], x.shape[-1] * x.shape[-2] * t.size)
        for turns, rows in t.queries(w):
            with turns as row:
                mine = {x: w.at(at[x], w.times(row, steps[x][0]), t.kind) for x in (a, g, out)}
                into = w.at(at[da], w.times(row, t.d), t.kind)
                with w.turns(rows) as r:
                    _dot(t, w, mine[g], mine[out], steps[g], steps[out], r, dots)
                for part in parts(t.n, t.columns):
                    with t.keys(w, part, row, rows) as column:
                        score, slope, values_, queries, keys_ = products[rows, part[1]]
                        score(w, mine[a], w.at(turned_b, column, t.kind), tile)
                        slope(w, mine[g], w.at(turned_v, column, t.kind), twin)
                        with w.turns(rows) as r:
                            spot = (w.plus(row, r), column)
                            _slopes(t, w, (tile, twin), r, part[1], spot, at[logs], dots)
                        own = w.at(at[b], w.times(column, steps[b][1]), t.kind)
                        values_(w, tile, mine[g], w.at(at[dv], w.times(column, t.out), t.kind))
                        queries(w, twin, own, into)
                        keys_(w, mine[a], twin, w.at(at[db], column, t.kind))

    return t.shared(scratch, body)


def _dot(
    t: Tiles, w: Writer, g: str, out: str, g_steps: tuple[int, int], out_steps: tuple[int, int],
    r: Index, dots: str,
) -> None:  # fmt: skip
    """The sum of gradient times result along a row."""
    first, second = (w.times(r, s[0]) for s in (g_steps, out_steps))

    def body(v: Lanes, at: Index) -> Num:
        return v.load(g, w.plus(first, at)) * v.load(out, w.plus(second, at))

    t.one(w).store(t.gathered(w, t.out, 0.0, "fadd", body), dots, r)


def _slopes(
    t: Tiles, w: Writer, tiles: tuple[str, str], r: Index, columns: int,
    spot: tuple[Index, Index], logs: str, dots: str,
) -> None:  # fmt: skip
    """One row: weights in the place of scores, and the gradient of scores beside them."""
    tile, twin = tiles
    start, one = w.times(r, columns), t.one(w)
    log, dot = one.load(logs, spot[0]), one.load(dots, r)

    def body(v: Lanes, at: Index) -> None:
        place = w.plus(start, at)
        seen = t.scores(v, tile, place, spot[0], w.plus(spot[1], at))
        p = v.function("exp", seen - spread(v, log))
        v.store(p, tile, place)
        v.store(p * (v.load(twin, place) - spread(v, dot)), twin, place)

    t.each(w, columns, body)
