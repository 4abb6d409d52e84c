"""Code whose course depends on values, noted as one operation: run as it is, forward and backward.

Backward the code is run again under a tape of its own, so that nothing has to be kept between
the two passes: the operation stays a function of its arguments, which every pass may move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.traced import TraceError
from fathom.engine.modes import MODE, Mode
from fathom.engine.primitive import Primitive, apply
from fathom.engine.tensor import Tensor


def operation(function: Callable[..., Any]) -> Primitive:
    """A primitive that runs `function(*tensors, **params)`, which returns one tensor."""
    name = function.__name__.lstrip("_")

    def forward(*arrays: Any, **params: Any) -> Any:
        with _alone(grad=False):
            return np.asarray(function(*_tensors(arrays), **params).value())

    def gradients(g: Any, *arrays: Any, wanted: tuple[int, ...], **params: Any) -> Any:
        with _alone(grad=True):
            inputs = _tensors(arrays)
            for i in wanted:
                inputs[i].requires_grad_()
            out = function(*inputs, **params)
            if out.requires_grad:
                out.backward(Tensor(g))
            found = [inputs[i].grad for i in wanted]
        zeros = (np.zeros_like(arrays[i]) for i in wanted)
        return tuple(z if f is None else f.value() for z, f in zip(zeros, found, strict=True))

    def refuse(*args: Any, **params: Any) -> Any:
        raise TraceError(
            f"{name} goes by the values it gets: while a step is compiled it has one derivative, "
            "in reverse mode",
            fix="leave this step uncompiled",
        )

    back = Primitive(
        f"{name}_gradients", "general", gradients, (refuse,), "", (refuse,), casts=True,
        listed=False,
    )  # fmt: skip

    def rule(g: Any, out: Any, *ins: Any, index: int, **params: Any) -> Any:
        wanted = tuple(i for i, x in enumerate(ins) if _differentiable(x))
        return apply(back, g, *ins, wanted=wanted, **params)[wanted.index(index)]

    return Primitive(
        name, "general", forward, (rule,), "in", (refuse,), casts=True, listed=False
    )  # fmt: skip


def _tensors(arrays: Any) -> list[Any]:
    """Fresh tensors on the same memory; what is no array stays as it is."""
    return [Tensor(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in arrays]


def _differentiable(x: Any) -> bool:
    return isinstance(x, (Tensor, np.ndarray)) and x.dtype.kind == "f"


class _alone:
    """No trace, no levels: plain eager work inside of a plan's step."""

    def __init__(self, grad: bool) -> None:
        self.mode = Mode(grad=grad)

    def __enter__(self) -> None:
        self.token = MODE.set(self.mode)

    def __exit__(self, *exc: object) -> None:
        MODE.reset(self.token)
