"""The layers of multilayer networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter


def positive(value: Any, name: str, owner: str) -> int:
    """A size: a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{owner}: {name} must be a whole number >= 1; received {value!r}")
    return int(value)


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


class ReLU(Module):
    """max(x, 0), elementwise."""

    def forward(self, x: TensorLike) -> Tensor:
        return F.relu(x)


class Tanh(Module):
    """Hyperbolic tangent, elementwise."""

    def forward(self, x: TensorLike) -> Tensor:
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), elementwise."""

    def forward(self, x: TensorLike) -> Tensor:
        return F.sigmoid(x)


class Identity(Module):
    """x itself."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """All axes behind the first made one: (n, a, b, ...) -> (n, a*b*...)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Dropout(Module):
    """Each element is zero with probability p, the others grow by 1/(1-p), while training.

    Srivastava et al. (2014). The mask is drawn from the stream "dropout" of the current
    `Random`; in `eval()` mode nothing changes.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError(f"Dropout: p is a probability in [0, 1]; received {p!r}")
        self.p = float(p)

    def forward(self, x: TensorLike) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def config(self) -> dict[str, Any]:
        return {"p": self.p}


class Sequential(Module):
    """Layers one after the other.

    >>> import fathom
    >>> from fathom import nn
    >>> nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate[Any](layers):
            if not isinstance(layer, Module):
                hint = f"nn.{layer.__name__}()" if isinstance(layer, type) else ""
                if isinstance(layer, list | tuple):
                    hint = "nn.Sequential(*layers), with a star, takes a list apart"
                raise ArgumentError(f"Sequential: argument {i} is {layer!r}, not a layer", fix=hint)
            self.add_module(str(i), layer)

    def forward(self, x: Any) -> Any:
        for layer in self._modules.values():
            x = layer(x)
        return x

    def append(self, layer: Module) -> Sequential:
        """One more layer at the end."""
        self.add_module(str(len(self)), layer)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        layers = list(self._modules.values())
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]
