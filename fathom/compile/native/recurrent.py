"""The time loops of recurrent layers as native code: one function a layer and direction.

Each step of time is one generated product of the hidden side, and one pass of explicit vectors
that does all else in it: gates, cell, and what is held behind the end of a sequence. The way
back is built alike; the gradients of the weights are ordinary products over all steps, in the
plan behind it. Weights are turned round once, before the loop, so that products read rows.
Sequences have nothing to do with each other: with several threads, each takes some of them.

Shapes: x (time, n, gates), states (time, n, hidden), weights (gates, hidden), mask (time, n, 1).
Other shapes (a batch of models) are left to NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from fathom.compile.native.custom import Made, Site, emitter
from fathom.compile.native.elements import TYPES
from fathom.compile.native.gemm import Epilogue, Product, Spot, bias
from fathom.compile.native.lanes import Lanes, Num, rows_of
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, Index, Writer
from fathom.compile.plan import Step, Value

Pointers = Mapping[str, str]
HEAVY = 1_000_000  # flops of a layer that is worth sharing


def _can(step: Step) -> bool:
    """Whether a step is one layer of one dtype, with a mask of that dtype or none."""
    values = [a for a in step.args if isinstance(a, Value)]
    first = next(v for v in values if v.ndim == 3)
    mask, dtype = step.params["mask"], first.dtype
    if mask is not None:
        if not isinstance(mask, Value) or mask.shape != (*first.shape[:2], 1):
            return False
        values.append(mask)
    flat = all(v.ndim <= 3 for v in (*values, *step.outs))
    return flat and all(v.dtype == dtype for v in values) and dtype.kind == "f"


def _add() -> Epilogue:
    """Add an array laid out like the product."""

    def emit(spot: Spot, value: str) -> str:
        return spot.w.op(f"fadd {spot.type} {value}, {spot.load('%plus')}")

    return Epilogue(emit, ("%plus",))


@dataclass
class Shared:
    """What all parts of a layer read: arrays in one piece, and the lines that make them."""

    memory: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


Write = Callable[[Site, "Loop"], list[str]]


def _layer(*names: str) -> Callable[[Write], Write]:
    """Declare what writes a layer for some of its sequences; heavy ones are shared by threads."""

    def declare(write: Write) -> Write:
        @emitter(*names, can=_can, inside=("mask",))
        def emit(site: Site) -> list[str]:
            step, shared = site.step, Shared()
            time, n, width = step.out.shape
            flops = 2 * time * n * width * step.outs[-1].shape[-1]
            alone = flops < HEAVY or len(step.outs) > 3  # a gradient that all sequences add to
            parts = 1 if alone else min(site.program.threads, n)
            cuts = [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
            versions = [write(site, Loop(site, shared, *cut)) for cut in cuts]
            return [*shared.lines, *site.program.parallel(versions)]

        return write

    return declare


class Loop:
    """A layer for some sequences: memory by name, products, and the loop over time.

    Attributes
    ----------
    whole, first, n : all sequences, the first one at hand, and how many from there on.
    """

    def __init__(self, site: Site, shared: Shared, start: int, stop: int) -> None:
        self.site, self.shared = site, shared
        self.time, self.whole, _ = site.step.out.shape
        self.first, self.n = start, stop - start
        self.kind = TYPES[site.step.out.dtype.name]
        self.mask: Value | None = site.step.params["mask"]
        self.reverse: bool = site.step.params["reverse"]
        self.memory: dict[str, str] = {}
        self.scratch = 0
        self.rows(mask=self.mask)

    # -- memory -----------------------------------------------------------------------------

    def rows(self, **values: Value | None) -> None:
        """Arrays (..., n, width), from the first sequence at hand on."""
        self.full(**values)
        for name, v in values.items():
            if v is not None:
                slot, at = self.memory[name].split(":")
                self.memory[name] = (
                    f"{slot}:{int(at) + self.first * v.shape[-1] * v.dtype.itemsize}"
                )

    def full(self, **values: Value | None) -> None:
        """Arrays in one piece: copied, if they are not."""
        for name, v in values.items():
            if v is not None and self.site.contiguous(v):
                self.memory[name] = self.site.address(v)
            elif v is not None:
                self.memory[name] = self._copied(name, v, self.site.steps(v), v.shape)

    def turned(self, **values: Value) -> None:
        """Transposes of matrices."""
        for name, v in values.items():
            steps, shape = self.site.steps(v), v.shape
            self.memory[name] = self._copied(name, v, steps[::-1], shape[::-1])

    def room(self, **widths: int) -> None:
        """Memory to work in, of (n, width)."""
        for name, width in widths.items():
            self.memory[name] = self.site.scratch(self.n * width * SIZES[self.kind])

    def _copied(self, name: str, v: Value, steps: Sequence[int], shape: Sequence[int]) -> str:
        if name not in self.shared.memory:
            target = self.shared.memory[name] = self.site.scratch(v.nbytes)

            def body(w: Writer, source: str, into: str) -> None:
                self._copy(w, source, into, steps, shape)

            self.shared.lines += self.site.kernel([v, target], body)
        return self.shared.memory[name]

    def _copy(
        self, w: Writer, source: str, into: str, steps: Sequence[int], shape: Sequence[int]
    ) -> None:
        """One number after the other."""
        at: Index = 0
        to: Index = 0
        with ExitStack() as loops:
            for n, step, size in zip(shape, steps, contiguous(shape), strict=True):
                i = loops.enter_context(w.turns(n))
                at, to = w.plus(at, w.times(i, step)), w.plus(to, w.times(i, size))
            number = w.load(w.at(source, at, self.kind), self.kind, 1)
            w.store(number, w.at(into, to, self.kind), self.kind, 1)

    # -- code -------------------------------------------------------------------------------

    def product(
        self, n: int, k: int, accumulate: bool = False, epilogue: Epilogue | None = None
    ) -> Callable[..., None]:
        """Rows (n_batch, k) times a matrix (k, n), all in one piece: a call to be written."""
        p = Product(self.n, n, k, (k, 1), (n, 1), n, self.kind, accumulate)
        return self._called(p, epilogue)

    def outer(self, m: int, n: int) -> Callable[..., None]:
        """C (m, n) += A (n_batch, m) transposed times B (n_batch, n)."""
        p = Product(m, n, self.n, (1, m), (n, 1), n, self.kind, True)
        return self._called(p, None)

    def _called(self, p: Product, epilogue: Epilogue | None) -> Callable[..., None]:
        tag = ",".join(epilogue.pointers) if epilogue else ""
        made: Made = self.site.product(p, epilogue, f"recurrent {tag}")
        self.scratch = max(self.scratch, made.scratch)

        def call(w: Writer, at: Pointers, a: str, b: str, c: str, *more: str) -> None:
            made.call(w, a, b, c, *more, scratch=at.get("scratch", ""))

        return call

    def fill(self, w: Writer, width: int, *pointers: str) -> None:
        """Zeros in arrays of (n, width)."""

        def body(v: Lanes, row: Index, column: Index) -> None:
            for pointer in pointers:
                v.store(v.number(0.0), pointer, w.plus(w.times(row, width), column))

        rows_of(w, self.kind, self.n, width, body)

    def each(
        self, w: Writer, width: int, body: Callable[[Lanes, Callable[..., Index], Index], None]
    ) -> None:
        """`body(v, at, row)` for all vectors of (n, width); `at(size, part)` is an offset.

        It leads into rows of `size` numbers, into the part behind so many widths.
        """

        def inner(v: Lanes, row: Index, column: Index) -> None:
            body(v, lambda size=width, part=0: w.plus(
                w.times(row, size), w.plus(column, part * width)
            ), row)  # fmt: skip

        rows_of(w, self.kind, self.n, width, inner)

    @contextmanager
    def steps(self, w: Writer, back: bool = False) -> Iterator[Moment]:
        """The loop over time, or its way back."""
        with w.loop(self.time) as turn:
            t: Index = turn.index
            if self.reverse != back:
                t = w.op(f"sub nsw i64 {self.time - 1}, {t}")
            yield Moment(self, w, t)

    def write(self, body: Callable[[Writer, Pointers], None]) -> list[str]:
        """The lines that run it all; `body` gets a pointer for each name."""
        if self.scratch:
            self.memory["scratch"] = self.site.scratch(self.scratch)
        names = list(self.memory)
        return self.site.kernel(
            list(self.memory.values()),
            lambda w, *given: body(w, dict(zip(names, given, strict=True))),
        )


class Moment:
    """One step of time."""

    def __init__(self, loop: Loop, w: Writer, t: Index) -> None:
        self.loop, self.w, self.t = loop, w, t

    def now(self, at: Pointers, name: str, width: int) -> str:
        """The rows of an array (time, n, width) at this step; "" for one that is not there."""
        if name not in at:
            return ""
        offset = self.w.times(self.t, self.loop.whole * width)
        return self.w.at(at[name], offset, self.loop.kind)

    def before(self, at: Pointers, name: str, first: str, width: int) -> str:
        """The rows this step started from."""
        w, loop = self.w, self.loop
        edge, shift = (loop.time - 1, 1) if loop.reverse else (0, -1)
        t = w.op(f"add nsw i64 {self.t}, {shift}")
        offset = w.op(f"mul nsw i64 {t}, {loop.whole * width}")
        inside = w.op(f"getelementptr {loop.kind}, ptr {at[name]}, i64 {offset}")
        outside = w.op(f"icmp eq i64 {self.t}, {edge}")
        return w.op(f"select i1 {outside}, ptr {at[first]}, ptr {inside}")


def _mask(v: Lanes, mask: str, row: Index) -> tuple[Num, Num] | None:
    """1 where a sequence has a value and 0 behind its end, and the other way round."""
    if not mask:
        return None
    m = v.spread(mask, row)
    return m, v.number(1.0) - m


def _held(new: Num, old: Num, m: tuple[Num, Num] | None) -> Num:
    return new if m is None else new * m[0] + old * m[1]


def _live(x: Num, m: tuple[Num, Num] | None) -> Num:
    return x if m is None else x * m[0]


def _sum(v: Lanes, x: Num, pointer: str, offset: Index) -> Num:
    """x, and what lies there, if anything does."""
    return x + v.load(pointer, offset) if pointer else x


# -- the plain recurrence --------------------------------------------------------------------------


@_layer("rnn")
def _rnn(site: Site, loop: Loop) -> list[str]:
    x, h, weight = site.step.args
    hidden = h.shape[-1]
    loop.rows(x=x, h=h, states=site.step.out)
    loop.turned(weight=weight)
    multiply, relu = loop.product(hidden, hidden, epilogue=_add()), site.step.params["relu"]

    def body(w: Writer, at: Pointers) -> None:
        with loop.steps(w) as step:
            before, now = step.before(at, "states", "h", hidden), step.now(at, "states", hidden)
            mask = step.now(at, "mask", 1)
            multiply(w, at, before, at["weight"], now, step.now(at, "x", hidden))

            def cell(v: Lanes, spot: Any, row: Index) -> None:
                z = v.load(now, spot())
                zero = v.number(0.0)
                new = v.where_positive(zero - z, zero, z) if relu else v.tanh(z)
                m = _mask(v, mask, row)
                old = new if m is None else v.load(before, spot())
                v.store(_held(new, old, m), now, spot())

            loop.each(w, hidden, cell)

    return loop.write(body)


@_layer("rnn_backward")
def _rnn_backward(site: Site, loop: Loop) -> list[str]:
    weight, states, g = site.step.args
    dz, dh = site.step.outs
    hidden = dz.shape[-1]
    loop.full(weight=weight)
    loop.rows(states=states, g=g, dz=dz, dh=dh)
    multiply, relu = loop.product(hidden, hidden, loop.mask is not None), site.step.params["relu"]

    def body(w: Writer, at: Pointers) -> None:
        loop.fill(w, hidden, at["dh"])
        with loop.steps(w, back=True) as step:
            now = {name: step.now(at, name, hidden) for name in ("states", "g", "dz")}
            mask = step.now(at, "mask", 1)

            def cell(v: Lanes, spot: Any, row: Index) -> None:
                m, h = _mask(v, mask, row), v.load(now["states"], spot())
                total = v.load(at["dh"], spot()) + v.load(now["g"], spot())
                one, zero = v.number(1.0), v.number(0.0)
                slope = v.where_positive(h, one, zero) if relu else one - h * h
                v.store(_live(total * slope, m), now["dz"], spot())
                if m is not None:
                    v.store(total * m[1], at["dh"], spot())

            loop.each(w, hidden, cell)
            multiply(w, at, now["dz"], at["weight"], at["dh"])

    return loop.write(body)


# -- long short-term memory ------------------------------------------------------------------------


@_layer("lstm", "lstm_projected")
def _lstm(site: Site, loop: Loop) -> list[str]:
    x, h, c, weight, *projection = site.step.args
    width, hidden, out = x.shape[-1], c.shape[-1], h.shape[-1]
    states, cells, gates = site.step.outs
    loop.rows(x=x, h=h, c=c, states=states, cells=cells, gates=gates)
    loop.turned(weight=weight)
    multiply = loop.product(width, out, epilogue=_add())
    if projection:
        loop.turned(projection=projection[0])
        loop.room(raw=hidden)
        project = loop.product(out, hidden)

    def body(w: Writer, at: Pointers) -> None:
        with loop.steps(w) as step:
            before = step.before(at, "states", "h", out)
            earlier = step.before(at, "cells", "c", hidden)
            states, cells = step.now(at, "states", out), step.now(at, "cells", hidden)
            gates, mask = step.now(at, "gates", width), step.now(at, "mask", 1)
            multiply(w, at, before, at["weight"], gates, step.now(at, "x", width))

            def cell(v: Lanes, spot: Any, row: Index) -> None:
                i, f, g, o = (v.load(gates, spot(width, k)) for k in range(4))
                i, f, g, o = v.sigmoid(i), v.sigmoid(f), v.tanh(g), v.sigmoid(o)
                for k, gate in enumerate((i, f, g, o)):
                    v.store(gate, gates, spot(width, k))
                m, old = _mask(v, mask, row), v.load(earlier, spot())
                new = f * old + i * g
                v.store(_held(new, old, m), cells, spot())
                value = v.tanh(new) * o
                if projection:
                    v.store(value, at["raw"], spot())
                else:
                    held = value if m is None else _held(value, v.load(before, spot()), m)
                    v.store(held, states, spot())

            loop.each(w, hidden, cell)
            if projection:
                project(w, at, at["raw"], at["projection"], states)
                if mask:
                    _hold(loop, w, states, before, mask, out)

    return loop.write(body)


def _hold(loop: Loop, w: Writer, now: str, before: str, mask: str, width: int) -> None:
    """The state from before, behind the end of a sequence."""

    def body(v: Lanes, spot: Any, row: Index) -> None:
        new, old = v.load(now, spot()), v.load(before, spot())
        v.store(_held(new, old, _mask(v, mask, row)), now, spot())

    loop.each(w, width, body)


@_layer("lstm_backward")
def _lstm_backward(site: Site, loop: Loop) -> list[str]:
    weight, gates, cells, h, c, projection, gh, gc, ga = site.step.args
    dz, dh, dc, *dprojection = site.step.outs
    width, hidden, out = dz.shape[-1], c.shape[-1], h.shape[-1]
    loop.full(weight=weight, projection=projection)
    loop.rows(gates=gates, cells=cells, c=c, gh=gh, gc=gc, ga=ga, dz=dz, dh=dh, dc=dc)
    loop.room(live=out)
    multiply = loop.product(out, width, loop.mask is not None)
    if projection is not None:
        loop.full(dprojection=dprojection[0])
        loop.room(inner=hidden, raw=hidden)
        project, gather = loop.product(hidden, out), loop.outer(out, hidden)

    def body(w: Writer, at: Pointers) -> None:
        loop.fill(w, out, at["dh"])
        loop.fill(w, hidden, at["dc"])
        if projection is not None:
            zeros = Lanes(w, loop.kind, 1, 1)
            with w.turns(out * hidden) as i:
                zeros.store(zeros.number(0.0), at["dprojection"], i)
        with loop.steps(w, back=True) as step:
            mask = step.now(at, "mask", 1)
            _arriving(loop, w, step.now(at, "gh", out), at["dh"], at["live"], mask, out)
            if projection is not None:
                project(w, at, at["live"], at["projection"], at["inner"])
            _lstm_slopes(loop, w, step, at, hidden)
            if projection is not None:
                gather(w, at, at["live"], at["raw"], at["dprojection"])
            multiply(w, at, step.now(at, "dz", width), at["weight"], at["dh"])

    return loop.write(body)


def _arriving(loop: Loop, w: Writer, g: str, dh: str, live: str, mask: str, width: int) -> None:
    """The gradient of a step's state: what goes into the step, and what passes it."""

    def body(v: Lanes, spot: Any, row: Index) -> None:
        m = _mask(v, mask, row)
        total = _sum(v, v.load(dh, spot()), g, spot())
        v.store(_live(total, m), live, spot())
        if m is not None:
            v.store(total * m[1], dh, spot())

    loop.each(w, width, body)


def _lstm_slopes(loop: Loop, w: Writer, step: Moment, at: Pointers, hidden: int) -> None:
    """The gradients of the gates before their functions, and of the cell before the step."""
    width = 4 * hidden
    gates, ga, dz = (step.now(at, name, width) for name in ("gates", "ga", "dz"))
    cells, gc = step.now(at, "cells", hidden), step.now(at, "gc", hidden)
    earlier, mask = step.before(at, "cells", "c", hidden), step.now(at, "mask", 1)
    inner = at.get("inner", at["live"])

    def body(v: Lanes, spot: Any, row: Index) -> None:
        i, f, g, o = (v.load(gates, spot(width, k)) for k in range(4))
        m, one, old = _mask(v, mask, row), v.number(1.0), v.load(earlier, spot())
        squashed = v.tanh(f * old + i * g if m is not None else v.load(cells, spot()))
        if "raw" in at:
            v.store(o * squashed, at["raw"], spot())
        dc, dh = _sum(v, v.load(at["dc"], spot()), gc, spot()), v.load(inner, spot())
        live = _live(dc, m) + dh * o * (one - squashed * squashed)
        slopes = (i - i * i, f - f * f, one - g * g, o - o * o)
        for k, da in enumerate((live * g, live * old, live * i, dh * squashed)):
            v.store(_sum(v, da, ga, spot(width, k)) * slopes[k], dz, spot(width, k))
        passed = live * f
        v.store(passed if m is None else passed + dc * m[1], at["dc"], spot())

    loop.each(w, hidden, body)


# -- gated recurrent unit --------------------------------------------------------------------------


@_layer("gru")
def _gru(site: Site, loop: Loop) -> list[str]:
    x, h, weight, b = site.step.args
    states, gates = site.step.outs
    width, hidden = x.shape[-1], h.shape[-1]
    loop.full(b=b)
    loop.rows(x=x, h=h, states=states, gates=gates)
    loop.turned(weight=weight)
    loop.room(q=width)
    multiply = loop.product(width, hidden, epilogue=bias())

    def body(w: Writer, at: Pointers) -> None:
        with loop.steps(w) as step:
            before, q = step.before(at, "states", "h", hidden), at["q"]
            states, gates = step.now(at, "states", hidden), step.now(at, "gates", 4 * hidden)
            x, mask = step.now(at, "x", width), step.now(at, "mask", 1)
            multiply(w, at, before, at["weight"], q, at["b"])

            def cell(v: Lanes, spot: Any, row: Index) -> None:
                inputs = [v.load(x, spot(width, k)) for k in range(3)]
                r, z, side = (v.load(q, spot(width, k)) for k in range(3))
                r, z = v.sigmoid(r + inputs[0]), v.sigmoid(z + inputs[1])
                new = v.tanh(r * side + inputs[2])
                for k, part in enumerate((r, z, new, side)):
                    v.store(part, gates, spot(4 * hidden, k))
                old = v.load(before, spot())
                value = (old - new) * z + new
                v.store(_held(value, old, _mask(v, mask, row)), states, spot())

            loop.each(w, hidden, cell)

    return loop.write(body)


@_layer("gru_backward")
def _gru_backward(site: Site, loop: Loop) -> list[str]:
    weight, gates, states, h, gh, ga = site.step.args
    dx, dq, dh = site.step.outs
    width, hidden = dx.shape[-1], h.shape[-1]
    loop.full(weight=weight)
    loop.rows(gates=gates, states=states, h=h, gh=gh, ga=ga, dx=dx, dq=dq, dh=dh)
    multiply = loop.product(hidden, width, True)

    def body(w: Writer, at: Pointers) -> None:
        loop.fill(w, hidden, at["dh"])
        with loop.steps(w, back=True) as step:
            _gru_slopes(loop, w, step, at, hidden)
            multiply(w, at, step.now(at, "dq", width), at["weight"], at["dh"])

    return loop.write(body)


def _gru_slopes(loop: Loop, w: Writer, step: Moment, at: Pointers, hidden: int) -> None:
    """Gradients of both sides of the gates, and what passes the step in the state itself."""
    gates, ga = (step.now(at, name, 4 * hidden) for name in ("gates", "ga"))
    dx, dq = (step.now(at, name, 3 * hidden) for name in ("dx", "dq"))
    gh, mask = step.now(at, "gh", hidden), step.now(at, "mask", 1)
    before = step.before(at, "states", "h", hidden)

    def body(v: Lanes, spot: Any, row: Index) -> None:
        r, z, n, side = (v.load(gates, spot(4 * hidden, k)) for k in range(4))
        m, one = _mask(v, mask, row), v.number(1.0)
        total = _sum(v, v.load(at["dh"], spot()), gh, spot())
        live = _live(total, m)

        def given(x: Num, k: int) -> Num:
            return _sum(v, x, ga, spot(4 * hidden, k))

        dn = given(live * (one - z), 2) * (one - n * n)
        dr = given(dn * side, 0) * (r - r * r)
        dz = given(live * (v.load(before, spot()) - n), 1) * (z - z * z)
        for target, last in ((dx, dn), (dq, given(dn * r, 3))):
            for k, part in enumerate((dr, dz, last)):
                v.store(part, target, spot(3 * hidden, k))
        passed = live * z
        v.store(passed if m is None else passed + total * m[1], at["dh"], spot())

    loop.each(w, hidden, body)
