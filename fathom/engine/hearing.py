"""Who hears what a training loop does: nobody, unless a run is watched (`fathom.doctor`).

Losses, backward passes, optimizers' steps and calls of compiled functions tell each of `HEARERS`.
While a step is traced nothing is told: what happens there happens to stand-ins.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fathom.engine.modes import tracing

F = TypeVar("F", bound=Callable[..., Any])


class Rehearsed(BaseException):
    """Raised by a hearer where an optimizer would step: the rehearsal is over."""


class Hearer:
    """What can be heard; override what you need."""

    def on_loss(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any],
                value: Any) -> None:  # fmt: skip
        """A loss function of the library was called (by a module, or as it is)."""

    def on_loss_error(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any],
                      error: Exception) -> None:  # fmt: skip
        """It raised."""

    def on_backward(self, roots: Sequence[Any]) -> None:
        """A backward pass begins; the graph is whole."""

    def on_backward_end(self, leaves: Mapping[int, Any]) -> None:
        """It is over; `leaves` has the ids of those that got a gradient."""

    def on_step(self, optimizer: Any, closure: Any) -> bool:
        """An optimizer is about to step; True if it must not, because all this is a rehearsal."""
        return False

    def on_step_end(self, optimizer: Any) -> None:
        """It has stepped."""

    def on_call(self, compiled: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A compiled function is called."""

    def on_call_end(self, compiled: Any, args: tuple[Any, ...], result: Any) -> None:
        """It has returned `result`."""


HEARERS: list[Hearer] = []
_inside: list[Any] = []  # losses and steps under way: one inside of another is a part of it


def hearers() -> Iterable[Hearer]:
    """Those to be told now."""
    return tuple(HEARERS) if HEARERS and tracing() is None else ()


def loss_heard(function: F) -> F:
    """A loss function that is heard; losses that call others are told once."""

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if not HEARERS or tracing() is not None or "loss" in _inside:
            return function(*args, **keywords)
        _inside.append("loss")
        try:
            value = function(*args, **keywords)
        except Exception as error:
            for hearer in hearers():
                hearer.on_loss_error(function.__name__, args, keywords, error)
            raise
        finally:
            _inside.remove("loss")
        for hearer in hearers():
            hearer.on_loss(function.__name__, args, keywords, value)
        return value

    return call  # type: ignore[return-value]


def step_heard(step: F) -> F:
    """An optimizer's `step` that is heard."""

    @functools.wraps(step)
    def call(self: Any, closure: Any = None) -> Any:
        if not HEARERS or tracing() is not None or self in _inside:
            return step(self, closure)
        if any([hearer.on_step(self, closure) for hearer in hearers()]):
            return None
        _inside.append(self)
        try:
            found = step(self, closure)
        finally:
            _inside.remove(self)
        for hearer in hearers():
            hearer.on_step_end(self)
        return found

    return call  # type: ignore[return-value]


__all__ = ["HEARERS", "Hearer", "Rehearsed", "hearers", "loss_heard", "step_heard"]
