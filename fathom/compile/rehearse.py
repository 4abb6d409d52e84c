"""A compiled step run eagerly beforehand, up to the optimizer's step, and everything put back.

A plan calls no hooks and keeps no graph. Who wants to see more of a step (`engine.hearing`) has
it rehearsed as it reads, on copies of the state and with the random numbers it is about to draw;
then the plan runs as ever, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.compile.guards import Captured
from fathom.engine import random
from fathom.engine.hearing import Rehearsed
from fathom.engine.levels import watching
from fathom.engine.primitive import record
from fathom.engine.tensor import Tensor


@contextmanager
def rehearsal(reached: Captured, more: Iterable[Tensor], keep: Iterable[Any]) -> Iterator[None]:
    """Inside, tensors hold copies; behind it all is, bit for bit, as before.

    reached : what the function can reach. more : tensors beside those. keep : objects whose
    attributes are not to be put back, because they take notes.
    """
    own = {id(vars(thing)) for thing in keep}
    reached.kept = [entry for entry in reached.kept if id(entry[0]) not in own]
    tensors = {id(t): t for t in (*more, *_tensors(reached))}.values()
    state = [(t, t.data, t.cell, t.grad) for t in tensors]
    arrays = [(a, a.copy()) for a in reached.arrays if a.flags.writeable and a.size <= 1 << 20]
    modes = [(m, m.training) for m in reached.modules]
    stream = random.current()
    positions = stream.streams()
    try:
        for t in tensors:
            t.data, t.cell = t.data.copy(), None
            t.grad = None if t.grad is None else Tensor(t.grad.value().copy())
        with watching(record):  # compiled functions inside run as they read, too
            yield
    except Rehearsed:
        pass
    finally:
        reached.restore()
        for module, mode in modes:
            object.__setattr__(module, "training", mode)
        for t, data, cell, grad in state:
            t.data, t.cell, t.grad = data, cell, grad
        for array, before in arrays:
            array[...] = before
        stream.rewind(positions)


def _tensors(reached: Captured) -> Iterator[Tensor]:
    """Parameters, buffers, and leaves that stand in closures, globals, lists and attributes."""
    places: list[Any] = [value for _, value in reached.cells]
    for _, before, _ in reached.kept:
        places.extend(before.values())
    for _, several in reached.lists:
        places.extend(several)
    for module in reached.modules:
        places.extend((*module._parameters.values(), *module._buffers.values()))
    for place in places:
        if isinstance(place, Tensor) and place.is_leaf and isinstance(place.data, np.ndarray):
            yield place


__all__ = ["rehearsal"]
