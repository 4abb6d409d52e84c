"""A whole epoch of a compiled step: one native call where that is possible, a loop elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile import observe
from fathom.compile.trees import leaves_of, mapped
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.hearing import HEARERS
from fathom.engine.tensor import Tensor

if TYPE_CHECKING:
    from fathom.compile.function import Compiled, Entry


def run(compiled: Compiled, data: tuple[Any, ...], batch_size: int, order: Any) -> Any:
    """The step on every mini-batch of `data`; what it returns, stacked along a new first axis."""
    arrays = [np.ascontiguousarray(d.value() if isinstance(d, Tensor) else d) for d in data]
    rows = _rows(arrays, batch_size)
    if order is not None:
        order = np.ascontiguousarray(
            order.value() if isinstance(order, Tensor) else order, np.int64
        )
        if order.ndim != 1 or (order.size and not 0 <= order.min() <= order.max() < rows):
            raise ArgumentError(f"epoch: order holds row numbers from 0 to {rows - 1}")
        rows = len(order)
    count, found, done = rows // batch_size, [], 0

    def batch(at: int) -> list[Any]:
        chosen = slice(at, at + batch_size) if order is None else order[at : at + batch_size]
        return [_like(d, a[chosen]) for d, a in zip(data, arrays, strict=True)]

    while done < count:
        at = done * batch_size
        entry = None
        if not HEARERS and not observe.on_function(compiled.eager, batch(at), {}):
            entry = compiled.entry(*batch(at))
        turns = 0 if entry is None else entry.turns_to_come(count - done)
        if entry is None or turns < 2:
            found.append(_each(compiled(*batch(at))))
            done += 1
            continue
        rest = (None, [a[at:] for a in arrays]) if order is None else (order[at:], arrays)
        out, made = _native(entry, turns, *rest)
        if made < turns:
            compiled(*batch((done + made) * batch_size))  # raises what stopped it
        found.append(out)
        done += turns
    if rows % batch_size:
        found.append(_each(compiled(*batch(done * batch_size))))
    if not found:
        raise ArgumentError("epoch: there are no rows")
    return _joined(found)


def _rows(arrays: list[Any], batch_size: int) -> int:
    if not arrays or any(not a.ndim for a in arrays):
        raise ArgumentError("epoch: give arrays whose first axis is the rows")
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ArgumentError(f"epoch: batch_size must be 1 or more; received {batch_size!r}")
    if len({len(a) for a in arrays}) > 1:
        raise ShapeError(f"epoch: arrays of {[len(a) for a in arrays]} rows; they must agree")
    return len(arrays[0])


def _like(given: Any, array: Any) -> Any:
    return Tensor(array) if isinstance(given, Tensor) else array


def _native(entry: Entry, count: int, order: Any, arrays: list[Any]) -> tuple[Any, int]:
    """All full batches in one call; what came out, and how many were made."""
    from fathom.compile.native.call import binder, stamp
    from fathom.compile.native.epoch import Turns

    program, plan = entry.program, entry.plan
    if entry.turns is None:
        entry.turns = Turns(program), binder(program, plan)
    turns, bind = entry.turns
    bind()
    for kept in program.kept.values():
        kept.ready()
    numbers = entry.book.turns(entry.texts, count, plan.counters)
    program.draws.ready(count)
    results, made = turns.run(program.table, numbers, count, order, arrays, plan.counters)
    program.draws.back(count - made)
    program.forget_arguments()
    stamp([t for t, _ in plan.writes if isinstance(t, Tensor)], entry.site)
    for (tensor, _), (_, left) in zip(plan.gradients, program.plan.gradients, strict=True):
        tensor.grad = None if left is None else program.kept[left].given()
    return entry.rebuilt(results), made


def _each(tree: Any) -> Any:
    """One call's results with a first axis of one."""

    def leaf(x: Any) -> Any:
        if isinstance(x, Tensor):
            return Tensor(x.value()[None])
        return x[None] if isinstance(x, np.ndarray) else x

    return mapped(tree, leaf)


def _joined(found: list[Any]) -> Any:
    """Results of the same form, end to end."""
    rows = zip(*map(leaves_of, found), strict=True)

    def leaf(_: Any) -> Any:
        parts = next(rows)
        if isinstance(parts[0], Tensor):
            return Tensor(np.concatenate([p.value() for p in parts]))
        return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else parts[0]

    return mapped(found[0], leaf)
