"""A copy of a Fathom run that can be edited and trained: the twin in a trial of a fix."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom import nn, optim
from fathom.doctor.adapters.fathom_edits import FathomEdits
from fathom.doctor.adapters.fathom_rewrite import Rewrite
from fathom.doctor.adapters.scoring import CLASSIFYING, REGRESSING
from fathom.doctor.adapters.twin import Twin
from fathom.engine import random
from fathom.engine.errors import ArgumentError, FathomError
from fathom.engine.modes import enable_grad, no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn import functional as F
from fathom.nn import objectives
from fathom.nn.utils import clip_grad_norm_

FAILURES = (FathomError, ValueError, TypeError, LookupError, AttributeError)


class FathomPatient(Twin, FathomEdits):
    """See `adapter.Patient` and `twin.Twin`.

    Nothing of the run is touched: the model, its buffers and the optimizer are copied, hooks of
    the user's are left out of the copy, and random numbers come from streams of its own.
    """

    no_grad = staticmethod(no_grad)

    def __init__(self, adapter: Any, seed: int, fresh: bool) -> None:
        self._take_over(adapter, seed)
        self.model = _copied(adapter.model)
        self._begin(adapter, fresh)
        self.rewrite = Rewrite(self.model, self.last)
        self.random = random.Random(seed)
        self.optimizer = None
        self._copy_optimizer(adapter)

    def _begin(self, adapter: Any, fresh: bool) -> None:
        """The weights a run began with."""
        if fresh and adapter.start:
            self.model.load_state_dict(adapter.start)
        self.model.zero_grad()
        if not all(np.isfinite(p.value()).all() for p in self.model.parameters()):
            raise ArgumentError("the model is too large to keep the weights it began with, and "
                                "those it has now are not finite")  # fmt: skip

    def _copy_optimizer(self, adapter: Any) -> None:
        """The same kind with the same options over the copy's parameters, its state empty."""
        old = adapter.optimizer
        while isinstance(getattr(old, "optimizer", None), optim.Optimizer):
            old = old.optimizer  # SAM, Lookahead: what is inside of them
        if old is None or not hasattr(old, "param_groups"):
            return
        self.optimizer_kind = type(old)
        own = dict(self.model.named_parameters())
        names = {id(p): n for n, p in adapter.model.named_parameters()}
        groups = [{**g, "params": [own[names[id(p)]] for p in g["params"] if id(p) in names]}
                  for g in old.param_groups]  # fmt: skip
        groups = [g for g in groups if g["params"]]
        if not groups:  # of another model: its steps change nothing here
            stranger = nn.Parameter(np.zeros(1, np.float32))
            groups = [{**old.param_groups[0], "params": [stranger]}]
        self._remade(groups)

    # -- training -----------------------------------------------------------------------------

    def _train_step(self, inputs: tuple[Any, ...], target: Any) -> float:
        groups = self._groups()
        if self.rates:
            now = self._rate()
            top = max(float(g["lr"]) for g in groups) or 1.0
            for group in groups:
                group["lr"] *= now * self.scale / top
        if self.zeroes:
            self.optimizer.zero_grad()
        loss = self._backward(inputs, target)
        if self.clears_early:
            self.optimizer.zero_grad()
        if self.clip:
            clip_grad_norm_(self.model.parameters(), self.clip)
        if self.steps_taken and self.optimizer.needs_closure:
            self.optimizer.step(lambda: self._again(inputs, target))
        elif self.steps_taken:
            self.optimizer.step()
        self.done += 1
        return float(loss.value())

    def _backward(self, inputs: tuple[Any, ...], target: Any) -> Tensor:
        loss = self._loss(self.forward(inputs), target)
        if loss.requires_grad:
            (self.sign * loss).backward()
        return loss

    def _again(self, inputs: tuple[Any, ...], target: Any) -> Tensor:
        self.optimizer.zero_grad()
        if self.optimizer.wants_graph:
            return self.sign * self._loss(self.forward(inputs), target)
        return self._backward(inputs, target)

    def _loss(self, output: Any, target: Any) -> Tensor:
        output, target = self._changed(output, target)
        if self.function in REGRESSING and output.shape != target.shape:  # as a loop's own does
            output, target = output + 0 * target, target + 0 * output
        function = getattr(F, self.function, None) or getattr(objectives, self.function, None)
        if function is None:
            raise ArgumentError(f"no loss {self.function!r} to train a copy with")
        loss: Tensor = function(output, target, **self.options)
        return loss.mean() if loss.ndim else loss

    def _changed(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Output and target after the edits."""
        if self.output_change is not None:
            output = self.output_change(output)
        if self.target_change is not None:
            target = self.target_change(target)
        if self.squeezes and output.shape != target.shape and output.size == target.size:
            target = target.reshape(output.shape)
        if self.function == "nll_loss" and target.shape == output.shape and output.ndim > 1:
            target = Tensor(target.value().argmax(axis=1))  # one-hot rows
        labels = self.function in CLASSIFYING and target.shape != output.shape
        if labels or target.dtype != output.dtype:
            target = target.astype(np.int64 if labels else output.dtype)
        return output, target

    # -- measuring ----------------------------------------------------------------------------

    def forward(self, inputs: tuple[Any, ...]) -> Any:
        """What the loss is given for these inputs."""
        with self.rewrite():
            output = self.model(*inputs)
        return self.between(output, not self.plain_output)

    def output(self, change: Callable[[Any], Any] | None = None, batch: int = 0) -> Any:
        inputs, _ = self.batches[batch]
        if change is not None:
            inputs = tuple(
                Tensor(np.asarray(change(x.value().copy())).astype(x.dtype))
                if isinstance(x, Tensor) else x for x in inputs
            )  # fmt: skip
        with self._at_rest():
            return self._array(self.forward(inputs))

    def _array(self, tensor: Any) -> Array:
        found: Array = tensor.value().copy()
        return found

    def _set(self, module: Any, **values: bool) -> None:
        for name, value in values.items():
            object.__setattr__(module, name, value)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Random numbers of its own; what fails in the copy says so."""
        with random.use(self.random), enable_grad(), np.errstate(all="ignore"):
            try:
                yield
            except ArgumentError:
                raise
            except FAILURES as error:
                text = str(error).partition("\n")[0][:160]
                raise ArgumentError(f"the copy fails: {type(error).__name__}: {text}") from error

    _learning = _quietly


def _copied(model: Any) -> Any:
    """A copy without hooks of the user's, and without what is left over of a forward pass."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = Tensor(value.value().copy())
    try:
        made = copy.deepcopy(model, memo)
    except Exception as error:
        raise ArgumentError(f"the model cannot be copied: {error}") from None
    for module in made.modules():
        for hooks in (module._pre_hooks, module._hooks, module._backward_hooks):
            hooks[:] = [
                h for h in hooks if str(getattr(h, "__module__", "")).startswith("fathom.nn")
            ]
    return made


__all__ = ["FathomPatient"]
