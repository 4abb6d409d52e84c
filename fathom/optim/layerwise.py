"""Lion and LAMB: steps by sign, and steps in proportion to the size of the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fathom.engine.tensor import Array
from fathom.ops.checks import on_arrays
from fathom.optim.adam import averages
from fathom.optim.optimizer import Optimizer, checked, root


class Lion(Optimizer):
    """w -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w) (Chen et al., 2023).

    Every weight moves by the same amount, so take a learning rate 3 to 10 times smaller, and a
    weight decay as much larger, than with AdamW.

    >>> import fathom
    >>> w = fathom.nn.Parameter([1.0, 1.0])
    >>> w.grad = fathom.tensor([300.0, -0.01])
    >>> Lion([w], lr=0.1).step()
    >>> w.detach()
    tensor([0.9, 1.1])
    """

    slots = ("exp_avg",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, checked(
            "Lion",
            lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize,
        ))  # fmt: skip

    def decoupled_decay(self, group: dict[str, Any]) -> float:
        return group["weight_decay"]

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        direction = beta1 * m
        direction += np.multiply(g, 1.0 - beta1, out=scratch)
        m *= beta2
        m += np.multiply(g, 1.0 - beta2, out=scratch)
        np.sign(direction, out=g)
        g *= group["lr"]


class LAMB(Optimizer):
    """Adam whose step on each parameter is as long as lr * |w| (You et al., 2020).

    With u = m / (sqrt(v) + eps) + weight_decay * w, the step is lr * |w| / |u| * u; the ratio
    is 1 where either norm is 0, and |w| is held below `clamp_value`.
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clamp_value: float = 10.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, checked(
            "LAMB",
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, clamp_value=clamp_value,
            maximize=maximize,
        ))  # fmt: skip

    def coupled_decay(self, group: dict[str, Any]) -> float:
        return 0.0

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        m, v = averages(group, g, state, scratch)
        np.sqrt(v, out=scratch)
        scratch *= 1.0 / root(1.0 - beta2**step)
        scratch += group["eps"]
        np.divide(m, scratch, out=g)
        g *= 1.0 / (1.0 - beta1**step)

    def finish(self, group: dict[str, Any], w: Array, step: Array) -> None:
        if group["weight_decay"]:
            step += group["weight_decay"] * w
        factor = group["lr"] * on_arrays(_trust, w, step, largest=group["clamp_value"])
        step *= factor.astype(step.dtype) if hasattr(factor, "astype") else factor


def _trust(w: Array, step: Array, largest: float) -> float:
    """The length of the weights (at most `largest`) over that of the step."""
    size, length = float(np.linalg.norm(w)), float(np.linalg.norm(step))
    return min(size, largest) / length if size and length else 1.0
