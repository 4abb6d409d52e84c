"""Passes over a plan: what is never used, what is computed twice, what is known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.compile.plan import Plan, Step, Value, replace
from fathom.engine.primitive import TABLE


def optimize(plan: Plan) -> Plan:
    """All passes that leave every bit of the results as it is."""
    folded = fold_identities(plan)
    shared = share(plan)
    dropped = drop_unused(plan)
    keep_old_values(plan)
    plan.notes.append(
        f"{folded} operations that change nothing, {shared} computed twice and {dropped} that "
        "nobody uses were left out"
    )
    return plan


def keep_old_values(plan: Plan) -> int:
    """Copy what is given away and shows memory that the plan writes at its end."""
    targets = {id(t) for t, _ in plan.writes}
    written = {v for v in plan.inputs() if id(v.origin) in targets}
    for step in plan.steps:
        if any(source in written for source in sources(step)):
            written.update(step.outs)
    new: dict[Value, Value] = {}
    for v in plan.results():
        if v in written and v not in new:
            step = Step(TABLE["constant_of"], (v,), {}, ())
            step.outs = (Value("computed", v.shape, v.dtype, step),)
            new[v] = step.out
            plan.steps.append(step)
    plan.outputs = [new.get(v, v) for v in plan.outputs]
    plan.writes = [(t, new.get(v, v)) for t, v in plan.writes]
    plan.gradients = [(t, None if v is None else new.get(v, v)) for t, v in plan.gradients]
    return len(new)


def rewire(plan: Plan, new: dict[Value, Any]) -> None:
    """Put other values in the place of some, everywhere."""
    if not new:
        return

    def of(v: Any) -> Any:
        while isinstance(v, Value) and v in new:
            v = new[v]
        return v

    for step in plan.steps:
        step.args = tuple([of(a) for a in step.args])
        if step.params:
            step.params = replace(step.params, of)
        if step.shows:
            step.shows = tuple(v for v in map(of, step.shows) if isinstance(v, Value))
    plan.outputs = [of(v) for v in plan.outputs]
    plan.writes = [(t, of(v)) for t, v in plan.writes]
    plan.checks = [(of(v), error) for v, error in plan.checks]
    plan.gradients = [(t, None if v is None else of(v)) for t, v in plan.gradients]


def drop_unused(plan: Plan) -> int:
    """Leave out the steps whose results reach nothing; random draws stay, they move a stream."""
    used: set[Value] = set(plan.results())
    kept: list[Step] = []
    for step in reversed(plan.steps):
        if step.effect or any(v in used for v in step.outs):
            kept.append(step)
            used.update(step.inputs())
    dropped = len(plan.steps) - len(kept)
    plan.steps = kept[::-1]
    return dropped


def fold_identities(plan: Plan) -> int:
    """Leave out x * 1, x / 1, x - 0, reshapes and casts that change nothing, double negation."""
    new: dict[Value, Any] = {}
    for step in plan.steps:
        if step.primitive.name not in IDENTITIES:
            continue
        args = tuple([new.get(a, a) if isinstance(a, Value) else a for a in step.args])
        same = _identity(step, args)
        if same is not None and same.shape == step.out.shape and same.dtype == step.out.dtype:
            new[step.out] = same
    rewire(plan, new)
    plan.steps = [s for s in plan.steps if s.out not in new]
    return len(new)


IDENTITIES = frozenset(
    ("mul", "div", "sub", "reshape", "broadcast_to", "astype", "clone", "neg")
)  # operations that may change nothing


def _identity(step: Step, args: tuple[Any, ...]) -> Value | None:
    """The argument that a step only passes on, bit for bit."""
    name = step.primitive.name
    first, second = (*args, None, None)[:2]
    if name in ("mul", "div") and _is(second, 1) and isinstance(first, Value):
        return first
    if name == "mul" and _is(first, 1) and isinstance(second, Value):
        return second
    if name == "sub" and _is(second, 0) and isinstance(first, Value):
        return first
    if name in ("reshape", "broadcast_to", "astype", "clone") and isinstance(first, Value):
        return first
    if name == "neg" and isinstance(first, Value) and isinstance(first.origin, Step):
        inner = first.origin
        if inner.primitive.name == "neg" and isinstance(inner.args[0], Value):
            return inner.args[0]
    return None


def _is(value: Any, number: float) -> bool:
    return not isinstance(value, Value) and np.ndim(value) == 0 and bool(value == number)


def share(plan: Plan) -> int:
    """Compute equal things once."""
    seen: dict[Any, Step] = {}
    new: dict[Value, Any] = {}
    for step in plan.steps:
        if step.effect:
            continue
        if new:
            step.args = tuple([new.get(a, a) if isinstance(a, Value) else a for a in step.args])
        if new and step.params:
            step.params = replace(
                step.params, lambda p: new.get(p, p) if isinstance(p, Value) else p
            )
        known = seen.setdefault(_key(step), step)
        if known is not step:
            new.update(zip(step.outs, known.outs, strict=True))
    rewire(plan, new)
    before = len(plan.steps)
    plan.steps = [s for s in plan.steps if s.out not in new]
    return before - len(plan.steps)


def _key(step: Step) -> Any:
    def of(part: Any) -> Any:
        if isinstance(part, dict):
            return tuple((k, of(v)) for k, v in sorted(part.items()))
        if isinstance(part, (tuple, list)):
            return (type(part).__name__, *(of(p) for p in part))
        if isinstance(part, slice):
            return ("slice", of(part.start), of(part.stop), of(part.step))
        if isinstance(part, Value) or callable(part) or isinstance(part, np.ndarray):
            return id(part)
        return (type(part).__name__, repr(part))

    args = tuple([id(a) if a.__class__ is Value else of(a) for a in step.args])
    return id(step.primitive), args, of(step.params) if step.params else ()


def last_uses(plan: Plan) -> list[list[Value]]:
    """For each step the computed values that nobody needs after it (views keep their source)."""
    last: dict[Value, int] = {}
    for i, step in enumerate(plan.steps):
        for v in (*step.outs, *step.inputs()):
            if v.kind == "computed":
                last[v] = i
    for step in reversed(plan.steps):  # a view lives in the memory of an argument
        for source in sources(step):
            if source in last:
                last[source] = max(last[source], *(last[v] for v in step.outs))
    kept = set(plan.results())
    for step in reversed(plan.steps):
        if kept & set(step.outs):
            kept.update(sources(step))
    dying: list[list[Value]] = [[] for _ in plan.steps]
    for v, i in last.items():
        if v not in kept:
            dying[i].append(v)
    return dying


ALIASES = frozenset(("astype", "clone", "reshape", "getitem"))


def may_alias(step: Step) -> bool:
    """Whether the result may show the memory of the first argument."""
    return step.primitive.view or step.primitive.name in ALIASES


def sources(step: Step) -> set[Value]:
    """The arguments whose memory a result may show: by its nature, or as it was when traced."""
    if not step.primitive.listed:
        return {v for v in (*step.args, *step.shows) if isinstance(v, Value)}
    if may_alias(step):
        return {v for v in (*step.args[:1], *step.shows) if isinstance(v, Value)}
    return set(step.shows)
