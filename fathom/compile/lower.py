"""Lowering: composite operations written in simpler ones, so that a back end needs few.

A rule is a function in the library's own operations, with the signature of the primitive's
forward pass. It is traced on stand-ins, and its steps take the place of the one it explains.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.passes import rewire
from fathom.compile.plan import Plan, Step, Value, replace
from fathom.compile.trace import Tracer
from fathom.compile.traced import Traced
from fathom.engine.primitive import TABLE
from fathom.engine.tensor import Tensor
from fathom.ops.expression import Expr
from fathom.ops.formula import Plan as FormulaPlan

RULES: dict[str, Callable[..., Any]] = {}
CHECKS: dict[str, Callable[..., Any]] = {}  # of NumPy code that only checks its argument
MANY = 1 << 22  # comparisons that are not worth a search
HOSTS: dict[str, Callable[..., Any]] = {}  # of other NumPy code that `on_arrays` runs


def rule(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare how a primitive is made of others."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES[name] = function
        return function

    return declare


def check(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare when a check is passed, in operations: (what it returns, whether all is well)."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        CHECKS[name] = function
        return function

    return declare


def host(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what NumPy code that `on_arrays` runs does, in operations."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        HOSTS[name] = function
        return function

    return declare


def lower(plan: Plan) -> Plan:
    """The plan with every composite operation replaced, as often as rules apply.

    A check that NumPy made becomes a value that must be true; if it is not, the check itself is
    run for its message.
    """
    new: dict[Value, Any] = {}
    checks = list(plan.checks)
    steps: list[Step] = []
    waiting = plan.steps[::-1]
    while waiting:
        step = waiting.pop()
        _rename(step, new)
        found = _expand(step)
        if found is None:
            steps.append(step)
            continue
        inner, outs, truth = found
        if truth is not None:
            checks.append((truth, step))
        for old, made in zip(step.outs, outs, strict=True):
            new[old] = made
        waiting.extend(reversed(inner))
    lowered = Plan(
        steps, plan.outputs, plan.writes, plan.gradients, checks, plan.counters,
        plan.guards, plan.name, plan.notes,
    )  # fmt: skip
    rewire(lowered, new)
    _squeeze(lowered)
    return lowered


def _squeeze(plan: Plan) -> None:
    """A reduction that keeps its axes, only for them to be taken away, does not keep them.

    So the gradient of a bias is a value of its own, and not another one's memory.
    """
    users: dict[Value, list[Step]] = {}
    for step in plan.steps:
        for v in step.inputs():
            users.setdefault(v, []).append(step)
    kept, gone = set(plan.results()), set()
    for step in plan.steps:
        axes = step.params.get("axis")
        if step.params.get("keepdims") is not True or not isinstance(axes, tuple):
            continue
        after = users.get(step.out, []) if step.out not in kept else []
        if len(after) != 1 or after[0].primitive is not TABLE["reshape"]:
            continue
        if after[0].out.shape == tuple(np.delete(step.out.shape, axes).tolist()):
            step.params = {**step.params, "keepdims": False}
            step.outs = after[0].outs
            step.out.origin = step
            gone.add(after[0])
    plan.steps = [s for s in plan.steps if s not in gone]


def _rename(step: Step, new: dict[Value, Any]) -> None:
    def of(v: Any) -> Any:
        while isinstance(v, Value) and v in new:
            v = new[v]
        return v

    step.args = tuple(of(a) for a in step.args)
    step.params = replace(step.params, of)


def _expand(step: Step) -> tuple[list[Step], list[Value], Value | None] | None:
    """The steps a rule makes of one, the values in the place of its results, what must hold."""
    write = _rule_of(step)
    if write is None:
        return None
    tracer = Tracer()

    def stand_in(a: Any) -> Any:
        if not isinstance(a, Value):
            return a
        tracer.examples[a] = np.broadcast_to(np.zeros((), a.dtype), a.shape)
        return Traced(tracer, a)

    with tracer.alone(), np.errstate(all="ignore"):
        options = step.params if step.primitive.listed else replace(step.params, stand_in)
        made = write(*map(stand_in, step.args), **options)
        if made is None:
            return None
        truth = None
        if step.primitive.name in CHECKS:
            made, truth = made[0], tracer.lifted(made[1]).ref
        found = made if isinstance(made, tuple) else (made,)
        outs = [
            _settled(tracer.lifted(m), old).ref for m, old in zip(found, step.outs, strict=True)
        ]
    for inner in tracer.steps:
        inner.site = step.site
    return tracer.steps, outs, truth


def _rule_of(step: Step) -> Callable[..., Any] | None:
    """The function that explains a step: a rule of the table, or the expression of a formula."""
    primitive = step.primitive
    if primitive.form == "elementwise" and isinstance(primitive.forward, FormulaPlan):
        expr, names = primitive.forward.root, primitive.forward.names
        return lambda *args: _worked_out(expr, dict(zip(names, args, strict=True)))
    if not primitive.listed:
        return CHECKS.get(primitive.name) or HOSTS.get(primitive.name)
    known = TABLE.get(primitive.name) is primitive
    return RULES.get(primitive.name) if known else None


def _worked_out(expr: Expr, values: dict[str, Any]) -> Any:
    """A formula in operations; what is made of numbers alone is a number."""
    found: dict[Expr, Any] = {}
    for e in expr.nodes():
        parts = [found[a] for a in e.args]
        if not parts:
            found[e] = values[e.value] if e.op == "variable" else e.value
        elif any(isinstance(x, Tensor) for x in parts):
            found[e] = TABLE[e.op](*parts)
        else:
            found[e] = float(TABLE[e.op].forward(*map(np.float64, parts)))
    return found[expr]


def _settled(made: Traced, old: Value) -> Traced:
    """A result in the dtype and shape that was noted."""
    if made.dtype != old.dtype:
        made = TABLE["astype"](made, dtype=old.dtype)
    if made.shape != old.shape:
        made = TABLE["broadcast_to"](made, shape=old.shape)
    return made


# -- rules -----------------------------------------------------------------------------------------


def _op(name: str) -> Any:
    return TABLE[name]


def _sum(x: Any, axis: Any, keepdims: bool = True) -> Any:
    return _op("sum")(x, axis=axis, keepdims=keepdims)


@rule("linear")
def _linear(x: Any, weight: Any, bias: Any) -> Any:
    rows = x.reshape((-1, x.shape[-1]))
    out = _op("matmul")(rows, _op("permute")(weight, axes=(1, 0)))
    return out.reshape((*x.shape[:-1], weight.shape[0])) + bias  # beside what follows it


@rule("mean")
def _mean(x: Any, axis: Any, keepdims: bool) -> Any:
    n = math.prod(x.shape[a] for a in axis)
    if not n:
        return None
    return _sum(x, axis, keepdims) * (1.0 / n)


@rule("softmax")
def _softmax(x: Any, axis: int) -> Any:
    e = _op("exp")(x - _op("amax")(x, axis=(axis,), keepdims=True))
    return e / _sum(e, (axis,))


@rule("log_softmax")
def _log_softmax(x: Any, axis: int) -> Any:
    shifted = x - _op("amax")(x, axis=(axis,), keepdims=True)
    return shifted - _op("log")(_sum(_op("exp")(shifted), (axis,)))


@rule("cross_entropy")
def _cross_entropy(x: Any, target: Any) -> Any:
    if x.shape[1] > 64:
        return None
    logs = _log_softmax(x, 1)
    hit = _op("equal")(target.reshape((-1, 1)), np.arange(x.shape[1]))
    return -_sum(_op("where")(hit, logs, 0.0), (1,), False), logs


@rule("standardize")
def _standardize(x: Any, axis: Any, eps: float) -> Any:
    share = 1.0 / math.prod(x.shape[a] for a in axis)
    mean = _sum(x, axis) * share
    centred = x - mean
    var = _sum(centred * centred, axis) * share
    return centred / _op("sqrt")(var + eps), mean, var


@rule("x_log_x")
def _x_log_x(x: Any) -> Any:
    where, zero = _op("where"), x == 0.0
    return where(zero, 0.0, x * _op("log")(where(zero, 1.0, x)))


@rule("median")
def _median(x: Any, axis: int, keepdims: bool) -> Any:
    n, before = x.shape[axis], (slice(None),) * axis
    order = _op("argsort")(x, axis=axis, descending=False)
    last, out = (
        _op("take_along_axis")(x, order[(*before, slice(k, k + 1))], axis=axis)
        for k in (n - 1, (n - 1) // 2)
    )
    if x.dtype.kind == "f":  # a nan is sorted last
        out = _op("where")(last != last, last, out)
    return out if keepdims else out.reshape((*x.shape[:axis], *x.shape[axis + 1 :]))


@host("trust")
def _trust(w: Any, step: Any, largest: Any) -> Any:
    """Of LAMB and LARS: the length of the weights over that of the step."""
    size, length = (
        _op("sqrt")(_sum(x * x, tuple(range(x.ndim)), False)).astype(np.float64) for x in (w, step)
    )
    fine = _op("logical_and")(size > 0.0, length > 0.0)
    ratio = _op("minimum")(size, largest) / _op("where")(fine, length, 1.0)
    return _op("where")(fine, ratio, 1.0)


@host("outside")
def _outside(corners: Any, shape: tuple[int, ...], size: int, dtype: Any) -> Any:
    """Of DropBlock: 0 in the blocks that begin at the corners, elsewhere one number."""
    dropped, whole = corners, [(0, 0)] * corners.ndim
    for axis in range(2, corners.ndim):
        parts = []
        for i in range(size):
            widths = (*whole[:axis], (i, size - 1 - i), *whole[axis + 1 :])
            parts.append(_op("pad")(dropped, widths=widths, value=False))
        dropped = functools.reduce(_op("logical_or"), parts)
    keep = _op("logical_not")(dropped).astype(dtype)
    share = _sum(keep, tuple(range(keep.ndim))) * (1.0 / math.prod(shape))
    some = share > 0.0
    return keep * _op("where")(some, 1.0 / _op("where")(some, share, 1.0), 0.0)


def _counts(places: Any, rows: int) -> Any:
    """How often each of the numbers below `rows` occurs."""
    return _op("add_rows")(np.ones(places.shape), places, rows=rows)


@host("frequency")
def _frequency(index: Any, rows: int, dtype: Any) -> Any:
    counts = _counts(index.reshape(-1), rows)
    return _op("take_rows")((1.0 / _op("maximum")(counts, 1.0)).astype(dtype), index)


@host("bag_of")
def _bag_of(starts: Any, n: int) -> Any:
    if n * starts.shape[0] > MANY:
        return None
    begun = (starts.reshape((1, -1)) <= np.arange(n).reshape(-1, 1)).astype(np.int64)
    return _sum(begun, (1,), False) - 1


@host("without")
def _without(bag: Any, flat: Any, skip: int, count: int) -> Any:
    return _op("where")(flat == skip, count, bag)


@host("shares")
def _shares(bag: Any, count: int, dtype: Any) -> Any:
    counts = _counts(bag, count + 1)[:count]  # rows left out are in the last one
    return (1.0 / _op("maximum")(counts, 1.0)).astype(dtype)


# -- checks ----------------------------------------------------------------------------------------


def _all(truth: Any) -> Any:
    return _op("all")(truth, axis=tuple(range(truth.ndim)), keepdims=False)


def _within(x: Any, low: Any, below: Any) -> Any:
    return _op("logical_and")(x >= low, x < below)


@check("check_labels")
def _check_labels(labels: Any, classes: int, ignore_index: int) -> Any:
    fine = _within(labels, 0, classes)
    if not 0 <= ignore_index < classes:
        fine = _op("logical_or")(fine, labels == ignore_index)
    return labels.astype(np.int64), _all(fine)


@check("check_rows")
def _check_rows(index: Any, name: str, rows: int) -> Any:
    return index, _all(_within(index, 0, rows))


@check("check_starts")
def _check_starts(starts: Any, n: int) -> Any:
    found = starts.astype(np.int64)
    inside = _op("logical_and")(_all(found[:1] == 0), _all(found[-1:] <= n))
    return found, _op("logical_and")(inside, _all(found[1:] >= found[:-1]))


@check("check_classes")
def _check_classes(labels: Any, classes: int) -> Any:
    return labels, _all(_within(labels, 0, classes))


@check("check_probabilities")
def _check_probabilities(x: Any) -> Any:
    return x, _all(_op("logical_not")(_op("logical_or")(x < 0.0, x > 1.0)))


@check("check_signs")
def _check_signs(y: Any, name: str) -> Any:
    return y, _all(_op("logical_or")(y == 1, y == -1))
