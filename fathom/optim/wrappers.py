"""Optimizers around another: SAM (flat minima) and Lookahead (slow and fast weights)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.modes import tracing
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.ops.checks import memory, on_arrays
from fathom.optim.optimizer import Closure, Optimizer, at_least, count_up, evaluate
from fathom.optim.sgd import SGD


class Wrapper(Optimizer):
    """Shares groups and state with the optimizer inside."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{type(self).__name__} wraps an optimizer; received {optimizer!r}")
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups
        self.defaults = optimizer.defaults
        self.check_finite = False

    def inner_step(self, closure: Closure | None = None) -> Any:
        self.optimizer.check_finite = self.check_finite
        return self.optimizer.step(closure)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        self.optimizer.add_param_group(group)

    def every(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(saved)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optimizer!r})"


class SAM(Wrapper):
    """Sharpness-aware minimization (Foret et al., 2021): the gradient at the worst point near by.

    `first_step` climbs to w + rho * g / |g| (scaled by |w| per weight if `adaptive`: Kwon et
    al., 2021); with the gradients from there, `second_step` returns and lets the optimizer
    inside step. `step(closure)` does both, the closure computing loss and gradients.

    `SAM(params, SGD, rho=0.05, lr=0.1)` makes the optimizer inside; one that is made already
    goes in as `SAM(optimizer)`.

    >>> import fathom
    >>> from fathom.optim import SGD
    >>> w = fathom.nn.Parameter([1.0])
    >>> optimizer = SAM([w], SGD, rho=0.5, lr=0.1)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w * w).sum()
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)
    >>> w.detach()  # the gradient 3 comes from w = 1.5
    tensor([0.7])
    """

    needs_closure = True

    def __init__(
        self,
        params: Iterable[Any] | Optimizer,
        base_optimizer: Callable[..., Optimizer] | None = None,
        rho: float = 0.05,
        adaptive: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(params, Optimizer):
            params = (base_optimizer or SGD)(params, **options)
        elif base_optimizer is not None or options:
            raise ArgumentError("SAM: give options to the optimizer you pass")
        super().__init__(params)
        self.rho = at_least(rho, 0.0, "rho", "SAM")
        self.adaptive = bool(adaptive)
        self._kept: list[tuple[Tensor, Array]] = []

    def first_step(self, zero_grad: bool = False) -> None:
        """Climb to the worst point within rho; the weights are kept."""
        moved = [(p, g) for p in self.every() if (g := _gradient(p)) is not None]
        scaled = [g * np.abs(memory(p)) if self.adaptive else g for p, g in moved]
        self._kept = [(p, memory(p).copy()) for p, _ in moved]
        for (p, _), g in zip(moved, scaled, strict=True):
            data = memory(p)
            climb = g * np.abs(data) if self.adaptive else g
            rate = on_arrays(_rate, *scaled, rho=self.rho, dtype=data.dtype)
            data += rate * climb
            mark_written(p)
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad: bool = False) -> None:
        """Return, and step with the gradients found up there."""
        self._return()
        self.inner_step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure: Closure | None = None) -> Any:
        """Loss and gradients here, gradients up there, step; returns the loss here."""
        if closure is None:
            raise ArgumentError("SAM.step needs a closure that computes loss and gradients")
        loss = evaluate(closure)
        self.first_step(zero_grad=True)
        try:
            evaluate(closure)
        except BaseException:
            self._return()
            raise
        self.second_step()
        return loss

    def _return(self) -> None:
        for p, weights in self._kept:
            memory(p)[...] = weights
            mark_written(p)
        self._kept = []


def _gradient(p: Tensor) -> Any:
    """The memory of a gradient; under trace, its stand-in."""
    if (tracer := tracing()) is not None:
        return tracer.gradient(p)
    return None if p.grad is None else p.grad.value()


def _rate(*gradients: Array, rho: float, dtype: Any) -> Array:
    """rho divided by the length of all gradients together."""
    total = sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients)
    return np.asarray(rho / (total**0.5 + 1e-12), dtype)


class Lookahead(Wrapper):
    """Every k steps, slow weights go a share alpha of the way and the fast ones restart there.

    (Zhang et al., 2019.) Wraps any optimizer, with its closures if it has them.

    >>> import fathom
    >>> from fathom.optim import SGD
    >>> w = fathom.nn.Parameter([0.0])
    >>> optimizer = Lookahead(SGD([w], lr=1.0), k=2, alpha=0.5)
    >>> for _ in range(2):
    ...     w.grad = fathom.tensor([-1.0])
    ...     optimizer.step()
    >>> w.detach()
    tensor([1.])
    """

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ArgumentError(f"Lookahead: k must be a whole number >= 1; received {k!r}")
        if not 0.0 <= alpha <= 1.0:
            raise ArgumentError(f"Lookahead: alpha must lie in [0, 1]; received {alpha!r}")
        self.k, self.alpha = k, float(alpha)
        self.needs_closure = optimizer.needs_closure  # type: ignore[misc]
        self.wants_graph = optimizer.wants_graph  # type: ignore[misc]
        self._count = [0]
        self.slow = [p.value().copy() for p in self.every()]

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        super().add_param_group(group)
        self.slow += [p.value().copy() for p in self.every()[len(self.slow) :]]

    @property
    def count(self) -> int:
        """How many steps were taken."""
        return self._count[0]

    def step(self, closure: Closure | None = None) -> Any:
        """A step of the optimizer inside; every k-th one ends at the slow weights."""
        loss = self.inner_step(closure)
        if count_up(self._count) % self.k == 0:
            for p, kept in zip(self.every(), self.slow, strict=True):
                data, slow = memory(p), memory(kept)
                slow += self.alpha * (data - slow)
                data[...] = slow
                mark_written(p)
        return loss

    def state_dict(self) -> dict[str, Any]:
        saved = super().state_dict()
        for number, slow in enumerate(self.slow):
            entry = saved["state"].setdefault(number, {"step": 0})
            entry["slow"], entry["slow_steps"] = slow.copy(), np.asarray(self.count)
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        own = ("slow", "slow_steps")
        for number, entry in saved["state"].items():
            if "slow" in entry:
                self.slow[number][...] = np.asarray(entry["slow"]).reshape(self.slow[number].shape)
                self._count[0] = int(np.asarray(entry["slow_steps"]).reshape(-1)[0])
        plain = {
            n: {k: v for k, v in entry.items() if k not in own}
            for n, entry in saved["state"].items()
        }
        self.optimizer.load_state_dict({**saved, "state": plain})
