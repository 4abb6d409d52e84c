"""Axis arguments: `axis`/`dim`, `keepdims`/`keepdim`, negative and out-of-range axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from fathom.engine.errors import ArgumentError, AxisError, DtypeError, FathomError, ShapeError
from fathom.engine.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])
Axis = int | Sequence[int] | None

_ALIASES = {"dim": "axis", "keepdim": "keepdims", "dims": "axis"}


def torch_names(function: F) -> F:
    """Let an operation also take PyTorch's `dim` and `keepdim`."""

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        for alias in _ALIASES.keys() & keywords.keys():
            name = _ALIASES[alias]
            if name in keywords:
                raise ArgumentError(f"{function.__name__}: give {name} or {alias}, not both")
            keywords[name] = keywords.pop(alias)
        return function(*args, **keywords)

    return call  # type: ignore[return-value]


def one_axis(axis: int, ndim: int, name: str) -> int:
    """An axis as a number from 0 to ndim - 1."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise AxisError(f"{name}: an axis is a whole number; received {axis!r}")
    axis = axis.__index__()
    if not -max(ndim, 1) <= axis < max(ndim, 1):
        valid = f"{-ndim} to {ndim - 1}" if ndim else "-1 or 0 (a single number)"
        raise AxisError(f"{name}: axis {axis} is out of range for {ndim} axes; valid are {valid}")
    return axis % ndim if ndim else 0


def all_axes(axis: Axis, ndim: int, name: str) -> tuple[int, ...]:
    """The axes to work on, in order; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, Sequence):
        where = one_axis(axis, ndim, name)
        return (where,) if ndim else ()
    axes = tuple(one_axis(a, ndim, name) for a in axis)
    if len(set(axes)) < len(axes):
        raise AxisError(f"{name}: an axis appears twice in {tuple(axis)}")
    return axes


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """The shape after taking `axes` together."""
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


@overload
def operand(x: Any) -> Any: ...


@overload
def operand(x: Any, name: str) -> Tensor: ...


def operand(x: Any, name: str = "") -> Any:
    """An argument as a tensor; lists and numbers become tensors, arrays stay what they are.

    (An array has all that is asked of a tensor here, and so may go by its type.) Errors about
    it begin with `name`.
    """
    if isinstance(x, (Tensor, np.ndarray)):
        return x
    try:
        return Tensor(x)
    except FathomError as error:
        if name:
            error.message = f"{name}: {error.message}"
        raise


def sizes_of(sizes: Any, name: str) -> tuple[int, ...]:
    """Whole numbers given one by one or as one sequence: `f(2, 3)` and `f((2, 3))` alike."""
    if len(sizes) == 1 and isinstance(sizes[0], (Sequence, np.ndarray)):
        sizes = tuple(sizes[0])
    if not all(hasattr(n, "__index__") and not isinstance(n, bool) for n in sizes):
        raise DtypeError(f"{name}: sizes are whole numbers; received {sizes}")
    return tuple(n.__index__() for n in sizes)


def shape_of(sizes: Any, name: str) -> tuple[int, ...]:
    """Sizes of a tensor: whole numbers, none negative."""
    shape = sizes_of(sizes, name)
    if any(n < 0 for n in shape):
        raise ShapeError(f"{name}: a size is negative in {shape}")
    return shape


def whole(n: Any, name: str, what: str) -> int:
    """A whole number, or an error that says which argument is none."""
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise DtypeError(f"{name}: {what} is a whole number; received {n!r}")
    return n.__index__()
