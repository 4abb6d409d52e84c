"""A function that becomes a plan when it is called again and again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import Lock
from typing import Any

from fathom.compile.function import MANY, Compiled
from fathom.compile.observe import EagerWarning
from fathom.compile.pure import impurity
from fathom.compile.traced import TraceError
from fathom.compile.trees import flatten, mapped
from fathom.engine.modes import MODE
from fathom.engine.tensor import Tensor, warn_once

OFTEN = 16  # calls of one signature, from which on there is a plan


class Repeated:
    """`function`, by a plan from the 16th call with arguments of one signature on.

    basis : the user's function in it, which must only compute. `plan` is the compiled function.
    """

    def __init__(self, function: Callable[..., Any], basis: Callable[..., Any], what: str) -> None:
        functools.update_wrapper(self, basis, updated=())
        self.eager, self.basis, self.what = function, basis, what
        self.compiled = Compiled(function)
        self.calls: dict[Any, int] = {}
        self.planned: set[Any] = set()  # signatures that have a plan
        self.failed: str | None = None  # not known before the first plan is wanted
        self.lock = Lock()

    def __call__(self, *args: Any) -> Any:
        if self.failed or not self.wanted(args) or not self.lock.acquire(blocking=False):
            return self.eager(*args)
        try:
            return self.compiled(*mapped(args, _detached))
        except (TraceError, NotImplementedError) as error:
            self.give_up(str(error).partition("\n")[0])
        finally:
            self.lock.release()
        return self.eager(*args)

    def wanted(self, args: Any) -> bool:
        """Whether a call is to run as a plan; it is counted."""
        mode = MODE.get()
        leaves: list[Any] = []
        if mode.special is not None:
            return False
        key = (flatten(args, leaves), mode.grad)
        if mode.grad and any(isinstance(x, Tensor) and x.requires_grad for x in leaves):
            return False  # the result is part of a graph
        if key not in self.planned and len(self.planned) < MANY - 1:
            count = self.calls[key] = self.calls.pop(key, 0) + 1
            if len(self.calls) > 64:
                del self.calls[next(iter(self.calls))]
            if count >= OFTEN and self.pure():
                self.planned.add(key)
        return key in self.planned

    def pure(self) -> bool:
        """Whether the user's function only computes; if not, this says so."""
        if self.failed is None:
            self.failed = ""
            reason = impurity(self.basis)
            if reason:
                self.give_up(f"{reason}; fathom.compile({self.what}(...)) if it only computes")
        return not self.failed

    def give_up(self, reason: str) -> None:
        """Run as it is from now on, and say why."""
        self.failed = reason
        name = getattr(self.basis, "__name__", type(self.basis).__name__)
        warn_once(EagerWarning, f"{self.what}({name}) is not compiled: {reason}")

    def __deepcopy__(self, memo: Any) -> Repeated:
        return self  # as functions are


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


__all__ = ["OFTEN", "Repeated"]
