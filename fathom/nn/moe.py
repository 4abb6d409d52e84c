"""A mixture of experts: each token goes to a few of many feed-forward nets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import alike, flag, positive
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.checks import by_value, on_arrays, raw
from fathom.ops.embedding import embedding
from fathom.ops.index import take_along_axis
from fathom.ops.reduce import mean
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import reshape
from fathom.ops.writing import index_add

__all__ = [
    "MixtureOfExperts",
]


@dataclass(frozen=True)
class Routing:
    """What the router did with the last batch.

    experts : (tokens, k), the experts each token went to. load : share of all choices each
    expert got, (experts,). importance : mean probability of each expert. aux_loss : add a
    hundredth of it to the loss to keep the load even; 1 if it is.
    """

    experts: Any
    load: Any
    importance: Any
    aux_loss: Tensor

    @property
    def imbalance(self) -> float:
        """Standard deviation of the load over its mean: 0 if even."""
        return float(self.load.std() / self.load.mean())


class MixtureOfExperts(Module):
    """Each token's sum of the k experts it is routed to: (..., d_model) -> (..., d_model).

    Shazeer et al. (2017); the balancing loss is that of Fedus et al. (2022): experts times the
    sum over experts of (share of choices * mean probability). The weights of the chosen k are
    their softmax probabilities made to sum to 1 (with `k=1`, the probability itself, without
    which the router had no gradient). After a call, `routing` tells where the tokens went.

    >>> import fathom
    >>> layer = MixtureOfExperts(4, 8, num_experts=3, k=2)
    >>> layer(fathom.randn(5, 4)).shape, layer.routing.experts.shape
    ((5, 4), (5, 2))
    """

    builds_children = True
    reports = ("routing",)
    routing: Routing | None

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        num_experts: int,
        k: int = 2,
        activation: str = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        kind = "MixtureOfExperts"
        self.d_model = positive(d_model, "d_model", kind)
        self.d_hidden = positive(d_hidden, "d_hidden", kind)
        self.num_experts = positive(num_experts, "num_experts", kind)
        self.k = positive(k, "k", kind)
        if self.k > self.num_experts:
            raise ArgumentError(f"{kind}: k {k} is more than the {num_experts} experts")
        if activation not in ("relu", "gelu", "silu", "tanh"):
            raise ArgumentError(
                f"{kind}: unknown activation {activation!r}", fix="known: gelu, relu, silu, tanh"
            )
        self.activation, self.bias, self.routing = activation, flag(bias, "bias", self), None
        self.router = Linear(self.d_model, self.num_experts, bias=False)
        self._make_experts()

    def _make_experts(self) -> None:
        """All experts in one array each; every one starts as `Linear` does."""
        sizes = {"1": (self.d_hidden, self.d_model), "2": (self.d_model, self.d_hidden)}
        for name, (rows, columns) in sizes.items():
            bound = 1.0 / math.sqrt(columns)
            weight = Parameter(np.empty((self.num_experts, rows, columns), np.float32))
            init.uniform_(weight, -bound, bound)
            self.register_parameter("weight" + name, weight)
            shift = Parameter(np.empty((self.num_experts, rows), np.float32)) if self.bias else None
            if shift is not None:
                init.uniform_(shift, -bound, bound)
            self.register_parameter("bias" + name, shift)

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = alike(self, x, self.weight1)
        if not a.ndim or a.shape[-1] != self.d_model:
            marked = mark_axes(a.shape, [-1]) if a.ndim else "()"
            raise ShapeError(f"MixtureOfExperts: needs (..., {self.d_model}); received {marked}")
        tokens: Any = reshape(a, (-1, self.d_model))
        probabilities: Any = F.softmax(self.router(tokens), -1)
        chosen = on_arrays(_largest, probabilities, k=self.k)
        shares: Any = take_along_axis(probabilities, chosen, -1)
        if self.k > 1:
            shares = shares / sum_(shares, -1, keepdims=True)
        self._note(probabilities, chosen)
        weights = (self.weight1, self.bias1, self.weight2, self.bias2)
        out: Any = by_value(_mixture, tokens, shares, chosen, *weights, activation=self.activation)
        return reshape(out, a.shape)

    def _note(self, probabilities: Any, chosen: Any) -> None:
        load = on_arrays(_load, chosen, experts=self.num_experts)
        importance = mean(probabilities, 0)
        aux = sum_(importance * load.astype(probabilities.dtype)) * float(self.num_experts)
        self.routing = Routing(chosen, load, on_arrays(np.array, importance), aux)

    def config(self) -> dict[str, Any]:
        return {
            "d_model": self.d_model,
            "d_hidden": self.d_hidden,
            "num_experts": self.num_experts,
            "k": self.k,
            "activation": self.activation,
            "bias": self.bias,
        }


def _largest(probabilities: Any, k: int) -> Any:
    """The k experts of each token, the likeliest first."""
    return np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]


def _load(chosen: Any, experts: int) -> Any:
    return np.bincount(chosen.reshape(-1), minlength=experts) / max(chosen.size, 1)


def _mixture(
    tokens: Any, shares: Any, chosen: Any, weight1: Any, bias1: Any, weight2: Any, bias2: Any,
    activation: str,
) -> Any:  # fmt: skip
    """The sum of the chosen experts' outputs, each seen only by the tokens that chose it."""
    out: Any = tokens * 0.0
    picked = raw(chosen)
    for i in range(weight1.shape[0]):
        rows, places = np.nonzero(picked == i)
        if not len(rows):  # the others cost nothing
            continue
        first, second = (None if b is None else b[i] for b in (bias1, bias2))
        hidden = getattr(F, activation)(F.linear(embedding(rows, tokens), weight1[i], first))
        part = F.linear(hidden, weight2[i], second)
        out = index_add(out, 0, rows, part * reshape(shares[rows, places], (-1, 1)))
    return out
