"""Penalties on weights, for `fit(penalty=...)`, and the proximal step that makes exact zeros."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor
from fathom.nn.named import build, named, pick
from fathom.nn.penalties import l1_penalty, l2_penalty, proximal_l1_
from fathom.train.callbacks import Callback

if TYPE_CHECKING:
    from fathom.train.trainer import Trainer


class ElasticNet:
    """l1 * sum |w| + l2 / 2 * sum w^2 over the weights (Zou & Hastie, 2005).

    Weights are parameters of two axes or more: no biases, no scales. With SGD the second term is
    `weight_decay=l2`; with Adam it is not (Loshchilov & Hutter).

    >>> from fathom import nn
    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.value()[...] = [[3.0, -4.0]]
    >>> ElasticNet(l1=1.0, l2=2.0)(layer).item()
    32.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            if not isinstance(value, int | float) or not 0.0 <= value < float("inf"):
                raise ArgumentError(f"{name} must be a number >= 0; received {value!r}")
        self.l1, self.l2 = float(l1), float(l2)

    def __call__(self, model: Any) -> Tensor:
        total: Any = Tensor(np.zeros((), next(iter(model.parameters())).dtype))
        if self.l1:
            total = total + l1_penalty(model, self.l1)
        if self.l2:
            total = total + l2_penalty(model, self.l2 / 2.0)
        made: Tensor = total
        return made

    def __repr__(self) -> str:
        return f"ElasticNet(l1={self.l1:g}, l2={self.l2:g})"


class ProximalL1(Callback):
    """An L1 penalty by a proximal step after each batch: weights become exactly 0.

    (Parikh & Boyd, 2014.) The gradient of |w| in the loss only makes them hover about 0.
    """

    def __init__(self, strength: float) -> None:
        if not isinstance(strength, int | float) or not strength >= 0:
            raise ArgumentError(f"ProximalL1: strength must be >= 0; received {strength!r}")
        self.strength = float(strength)

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        rate = float(trainer.optimizer.param_groups[0]["lr"])
        proximal_l1_(trainer.model, rate * self.strength)


def _l1(strength: float = 1e-4) -> ElasticNet:
    return ElasticNet(l1=strength)


def _l2(strength: float = 1e-4) -> ElasticNet:
    return ElasticNet(l2=strength)


PENALTIES = {
    "l1": _l1,
    "l2": _l2,
    "elastic_net": partial(ElasticNet, l1=1e-4, l2=1e-4),
    "proximal_l1": partial(ProximalL1, strength=1e-4),
}


def make_penalty(value: Any) -> ElasticNet | ProximalL1:
    """The penalty of a name with options; strengths are 1e-4 unless given.

    >>> make_penalty("l1:strength=0.5"), make_penalty({"name": "elastic_net", "l1": 1, "l2": 2})
    (ElasticNet(l1=0.5, l2=0), ElasticNet(l1=1, l2=2))
    """
    name, options = named(value, "penalty")
    made: ElasticNet | ProximalL1 = build(
        pick(PENALTIES, name, "penalty"), options, f"penalty {name!r}"
    )
    return made
