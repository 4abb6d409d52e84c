"""`WholeOptimizer`: base of the methods that see all weights as one vector and need a closure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError, DivergedError
from fathom.engine.modes import tracing
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.optim.optimizer import Closure, Optimizer, evaluate


class WholeOptimizer(Optimizer):
    """One group of parameters, read and written as a vector of all weights end to end."""

    needs_closure = True

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        super().__init__(params, defaults)
        self.iterations = 0

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        if self.param_groups:
            raise ArgumentError(f"{type(self).__name__} takes one group of parameters only")
        super().add_param_group(group)

    @property
    def parameters(self) -> list[Tensor]:
        found: list[Tensor] = self.param_groups[0]["params"]
        return found

    def refuse_trace(self) -> None:
        """What a step does depends on values, so it cannot be compiled."""
        if (tracer := tracing()) is not None:
            tracer.refuse(
                f"{type(self).__name__} goes by the values of the loss (iterations, line search)",
                "compile the closure, and call optimizer.step(closure) outside",
            )

    def weights(self) -> Array:
        """A copy of all weights as a vector."""
        self.refuse_trace()
        return np.concatenate([p.value().reshape(-1) for p in self.parameters])

    def place(self, vector: Array) -> None:
        """Write a vector into the parameters; refused, if asked to check, when not finite."""
        if self.check_finite and not np.isfinite(vector).all():
            raise DivergedError(
                "the update is not finite; the weights were left as they are",
                fix="a smaller learning rate, a line search, more damping, or scaled inputs",
            )
        start = 0
        for p in self.parameters:
            data = p.value()
            data[...] = vector[start : start + p.size].reshape(data.shape)
            mark_written(p)
            start += p.size

    def gradient(self) -> Array:
        """The gradients in `.grad` as a vector; zeros for parameters without one."""
        parts = [
            np.zeros(p.size, p.dtype) if p.grad is None else p.grad.value().reshape(-1)
            for p in self.parameters
        ]
        return np.concatenate(parts)

    def graph(self, closure: Closure) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient as a differentiable vector."""
        from fathom.ops import concatenate

        loss = self.scalar(evaluate(closure))
        found = grad(loss, self.parameters, create_graph=True, allow_unused=True)
        parts = [
            Tensor(np.zeros(p.size, p.dtype)) if g is None else g.reshape(-1)
            for p, g in zip(self.parameters, found, strict=True)
        ]
        return loss, concatenate(parts, 0)

    def scalar(self, loss: Any) -> Tensor:
        if not isinstance(loss, Tensor) or loss.size != 1 or not loss.requires_grad:
            raise ArgumentError(
                f"{type(self).__name__}: the closure must return the loss, a single number that "
                "depends on the parameters",
                fix="return loss from the closure, without loss.backward()",
            )
        return loss.reshape(())

    def value_at(self, closure: Closure, vector: Array) -> float:
        """The loss at other weights, which stay there."""
        self.place(vector)
        return float(np.asarray(evaluate(closure).value()).reshape(()))

    # -- state: arrays under the first parameter's number, as in PyTorch's L-BFGS ------------

    def memory(self) -> dict[str, Any]:
        """What the next step must know, as arrays and numbers."""
        return {}

    def remember(self, memory: Mapping[str, Array]) -> None:
        """Take over what `memory` gave."""

    def state_dict(self) -> dict[str, Any]:
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        groups[0]["params"] = list(range(len(self.parameters)))
        if not self.iterations:
            return {"state": {}, "param_groups": groups}
        memory = {k: np.array(v) for k, v in self.memory().items()}
        return {"state": {0: {"step": self.iterations, **memory}}, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        counts = [len(g["params"]) for g in saved["param_groups"]]
        if counts != [len(self.parameters)]:
            raise ArgumentError(
                "the saved optimizer has other parameter groups than this one "
                f"([{len(self.parameters)}] parameters)"
            )
        options = saved["param_groups"][0]
        self.param_groups[0].update({k: v for k, v in options.items() if k != "params"})
        entry = dict(saved["state"].get(0, {"step": 0}))
        self.iterations = int(entry.pop("step"))
        self.remember({k: np.asarray(v) for k, v in entry.items()})


def number(value: Array) -> float:
    """A stored number: 0-d, or of one element after a trip through a file."""
    return float(np.asarray(value).reshape(-1)[0])
