"""Lowering: composite operations written in simpler ones, so that a back end needs few.

A rule is a function in the library's own operations, with the signature of the primitive's
forward pass. It is traced on stand-ins, and its steps take the place of the one it explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.plan import Plan, Step, Value
from fathom.compile.trace import Traced, Tracer
from fathom.engine.primitive import TABLE

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
    from fathom.compile.passes import rewire

    rewire(lowered, new)
    return lowered


def _rename(step: Step, new: dict[Value, Any]) -> None:
    from fathom.compile.plan import replace

    def of(v: Any) -> Any:
        while isinstance(v, Value) and v in new:
            v = new[v]
        return v

    step.args = tuple(of(a) for a in step.args)
    step.params = replace(step.params, of)


def _expand(step: Step) -> tuple[list[Step], list[Value]] | None:
    """The steps a rule makes of one, and the values in the place of its results."""
    name = step.primitive.name
    if name not in RULES or TABLE.get(name) is not step.primitive:
        return None
    tracer = Tracer()

    def stand_in(a: Any) -> Any:
        if not isinstance(a, Value):
            return a
        tracer.examples[a] = np.broadcast_to(np.zeros((), a.dtype), a.shape)
        return Traced(tracer, a)

    with tracer.alone(), np.errstate(all="ignore"):
        made = RULES[name](*map(stand_in, step.args), **step.params)
    if made is None:
        return None
    outs = [tracer.lifted(m).var for m in (made if isinstance(made, tuple) else (made,))]
    for inner in tracer.steps:
        inner.site = step.site
    for old, var in zip(step.outs, outs, strict=True):
        if var.dtype != old.dtype or var.shape != old.shape:
            raise AssertionError(f"lowering {name}: {var!r} in the place of {old!r}")
    return tracer.steps, outs


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
