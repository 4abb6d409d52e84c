"""vmap: `Batched` tensors hide a leading batch axis, and each primitive knows how to keep it.

A primitive's `batch` field says how:
"elementwise" (the default of that form): line up the axes and let broadcasting do it;
"axis": give every argument the batch axis and move `axis`, `axes`, `shape`, `index` along;
"native": the operation works on its last axes and takes any number in front;
a function `(args, flags, params, size) -> out`: a rule of its own;
None: run the rows one by one and stack them (always right, never fast).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import GraphError
from fathom.engine.levels import Wrapped, lower
from fathom.engine.primitive import TABLE, Primitive, apply
from fathom.engine.tensor import Tensor


class Batched(Wrapped):
    """One row of a batch, as the function under `vmap` sees it; `data` holds all rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.data.shape) - 1

    @property
    def size(self) -> int:
        return int(np.prod(self.data.shape[1:], dtype=np.int64))

    def detach(self) -> Tensor:
        return Batched(self.data.detach(), self.level)

    def item(self, *_: Any, **__: Any) -> Any:
        raise GraphError(
            "a value was asked for inside vmap: there is one for each row of the batch, not one",
            fix="use fathom.where instead of Python's if, and fathom's functions for NumPy's",
        )

    __bool__ = __float__ = __int__ = __array__ = tolist = numpy = item

    def __repr__(self) -> str:
        return f"Batched({len(self.data)} rows of shape {self.shape}, level {self.level})"

    @staticmethod
    def interpret(primitive: Primitive, args: Any, params: dict[str, Any], level: int) -> Any:
        flags = [isinstance(a, Batched) and a.level == level for a in args]
        values = [lower(a, level) for a in args]
        size = next(len(v) for v, flag in zip(values, flags, strict=True) if flag)
        out = run(primitive, values, flags, params, size)
        if isinstance(out, tuple):
            return tuple(Batched(o, level) for o in out)
        return Batched(out, level)


def run(
    primitive: Primitive, values: list[Any], flags: list[bool], params: dict[str, Any], size: int
) -> Any:
    """One primitive over a batch, by its rule."""
    rule = primitive.batch
    if rule is None and primitive.form == "elementwise":
        rule = "elementwise"
    if rule == "elementwise":
        return apply(primitive, *align(values, flags), **params)
    if rule == "native":
        return apply(primitive, *(spread(v, f, size) for v, f in zip(values, flags, strict=True)),
                     **params)  # fmt: skip
    if rule == "axis":
        moved = shift(params, size, values[0].ndim if flags[0] else np.ndim(values[0]) + 1)
        if moved is not None:
            rows = [spread(v, f, size) for v, f in zip(values, flags, strict=True)]
            return apply(primitive, *rows, **moved)
    elif rule is not None:
        out = rule(values, flags, params, size)
        if out is not None:
            return out
    return one_by_one(primitive, values, flags, params, size)


def align(values: list[Any], flags: list[bool]) -> list[Any]:
    """Batched arguments with their batch axis in front of the longest row."""
    rank = max(np.ndim(v) - f if not isinstance(v, Tensor) else v.ndim - f
               for v, f in zip(values, flags, strict=True))  # fmt: skip
    out = []
    for value, flag in zip(values, flags, strict=True):
        if flag and value.ndim - 1 < rank:
            ones = (1,) * (rank - value.ndim + 1)
            value = value.reshape((value.shape[0], *ones, *value.shape[1:]))
        out.append(value)
    return out


def spread(value: Any, batched: bool, size: int) -> Any:
    """A value with a batch axis: its own, or the same row for every sample."""
    if batched or not isinstance(value, (Tensor, np.ndarray)):
        return value
    if isinstance(value, np.ndarray):
        return np.broadcast_to(value, (size, *value.shape))
    return TABLE["broadcast_to"](value, shape=(size, *value.shape))


def shift(params: dict[str, Any], size: int, ndim: int) -> dict[str, Any] | None:
    """Parameters that name axes or shapes, moved one axis to the right; None if they cannot."""
    moved = dict(params)
    for key, value in params.items():
        if key == "axis":
            moved[key] = value + 1 if isinstance(value, int) else tuple(a + 1 for a in value)
        elif key == "axes":
            moved[key] = (0, *(a + 1 for a in value))
        elif key == "shape":
            moved[key] = (size, *value)
        elif key == "widths":
            moved[key] = ((0, 0), *value)
        elif key == "index":
            index = value if isinstance(value, tuple) else (value,)
            if not adjacent(index):
                return None
            moved[key] = (slice(None), *index)
    return moved


def adjacent(index: tuple[Any, ...]) -> bool:
    """Whether NumPy leaves the axes of array indices in their place."""
    where = [i for i, part in enumerate(index) if isinstance(part, (np.ndarray, int, np.integer))]
    if not any(isinstance(part, np.ndarray) for part in index):
        return True
    return where == list(range(where[0], where[0] + len(where)))


def one_by_one(
    primitive: Primitive, values: list[Any], flags: list[bool], params: dict[str, Any], size: int
) -> Any:
    """The rows one after the other, stacked."""
    rows = [
        apply(primitive, *(v[i] if f else v for v, f in zip(values, flags, strict=True)), **params)
        for i in range(size)
    ]
    if isinstance(rows[0], tuple):
        return tuple(stack([row[k] for row in rows]) for k in range(len(rows[0])))
    return stack(rows)


def stack(rows: list[Any]) -> Any:
    tensors = [r if isinstance(r, Tensor) else Tensor(r) for r in rows]
    return TABLE["concatenate"](*(t.reshape((1, *t.shape)) for t in tensors), axis=0)
