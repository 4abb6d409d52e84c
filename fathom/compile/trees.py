"""Arguments and results in nests: tuples, lists, dictionaries, named tuples and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.adopted import AbsentGradient
from fathom.compile.plan import Value
from fathom.compile.trace import Tracer
from fathom.compile.traced import Traced, TraceError
from fathom.engine.tensor import Tensor


class Same:
    """Something without a hash, known by what it is."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __repr__(self) -> str:
        return f"<{type(self.thing).__name__}>"


class Place:
    """Where a result goes: its number, and whether as a tensor or as an array."""

    def __init__(self, number: int, tensor: bool) -> None:
        self.number, self.tensor = number, tensor


def flatten(tree: Any, leaves: list[Any]) -> Any:
    """The hashable structure of arguments; tensors and arrays go to `leaves`."""
    if isinstance(tree, Tensor):
        leaves.append(tree)
        return ("t", tree.data.shape, tree.data.dtype, tree.requires_grad)
    if isinstance(tree, np.ndarray):
        leaves.append(tree)
        return ("a", tree.shape, tree.dtype)
    if isinstance(tree, (tuple, list)):
        return (type(tree), *[flatten(part, leaves) for part in tree])
    if isinstance(tree, dict):
        return ("d", *[(k, flatten(part, leaves)) for k, part in tree.items()])
    if isinstance(tree, (float, np.floating)):  # nan is like nan, -0.0 is not like 0.0
        return (type(tree), repr(tree))
    if _is_record(tree):
        return (type(tree), *[flatten(part, leaves) for part in _parts(tree).values()])
    try:
        hash(tree)
    except TypeError:
        return Same(tree)
    return (type(tree), tree)


def mapped(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same nest with `leaf` applied to what is no nest."""
    if isinstance(tree, (tuple, list)):
        parts = [mapped(part, leaf) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, dict):
        return {k: mapped(part, leaf) for k, part in tree.items()}
    if _is_record(tree):
        found = copy.copy(tree)
        for name, part in _parts(tree).items():
            object.__setattr__(found, name, mapped(part, leaf))
        return found
    return leaf(tree)


def _is_record(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def _parts(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def leaves_of(tree: Any) -> list[Any]:
    """Everything in a nest that is no nest."""
    found: list[Any] = []
    mapped(tree, found.append)
    return found


def stand_in(tree: Any, tracer: Tracer, count: itertools.count[int]) -> Any:
    """The arguments with stand-ins for tensors and arrays."""

    def leaf(x: Any) -> Any:
        if isinstance(x, Tensor):
            if x.requires_grad:
                raise TraceError(
                    "an argument of a compiled function requires grad: its history would be lost",
                    fix="pass x.detach(), or take the gradient inside with fathom.func.grad",
                )
            return Tensor(tracer.argument(x.value(), next(count)))
        return tracer.argument(x, next(count)) if isinstance(x, np.ndarray) else x

    return mapped(tree, leaf)


def holds_stand_ins(tree: Any, tracer: Tracer) -> bool:
    """Whether a nest holds values of the trace (tensors of the user's are none)."""
    return any(
        isinstance(x, Tensor) and id(x) not in tracer.adopted and isinstance(x.storage(), Traced)
        for x in leaves_of(tree)
    )


def outputs(tree: Any, tracer: Tracer, values: list[Value], history: bool = False) -> Any:
    """What a function returned, with places for tensors; their values are added to `values`.

    Without `history`, a tensor whose graph is still there is refused; with it, the graph is lost.
    """

    def leaf(x: Any) -> Any:
        if isinstance(x, (types.GeneratorType, types.CoroutineType)):
            raise TraceError(
                "a compiled function is a generator: it would run after the trace",
                fix="return the values, in a list say, and compile what makes one of them",
            )
        if not isinstance(x, (Tensor, np.ndarray)):
            return x
        if isinstance(x, Tensor) and not history and x.node is not None and x.requires_grad:
            if x.node.saved is not None:
                raise TraceError(
                    "a compiled function returns a tensor that still waits for backward()",
                    fix="call backward() inside, return loss.detach(), or use no_grad()",
                )
        var = tracer.lifted(x).ref
        if var in tracer.absent:
            raise AbsentGradient
        values.append(var)
        return Place(len(values) - 1, isinstance(x, Tensor) and not x.traced)

    return mapped(tree, leaf)


def rebuild(tree: Any, results: list[Any]) -> Any:
    """What the function returns, from the results of the plan."""
    if tree.__class__ is Place:
        result = results[tree.number]
        return Tensor(result) if tree.tensor else result

    def leaf(x: Any) -> Any:
        return rebuild(x, results) if x.__class__ is Place else x

    return mapped(tree, leaf)
