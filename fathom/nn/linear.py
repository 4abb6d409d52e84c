"""Fully connected layers, and those that only pass on or reshape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import alike, flag, positive, whole, whole_numbers
from fathom.nn.lazy import fan_bound, parameter, settle
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.create import as_tensor

__all__ = [
    "Bilinear",
    "Flatten",
    "Identity",
    "LazyLinear",
    "Linear",
    "Unflatten",
]


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features).

    Weight (out_features, in_features) and bias start uniform in +-1/sqrt(in_features), as in
    PyTorch. With in_features=None the first batch says how many there are.

    >>> import fathom
    >>> with fathom.seed(0):
    ...     layer = Linear(3, 2)
    >>> layer(fathom.zeros(5, 3)).shape
    (5, 2)
    >>> lazy = Linear(None, 2)
    >>> lazy(fathom.zeros(5, 3)).shape, lazy.in_features
    ((5, 2), 3)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int | None, out_features: int, bias: bool = True) -> None:
        super().__init__()
        known = in_features is not None
        self.in_features = positive(in_features, "in_features", "Linear") if known else 0
        self.out_features = positive(out_features, "out_features", "Linear")
        self.weight = parameter((self.out_features, self.in_features), known)
        if flag(bias, "bias", "Linear"):
            self.bias = parameter((self.out_features,), known)
        else:
            self.register_parameter("bias", None)
        if known:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights and bias uniform in +-1/sqrt(in_features)."""
        bound = fan_bound(self.weight.shape)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: TensorLike) -> Tensor:
        weight = self.weight
        a = alike(self, x, weight)
        if not self.in_features:
            size = a.shape[-1] if a.ndim else 0
            shapes = {"weight": (self.out_features, size), "bias": (self.out_features,)}
            settle(self, size, "in_features", shapes)
        return F.linear(a, weight, self.bias)

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features or None,
            "out_features": self.out_features,
            "bias": self.bias is not None,
        }


class LazyLinear(Linear):
    """A `Linear` whose in_features are those of its first input; then it is a `Linear`.

    >>> import fathom
    >>> layer = LazyLinear(2)
    >>> _ = layer(fathom.zeros(5, 3))
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    becomes: ClassVar[type[Module]] = Linear

    def __init__(self, out_features: int, bias: bool = True) -> None:
        super().__init__(None, out_features, bias)

    def config(self) -> dict[str, Any]:
        return {"out_features": self.out_features, "bias": self.bias is not None}


class Bilinear(Module):
    """x1^T W x2 + b for each output: (..., in1), (..., in2) -> (..., out).

    Weight (out_features, in1_features, in2_features) and bias start uniform in
    +-1/sqrt(in1_features), as in PyTorch.

    >>> import fathom
    >>> Bilinear(3, 4, 2)(fathom.ones(5, 3), fathom.ones(5, 4)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True
    ) -> None:
        super().__init__()
        self.in1_features = positive(in1_features, "in1_features", "Bilinear")
        self.in2_features = positive(in2_features, "in2_features", "Bilinear")
        self.out_features = positive(out_features, "out_features", "Bilinear")
        shape = (self.out_features, self.in1_features, self.in2_features)
        self.weight = Parameter(np.empty(shape, np.float32))
        bound = 1.0 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if flag(bias, "bias", "Bilinear"):
            self.bias = Parameter(np.empty(self.out_features, np.float32))
            init.uniform_(self.bias, -bound, bound)
        else:
            self.register_parameter("bias", None)

    def forward(self, input1: TensorLike, input2: TensorLike) -> Tensor:
        a, b = (alike(self, x, self.weight) for x in (input1, input2))
        return F.bilinear(a, b, self.weight, self.bias)

    def config(self) -> dict[str, Any]:
        return {
            "in1_features": self.in1_features,
            "in2_features": self.in2_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
        }


class Identity(Module):
    """x itself."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes start_dim to end_dim made one; by default (n, a, b, ...) -> (n, a*b*...)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = (
            whole(start_dim, "start_dim", self),
            whole(end_dim, "end_dim", self),
        )

    def forward(self, x: TensorLike) -> Tensor:
        return as_tensor(x).flatten(self.start_dim, self.end_dim)

    def config(self) -> dict[str, Any]:
        return {"start_dim": self.start_dim, "end_dim": self.end_dim}


class Unflatten(Module):
    """One axis split into several: the inverse of `Flatten`.

    unflattened_size : their sizes, one of them -1 at most.

    >>> import fathom
    >>> Unflatten(1, (2, 3))(fathom.zeros(5, 6)).shape
    (5, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = whole(dim, "dim", self)
        self.unflattened_size = whole_numbers(unflattened_size, "unflattened_size", self)
        least = min(self.unflattened_size, default=-2)
        if least < -1 or 0 in self.unflattened_size or self.unflattened_size.count(-1) > 1:
            raise ArgumentError(
                "Unflatten: unflattened_size must be a tuple of sizes >= 1, one of them -1 at "
                f"most; received {unflattened_size!r}"
            )

    def forward(self, x: TensorLike) -> Tensor:
        return as_tensor(x).unflatten(self.dim, self.unflattened_size)

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim, "unflattened_size": list(self.unflattened_size)}
