"""Layers and losses as plain functions, with PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.elementwise import mul, relu, sigmoid, square, sub, tanh
from fathom.ops.linalg import affine
from fathom.ops.loss import cross_entropy, log_softmax, reduce_loss, softmax

__all__ = [
    "cross_entropy",
    "dropout",
    "linear",
    "log_softmax",
    "mse_loss",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]

linear = affine


def dropout(x: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """x with a share p of its elements zeroed and the rest scaled by 1/(1-p)."""
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"dropout: p is a probability in [0, 1]; received {p!r}")
    if not training or p == 0.0:
        return x  # type: ignore[return-value]
    values: Any = x if isinstance(x, (Tensor, np.ndarray)) else Tensor(x)
    keep = current().stream("dropout").bernoulli(1.0 - p, values.shape)
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    return mul(values, keep * values.dtype.type(scale))


def mse_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """(input - target)^2, averaged; the shapes must be equal (nothing is broadcast).

    >>> import fathom
    >>> mse_loss(fathom.tensor([1.0, 2.0]), fathom.tensor([0.0, 0.0]))
    tensor(2.5)
    """
    a, b = np.shape(input), np.shape(target)
    if a != b:
        fix = ""
        if a[:1] == b[:1] and int(np.prod(a)) == int(np.prod(b)):
            fix = f"reshape the target to {a}: it would be broadcast to every pair otherwise"
        raise ShapeError(f"mse_loss: input {a} and target {b} must have one shape", fix=fix)
    return reduce_loss(square(sub(input, target)), reduction)
