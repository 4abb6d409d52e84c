"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array
from fathom.optim.optimizer import Optimizer, at_least, share


class SGD(Optimizer):
    """w -= lr * v with v = momentum * v + g (Polyak, 1964; Nesterov, 1983).

    The first step takes v = g; `dampening` shrinks later gradients; `weight_decay` adds
    weight_decay * w to the gradient.
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("SGD: nesterov needs a momentum and no dampening")
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "SGD"),
            "momentum": share(momentum, "momentum", "SGD"),
            "dampening": share(dampening, "dampening", "SGD"),
            "weight_decay": at_least(weight_decay, 0.0, "weight_decay", "SGD"),
            "nesterov": bool(nesterov),
            "maximize": bool(maximize),
        }
        super().__init__(params, defaults)

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        momentum = group["momentum"]
        if momentum:
            v = state["momentum_buffer"]
            if group["dampening"] and step == 1:
                v[...] = g
            else:  # without dampening the first step comes out as g, too: v is 0
                v *= momentum
                v += np.multiply(g, 1.0 - group["dampening"], out=scratch)
            if group["nesterov"]:
                g += np.multiply(v, momentum, out=scratch)
            else:
                g[...] = v
        g *= group["lr"]
