"""The batches that are kept for trials: a limited number, of bytes, and of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.doctor.schedule import clock
from fathom.engine.tensor import Tensor
from fathom.func import leaves

BATCHES, BYTES = 64, 32 << 20
READ = 24  # batches at most, where they are read off the graph
SURE, SECONDS = 8, 0.002  # batches kept whatever it costs; time for copies of further ones

Batch = tuple[tuple[Any, ...], Tensor]  # inputs and target


class Batches(list[Batch]):
    """Inputs and targets, copied; of compiled steps, too, once it is known where they stand."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seconds = 0.0
        self._places: dict[int, tuple[list[int], int]] = {}  # of inputs and target in a call

    def wanted(self, sampling: bool) -> bool:
        """Whether another one is to be kept of this step."""
        if len(self) >= BATCHES or self.bytes > BYTES:
            return False
        return sampling or len(self) < SURE or self._seconds < SECONDS

    def add(self, inputs: Sequence[Any], target: Any) -> None:
        """Copy a batch."""
        start = clock()
        held = tuple(_copied(x) for x in inputs)
        kept = _copied(target)
        if not isinstance(kept, Tensor):
            kept = Tensor(np.asarray(target))
        self.append((held, kept))
        self.bytes += sum(t.nbytes for t in (*held, kept) if isinstance(t, Tensor))
        self._seconds += clock() - start

    def learn(self, compiled: Any, args: Any, inputs: Sequence[Any], target: Sequence[Any]) -> None:
        """Where in the arguments of a compiled function inputs and target of a step stand."""
        given = [_array(a) for a in leaves(args)]
        places = [next((i for i, g in enumerate(given) if _same(g, _array(x))), -1)
                  for x in (*inputs, *target)]  # fmt: skip
        if target and min(places) >= 0:
            self._places[id(compiled)] = places[:-1], places[-1]

    def take(self, compiled: Any, args: Any) -> None:
        """Copy the batch of a compiled step."""
        found = self._places.get(id(compiled))
        if found is not None:
            given = leaves(args)
            self.add([_tensor(given[i]) for i in found[0]], given[found[1]])


def _array(value: Any) -> Any:
    return value.value() if isinstance(value, Tensor) else value


def _same(a: Any, b: Any) -> bool:
    """Whether two arrays are the same piece of memory, or hold the same."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a.shape != b.shape:
        return False
    if a is b or a.ctypes.data == b.ctypes.data:
        return True
    return a.dtype.kind == b.dtype.kind and np.allclose(a, b, rtol=1e-3, atol=1e-5)


def _tensor(value: Any) -> Any:
    return Tensor(value) if isinstance(value, np.ndarray) else value


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Tensor(value.value().copy())
    return Tensor(value.copy()) if isinstance(value, np.ndarray) else value


__all__ = ["READ", "Batches"]
