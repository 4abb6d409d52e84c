"""Steps scaled by the size of past gradients: AdaGrad, AdaDelta, RMSProp, Rprop, ASGD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array, Tensor
from fathom.optim.optimizer import Flat, Optimizer, at_least, share


class Adagrad(Optimizer):
    """w -= lr_t * g / (sqrt(sum of g^2 so far) + eps) (Duchi, Hazan & Singer, 2011).

    lr_t = lr / (1 + (t - 1) * lr_decay); the sum begins at `initial_accumulator_value`.

    >>> import fathom
    >>> w = fathom.nn.Parameter([1.0])
    >>> w.grad = fathom.tensor([5.0])
    >>> Adagrad([w], lr=0.1).step()
    >>> round(w.item(), 4)
    0.9
    """

    slots = ("sum",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        first = at_least(initial_accumulator_value, 0.0, "initial_accumulator_value", "Adagrad")
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "Adagrad"),
            "lr_decay": at_least(lr_decay, 0.0, "lr_decay", "Adagrad"),
            "weight_decay": at_least(weight_decay, 0.0, "weight_decay", "Adagrad"),
            "initial_accumulator_value": first,
            "eps": at_least(eps, 0.0, "eps", "Adagrad"),
            "maximize": bool(maximize),
        }
        super().__init__(params, defaults)

    def fresh(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> Flat:
        flat = super().fresh(group, parameters)
        flat.state["sum"].fill(group["initial_accumulator_value"])
        return flat

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        total = state["sum"]
        total += np.multiply(g, g, out=scratch)
        np.sqrt(total, out=scratch)
        scratch += group["eps"]
        g *= group["lr"] / (1.0 + (step - 1) * group["lr_decay"])
        g /= scratch


class Adadelta(Optimizer):
    """Steps in the units of the weights: g * RMS of past steps / RMS of g (Zeiler, 2012)."""

    slots = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "Adadelta"),
            "rho": share(rho, "rho", "Adadelta"),
            "eps": at_least(eps, 0.0, "eps", "Adadelta"),
            "weight_decay": at_least(weight_decay, 0.0, "weight_decay", "Adadelta"),
            "maximize": bool(maximize),
        }
        super().__init__(params, defaults)

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        rho, eps = group["rho"], group["eps"]
        squares, steps = state["square_avg"], state["acc_delta"]
        squares *= rho
        np.multiply(g, g, out=scratch)
        squares += np.multiply(scratch, 1.0 - rho, out=scratch)
        np.add(steps, eps, out=scratch)
        scratch /= squares + eps
        g *= np.sqrt(scratch, out=scratch)
        steps *= rho
        np.multiply(g, g, out=scratch)
        steps += np.multiply(scratch, 1.0 - rho, out=scratch)
        g *= group["lr"]


class RMSprop(Optimizer):
    """w -= lr * g / (sqrt(running mean of g^2) + eps) (Hinton, 2012, lecture 6e).

    `centered` subtracts the square of the running mean of g (Graves, 2013); `momentum`
    accumulates the scaled gradients.
    """

    slots = ("square_avg",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "RMSprop"),
            "alpha": share(alpha, "alpha", "RMSprop"),
            "eps": at_least(eps, 0.0, "eps", "RMSprop"),
            "weight_decay": at_least(weight_decay, 0.0, "weight_decay", "RMSprop"),
            "momentum": at_least(momentum, 0.0, "momentum", "RMSprop"),
            "centered": bool(centered),
            "maximize": bool(maximize),
        }
        super().__init__(params, defaults)

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        momentum = ("momentum_buffer",) if group["momentum"] else ()
        return (*self.slots, *momentum, *(("grad_avg",) if group["centered"] else ()))

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        alpha, squares = group["alpha"], state["square_avg"]
        squares *= alpha
        np.multiply(g, g, out=scratch)
        squares += np.multiply(scratch, 1.0 - alpha, out=scratch)
        if group["centered"]:
            mean = state["grad_avg"]
            mean *= alpha
            mean += np.multiply(g, 1.0 - alpha, out=scratch)
            np.multiply(mean, mean, out=scratch)
            np.sqrt(np.subtract(squares, scratch, out=scratch), out=scratch)
        else:
            np.sqrt(squares, out=scratch)
        scratch += group["eps"]
        g /= scratch
        if group["momentum"]:
            buffer = state["momentum_buffer"]
            buffer *= group["momentum"]
            buffer += g
            g[...] = buffer
        g *= group["lr"]


class Rprop(Optimizer):
    """Each weight its own step, longer while the sign of its gradient stays, shorter when it
    turns (Riedmiller & Braun, 1993). For full batches."""

    slots = ("prev", "step_size")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ArgumentError(f"Rprop: etas must be 0 < down < 1 < up; received {etas!r}")
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "Rprop"),
            "etas": list(etas),
            "step_sizes": list(step_sizes),
            "maximize": bool(maximize),
        }
        super().__init__(params, defaults)

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        (down, up), (low, high) = group["etas"], group["step_sizes"]
        before, sizes = state["prev"], state["step_size"]
        if step == 1:
            sizes.fill(group["lr"])
        np.multiply(g, before, out=scratch)
        turned = scratch < 0
        sizes *= np.where(turned, down, np.where(scratch > 0, up, 1.0)).astype(sizes.dtype)
        np.clip(sizes, low, high, out=sizes)
        g[...] = np.where(turned, 0.0, g)
        before[...] = g
        np.sign(g, out=g)
        g *= sizes
