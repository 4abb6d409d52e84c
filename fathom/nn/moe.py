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
from fathom.ops.checks import raw
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
        chosen = np.argsort(-raw(probabilities), axis=-1, kind="stable")[:, : self.k]
        shares: Any = take_along_axis(probabilities, chosen, -1)
        if self.k > 1:
            shares = shares / sum_(shares, -1, keepdims=True)
        self._note(probabilities, chosen)
        out: Any = tokens * 0.0
        for expert in range(self.num_experts):
            rows, places = np.nonzero(chosen == expert)
            if len(rows):  # the others cost nothing
                part = self._expert(expert, embedding(rows, tokens))
                out = index_add(out, 0, rows, part * reshape(shares[rows, places], (-1, 1)))
        return reshape(out, a.shape)

    def _expert(self, i: int, x: Any) -> Any:
        first, second = (None if b is None else b[i] for b in (self.bias1, self.bias2))
        hidden = getattr(F, self.activation)(F.linear(x, self.weight1[i], first))
        return F.linear(hidden, self.weight2[i], second)

    def _note(self, probabilities: Any, chosen: Any) -> None:
        load = np.bincount(chosen.reshape(-1), minlength=self.num_experts) / max(chosen.size, 1)
        importance = mean(probabilities, 0)
        aux = sum_(importance * load.astype(probabilities.dtype)) * float(self.num_experts)
        self.routing = Routing(chosen, load, np.array(raw(importance)), aux)

    def config(self) -> dict[str, Any]:
        return {
            "d_model": self.d_model,
            "d_hidden": self.d_hidden,
            "num_experts": self.num_experts,
            "k": self.k,
            "activation": self.activation,
            "bias": self.bias,
        }
