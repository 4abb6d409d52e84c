"""Fully connected layers, and those that only pass on or reshape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import positive
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features).

    Weight (out_features, in_features) and bias start uniform in +-1/sqrt(in_features), as in
    PyTorch.

    >>> import fathom
    >>> with fathom.seed(0):
    ...     layer = Linear(3, 2)
    >>> layer(fathom.zeros(5, 3)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = positive(in_features, "in_features", "Linear")
        self.out_features = positive(out_features, "out_features", "Linear")
        self.weight = Parameter(np.empty((self.out_features, self.in_features), np.float32))
        init.kaiming_uniform_(self.weight, gain=1.0 / math.sqrt(3.0))
        if bias:
            self.bias = Parameter(np.empty(self.out_features, np.float32))
            bound = 1.0 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)
        else:
            self.register_parameter("bias", None)

    def forward(self, x: TensorLike) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
        }


class Identity(Module):
    """x itself."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """All axes behind the first made one: (n, a, b, ...) -> (n, a*b*...)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)
