"""The cells of recurrent layers as native code: one function a layer and direction.

Each step of time is one generated product of the hidden side, and one pass of explicit vectors
that does all else in it: gates, cell, and what is held behind the end of a sequence. The way
back is built alike; the gradients of the weights are ordinary products over all steps, in the
plan behind it. Weights are turned round once, before the loop, so that products read rows.
"""

from __future__ import annotations

from typing import Any

from fathom.compile.native.custom import Site
from fathom.compile.native.gemm import Epilogue, Spot, bias
from fathom.compile.native.lanes import Lanes, Num
from fathom.compile.native.text import Index, Writer
from fathom.compile.native.time_loop import Loop, Moment, Pointers, layer


def _add() -> Epilogue:
    """Add an array laid out like the product."""

    def emit(spot: Spot, value: str) -> str:
        return spot.w.op(f"fadd {spot.type} {value}, {spot.load('%plus')}")

    return Epilogue(emit, ("%plus",))


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


@layer("rnn")
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


@layer("rnn_backward")
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


@layer("lstm", "lstm_projected")
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


@layer("lstm_backward")
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


@layer("gru")
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


@layer("gru_backward")
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
