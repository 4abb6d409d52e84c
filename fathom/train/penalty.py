"""Penalties on weights, for `fit(penalty=...)`, and the proximal step that makes exact zeros."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, mark_written
from fathom.train.callbacks import Callback

if TYPE_CHECKING:
    from fathom.train.loop import Trainer


def weights_of(model: Any) -> list[Tensor]:
    """The parameters that are penalized: weights, not biases or scales (two axes or more)."""
    return [p for p in model.parameters() if p.ndim > 1]


class ElasticNet:
    """l1 * sum |w| + l2 / 2 * sum w^2 over the weights (Zou & Hastie, 2005).

    With SGD the second term is `weight_decay=l2`; with Adam it is not (Loshchilov & Hutter).

    >>> from fathom import nn
    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.value()[...] = [[3.0, -4.0]]
    >>> ElasticNet(l1=1.0, l2=2.0)(layer).item()
    32.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            if not 0.0 <= value < float("inf"):
                raise ArgumentError(f"{name} must be a number >= 0; received {value!r}")
        self.l1, self.l2 = float(l1), float(l2)

    def __call__(self, model: Any) -> Tensor:
        total = Tensor(np.zeros((), next(iter(model.parameters())).dtype))
        for p in weights_of(model):
            if self.l1:
                total = total + p.abs().sum() * self.l1
            if self.l2:
                total = total + (p * p).sum() * (self.l2 / 2.0)
        return total

    def __repr__(self) -> str:
        return f"ElasticNet(l1={self.l1:g}, l2={self.l2:g})"


def soft_threshold_(parameters: Iterable[Tensor], amount: float) -> None:
    """w -> sign(w) * max(|w| - amount, 0), in place: the proximal step of an L1 penalty.

    >>> from fathom import nn
    >>> w = nn.Parameter([0.5, -0.25, 2.0])
    >>> soft_threshold_([w], 0.5)
    >>> w.tolist()
    [0.0, -0.0, 1.5]
    """
    for p in parameters:
        w = p.value()
        w[...] = np.sign(w) * np.maximum(np.abs(w) - amount, 0.0)
        mark_written(p)


class ProximalL1(Callback):
    """An L1 penalty by a proximal step after each batch: weights become exactly 0.

    (Parikh & Boyd, 2014.) The gradient of |w| in the loss only makes them hover about 0.
    """

    def __init__(self, strength: float) -> None:
        if not strength >= 0:
            raise ArgumentError(f"ProximalL1: strength must be >= 0; received {strength!r}")
        self.strength = float(strength)

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        rate = float(trainer.optimizer.param_groups[0]["lr"])
        soft_threshold_(weights_of(trainer.model), rate * self.strength)
