"""What several families ask of their arguments, and the errors when it is not so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError, ShapeError, mark_axes, suggest
from fathom.engine.modes import tracing
from fathom.engine.tensor import Tensor
from fathom.ops.axes import operand

__all__ = ["operand"]


def raw(x: Any) -> Any:
    """The values below all levels, for checks that cannot be recorded."""
    if (tracer := tracing()) is not None:
        return tracer.seen(x)
    return x.value() if isinstance(x, Tensor) else np.asarray(x)


def memory(x: Any) -> Any:
    """The array of a tensor, to be read or written in place; under trace, its stand-in."""
    if (tracer := tracing()) is not None:
        return tracer.memory(x)
    return x.storage() if isinstance(x, Tensor) else np.asarray(x)


def on_arrays(function: Callable[..., Any], *args: Any, **params: Any) -> Any:
    """Run NumPy code on the values of tensors: checks, counts, choices without a gradient.

    While a step is compiled the code is noted as an operation of its own, and run at each call.
    """
    tracer = tracing()
    if tracer is not None:
        return tracer.host(function, args, params)
    return function(*map(raw, args), **params)


def by_value(function: Callable[..., Any], *args: Any, **params: Any) -> Any:
    """Run differentiable code whose course depends on the values of its arguments.

    While a step is compiled it is noted as one operation, and run as it is at each call, forward
    and (computed again) backward. It returns one tensor and draws no random numbers.
    """
    tracer = tracing()
    if tracer is not None:
        return tracer.by_value(function, args, params)
    return function(*args, **params)


def floats(name: str, *values: Any) -> None:
    """Refuse whole numbers where only floats make sense."""
    for x in values:
        if x is not None and x.dtype.kind != "f":
            raise DtypeError(f"{name}: needs floats; received {x.dtype}", fix="convert: x.float()")


def need_axes(name: str, what: str, x: Any, counts: Sequence[int], layout: str) -> None:
    """The number of axes must be one of `counts`."""
    if x.ndim not in counts:
        raise ShapeError(f"{name}: {what} needs shape {layout}; received {x.shape}")


def need_square(name: str, x: Any) -> None:
    """A matrix, or a batch of them, with as many rows as columns."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        marked = mark_axes(x.shape, [-1, -2]) if x.ndim > 1 else str(x.shape)
        raise ShapeError(f"{name}: needs square matrices (..., n, n); received {marked}")


def need_matrix(name: str, x: Any) -> None:
    """At least two axes."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: needs matrices (..., m, n); received shape {x.shape}")


def one_of(name: str, argument: str, value: Any, known: Sequence[Any]) -> None:
    """Refuse a name nobody knows."""
    if value not in known:
        fix = suggest(str(value), [str(k) for k in known])
        raise ArgumentError(f"{name}: unknown {argument} {value!r}", fix=fix)


def _whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_))


def sizes(name: str, argument: str, value: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """One whole number for every spatial axis: an int counts for all of them."""
    single = not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) == 0
    parts = (value,) if single else tuple(value)
    if len(parts) == 1:
        parts *= count
    if len(parts) != count or not all(_whole(p) for p in parts):
        raise ArgumentError(
            f"{name}: {argument} is one whole number, or {count} of them; received {value!r}"
        )
    numbers = tuple(p.__index__() for p in parts)
    if any(n < least for n in numbers):
        raise ArgumentError(f"{name}: {argument} must be >= {least}; received {value!r}")
    return numbers


def same_shape(name: str, **values: Any) -> None:
    """Losses do not broadcast: all shapes must be equal."""
    (first, x), *others = values.items()
    for other, y in others:
        if x.shape == y.shape:
            continue
        fix = ""
        if x.size == y.size:
            fix = f"reshape the {other} to {tuple(x.shape)}; broadcast, every pair would count"
        raise ShapeError(
            f"{name}: {first} {tuple(x.shape)} and {other} {tuple(y.shape)} must have one shape",
            fix=fix,
        )
