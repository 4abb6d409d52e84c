"""Adam: steps scaled by running averages of the gradient and of its square."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array
from fathom.optim.optimizer import Optimizer, at_least, share


class Adam(Optimizer):
    """w -= lr * m / (sqrt(v) + eps), bias-corrected (Kingma & Ba, 2015).

    m and v are running averages of the gradient and its square, with rates `betas`.
    `weight_decay` adds weight_decay * w to the gradient (an L2 penalty).
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ArgumentError(f"Adam: betas are two numbers in [0, 1); received {betas!r}")
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "Adam"),
            "betas": [share(beta, f"betas[{i}]", "Adam") for i, beta in enumerate(betas)],
            "eps": at_least(eps, 0.0, "eps", "Adam"),
            "weight_decay": at_least(weight_decay, 0.0, "weight_decay", "Adam"),
        }
        super().__init__(params, defaults)

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m *= beta1
        m += np.multiply(g, 1.0 - beta1, out=scratch)
        v *= beta2
        np.multiply(g, g, out=g)
        v += np.multiply(g, 1.0 - beta2, out=scratch)
        np.sqrt(v, out=scratch)
        scratch *= 1.0 / math.sqrt(1.0 - beta2**step)
        scratch += group["eps"]
        np.divide(m, scratch, out=g)
        g *= group["lr"] / (1.0 - beta1**step)
