"""Activations as layers, and by name."""

from __future__ import annotations

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.linear import Identity
from fathom.nn.module import Module


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


ACTIVATIONS: dict[str, type[Module]] = {
    "identity": Identity,
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
}


def activation(name: str) -> Module:
    """A new activation layer by name.

    >>> activation("tanh")
    Tanh()
    """
    if not isinstance(name, str) or name.lower() not in ACTIVATIONS:
        raise ArgumentError(f"unknown activation {name!r}", fix=suggest(str(name), ACTIVATIONS))
    return ACTIVATIONS[name.lower()]()
