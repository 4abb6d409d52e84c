"""Adaptive softmax: many classes at the price of the frequent ones (Grave et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.modes import tracing
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn.checks import flag, number, positive, whole_numbers
from fathom.nn.container import ModuleList, Sequential
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.ops.checks import raw
from fathom.ops.create import as_tensor
from fathom.ops.elementwise import where
from fathom.ops.index import gather
from fathom.ops.loss import check_labels, log_softmax
from fathom.ops.shape import concatenate

__all__ = [
    "AdaptiveLogSoftmaxWithLoss",
]


class ASMoutput(NamedTuple):
    """Log-probability of each target, and the mean negative of them."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """The log-probability of one of very many classes, ordered from frequent to rare.

    Grave et al. (2017). Classes below cutoffs[0] and the rare clusters between the cutoffs share
    one softmax (the head); each cluster has a smaller softmax of its own (width in_features /
    div_value^i): log p(class) = log p(cluster) + log p(class | cluster).

    forward(input (n, in_features), target (n,)) gives (output (n,), loss ()); `log_prob` all
    n_classes, `predict` the best.

    >>> import fathom
    >>> layer = AdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[4, 10])
    >>> output, loss = layer(fathom.zeros(3, 16), [0, 5, 19])
    >>> output.shape, layer.log_prob(fathom.zeros(3, 16)).shape
    ((3,), (3, 20))
    """

    builds_children = True

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
    ) -> None:
        super().__init__()
        name = "AdaptiveLogSoftmaxWithLoss"
        self.in_features = positive(in_features, "in_features", name)
        self.n_classes = positive(n_classes, "n_classes", name)
        limits = [positive(c, "cutoffs", name) for c in whole_numbers(cutoffs, "cutoffs", name)]
        if not limits or limits != sorted(set(limits)) or limits[-1] >= self.n_classes:
            raise ArgumentError(
                f"{name}: cutoffs must rise and stay below n_classes={n_classes}; "
                f"received {list(cutoffs)}"
            )
        self.cutoffs = [*limits, self.n_classes]
        self.div_value = number(div_value, "div_value", self, 0.0, above=True)
        self.head_bias = flag(head_bias, "head_bias", self)
        self.shortlist, clusters = limits[0], len(limits)
        self.head = Linear(self.in_features, self.shortlist + clusters, bias=self.head_bias)
        self.tail = ModuleList()
        for i in range(clusters):
            width = int(self.in_features // self.div_value ** (i + 1))
            if width < 1:
                raise ArgumentError(
                    f"{name}: cluster {i + 1} would have no width: in_features={in_features} "
                    f"divided by div_value^{i + 1} is below 1",
                    fix="use a smaller div_value, or fewer cutoffs",
                )
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            layers = Linear(self.in_features, width, bias=False), Linear(width, size, bias=False)
            self.tail.append(Sequential(*layers))

    def forward(self, input: TensorLike, target: TensorLike) -> ASMoutput:
        x, y = self._input(input), as_tensor(target)
        if tuple(y.shape) != tuple(x.shape[:-1]):
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss: target {tuple(y.shape)} must have shape "
                f"{tuple(x.shape[:-1])}"
            )
        if tracing() is not None or y.level:  # one graph for all rows: every class is computed
            rows: Any = self.log_prob(x)
            output: Any = gather(rows, rows.ndim - 1, y.unsqueeze(-1)).squeeze(-1)
            return ASMoutput(output, -output.mean())
        labels = check_labels(np.atleast_1d(raw(y)), self.n_classes, -100)
        output = self._chosen(x.reshape(-1, self.in_features), labels).reshape(*y.shape)
        return ASMoutput(output, -output.mean())

    def _chosen(self, x: Any, labels: Any) -> Any:
        """Log-probabilities of the labels; each cluster sees only the rows that are its own."""
        head: Any = log_softmax(self.head(x), -1)
        cluster = np.searchsorted(self.cutoffs, labels, side="right")  # 0: the shortlist
        column = np.where(cluster == 0, labels, self.shortlist + cluster - 1)
        first = head[np.arange(len(labels)), column]
        parts, order = [first[np.flatnonzero(cluster == 0)]], [np.flatnonzero(cluster == 0)]
        for i, tail in enumerate(self.tail):
            rows = np.flatnonzero(cluster == i + 1)
            if rows.size:
                inside: Any = log_softmax(tail(x[rows]), -1)
                own = inside[np.arange(rows.size), labels[rows] - self.cutoffs[i]]
                parts.append(first[rows] + own)
                order.append(rows)
        return concatenate(parts, 0)[np.argsort(np.concatenate(order))]

    def log_prob(self, input: TensorLike) -> Tensor:
        """Log-probabilities of all classes: (..., n_classes)."""
        x = self._input(input)
        head: Any = log_softmax(self.head(x), -1)
        parts = [head[..., : self.shortlist]]
        for i, tail in enumerate(self.tail):
            gate = head[..., self.shortlist + i : self.shortlist + i + 1]
            parts.append(log_softmax(tail(x), -1) + gate)
        return concatenate(parts, -1)

    def predict(self, input: TensorLike) -> Tensor:  # type: ignore[override]  # as PyTorch's
        """The most likely class of each row; clusters are asked only where one leads."""
        x = self._input(input)
        best: Any = self.head(x).argmax(axis=-1)
        if not (raw(best) >= self.shortlist).any():
            return best
        return where(best < self.shortlist, best, self.log_prob(x).argmax(axis=-1))

    def _input(self, input: TensorLike) -> Any:
        x = as_tensor(input)
        if x.ndim not in (1, 2) or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss: needs (n, {self.in_features}); received "
                f"{mark_axes(x.shape, [-1]) if x.ndim else '()'}"
            )
        return x

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "n_classes": self.n_classes,
            "cutoffs": self.cutoffs[:-1],
            "div_value": self.div_value,
            "head_bias": self.head_bias,
        }
