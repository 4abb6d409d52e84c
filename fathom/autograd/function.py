"""`Function`: an operation of one's own, with forward and backward written by hand."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.backward import with_history
from fathom.engine.batching import Batched, stack
from fathom.engine.errors import GraphError, ShapeError
from fathom.engine.levels import Taped, Wrapped, lower, recording
from fathom.engine.modes import no_grad
from fathom.engine.primitive import edges
from fathom.engine.tape import Node
from fathom.engine.tensor import (
    Cell,
    Tensor,
    clock,
    user_site,
)


class Context:
    """What `forward` hands to `backward`: saved tensors, and any attributes one likes."""

    def __init__(self, needs_input_grad: tuple[bool, ...], level: int) -> None:
        self.needs_input_grad = needs_input_grad
        self._level = level
        self._recorded = level == 0  # whether the backward pass is recorded by our own level
        self._node: Any = None  # a weak reference: the node holds the context
        self._saved: list[tuple[Any, int]] = []  # tensor, and which output it is (-1: none)
        self._to_save: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs for the gradient. Edits in place are noticed."""
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved; outputs come back with their history, without a cycle in memory."""
        return tuple(self._restore(t, place) for t, place in self._saved)

    def _restore(self, t: Any, place: int) -> Any:
        if not self._recorded:
            return lower(t, self._level)
        node = None if self._node is None else self._node()
        if place < 0 or node is None:
            return t
        return with_history(t if self._level else t.data, (node, place), self._level)

    def _settle(self, args: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
        """Note which outputs and arguments (these as they came, with history) were saved."""
        places = {id(t): i for i, t in enumerate(outputs)}
        given = {id(lower(a, self._level)): a for a in args} if self._level else {}
        for t in self._to_save:
            place = -1 if t is None else places.get(id(t), -1)
            kept = t.detach() if place >= 0 and not self._level else given.get(id(t), t)
            self._saved.append((kept, place))
        self._to_save = ()


class _Custom:
    """The primitive of one `Function` class, as far as the tape needs one."""

    form, fresh, unary, view, saves = "custom", False, False, False, ""

    def __init__(self, function: type[Function]) -> None:
        self.function = function
        self.name = function.__name__

    def pullback(self, node: Node, gradient: Any, out: Any, ins: Sequence[Any]) -> list[Any]:
        context: Context = node.extra[0]
        grads = gradient if isinstance(gradient, tuple) else (gradient,)
        if context._level:  # the pass hands over our level's tensors only where it is recorded
            context._recorded = any(getattr(a, "level", 0) == context._level for a in ins)
        raw = not any(isinstance(g, Tensor) for g in grads)
        tensors = []
        for g, shape, dtype in zip(grads, *_specs(node), strict=True):
            g = np.zeros(shape, dtype) if g is None else g
            tensors.append(g if isinstance(g, Tensor) else Tensor(g))
        found = self.function.backward(context, *tensors)
        results = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(results) != len(node.parents):
            raise GraphError(
                f"{self.name}.backward returned {len(results)} gradients for "
                f"{len(node.parents)} inputs",
                fix="return one for each argument of forward, None where there is none",
            )
        return [g.data if raw and isinstance(g, Tensor) and g.level == 0 else g for g in results]


def _specs(node: Node) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    if isinstance(node.dtype, tuple):
        return node.shape, node.dtype
    return (node.shape,), (node.dtype,)


class Function:
    """Base for operations with a hand-written gradient. Call them by `apply`.

    `forward(ctx, *args)` computes (nothing is recorded inside); `backward(ctx, *grads)` returns a
    gradient for each argument. Written in tensors, `backward` can itself be differentiated.

    >>> import fathom
    >>> class Cube(fathom.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * 3 * x**2
    >>> x = fathom.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    _primitive: _Custom

    def __init_subclass__(cls) -> None:
        cls._primitive = _Custom(cls)

    @staticmethod
    def forward(ctx: Context, *args: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        raise NotImplementedError("a Function needs a static method backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation and record it."""
        top = max((a for a in args if isinstance(a, Wrapped)), key=lambda a: a.level, default=None)
        if isinstance(top, Batched):
            return cls._apply_batched(args, top.level)
        if top is not None and not isinstance(top, Taped):
            raise GraphError(
                f"{cls.__name__} has no rule for forward mode",
                fix="use reverse mode, or write it in Fathom's own operations",
            )
        level = 0 if top is None else top.level
        parents = edges(args, level)
        context = Context(tuple(p is not None for p in parents), level)
        with no_grad():
            out = cls.forward(context, *(lower(a, level) if level else a for a in args))
        outs = out if isinstance(out, tuple) else (out,)
        for i, o in enumerate(outs):
            if not isinstance(o, Tensor):
                raise ShapeError(
                    f"{cls.__name__}.forward returned a {type(o).__name__} as output {i}, "
                    "not a tensor"
                )
        context._settle(args, outs)
        live = any(p is not None for p in parents) and recording(level)
        results = cls._record(context, args, parents, outs, level) if live else outs
        if level and not live:
            results = tuple(Taped(o, level) for o in outs)
        return results if isinstance(out, tuple) else results[0]

    @classmethod
    def _record(
        cls, context: Context, args: Any, parents: Any, outs: tuple[Tensor, ...], level: int
    ) -> tuple[Tensor, ...]:
        node = Node.__new__(Node)
        node.primitive = cls._primitive  # type: ignore[assignment]
        node.params = {}
        node.parents = parents
        several = len(outs) > 1
        node.shape = tuple(o.shape for o in outs) if several else outs[0].shape
        node.dtype = tuple(o.dtype for o in outs) if several else outs[0].dtype
        node.saved = tuple(t for t, place in context._saved if place < 0)
        if level:
            node.saved += tuple(a for a in args if getattr(a, "level", 0) == level)
        node.cells = Cell()
        node.extra = (context,)
        node.sequence = next(clock)
        node.site = user_site()
        context._node = weakref.ref(node)
        results = []
        for i, o in enumerate(outs):
            result = with_history(o if level else o.data, (node, i), level)
            result.cell = node.cells
            results.append(result)
        return tuple(results)

    @classmethod
    def _apply_batched(cls, args: tuple[Any, ...], level: int) -> Any:
        flags = [isinstance(a, Batched) and a.level == level for a in args]
        values = [lower(a, level) for a in args]
        size = next(len(v) for v, flag in zip(values, flags, strict=True) if flag)
        rows = [
            cls.apply(*(v[i] if f else v for v, f in zip(values, flags, strict=True)))
            for i in range(size)
        ]
        if isinstance(rows[0], tuple):
            return tuple(Batched(stack(list(column)), level) for column in zip(*rows, strict=True))
        return Batched(stack(rows), level)
