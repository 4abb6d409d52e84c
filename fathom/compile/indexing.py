"""Indices of native code: x[rows, columns] as a `take`, and checks that every index leads inside.

NumPy raises on its own; native code would not. What is known to be checked already (row numbers
of an embedding) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fathom.compile.plan import Plan, Step, Value
from fathom.compile.trace import Tracer
from fathom.compile.traced import Traced
from fathom.engine.primitive import TABLE

# how many places there are to pick from
PLACES: dict[str, Callable[[Step], int]] = {
    "take_rows": lambda s: int(s.args[0].shape[0]),
    "add_rows": lambda s: int(s.params["rows"]),
    "take": lambda s: int(s.args[0].shape[s.params["axis"]]),
    "put_axis": lambda s: int(s.params["shape"][s.params["axis"]]),
    "take_along_axis": lambda s: int(s.args[0].shape[s.params["axis"]]),
    "put_along_axis": lambda s: int(s.params["shape"][s.params["axis"]]),
}


def indexed(plan: Plan) -> Plan:
    """The plan with every index by arrays as a `take` or `put_axis`, and checked: -n <= i < n."""
    known = {
        (error.args[0], error.params["rows"])
        for _, error in plan.checks
        if isinstance(error, Step) and error.primitive.name == "check_rows"
    }
    steps: list[Step] = []
    for step in plan.steps:
        taken = _as_take(step)
        checks = _wanted(step) if taken is None else taken[1]
        for index, n in checks:
            if (index, n) not in known:
                known.add((index, n))
                inner, truth = _inside(index, n)
                steps += inner
                plan.checks.append((truth, step))
        steps += [step] if taken is None else taken[0]
    plan.steps = steps
    return plan


def _wanted(step: Step) -> list[tuple[Value, int]]:
    """The index of a step, and how many places there are."""
    places = PLACES.get(step.primitive.name)
    index = step.args[1] if places else None
    if places and isinstance(index, Value) and index.size and index.dtype.kind in "iu":
        return [(index, places(step))]
    return []


def _inside(index: Value, n: int) -> tuple[list[Step], Value]:
    """The steps that find out whether all of an index lies within -n and n, and what they find."""
    tracer = Tracer()
    with tracer.alone():
        x = _stand_in(tracer, index).astype(np.int64)  # native code compares signed numbers
        fine = TABLE["logical_and"](x >= -n, x < n)
        truth = TABLE["all"](fine, axis=tuple(range(index.ndim)), keepdims=False)
        found = _value(tracer, truth)
    return tracer.steps, found


def _stand_in(tracer: Tracer, value: Value) -> Any:
    tracer.examples[value] = np.broadcast_to(np.zeros((), value.dtype), value.shape)
    return Traced(tracer, value)


def _value(tracer: Tracer, x: Any) -> Value:
    """What a result is called in the plan."""
    held: Any = tracer.lifted(x)
    value: Value = held.ref
    return value


# -- x[i, j] ---------------------------------------------------------------------------------------


def _as_take(step: Step) -> tuple[list[Step], list[tuple[Value, int]]] | None:
    """The steps of an index by neighbouring arrays of whole numbers, and what must be checked."""
    if step.primitive.name not in ("getitem", "putitem") or not isinstance(step.args[0], Value):
        return None
    index = step.params["index"]
    found = _arrays(index if isinstance(index, tuple) else (index,))
    if found is None or not step.out.size or not step.args[0].size:
        return None
    axis, arrays = found
    picks = step.primitive.name == "getitem"
    shape = step.args[0].shape if picks else tuple(step.params["shape"])
    tracer = Tracer()
    with tracer.alone():
        held = [_stand_in(tracer, a) if isinstance(a, Value) else a for a in arrays]
        flat = _value(tracer, _flat(held, shape[axis:]))
        steps, checks = (
            tracer.steps,
            [(_value(tracer, a), n) for a, n in zip(held, shape[axis:], strict=False)],
        )
    size = prod(shape[axis : axis + len(arrays)])
    merged = (*shape[:axis], size, *shape[axis + len(arrays) :])
    (source,), out = step.args, step.out
    if picks:
        joined = _reshaped(steps, source, merged)
        steps.append(Step(TABLE["take"], (joined, flat), {"axis": axis}, step.outs))
        return steps, checks
    params = {"axis": axis, "shape": merged}
    if merged == out.shape:
        steps.append(Step(TABLE["put_axis"], (source, flat), params, step.outs))
        return steps, checks
    made = Step(TABLE["put_axis"], (source, flat), params, ())
    made.outs = (Value("computed", merged, out.dtype, made),)
    shown = Step(TABLE["reshape"], made.outs, {"shape": out.shape}, step.outs)
    return [*steps, made, shown], checks


def _arrays(parts: tuple[Any, ...]) -> tuple[int, list[Any]] | None:
    """The arrays of an index like [:, :, i, j], and the axis of the first one."""
    axis = 0
    while axis < len(parts) and _is_all(parts[axis]):
        axis += 1
    end = axis
    while end < len(parts) and isinstance(parts[end], (Value, np.ndarray)):
        end += 1
    arrays = list(parts[axis:end])
    rest = parts[end:]
    fine = all(_is_all(p) or p is Ellipsis for p in rest) and rest.count(Ellipsis) < 2
    whole = all(a.dtype.kind in "iu" for a in arrays)
    return (axis, arrays) if arrays and fine and whole else None


def _is_all(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


def _flat(arrays: list[Any], shape: tuple[int, ...]) -> Any:
    """Places in the axes of all arrays, counted as one axis."""
    if len(arrays) == 1:
        return arrays[0]
    total: Any = 0
    for a, n in zip(arrays, shape, strict=False):
        i = a.astype(np.int64)
        total = total * n + TABLE["where"](i < 0, i + n, i)
    return total


def _reshaped(steps: list[Step], x: Value, shape: tuple[int, ...]) -> Value:
    if x.shape == shape:
        return x
    step = Step(TABLE["reshape"], (x,), {"shape": shape}, ())
    step.outs = (Value("computed", shape, x.dtype, step),)
    steps.append(step)
    return step.out
