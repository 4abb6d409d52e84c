"""The time loops of recurrent layers, each one primitive.

The input side of all gates is multiplied beforehand, for all steps at once; what is left is the
loop over time, which runs here without recording each step. The gradient goes back through time
by hand (Werbos, 1990) in ordinary operators: on arrays it is plain NumPy, on tensors it is
recorded, and so second derivatives need nothing more.

Shapes: x (..., time, n, gates), states (..., n, hidden), weights (..., gates, hidden); `mask`
(time, n, 1) is 1 where a sample has a value and 0 behind its end, where the state stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fathom.engine.primitive import Extra, apply, general
from fathom.engine.tape import sum_to
from fathom.engine.tensor import Tensor
from fathom.ops.products import swap
from fathom.ops.shape import concatenate, reshape
from fathom.ops.shape import stack as stack_


def _stack(parts: list[Any]) -> Any:
    """Steps side by side on the time axis, which is the third from the end."""
    if all(isinstance(p, np.ndarray) for p in parts):
        return np.stack(parts, axis=-3)
    return stack_(parts, axis=-3)


def _join(parts: list[Any], axis: int = -1) -> Any:
    if all(isinstance(p, np.ndarray) for p in parts):
        return np.concatenate(parts, axis=axis)
    return concatenate(parts, axis)


def _turned(x: Any) -> Any:
    return np.swapaxes(x, -1, -2) if isinstance(x, np.ndarray) else swap(x)


def _steps(count: int, reverse: bool) -> Iterable[int]:
    return range(count - 1, -1, -1) if reverse else range(count)


def _at(x: Any, t: int) -> Any:
    return None if x is None else x[..., t, :, :]


def _before(states: Any, first: Any, t: int, reverse: bool) -> Any:
    """The state that step t started from."""
    earlier = t + 1 if reverse else t - 1
    return _at(states, earlier) if 0 <= earlier < states.shape[-3] else first


def _all_before(states: Any, first: Any, reverse: bool) -> Any:
    """The states all steps started from, (..., time, n, hidden)."""
    edge = reshape(first, (*first.shape[:-2], 1, *first.shape[-2:]))
    if states.shape[-3] == 1:
        return edge
    if reverse:
        return _join([states[..., 1:, :, :], edge], -3)
    return _join([edge, states[..., :-1, :, :]], -3)


def _flat(x: Any) -> Any:
    return reshape(x, (*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1]))


def _weight_gradient(dz: Any, states: Any, first: Any, reverse: bool) -> Any:
    return swap(_flat(dz)) @ _flat(_all_before(states, first, reverse))


def _sum(*parts: Any) -> Any:
    """The sum of the parts that are there; None if there is none."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def _held(new: Any, old: Any, m: Any) -> Any:
    return new if m is None else new * m + old * (1.0 - m)


def _masked(x: Any, m: Any) -> Any:
    return x if m is None or x is None else x * m


def _kept(x: Any, m: Any) -> Any:
    """What passes a step unchanged: nothing without a mask."""
    return None if m is None or x is None else x * (1.0 - m)


def _rules(backward: Callable[..., tuple[Any, ...]], count: int) -> tuple[Callable[..., Any], ...]:
    """One vjp an input; the way back through time is gone once for all of them."""

    def rule(i: int) -> Callable[..., Any]:
        def vjp(g: Any, out: Any, *ins: Any, extra: Any = None, **params: Any) -> Any:
            memo: dict[str, Any] = {} if extra is None else extra[0]
            if memo.get("of") is not g:
                memo["of"], memo["found"] = g, list(backward(g, out, *ins, **params))
            found = memo["found"][i]
            memo["found"][i] = None  # each is asked for once
            return found if found is not None else backward(g, out, *ins, **params)[i]

        return vjp

    return tuple(rule(i) for i in range(count))


def _way_back(name: str, walk: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """A loop back through time; in a plan (`fathom.compile`) it is one step of that name.

    It takes the weight and the forward pass's (..., time, n, width) first, gradients last.
    """

    def cost(w: tuple[int, ...], steps: tuple[int, ...], *others: Any, **params: Any) -> float:
        return float(math.prod(steps[:-1]) * math.prod(w[-2:]))

    primitive = general(name, walk, casts=True, cost=cost)

    def run(*args: Any, **params: Any) -> tuple[Any, ...]:
        traced = any(isinstance(a, Tensor) and a.traced for a in args)
        found: tuple[Any, ...] = (primitive if traced else walk)(*args, **params)
        return found

    return run


def _tangents(
    forward: Callable[..., tuple[Any, ...]], count: int
) -> tuple[Callable[..., Any], ...]:
    """One jvp an input: the loop with the tangents of the others at None."""

    def rule(i: int) -> Callable[..., Any]:
        def jvp(t: Any, out: Any, *ins: Any, **params: Any) -> Any:
            given = [t if k == i else None for k in range(count)]
            return forward(given, out, *ins, **params)

        return jvp

    return tuple(rule(i) for i in range(count))


def _cost(x: tuple[int, ...], *others: Any, **params: Any) -> float:
    """Multiply-adds of the hidden side, from the shapes."""
    gates, hidden = next(s for s in reversed(others) if s and s[-2:-1] == x[-1:])[-2:]
    return float(math.prod(x[:-1]) * gates * hidden)


def _spread(x: Any, like: Any) -> Any:
    """A tangent of zeros in place of None."""
    return like * 0.0 if x is None else x


def _product(th: Any, tw: Any, before: Any, w: Any) -> Any:
    """The tangent of before @ w.T."""
    return _sum(None if th is None else th @ swap(w), None if tw is None else before @ swap(tw))


# -- the plain recurrence (Elman, 1990) ------------------------------------------------------------


def _rnn(x: Any, h: Any, w: Any, relu: bool, mask: Any, reverse: bool) -> Any:
    back = np.swapaxes(w, -1, -2)
    states = np.empty((*x.shape[:-1], h.shape[-1]), x.dtype)
    for t in _steps(x.shape[-3], reverse):
        z = np.matmul(h, back)
        z += x[..., t, :, :]
        z = np.maximum(z, 0.0, out=z) if relu else np.tanh(z, out=z)
        h = _held(z, h, _at(mask, t))
        states[..., t, :, :] = h
    return states, Extra(({},))


def _rnn_slope(h: Any, relu: bool) -> Any:
    return (h > 0.0).astype(h.dtype) if relu else 1.0 - h * h


def _rnn_walk(w: Any, out: Any, g: Any, relu: bool, mask: Any, reverse: bool) -> tuple[Any, ...]:
    count = out.shape[-3]
    dz: list[Any] = [None] * count
    dh = None
    for t in _steps(count, not reverse):
        m = _at(mask, t)
        dh = _sum(dh, _at(g, t))
        dz[t] = _masked(dh * _rnn_slope(_at(out, t), relu), m)
        dh = _sum(dz[t] @ w, _kept(dh, m))
    return _stack(dz), dh


_rnn_gradients = _way_back("rnn_backward", _rnn_walk)


def _rnn_back(
    g: Any, out: Any, x: Any, h0: Any, w: Any, relu: bool, mask: Any, reverse: bool
) -> tuple[Any, ...]:
    dz, dh = _rnn_gradients(w, out, g, relu=relu, mask=mask, reverse=reverse)
    return dz, dh, _weight_gradient(dz, out, h0, reverse)


def _rnn_push(
    given: Any, out: Any, x: Any, h0: Any, w: Any, relu: bool, mask: Any, reverse: bool
) -> Any:
    tx, th, tw = given
    states: list[Any] = [None] * x.shape[-3]
    for t in _steps(x.shape[-3], reverse):
        m, h = _at(mask, t), _at(out, t)
        tz = _sum(_at(tx, t), _product(th, tw, _before(out, h0, t, reverse), w))
        new = None if tz is None else _masked(tz * _rnn_slope(h, relu), m)
        th = _spread(_sum(new, _kept(th, m)), h)
        states[t] = th
    return _stack(states)


_rnn_primitive = general(
    "rnn",
    _rnn,
    vjp=_rules(_rnn_back, 3),
    jvp=_tangents(_rnn_push, 3),
    saves="in out",
    batch="native",
    cost=_cost,
)


def rnn(x: Any, h: Any, w: Any, relu: bool = False, mask: Any = None, reverse: bool = False) -> Any:
    """h_t = tanh(x_t + h_(t-1) @ w.T) for all t: the states (..., time, n, hidden)."""
    return apply(_rnn_primitive, x, h, w, relu=relu, mask=mask, reverse=reverse)


# -- long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate Gers et al., 2000) --------


def _gates(z: Any, hidden: int) -> None:
    """In place: sigmoid of input, forget and output gate, tanh of the candidate."""
    scale = np.full(4 * hidden, 0.5, z.dtype)
    scale[2 * hidden : 3 * hidden] = 1.0
    z *= scale  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    np.tanh(z, out=z)
    z *= scale
    z[..., : 2 * hidden] += 0.5
    z[..., 3 * hidden :] += 0.5


def _parts(a: Any, hidden: int, count: int) -> list[Any]:
    return [a[..., k * hidden : (k + 1) * hidden] for k in range(count)]


def _lstm(x: Any, h: Any, c: Any, w: Any, wr: Any, mask: Any, reverse: bool) -> Any:
    hidden, back = c.shape[-1], np.swapaxes(w, -1, -2)
    project = None if wr is None else np.swapaxes(wr, -1, -2)
    gates = np.empty(x.shape, x.dtype)
    states = np.empty((*x.shape[:-1], h.shape[-1]), x.dtype)
    cells = np.empty((*x.shape[:-1], hidden), x.dtype)
    for t in _steps(x.shape[-3], reverse):
        z, m = np.matmul(h, back), _at(mask, t)
        z += x[..., t, :, :]
        _gates(z, hidden)
        i, f, g, o = _parts(z, hidden, 4)
        new = f * c
        new += i * g
        out = np.tanh(new)
        out *= o
        if project is not None:
            out = np.matmul(out, project)
        c, h = _held(new, c, m), _held(out, h, m)
        gates[..., t, :, :], states[..., t, :, :], cells[..., t, :, :] = z, h, c
    return states, cells, gates, Extra(({},))


def _tanh(x: Any) -> Any:
    return np.tanh(x) if isinstance(x, np.ndarray) else x.tanh()


def _gate_slopes(a: Any, hidden: int) -> Any:
    """The slope of each activated gate, from its value."""
    i, f, g, o = _parts(a, hidden, 4)
    return _join([i - i * i, f - f * f, 1.0 - g * g, o - o * o])


def _lstm_walk(
    w: Any, gates: Any, cells: Any, h0: Any, c0: Any, wr: Any, gh: Any, gc: Any, ga: Any,
    mask: Any, reverse: bool,
) -> tuple[Any, ...]:  # fmt: skip
    hidden, count = c0.shape[-1], gates.shape[-3]
    dz: list[Any] = [None] * count
    raw: list[Any] = [None] * count  # before the projection: value and gradient
    dh: Any = None
    dc: Any = None
    zero = h0 * 0.0
    for t in _steps(count, not reverse):
        m, a, before = _at(mask, t), _at(gates, t), _before(cells, c0, t, reverse)
        i, f, candidate, o = _parts(a, hidden, 4)
        dh, dc = _sum(dh, _at(gh, t)), _sum(dc, _at(gc, t))
        live_h = _masked(zero if dh is None else dh, m)
        squashed = _tanh(f * before + i * candidate if m is not None else _at(cells, t))
        inner = live_h if wr is None else live_h @ wr
        if wr is not None:
            raw[t] = _turned(live_h) @ (o * squashed)
        live_c = _sum(_masked(dc, m), inner * o * (1.0 - squashed * squashed))
        da = _join([live_c * candidate, live_c * before, live_c * i, inner * squashed])
        if ga is not None:
            da = da + _at(ga, t)
        dz[t] = da * _gate_slopes(a, hidden)
        dh, dc = _sum(dz[t] @ w, _kept(dh, m)), _sum(live_c * f, _kept(dc, m))
    return (_stack(dz), dh, dc) if wr is None else (_stack(dz), dh, dc, _sum(*raw))


_lstm_gradients = _way_back("lstm_backward", _lstm_walk)


def _lstm_back(
    g: Any, out: Any, x: Any, h0: Any, c0: Any, w: Any, wr: Any, mask: Any, reverse: bool
) -> tuple[Any, ...]:
    states, cells, gates = out
    dz, dh, dc, *dwr = _lstm_gradients(w, gates, cells, h0, c0, wr, *g, mask=mask, reverse=reverse)
    return dz, dh, dc, _weight_gradient(dz, states, h0, reverse), *dwr


def _lstm_push(
    given: Any, out: Any, x: Any, h0: Any, c0: Any, w: Any, wr: Any, mask: Any, reverse: bool
) -> Any:
    tx, th, tc, tw, twr = given
    states, cells, gates = out
    hidden, count = c0.shape[-1], x.shape[-3]
    rows: list[list[Any]] = [[None] * count for _ in range(3)]
    for t in _steps(count, reverse):
        m, a, before = _at(mask, t), _at(gates, t), _before(cells, c0, t, reverse)
        i, f, candidate, o = _parts(a, hidden, 4)
        tz = _sum(_at(tx, t), _product(th, tw, _before(states, h0, t, reverse), w))
        ta = _spread(tz, a) * _gate_slopes(a, hidden)
        ti, tf, tg, to = _parts(ta, hidden, 4)
        squashed = _tanh(f * before + i * candidate if m is not None else _at(cells, t))
        new = _sum(tf * before + ti * candidate + i * tg, None if tc is None else f * tc)
        inner = to * squashed + o * (1.0 - squashed * squashed) * new
        if wr is not None:
            inner = _sum(inner @ swap(wr), None if twr is None else (o * squashed) @ swap(twr))
        tc = _sum(_masked(new, m), _kept(tc, m))
        th = _sum(_masked(inner, m), _kept(th, m))
        rows[0][t], rows[1][t], rows[2][t] = th, tc, ta
    return tuple(_stack(r) for r in rows)


_lstm_primitive = general(
    "lstm",
    lambda x, h, c, w, mask, reverse: _lstm(x, h, c, w, None, mask, reverse),
    vjp=_rules(lambda g, out, x, h, c, w, **p: _lstm_back(g, out, x, h, c, w, None, **p), 4),
    jvp=_tangents(
        lambda given, out, x, h, c, w, **p: _lstm_push((*given, None), out, x, h, c, w, None, **p),
        4,
    ),
    saves="in out",
    batch="native",
    cost=_cost,
)
_lstm_projected = general(
    "lstm_projected",
    _lstm,
    vjp=_rules(_lstm_back, 5),
    jvp=_tangents(_lstm_push, 5),
    saves="in out",
    batch="native",
    cost=_cost,
)


def lstm(
    x: Any, h: Any, c: Any, w: Any, projection: Any = None, mask: Any = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Hidden and cell states (..., time, n, hidden); x holds the gates in, forget, cell, out."""
    if projection is None:
        states, cells, _ = apply(_lstm_primitive, x, h, c, w, mask=mask, reverse=reverse)
    else:
        states, cells, _ = apply(
            _lstm_projected, x, h, c, w, projection, mask=mask, reverse=reverse
        )
    return states, cells


# -- gated recurrent unit (Cho et al., 2014) -------------------------------------------------------


def _gru(x: Any, h: Any, w: Any, b: Any, mask: Any, reverse: bool) -> Any:
    hidden, back = h.shape[-1], np.swapaxes(w, -1, -2)
    bias = b[..., None, :]
    gates = np.empty(
        (*x.shape[:-1], 4 * hidden), x.dtype
    )  # reset, update, new, and its hidden side
    states = np.empty((*x.shape[:-1], hidden), x.dtype)
    for t in _steps(x.shape[-3], reverse):
        q, now = np.matmul(h, back), x[..., t, :, :]
        q += bias
        rz = q[..., : 2 * hidden] + now[..., : 2 * hidden]
        rz *= 0.5
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        r, z = rz[..., :hidden], rz[..., hidden:]
        side = q[..., 2 * hidden :]
        n = r * side
        n += now[..., 2 * hidden :]
        np.tanh(n, out=n)
        new = h - n
        new *= z
        new += n
        gates[..., t, :, : 2 * hidden] = rz
        gates[..., t, :, 2 * hidden : 3 * hidden] = n
        gates[..., t, :, 3 * hidden :] = side
        h = _held(new, h, _at(mask, t))
        states[..., t, :, :] = h
    return states, gates, Extra(({},))


def _gru_walk(
    w: Any, gates: Any, states: Any, h0: Any, gh: Any, ga: Any, mask: Any, reverse: bool
) -> tuple[Any, ...]:
    hidden, count = h0.shape[-1], gates.shape[-3]
    dx: list[Any] = [None] * count
    dq: list[Any] = [None] * count
    dh: Any = None
    zero = h0 * 0.0
    for t in _steps(count, not reverse):
        m, before = _at(mask, t), _before(states, h0, t, reverse)
        r, z, n, side = _parts(_at(gates, t), hidden, 4)
        dh = _spread(_sum(dh, _at(gh, t)), zero)
        live = _masked(dh, m)
        dn, dz = live * (1.0 - z), live * (before - n)
        gr = gz = gs = None
        if ga is not None:
            gr, gz, gn, gs = _parts(_at(ga, t), hidden, 4)
            dn, dz = dn + gn, _sum(dz, gz)
        dn = dn * (1.0 - n * n)
        dr = _sum(dn * side, gr) * (r - r * r)
        dz = dz * (z - z * z)
        dx[t] = _join([dr, dz, dn])
        dq[t] = _join([dr, dz, _sum(dn * r, gs)])
        dh = _sum(dq[t] @ w, live * z, _kept(dh, m))
    return _stack(dx), _stack(dq), dh


_gru_gradients = _way_back("gru_backward", _gru_walk)


def _gru_back(
    g: Any, out: Any, x: Any, h0: Any, w: Any, b: Any, mask: Any, reverse: bool
) -> tuple[Any, ...]:
    states, gates = out
    dx, dq, dh = _gru_gradients(w, gates, states, h0, *g, mask=mask, reverse=reverse)
    db = sum_to(dq, (*b.shape[:-1], 1, 1, b.shape[-1]))
    return dx, dh, _weight_gradient(dq, states, h0, reverse), reshape(db, b.shape)


def _gru_push(
    given: Any, out: Any, x: Any, h0: Any, w: Any, b: Any, mask: Any, reverse: bool
) -> Any:
    tx, th, tw, tb = given
    states, gates = out
    hidden, count = h0.shape[-1], x.shape[-3]
    rows: list[list[Any]] = [[None] * count for _ in range(2)]
    bias = None if tb is None else reshape(tb, (*tb.shape[:-1], 1, tb.shape[-1]))
    for t in _steps(count, reverse):
        m, before = _at(mask, t), _before(states, h0, t, reverse)
        r, z, n, side = _parts(_at(gates, t), hidden, 4)
        zero = x[..., t, :, :] * 0.0
        tq = _sum(zero, bias, _product(th, tw, before, w))
        qr, qz, qn = _parts(tq, hidden, 3)
        xr, xz, xn = _parts(_spread(_at(tx, t), zero), hidden, 3)
        tr, tz = (qr + xr) * (r - r * r), (qz + xz) * (z - z * z)
        tn = (xn + tr * side + r * qn) * (1.0 - n * n)
        new = _sum(tn * (1.0 - z) + tz * (before - n), None if th is None else z * th)
        th = _sum(_masked(new, m), _kept(th, m))
        rows[0][t], rows[1][t] = th, _join([tr, tz, tn, qn])
    return tuple(_stack(r) for r in rows)


_gru_primitive = general(
    "gru",
    _gru,
    vjp=_rules(_gru_back, 4),
    jvp=_tangents(_gru_push, 4),
    saves="in out",
    batch="native",
    cost=_cost,
)


def gru(x: Any, h: Any, w: Any, b: Any, mask: Any = None, reverse: bool = False) -> Any:
    """The states (..., time, n, hidden); x holds the gates reset, update, new."""
    states, _ = apply(_gru_primitive, x, h, w, b, mask=mask, reverse=reverse)
    return states
