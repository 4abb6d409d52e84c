"""Lowering: composite operations written in simpler ones, so that a back end needs few.

A rule is a function in the library's own operations, with the signature of the primitive's
forward pass. It is traced on stand-ins, and its steps take the place of the one it explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.passes import rewire
from fathom.compile.plan import Plan, Step, Value, replace
from fathom.compile.trace import Traced, Tracer
from fathom.engine.primitive import TABLE
from fathom.ops.expression import substitute
from fathom.ops.formula import Plan as FormulaPlan

RULES: dict[str, Callable[..., Any]] = {}


def rule(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare how a primitive is made of others."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES[name] = function
        return function

    return declare


def lower(plan: Plan) -> Plan:
    """The plan with every composite operation replaced, as often as rules apply."""
    new: dict[Value, Any] = {}
    steps: list[Step] = []
    waiting = plan.steps[::-1]
    while waiting:
        step = waiting.pop()
        _rename(step, new)
        found = _expand(step)
        if found is None:
            steps.append(step)
            continue
        inner, outs = found
        for old, made in zip(step.outs, outs, strict=True):
            new[old] = made
        waiting.extend(reversed(inner))
    lowered = Plan(
        steps, plan.outputs, plan.writes, plan.gradients, plan.checks, plan.counters,
        plan.guards, plan.name, plan.notes,
    )  # fmt: skip
    rewire(lowered, new)
    return lowered


def _rename(step: Step, new: dict[Value, Any]) -> None:
    def of(v: Any) -> Any:
        while isinstance(v, Value) and v in new:
            v = new[v]
        return v

    step.args = tuple(of(a) for a in step.args)
    step.params = replace(step.params, of)


def _expand(step: Step) -> tuple[list[Step], list[Value]] | None:
    """The steps a rule makes of one, and the values in the place of its results."""
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
        made = write(*map(stand_in, step.args), **step.params)
        if made is None:
            return None
        found = made if isinstance(made, tuple) else (made,)
        outs = [
            _settled(tracer.lifted(m), old).var for m, old in zip(found, step.outs, strict=True)
        ]
    for inner in tracer.steps:
        inner.site = step.site
    return tracer.steps, outs


def _rule_of(step: Step) -> Callable[..., Any] | None:
    """The function that explains a step: a rule of the table, or the expression of a formula."""
    primitive = step.primitive
    if primitive.form == "elementwise" and isinstance(primitive.forward, FormulaPlan):
        expr, names = primitive.forward.root, primitive.forward.names
        return lambda *args: substitute(expr, dict(zip(names, args, strict=True)))
    known = TABLE.get(primitive.name) is primitive
    return RULES.get(primitive.name) if known else None


def _settled(made: Traced, old: Value) -> Traced:
    """A result in the dtype and shape that was noted."""
    if made.dtype != old.dtype:
        made = made.astype(old.dtype)
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
    out = _op("matmul")(rows, _op("permute")(weight, axes=(1, 0))) + bias
    return out.reshape((*x.shape[:-1], weight.shape[0]))


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


@rule("logsumexp")
def _logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    return None


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
