"""Watching a Fathom run: any `fathom.nn.Module`, any loop, nothing of it changed.

Eager steps are heard (`fathom_eager`). Hooks on layers come when a step is to be sampled and go
when it is over. A compiled step runs as its plan, which nothing slows down; where it is to be
sampled it is rehearsed eagerly before (`compile.rehearse`), and everything put back.
"""

from __future__ import annotations

import math
from typing import Any

from fathom.doctor.adapters.base import EARLY, safe
from fathom.doctor.adapters.fathom_eager import FathomEager
from fathom.doctor.adapters.fathom_reading import largest
from fathom.doctor.adapters.fathom_sample import ParameterSample
from fathom.doctor.case import NAN
from fathom.doctor.schedule import clock
from fathom.engine.tensor import Tensor
from fathom.func import leaves
from fathom.nn.module import Module


class FathomAdapter(FathomEager):
    """Fills a `Case` from a Fathom run, eager or compiled; see `adapter.Adapter`."""

    def __init__(self, model: Module, optimizer: Any = None, loss_fn: Any = None) -> None:
        super().__init__(model, optimizer, loss_fn)
        self._habits: dict[int, tuple[Any, int, str]] = {}  # what compiled functions do

    @safe
    def on_call(self, compiled: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._rehearsing or not self._sampling:
            return
        if compiled.plans and not self._habit(compiled):
            return
        start = clock()
        reached = compiled.reached(args, keywords)
        if any(m is self.model for m in reached.modules) or self._reaches(reached):
            self._parameters = self.part("statistics of weights", ParameterSample, self._tensors)
            self.part("rehearsal of a compiled step", self._rehearse, compiled, reached, args,
                      keywords)  # fmt: skip
        self._took(start)

    def _reaches(self, reached: Any) -> bool:
        own = {id(m) for m in self._modules.values()}
        return any(id(m) in own for m in reached.modules)

    def _rehearse(
        self, compiled: Any, reached: Any, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        notes = (
            self,
            self.case,
            self.case.usage,
            self._sample,
            self._parameters,
            self._times,
            self.listener,
        )
        keep = [each for each in notes if each is not None]
        self._rehearsing = True
        try:
            more = (*self._tensors.values(), *self._given())
            compiled.rehearse(reached, args, keywords, more, keep)
        except Exception as error:
            if error is getattr(self.listener, "raised", None):
                raise
            self.note(f"a compiled step could not be run eagerly, so its layers are not seen: "
                      f"{type(error).__name__}: {error}")  # fmt: skip
        finally:
            self._rehearsing = False
        if self._inputs is not None and self._calls:
            target = largest(self._calls)[1][1:2]
            self.batches.learn(compiled, args, self._inputs, target)

    @safe
    def on_call_end(self, compiled: Any, args: tuple[Any, ...], result: Any) -> None:
        habit = "" if self._rehearsing else self._habit(compiled)
        if not habit:
            return
        value = _value(result)
        usage = self.case.usage
        if not self._sampling or not self._backwards:
            usage.forwards += 1
            usage.backwards += 1
            self._backwards += 1
            self._look_at_modes()
            self._was_cleared = True  # as far as is known
            usage.unseen += self._step < EARLY
            if self.batches.wanted(self._sampling):
                self.part("kept batches", self.batches.take, compiled, args)
        if not math.isnan(value):
            self._values = [self._check(value)] if habit == "step" else [*self._values, value]
        elif not self._values:
            self.note("a compiled step returns no loss: losses are known of sampled steps only")
        if habit == "step":
            self._post_step()

    def _habit(self, compiled: Any) -> str:
        """What a compiled function does to the model: "step", "gradient", or nothing ("")."""
        known = self._habits.get(id(compiled))
        if known is not None and known[0] is compiled and known[1] == len(compiled.plans):
            return known[2]
        found = ""
        if compiled.plans:
            plan = compiled.plan
            if any(id(target) in self._names for target, _ in plan.writes):
                found = "step"
            elif any(id(target) in self._names for target, _ in plan.gradients):
                found = "gradient"
        self._habits[id(compiled)] = compiled, len(compiled.plans), found
        return found


def _value(result: Any) -> float:
    """The first number among what a step returns; nan where there is none."""
    found = [result] if isinstance(result, Tensor) else leaves(result)
    for each in found:
        if isinstance(each, Tensor) and each.size == 1 and each.dtype.kind == "f":
            return float(each.value().item())
    return NAN


__all__ = ["FathomAdapter"]
