"""A sigmoid gate: what LSTM, GRU, highway and gated feed-forward layers have in common."""

from __future__ import annotations

from typing import Any

from fathom.engine.errors import ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import alike, number, positive
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.ops.shape import concatenate

__all__ = [
    "Gate",
]


class Gate(Module):
    """g a + (1 - g) b with g = sigmoid(W [a, b] + bias): (..., features) twice -> (..., features).

    A learned convex mix: each output lies between its two inputs. `bias` is where the gate's
    bias starts; above 0 it begins by passing on a, as one does with an LSTM's forget gate.
    Hochreiter & Schmidhuber (1997); Srivastava, Greff & Schmidhuber (2015).

    >>> import fathom
    >>> Gate(3)(fathom.ones(2, 3), fathom.zeros(2, 3)).shape
    (2, 3)
    """

    builds_children = True

    def __init__(self, features: int, bias: float = 0.0) -> None:
        super().__init__()
        self.features, self.bias = (
            positive(features, "features", "Gate"),
            number(bias, "bias", self),
        )
        self.linear = Linear(2 * self.features, self.features)
        self.linear.bias.data[...] = self.bias  # type: ignore[union-attr]

    def forward(self, a: TensorLike, b: TensorLike) -> Tensor:
        x, y = (alike(self, v, self.linear.weight) for v in (a, b))
        if x.shape != y.shape or not x.ndim or x.shape[-1] != self.features:
            raise ShapeError(
                f"Gate: needs two inputs (..., {self.features}); received {x.shape} and {y.shape}"
            )
        g = F.sigmoid(self.linear(concatenate([x, y], -1)))
        return g * x + (1.0 - g) * y

    def config(self) -> dict[str, Any]:
        return {"features": self.features, "bias": self.bias}
