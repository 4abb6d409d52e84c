"""Where values lie: a piece of memory, an offset, and a step for each axis.

A view (reshape, permute, slice, broadcast) costs nothing: NumPy itself is asked, on an array of
the same layout that is never read, which elements it would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.compile.plan import Step, Value, walk


@dataclass(frozen=True)
class Place:
    """Elements of the memory that belongs to `root`: offset and steps, counted in elements."""

    root: Value
    offset: int
    steps: tuple[int, ...]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The steps of an array whose rows lie behind each other.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    steps, size = [], 1
    for n in reversed(shape):
        steps.append(size)
        size *= max(n, 1)
    return tuple(reversed(steps))


def whole(value: Value) -> Place:
    """A value that owns its memory."""
    return Place(value, 0, contiguous(value.shape))


def is_contiguous(place: Place, shape: Sequence[int]) -> bool:
    return all(
        s == c for s, c, n in zip(place.steps, contiguous(shape), shape, strict=True) if n > 1
    )


def can_view(step: Step) -> bool:
    """Whether an operation may do without moving anything."""
    if not step.args or not isinstance(step.args[0], Value) or step.args[0].kind == "scalar":
        return False
    if step.args[0].size == 0:
        return False
    constant = not any(isinstance(p, (Value, np.ndarray)) for p in walk(step.params))
    return step.primitive.view and constant and step.out.size > 0


def view(step: Step, place: Place) -> list[Place] | None:
    """The places of what a view shows of its argument; None if the elements must be moved."""
    source = step.args[0]
    size = source.dtype.itemsize
    blind = np.lib.stride_tricks.as_strided(
        np.empty(1, source.dtype), source.shape, [s * size for s in place.steps]
    )
    if step.primitive.name == "reshape":
        try:
            shown: Any = np.reshape(blind, step.params["shape"], copy=False)
        except ValueError:
            return None
    else:
        shown = step.primitive.forward(blind, **step.params)
    parts = shown if isinstance(shown, tuple) else (shown,)
    start = _address(blind)
    found = []
    for part in parts:
        if not isinstance(part, np.ndarray):
            return None
        steps = tuple(s // size for s in part.strides)
        found.append(Place(place.root, place.offset + (_address(part) - start) // size, steps))
    return found


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])
