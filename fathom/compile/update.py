"""An optimizer's step under trace: its own update rule, run on stand-ins, parameter by parameter.

The rule sees what it always sees: a gradient to turn into a step, state to change in place, and
options. The options that are numbers arrive as `Scalar`s, so that a schedule may change them.
"""

from __future__ import annotations

from typing import Any

from fathom.compile.scalar import Scalar
from fathom.compile.trace import Tracer
from fathom.compile.traced import Traced
from fathom.engine.errors import DivergedError
from fathom.engine.primitive import TABLE
from fathom.engine.tensor import mark_written


def step(tracer: Tracer, optimizer: Any) -> None:
    """`optimizer.step()`: every parameter that has a gradient takes its step."""
    book = tracer.book
    work = list(zip(optimizer.param_groups, optimizer.flats(), strict=True))
    moved: list[tuple[Any, Traced]] = []
    for g, (group, flats) in enumerate(work):
        options = {
            k: v if k == "params" else book.read(group, "group", f"[{k!r}]", v)
            for k, v in group.items()
        }
        for f, flat in enumerate(flats):
            book.same(optimizer, "optimizer", f"._flats[{g}][{f}]", flat, "flat")
            live = [i for i, p in enumerate(flat.parameters) if tracer.gradient(p) is not None]
            for i in live:
                change = one(tracer, optimizer, options, flat, i, number(tracer, flat, i, live))
                moved.append((flat.parameters[i], change))
            tracer.counters.append((flat.steps, live))
    if optimizer.check_finite:
        tracer.check([finite(change) for _, change in moved], diverged)
    for p, change in moved:
        data = p.storage()
        data.assign(data - change)
        mark_written(p)


def number(tracer: Tracer, flat: Any, i: int, live: list[int]) -> Scalar:
    """Which step this is for parameter i, counted from 1: one expression for all that agree."""
    name = tracer.book.source(flat, "flat")
    same = [k for k in live if flat.steps[k] == flat.steps[i]]
    taken = sum(i in places for counts, places in tracer.counters if counts is flat.steps)
    if len(same) > 1:
        if len(same) == len(flat.steps):
            alike = f"{name}.steps.count({name}.steps[0]) == {len(same)}"
        else:
            alike = f"len(set([{name}.steps[k] for k in {same!r}])) == 1"
        tracer.book.guards[alike] = None
    count = flat.steps[same[0]] + 1 + taken
    return Scalar(f"({name}.steps[{same[0]}] + {1 + taken})", count, tracer.book)


def one(
    tracer: Tracer, optimizer: Any, options: dict[str, Any], flat: Any, i: int, count: Scalar
) -> Traced:
    """The step that is subtracted from parameter i; its state is changed on the way."""
    p, place = flat.parameters[i], flat.slices[i]
    weights = p.storage()
    g = tracer.gradient(p).copy()  # type: ignore[union-attr]
    if options.get("maximize", False):
        g = -g
    decay = optimizer.coupled_decay(options)
    if decay:
        g = g + decay * weights
    g = g.copy()
    state = {
        name: tracer.part(flat, name, place, array, p.shape) for name, array in flat.state.items()
    }
    optimizer.update(options, g, state, count, g.copy())
    if optimizer.finishes(options):
        optimizer.finish(options, weights.copy(), g)
    return g


def finite(change: Traced) -> Traced:
    """Whether all of a step is finite."""
    found: Traced = TABLE["all"](TABLE["isfinite"](change), axis=None, keepdims=False)
    return found


def diverged() -> DivergedError:
    return DivergedError(
        "the update is not finite; the weights were left as they are",
        fix="a smaller learning rate, gradient clipping, or scaled inputs",
    )
