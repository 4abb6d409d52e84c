"""Windows that are reduced: the largest element and its place, sums, and sums spread again.

Planes are worked on one by one. Where windows overhang, the plane is first copied into a larger
one whose border never changes a result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fathom.compile.native.custom import Site, emitter
from fathom.compile.native.elements import TYPES, literal
from fathom.compile.native.loops import (
    add_to,
    carried,
    copy,
    lanes_of,
    load,
    nest,
    offset,
    plus,
    store,
    times,
    zero,
)
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import Index, Writer, mask
from fathom.compile.plan import Step, Value

Sizes = tuple[int, ...]
UNROLLED = 25  # places of a window that are written out


@dataclass(frozen=True)
class Planes:
    """Windows over the last axes of an array: (lead..., *spatial) to (lead..., *counts)."""

    lead: Sizes
    spatial: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    counts: Sizes
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, shape: Sizes, dtype: Any, params: dict[str, Any]) -> Planes:
        kernel = params["kernel"]
        cut = len(shape) - len(kernel)
        return cls(
            shape[:cut], shape[cut:], kernel, params["stride"], params["padding"],
            params.get("dilation", (1,) * len(kernel)), params["counts"], np.dtype(dtype),
        )  # fmt: skip

    @property
    def ends(self) -> Sizes:
        """How far all windows together extend."""
        return tuple(
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(self.counts, self.stride, self.kernel, self.dilation, strict=True)
        )

    @property
    def overhangs(self) -> bool:
        """Whether a window covers more than the plane."""
        return any(self.padding) or any(e > n for e, n in zip(self.ends, self.spatial, strict=True))

    @property
    def nbytes(self) -> int:
        return prod(self.ends) * self.dtype.itemsize

    @property
    def inside(self) -> Sizes:
        """How much of the plane lies under windows."""
        return tuple(
            min(n, e - p) for n, e, p in zip(self.spatial, self.ends, self.padding, strict=True)
        )

    def at(self, w: Writer, pointer: str, index: Index) -> str:
        return w.at(pointer, index, TYPES[self.dtype.name])

    def start(self) -> int:
        """Where the plane begins inside of the larger one."""
        return sum(p * s for p, s in zip(self.padding, contiguous(self.ends), strict=True))

    def cover(self, w: Writer, plane: str, steps: Sizes, border: str) -> tuple[str, Sizes]:
        """The plane with what overhangs around it, and its steps."""
        if not self.overhangs:
            return plane, steps
        own = contiguous(self.ends)
        copy(w, plane, self.at(w, border, self.start()), self.inside, (steps, own), self.dtype)
        return border, own

    def walks(self, steps: Sizes) -> tuple[Sizes, Sizes]:
        """Steps inside of a window, and from window to window."""
        return (
            tuple(s * d for s, d in zip(steps, self.dilation, strict=True)),
            tuple(s * t for s, t in zip(steps, self.stride, strict=True)),
        )


def _floats(step: Step) -> bool:
    return all(isinstance(a, Value) and a.dtype.kind == "f" for a in step.args)


@emitter("max_pool", can=_floats)
def _max_pool(site: Site) -> list[str]:
    (x,), (best, index) = site.step.args, site.step.outs
    ps = Planes.of(x.shape, x.dtype, site.step.params)
    steps, cut = site.steps(x), len(ps.lead)
    nothing = literal(-np.inf, x.dtype)

    def body(ps: Planes, w: Writer, source: str, largest: str, places: str, border: str) -> None:
        if ps.overhangs:
            with w.turns(prod(ps.ends)) as i:
                store(w, nothing, border, i, x.dtype)
        with nest(w, ps.lead) as lead:
            one = ps.at(w, source, offset(w, lead, steps[:cut]))
            plane, own = ps.cover(w, one, steps[cut:], border)
            for turn, lanes, used in _rows(w, ps, own):
                with turn as at:
                    row = Row(w, ps, plane, own, at, lanes, used)
                    value, winner = _largest(row)
                    into = offset(w, [*lead, *at], site.steps(best))
                    row.store(value, largest, into, TYPES[x.dtype.name])
                    row.store(row.place(winner), places, into, "i64")

    return _shared(site, ps, [x, best, index], body)


def _shared(site: Site, ps: Planes, held: Sequence[Value], body: Callable[..., None]) -> list[str]:
    """Lines for all planes: `body(planes, w, *pointers, border)`, perhaps by several threads."""

    def write(first: int, count: int) -> list[str]:
        part = replace(ps, lead=(count, *ps.lead[1:])) if ps.lead else ps
        given = [site.address(v, first * site.steps(v)[0]) for v in held]
        return site.kernel(
            [*given, site.scratch(ps.nbytes if ps.overhangs else 0)], partial(body, part)
        )

    work = 4 * prod(ps.lead) * prod(ps.counts) * prod(ps.kernel)
    return site.shared(ps.lead[0] if ps.lead else 1, work, write)


def _rows(
    w: Writer, ps: Planes, steps: Sizes
) -> Iterator[tuple[AbstractContextManager[list[Index]], int, int]]:
    """Loops over all windows, as many at a time as a vector has lanes where they lie well."""
    lanes, n = lanes_of(TYPES[ps.dtype.name]), ps.counts[-1]
    well = steps[-1] == 1 and ps.stride[-1] in (1, 2, 4) and n > 1
    if not well or prod(ps.kernel) > UNROLLED:
        yield nest(w, ps.counts), 1, 1
        return
    whole, rest = divmod(n, lanes)
    if whole:
        yield _nest(w, ps.counts[:-1], w.turns(whole, lanes)), lanes, lanes
    if rest:
        yield _nest(w, ps.counts[:-1], w.turns(1, 1, n - rest)), 1 << (rest - 1).bit_length(), rest


@contextmanager
def _nest(w: Writer, shape: Sizes, last: AbstractContextManager[Index]) -> Iterator[list[Index]]:
    with nest(w, shape) as outer, last as inner:
        yield [*outer, inner]


@dataclass
class Row:
    """Neighbouring windows, one in each lane."""

    w: Writer
    ps: Planes
    plane: str
    steps: Sizes
    at: list[Index]
    lanes: int
    used: int

    def __post_init__(self) -> None:
        self.inside, between = self.ps.walks(self.steps)
        self.first = self.ps.at(self.w, self.plane, offset(self.w, self.at, between))
        self.kind = TYPES[self.ps.dtype.name]
        self._blocks: dict[tuple[Index, ...], str] = {}

    def type(self, kind: str) -> str:
        return kind if self.lanes == 1 else f"<{self.lanes} x {kind}>"

    def spread(self, number: str, kind: str) -> str:
        """A number in every lane."""
        if self.lanes == 1 or number == "zeroinitializer":
            return number
        one = self.w.op(f"insertelement {self.type(kind)} poison, {kind} {number}, i64 0")
        order = f"<{self.lanes} x i32> zeroinitializer"
        return self.w.op(
            f"shufflevector {self.type(kind)} {one}, {self.type(kind)} poison, {order}"
        )

    def load(self, place: Sequence[Index]) -> str:
        """The element at one place of each window: read in one go, then picked by the stride."""
        if self.lanes == 1:
            return load(self.w, self.first, offset(self.w, place, self.inside), self.ps.dtype)
        stride = self.ps.stride[-1]
        last = place[-1]
        if not isinstance(last, int):
            raise TypeError("places of a vector of windows are numbers")
        block, lane = divmod(last * self.ps.dilation[-1], stride)
        wide, key = self.lanes * stride, (*place[:-1], block)
        reach = (self.used - 1) * stride + lane + 1
        if stride > 1:  # all that any place of this row of the window will need
            furthest = (self.ps.kernel[-1] - 1) * self.ps.dilation[-1] - block * stride
            reach = (self.used - 1) * stride + 1 + min(stride - 1, furthest)
        if key not in self._blocks:
            start = offset(self.w, [*place[:-1], block], [*self.inside[:-1], stride])
            spot = self.ps.at(self.w, self.first, start)
            self._blocks[key] = self.w.load(spot, self.kind, wide, reach)
        if stride == 1:
            return self._blocks[key]
        order = range(lane, wide, stride)
        return self.w.shuffle(self._blocks[key], "poison", order, f"<{wide} x {self.kind}>")

    def place(self, winner: str) -> str:
        """Places in the plane, from places relative to the corner of each window."""
        w, ps = self.w, self.ps
        corner: Index = 0
        for i, s, p, n in zip(self.at, ps.stride, ps.padding, contiguous(ps.spatial), strict=True):
            corner = plus(w, corner, times(w, plus(w, times(w, i, s), -p), n))
        wide = w.op(f"sext {self.type('i32')} {winner} to {self.type('i64')}")
        if self.lanes == 1:
            return str(plus(w, wide, corner))
        steps = ", ".join(f"i64 {i * ps.stride[-1]}" for i in range(self.lanes))
        moved = w.op(f"add {self.type('i64')} {wide}, <{steps}>")
        return w.op(f"add {self.type('i64')} {moved}, {self.spread(str(corner), 'i64')}")

    def store(self, value: str, pointer: str, at: Index, kind: str) -> None:
        """Write all lanes side by side."""
        w, size = self.w, {"float": 4, "double": 8, "i64": 8}[kind]
        spot = w.at(pointer, at, kind)
        if self.used == self.lanes:
            w.line(f"store {self.type(kind)} {value}, ptr {spot}, align {size}")
            return
        suffix = {"float": "f32", "double": "f64", "i64": "i64"}[kind]
        flags = f"<{self.lanes} x i1>"
        w.call(
            f"llvm.masked.store.v{self.lanes}{suffix}.p0", "void", (self.type(kind), value),
            ("ptr", spot), ("i32", str(size)), (flags, mask(self.lanes, self.used)),
        )  # fmt: skip


def _largest(row: Row) -> tuple[str, str]:
    """The largest of a window (the last NaN, if there is one) and where it is, from its corner."""
    w, ps, kind = row.w, row.ps, row.kind
    weights = [d * n for d, n in zip(ps.dilation, contiguous(ps.spatial), strict=True)]
    flag, type = row.type("i1"), row.type(kind)

    def better(place: Sequence[Index], value: str, winner: str) -> tuple[str, str]:
        new = row.load(place)
        above = w.op(f"fcmp ogt {type} {new}, {value}")
        unknown = w.op(f"fcmp uno {type} {new}, {new}")
        taken = w.op(f"or {flag} {above}, {unknown}")
        jump = offset(w, place, weights)
        jump = str(jump) if isinstance(jump, int) else w.op(f"trunc i64 {jump} to i32")
        number, i32 = row.spread(jump, "i32"), row.type("i32")
        return (
            w.op(f"select {flag} {taken}, {type} {new}, {type} {value}"),
            w.op(f"select {flag} {taken}, {i32} {number}, {i32} {winner}"),
        )

    if ps.overhangs:
        value, winner = row.spread(literal(-np.inf, ps.dtype), kind), _first_inside(row)
    else:
        value = row.load((0,) * len(ps.kernel))
        winner = "0" if row.lanes == 1 else "zeroinitializer"
    if prod(ps.kernel) <= UNROLLED:
        for place in np.ndindex(*ps.kernel):
            if ps.overhangs or any(place):
                value, winner = better(place, value, winner)
        return value, winner
    found: tuple[str, str] = carried(
        w, ps.kernel, [(kind, value), ("i32", winner)], lambda p, held: better(p, *held)
    )
    return found


def _first_inside(row: Row) -> str:
    """The first place of each window that is not on the border, counted from its corner."""
    w, ps = row.w, row.ps
    lanes: list[str] = []
    for lane in range(row.lanes):
        at = [*row.at[:-1], plus(w, row.at[-1], lane)]
        total: Index = 0
        parts = (at, ps.stride, ps.padding, ps.dilation, contiguous(ps.spatial))
        for i, stride, pad, dilation, n in zip(*parts, strict=True):
            missing = plus(w, times(w, i, -stride), pad + dilation - 1)
            if isinstance(missing, int):
                missing = max(missing // dilation, 0)
            else:
                missing = w.op(f"sdiv i64 {missing}, {dilation}") if dilation > 1 else missing
                missing = w.call("llvm.smax.i64", "i64", ("i64", missing), ("i64", "0"))
            total = plus(w, total, times(w, missing, dilation * n))
        lanes.append(str(total) if isinstance(total, int) else w.op(f"trunc i64 {total} to i32"))
    if row.lanes == 1:
        return lanes[0]
    value = "poison"
    for i, x in enumerate(lanes):
        value = w.op(f"insertelement {row.type('i32')} {value}, i32 {x}, i64 {i}")
    return value


@emitter("window_sum", can=_floats)
def _window_sum(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    ps = Planes.of(x.shape, x.dtype, site.step.params)
    steps, cut = site.steps(x), len(ps.lead)

    def body(ps: Planes, w: Writer, source: str, target: str, border: str) -> None:
        if ps.overhangs:
            zero(w, border, ps.nbytes)
        with nest(w, ps.lead) as lead:
            one = ps.at(w, source, offset(w, lead, steps[:cut]))
            plane, own = ps.cover(w, one, steps[cut:], border)
            for turn, lanes, used in _rows(w, ps, own):
                with turn as at:
                    row = Row(w, ps, plane, own, at, lanes, used)
                    into = offset(w, [*lead, *at], site.steps(out))
                    row.store(_total(row), target, into, row.kind)

    return _shared(site, ps, [x, out], body)


def _total(row: Row) -> str:
    """The sum of each window."""
    w, kernel = row.w, row.ps.kernel

    def add(place: Sequence[Index], held: Sequence[str]) -> list[str]:
        kind = row.type(row.kind)
        return [w.op(f"fadd reassoc contract {kind} {held[0]}, {row.load(place)}")]

    if prod(kernel) > UNROLLED:
        return str(carried(w, kernel, [(row.kind, "0.0")], add)[0])
    total = [row.load((0,) * len(kernel))]
    for place in itertools.islice(np.ndindex(*kernel), 1, None):
        total = add(place, total)
    return total[0]


@emitter("window_spread", can=_floats)
def _window_spread(site: Site) -> list[str]:
    (g,), out = site.step.args, site.step.out
    ps = Planes.of(out.shape, out.dtype, site.step.params)
    steps, cut = site.steps(g), len(ps.lead)
    own = contiguous(ps.ends) if ps.overhangs else contiguous(ps.spatial)
    inside, between = ps.walks(own)

    def body(ps: Planes, w: Writer, slope: str, target: str, border: str) -> None:
        if ps.inside != ps.spatial:
            zero(w, target, prod(ps.lead) * prod(ps.spatial) * out.dtype.itemsize)
        with nest(w, ps.lead) as lead:
            made = ps.at(w, target, offset(w, lead, site.steps(out)[:cut]))
            sums = border if ps.overhangs else made
            zero(w, sums, prod(ps.ends if ps.overhangs else ps.spatial) * out.dtype.itemsize)
            with ExitStack() as stack:
                turns = [stack.enter_context(w.turns(n)) for n in _order(ps)]
                at, place = _sorted(ps, turns)
                value = load(w, slope, offset(w, [*lead, *at], steps), g.dtype)
                add_to(w, value, sums, offset(w, [*at, *place], (*between, *inside)), g.dtype)
            if ps.overhangs:
                there = ps.at(w, sums, ps.start())
                walks = (own, contiguous(ps.spatial))
                copy(w, there, made, ps.inside, walks, out.dtype)

    return _shared(site, ps, [g, out], body)


def _order(ps: Planes) -> Sizes:
    """Sizes of the loops of `window_spread`: the longer of the last ones is the innermost."""
    last = sorted((ps.counts[-1], ps.kernel[-1]))
    return (*ps.counts[:-1], *ps.kernel[:-1], *last)


def _sorted(ps: Planes, turns: list[Index]) -> tuple[list[Index], list[Index]]:
    """Window and place in it, from the loops of `_order`."""
    rank = len(ps.kernel)
    last = turns[-2:] if ps.counts[-1] <= ps.kernel[-1] else turns[:-3:-1]
    return [*turns[: rank - 1], last[0]], [*turns[rank - 1 : 2 * rank - 2], last[1]]
