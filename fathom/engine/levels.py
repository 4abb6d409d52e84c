"""Levels: how transforms nest. A transform wraps tensors in tensors of a new, higher level.

`apply` hands a call to the highest level among its arguments; that level does its part by
calling `apply` on what it wraps, and so on down to NumPy. Three kinds of tensor live above
level 0: `Taped` (reverse mode, here), `Dual` (forward mode) and `Batched` (vmap). Because each
transform makes a level of its own, an inner derivative can never mistake an outer
perturbation for its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fathom.engine.errors import GraphError
from fathom.engine.modes import MODE, Mode
from fathom.engine.primitive import Primitive, apply, edges, kept, node_of, record
from fathom.engine.tensor import Edge, Tensor

_numbers = itertools.count(1)


class Wrapped(Tensor):
    """A tensor above level 0. Subclasses say what their level does with an operation."""

    level: int
    taped = False  # whether a tape of this level records what is done with it

    def __init__(self, data: Any, level: int) -> None:
        self.data = data if isinstance(data, Tensor) else Tensor(data)
        self.level = level

    @property
    def requires_grad(self) -> bool:
        if MODE.get().special is None:  # asked by the level 0 of `apply`: no level is open
            raise outlived("an operation")
        return self.taped

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None: ...

    def detach(self) -> Tensor:
        return self.data.detach()

    def clone(self) -> Tensor:
        return self * 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data!r}, level {self.level})"

    @staticmethod
    def interpret(primitive: Primitive, args: Any, params: dict[str, Any], level: int) -> Any:
        raise NotImplementedError


def outlived(what: str) -> GraphError:
    return GraphError(
        f"{what}: a tensor outlived the transform that made it",
        fix="return values from the function you transform, do not store them outside",
    )


class Taped(Wrapped):
    """A tensor of a functional reverse-mode transform: a tape of its own level."""

    @staticmethod
    def interpret(primitive: Primitive, args: Any, params: dict[str, Any], level: int) -> Any:
        out = apply(primitive, *(lower(a, level) for a in args), **params)
        outs = out if isinstance(out, tuple) else (out,)
        needs_grad = any(isinstance(a, Taped) and a.level == level and a.taped for a in args)
        wrapped = [Taped(o, level) for o in outs]
        if needs_grad and primitive.rules and recording(level):
            several = isinstance(out, tuple)
            shape = tuple(o.shape for o in outs) if several else outs[0].shape
            dtype = tuple(o.dtype for o in outs) if several else outs[0].dtype
            parents = edges(args, level)
            node = node_of(primitive, params, parents, out, shape, dtype)
            node.saved = tuple([snapshot(a) for a in kept(primitive, args, parents)])
            for i, tensor in enumerate(wrapped):
                if tensor.dtype.kind == "f":
                    tensor.edge, tensor.taped = (node, i), True
        return tuple(wrapped) if isinstance(out, tuple) else wrapped[0]


_input = Primitive("input", "general", lambda x: x, listed=False)


def taped_input(data: Any, level: int) -> Taped:
    """What a transform differentiates by: known by its node, so that it may be edited in place."""
    node = node_of(_input, {}, (), None, data.shape, data.dtype)
    node.saved = ()
    return taped(data, level, (node, 0))


def taped(data: Any, level: int, edge: Edge) -> Taped:
    """A recorded tensor of a level."""
    out = Taped(data, level)
    out.edge, out.taped = edge, True
    return out


def snapshot(value: Any) -> Any:
    """A taped tensor as it is now: after an in-place edit it stands for another value."""
    if not isinstance(value, Taped):
        return value
    copy = Taped.__new__(Taped)
    copy.__dict__.update(value.__dict__)
    return copy


def lower(value: Any, level: int) -> Any:
    """What a tensor of this level wraps; anything else is a constant here."""
    return value.data if isinstance(value, Tensor) and value.level == level else value


def recording(level: int) -> bool:
    """Whether a tape of this level records: no_grad counts where it was entered."""
    mode = MODE.get()
    return mode.grad and all(grad for number, grad in mode.levels if number > level)


def interpret(primitive: Primitive, args: Any, params: dict[str, Any], mode: Mode) -> Any:
    """The long way of `apply`: the highest level among the arguments takes the call."""
    top: Any = None
    for a in args:
        if isinstance(a, Wrapped) and (top is None or a.level > top.level):
            top = a
    if top is not None:
        if not any(number == top.level for number, _ in mode.levels):
            raise outlived(primitive.name)
        return top.interpret(primitive, args, params, top.level)
    grad = mode.grad and all(entered for _, entered in mode.levels)
    if mode.watch is not None:
        return mode.watch(primitive, args, params, grad)
    return record(primitive, args, params, grad)


@contextmanager
def new_level() -> Iterator[int]:
    """Open a level for one transform; inside, operations are recorded."""
    mode, number = MODE.get(), next(_numbers)
    levels = (*mode.levels, (number, mode.grad))
    token = MODE.set(mode._replace(levels=levels, special=interpret, grad=True))
    try:
        yield number
    finally:
        MODE.reset(token)


@contextmanager
def reenter(number: int) -> Iterator[None]:
    """Work again on tensors of a level that was closed (a stored vjp or linear map)."""
    mode = MODE.get()
    levels = (*mode.levels, (number, mode.grad))
    token = MODE.set(mode._replace(levels=levels, special=interpret))
    try:
        yield
    finally:
        MODE.reset(token)


@contextmanager
def watching(watch: Any) -> Iterator[None]:
    """Let `watch(primitive, args, params, grad)` run every operation at level 0.

    It must return what `record(primitive, args, params, grad)` returns.
    """
    mode = MODE.get()
    token = MODE.set(mode._replace(watch=watch, special=interpret))
    try:
        yield
    finally:
        MODE.reset(token)
