"""Adam and its relatives: steps scaled by running averages of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fathom.engine.tensor import Array
from fathom.optim.optimizer import Optimizer, checked, root, worked_out


class Adam(Optimizer):
    """w -= lr * m / (sqrt(v) + eps), bias-corrected (Kingma & Ba, 2015).

    m and v are running averages of the gradient and its square, with rates `betas`.
    `weight_decay` adds weight_decay * w to the gradient (an L2 penalty), or, with
    `decoupled_weight_decay`, shrinks the weights beside the step as `AdamW` does. `amsgrad`
    divides by the largest v so far (Reddi et al., 2018); `maximize` climbs.

    >>> import fathom
    >>> w = fathom.nn.Parameter([1.0])
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.9
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, checked(
            type(self).__name__, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
            amsgrad=amsgrad, maximize=maximize, decoupled_weight_decay=decoupled_weight_decay,
        ))  # fmt: skip

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        return (*self.slots, "max_exp_avg_sq") if group["amsgrad"] else self.slots

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        m, v = averages(group, g, state, scratch)
        if group["amsgrad"]:
            v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        np.sqrt(v, out=scratch)
        scratch *= 1.0 / root(1.0 - beta2**step)
        scratch += group["eps"]
        np.divide(m, scratch, out=g)
        g *= group["lr"] / (1.0 - beta1**step)


class AdamW(Adam):
    """Adam with decoupled weight decay: w -= lr * weight_decay * w (Loshchilov & Hutter, 2019)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize,
            decoupled_weight_decay=True,
        )  # fmt: skip


class Adamax(Optimizer):
    """Adam with the decayed largest |g| in place of sqrt(v) (Kingma & Ba, 2015, section 7)."""

    slots = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, checked(
            "Adamax",
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
        ))  # fmt: skip

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        m, largest = state["exp_avg"], state["exp_inf"]
        m *= beta1
        m += np.multiply(g, 1.0 - beta1, out=scratch)
        largest *= beta2
        np.abs(g, out=g)
        g += group["eps"]
        np.maximum(largest, g, out=largest)
        np.divide(m, largest, out=g)
        g *= group["lr"] / (1.0 - beta1**step)


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat, 2016).

    The momentum of step t is beta1 * (1 - 0.5 * 0.96^(t * momentum_decay)), and the bias is
    corrected with the product of the momenta so far.
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, checked(
            "NAdam",
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay, maximize=maximize,
        ))  # fmt: skip
        self._products: dict[tuple[float, float], list[float]] = {}

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        decay = group["momentum_decay"]
        m, v = averages(group, g, state, scratch, keep=True)
        now, ahead = momentum_at(step, beta1, decay), momentum_at(step + 1, beta1, decay)
        product = worked_out(self.product, step, beta1, decay)
        np.sqrt(np.multiply(v, 1.0 / (1.0 - beta2**step), out=scratch), out=scratch)
        scratch += group["eps"]
        g *= group["lr"] * (1.0 - now) / (1.0 - product)
        g += (group["lr"] * ahead / (1.0 - product * ahead)) * m
        g /= scratch

    def product(self, step: int, beta1: float, decay: float) -> float:
        """The product of the momenta of steps 1 ... step: a function of the step alone."""
        known = self._products.setdefault((beta1, decay), [1.0])
        while len(known) <= step:
            known.append(known[-1] * momentum_at(len(known), beta1, decay))
        return known[step]


class RAdam(Optimizer):
    """Adam whose adaptive scale waits until its variance is tractable (Liu et al., 2020)."""

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, checked(
            "RAdam",
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay, maximize=maximize,
        ))  # fmt: skip

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        beta1, beta2 = group["betas"]
        m, v = averages(group, g, state, scratch)
        rest = 1.0 - beta2**step
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * step * beta2**step / rest  # of the average so far
        factor = group["lr"] / (1.0 - beta1**step)
        if length > 5.0:
            up, down = (length - 4.0) * (length - 2.0), (longest - 4.0) * (longest - 2.0)
            factor *= root(up * longest / (down * length) * rest)
            np.sqrt(v, out=scratch)
            scratch += group["eps"]
            np.divide(m, scratch, out=g)
        else:
            g[...] = m
        g *= factor


def momentum_at(step: int, beta1: float, decay: float) -> float:
    return beta1 * (1.0 - 0.5 * 0.96 ** (step * decay))


def averages(
    group: dict[str, Any], g: Array, state: dict[str, Array], scratch: Array, keep: bool = False
) -> tuple[Array, Array]:
    """Move the running averages of g and its square; g itself is lost unless kept."""
    beta1, beta2 = group["betas"]
    m, v = state["exp_avg"], state["exp_avg_sq"]
    m *= beta1
    m += np.multiply(g, 1.0 - beta1, out=scratch)
    v *= beta2
    square = np.multiply(g, g, out=scratch if keep else g)
    v += np.multiply(square, 1.0 - beta2, out=scratch)
    return m, v
