"""Several optimizers of one model, seen as one: `Together`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fathom.engine.errors import ArgumentError

Act = Callable[..., Any]


class Handle:
    """Takes something away again, once."""

    def __init__(self, *undo: Act) -> None:
        self._undo = list(undo)

    def remove(self) -> None:
        while self._undo:
            self._undo.pop()()


class Together:
    """Optimizers that train parts of a model, side by side or in turns (actor and critic).

    A round takes the place of a step. It is over when all have stepped that had a gradient in the
    first one, but for those before which another stepped twice. `joint` tells whether those of the
    last round stepped by the same gradients: where they take turns the gradients of the others are
    left over, and tell nothing.
    """

    def __init__(self, optimizers: Sequence[Any]) -> None:
        if not optimizers or not all(hasattr(o, "param_groups") for o in optimizers):
            raise ArgumentError("these are not all optimizers, or there is none")
        self.optimizers = tuple(optimizers)
        self.kind = " and ".join(dict.fromkeys(type(o).__name__ for o in optimizers))
        self.joint = False
        self._same = True  # so far in this round
        self._stepped: list[int] = []
        self._needed: frozenset[int] = frozenset()
        self._marks: dict[int, Any] = {}
        self._before: list[Act] = []

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [g for o in self.optimizers for g in o.param_groups]

    # -- rounds -------------------------------------------------------------------------------

    def holds(self, optimizer: Any) -> bool:
        """Whether it is one of these."""
        return any(o is optimizer for o in self.optimizers)

    def begins(self, optimizer: Any, begun: Act) -> None:
        """One of them is about to step; begun() if it is the first one of a round."""
        place = self._place(optimizer)
        if place in self._stepped:
            self._needed &= frozenset(self._stepped)
            self._same = False
        elif not self._stepped:
            self._needed = self._needed or self._with_gradient()
            self._marks = {i: _mark(o) for i, o in enumerate(self.optimizers)}
            self._same = True
            begun()
        elif not _is_same(self._marks.get(place), _mark(optimizer)):
            self._same = False

    def ended(self, optimizer: Any, over: Act) -> None:
        """One of them has stepped."""
        self._stepped.append(self._place(optimizer))
        if self._needed <= set(self._stepped):
            self._finish(over)

    def _finish(self, over: Act) -> None:
        self.joint = self._same and len(self._stepped) > 1
        self._stepped.clear()
        self._marks.clear()
        over()

    def _place(self, optimizer: Any) -> int:
        return next(i for i, o in enumerate(self.optimizers) if o is optimizer)

    def _with_gradient(self) -> frozenset[int]:
        return frozenset(i for i, o in enumerate(self.optimizers) if _mark(o) is not None)

    # -- as PyTorch's -------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Act) -> Handle:
        """hook(self, args, keywords) before a round; with a closure, as it were, where the
        gradients of others may be left over."""
        self._before.append(hook)
        return Handle(partial(self._before.remove, hook))

    def register_step_post_hook(self, hook: Act) -> Handle:
        """hook(self, args, keywords) behind a round."""
        over = partial(hook, self, (), {})

        def begins(optimizer: Any, args: Any, keywords: Any) -> None:
            closure = None if self.joint and not keywords.get("closure") else self
            self.begins(optimizer, partial(self._tell, {"closure": closure}))

        def ended(optimizer: Any, args: Any, keywords: Any) -> None:
            self.ended(optimizer, over)

        from fathom.doctor.adapters.base import Hook

        found = [o.register_step_pre_hook(Hook(begins)).remove for o in self.optimizers]
        found += [o.register_step_post_hook(Hook(ended)).remove for o in self.optimizers]
        return Handle(*found)

    def _tell(self, keywords: dict[str, Any]) -> None:
        for hook in list(self._before):
            hook(self, (self,), keywords)


def _mark(optimizer: Any) -> tuple[Any, int] | None:
    """What tells one of its gradients from a later one; None where there is none."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if getattr(p, "grad", None) is not None:
                return p.grad, getattr(p.grad, "_version", 0)
    return None


def _is_same(one: tuple[Any, int] | None, other: tuple[Any, int] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one[0] is other[0] and one[1] == other[1]


def one_of(optimizer: Any) -> Any:
    """What was given as the optimizer: one, None, or several as one."""
    if not isinstance(optimizer, list | tuple):
        return optimizer
    found = [o for i, o in enumerate(optimizer) if not any(o is p for p in optimizer[:i])]
    return Together(found) if len(found) > 1 else found[0] if found else None


__all__ = ["Together", "one_of"]
