"""Gradient checkpointing: compute a part again in the backward pass instead of keeping it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fathom.autograd.function import Context, Function
from fathom.engine import random
from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError
from fathom.engine.levels import watching
from fathom.engine.modes import enable_grad, is_grad_enabled, no_grad
from fathom.engine.primitive import record
from fathom.engine.tensor import Tensor


class _Recompute(Function):
    """One node in place of many: its inputs are the arguments and all tensors met inside."""

    @staticmethod
    def forward(ctx: Context, part: Any, *inputs: Any) -> Any:
        ctx.part = part  # type: ignore[attr-defined]
        ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs))
        out, part.out = part.out, None
        return out

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        part: _Part = ctx.part  # type: ignore[attr-defined]
        second = is_grad_enabled()  # create_graph: this pass is recorded itself
        saved = ctx.saved_tensors
        given = [s if s is not None else a for s, a in zip(saved, part.args, strict=False)]
        if not second:  # arguments with history stand as leaves, so that the pass ends at them
            given = [
                a.detach().requires_grad_() if isinstance(a, Tensor) and a.requires_grad else a
                for a in given
            ]
        captured = saved[len(part.args) :]
        outs = part.again(given)
        wanted = [t for t in (*given, *captured) if isinstance(t, Tensor) and t.requires_grad]
        live = [(o, g) for o, g in zip(outs, grads, strict=True) if o.requires_grad]
        roots, seeds = zip(*live, strict=True)
        found = iter(grad(roots, wanted, seeds, create_graph=second, allow_unused=True))
        return (None, *(
            next(found) if isinstance(t, Tensor) and t.requires_grad else None
            for t in (*given, *captured)
        ))  # fmt: skip


class _Part:
    """A function, its arguments, what it put out, and the random streams it started from."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.streams = random.current().state_dict()
        self.captured: list[Tensor] = []
        with no_grad(), self.noting():
            self.out = function(*args)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Collect the tensors from outside that want a gradient: parameters, mostly."""
        known = {id(a) for a in self.args}

        def watch(primitive: Any, args: Any, params: Any, grad_mode: bool) -> Any:
            for a in args:
                if isinstance(a, Tensor) and a.requires_grad and id(a) not in known:
                    known.add(id(a))
                    self.captured.append(a)
            return record(primitive, args, params, grad_mode)

        with watching(watch):
            yield

    def again(self, args: list[Any]) -> tuple[Any, ...]:
        """The same computation, recorded, with the same random numbers."""
        replay = random.Random(self.streams["seed"])
        replay.load_state_dict(self.streams)
        with random.use(replay), enable_grad():
            out = self.function(*args)
        return out if isinstance(out, tuple) else (out,)


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` without keeping what happens inside for the backward pass.

    The backward pass runs the function again (Chen et al., 2016): the gradients are the same to
    the bit, dropout masks included; memory is paid for in time. The function must not have side
    effects, and must return a tensor or a tuple of tensors.

    >>> import fathom
    >>> x = fathom.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda v: (v.exp() * v).exp(), x).sum().backward()
    >>> y = fathom.tensor([1.0, 2.0], requires_grad=True)
    >>> (y.exp() * y).exp().sum().backward()
    >>> x.grad.tolist() == y.grad.tolist()
    True
    """
    if not callable(function):
        raise ArgumentError(f"checkpoint: the first argument must be a function, not {function!r}")
    part = _Part(function, args)
    return _Recompute.apply(part, *args, *part.captured)
