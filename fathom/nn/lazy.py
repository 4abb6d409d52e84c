"""Layers that learn the size of their input from the first batch they see.

`nn.Linear(None, 10)` and PyTorch's `nn.LazyLinear(10)` are the same thing: parameters without a
shape, made at the first call (by `model(x)`, `model.summary(input_shape)` or `model.fit`). From
then on the layer is an ordinary one, and so is what is stored of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from fathom.engine.errors import ArgumentError, GraphError
from fathom.engine.modes import tracing
from fathom.engine.tensor import Tensor
from fathom.nn.parameter import Parameter

__all__ = [
    "UninitializedBuffer",
    "UninitializedParameter",
]

KNOWN = "model(x) with a first batch, or model.summary(input_shape=...), makes the parameters"


def _unknown(self: Any, *args: Any, **keywords: Any) -> NoReturn:
    raise GraphError(
        "a lazy layer has no values yet: it learns the size of its input from the first batch",
        fix=KNOWN,
    )


class UninitializedParameter(Parameter):
    """A parameter whose shape is not known yet; it keeps its identity when it is made.

    >>> p = UninitializedParameter()
    >>> p.materialize((2, 3))
    >>> type(p).__name__, p.shape
    ('Parameter', (2, 3))
    """

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        super().__init__(np.empty(0, dtype))

    def materialize(self, shape: tuple[int, ...]) -> None:
        """Take up a shape; the values are yet to be filled in."""
        _take_shape(self, shape, Parameter)

    detach = numpy = _unknown


class UninitializedBuffer(Tensor):
    """A buffer whose shape is not known yet."""

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        super().__init__(np.empty(0, dtype))

    def materialize(self, shape: tuple[int, ...]) -> None:
        """Take up a shape; the values are yet to be filled in."""
        _take_shape(self, shape, Tensor)

    detach = numpy = _unknown


def _take_shape(tensor: Any, shape: tuple[int, ...], kind: type) -> None:
    if (tracer := tracing()) is not None:
        tracer.refuse("a lazy layer makes its parameters", "before you compile, " + KNOWN)
    tensor.data = np.empty(shape, tensor.dtype)
    tensor.grad = None
    tensor.__class__ = kind


def parameter(shape: tuple[int, ...], known: bool) -> Parameter:
    """A parameter of that shape, or one that waits for it."""
    return Parameter(np.empty(shape, np.float32)) if known else UninitializedParameter()


def buffer(shape: tuple[int, ...], known: bool) -> Tensor:
    """A buffer of that shape, or one that waits for it."""
    return Tensor(np.empty(shape, np.float32)) if known else UninitializedBuffer()


def settle(layer: Any, size: int, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give a lazy layer its size: attribute `name`, and the shapes of what waits.

    Afterwards a LazyLinear is a Linear.
    """
    if size < 1:
        raise ArgumentError(
            f"{type(layer).__name__}: {name} is not known yet, and this batch says {size}",
            fix=KNOWN,
        )
    setattr(layer, name, size)
    for key, shape in shapes.items():
        waiting = getattr(layer, key)
        if isinstance(waiting, UninitializedParameter | UninitializedBuffer):
            waiting.materialize(shape)
    final = getattr(type(layer), "becomes", None)
    if final is not None:
        layer.__class__ = final
    layer.reset_parameters()


def fan_bound(shape: tuple[int, ...]) -> float:
    """1 / sqrt(fan_in): the limit of PyTorch's uniform initial weights and biases."""
    return 1.0 / math.sqrt(max(math.prod(shape[1:]), 1))
