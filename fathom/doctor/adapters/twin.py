"""What patients of both engines share beside their edits: how a copy of a run is set up, trained
and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from fathom.doctor.adapters.edits import Batch, clipped
from fathom.doctor.adapters.model_edits import ModelEdits
from fathom.doctor.adapters.scoring import Pair
from fathom.doctor.finding import Edit
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array


class Twin(ModelEdits):
    """See `adapter.Patient`. It trains on the batches that were kept, in an order drawn anew."""

    no_grad: Callable[[], AbstractContextManager[Any]]  # the engine's

    def _take_over(self, adapter: Any, seed: int) -> None:
        """The run's habits, loss and batches; `ArgumentError` where too little is known of it."""
        if not adapter.batches:
            raise ArgumentError(
                "no batch was kept: the loss's input and target were not seen together"
            )
        if adapter.between is None:
            raise ArgumentError("what the loop does between the model's output and the loss "
                                "could not be told")  # fmt: skip
        call, usage = adapter.case.loss, adapter.case.usage
        self.seed, self.clip, self.done = seed, clipped(adapter.case), 0
        self.between = adapter.between
        self.function = call.function if call is not None else "mse_loss"
        self.options = dict(call.options) if call is not None else {}
        self.batches = list(adapter.batches)
        self.zeroes = not usage.stale_steps
        self.clears_early = bool(usage.empty_steps)
        self.training = not usage.eval_steps
        self.noisy = bool(usage.noisy_evaluations)
        self.steps_taken = bool(usage.steps) or not usage.backwards
        self.last = call.layer if call is not None else ""
        self.rates = [(s.number, s.lr) for s in adapter.case.steps if math.isfinite(s.lr)]
        if not adapter.case.scheduled:
            self.rates = []
        self._order = np.random.default_rng(seed)
        self._waiting: list[int] = []

    # -- what an engine's side adds -----------------------------------------------------------

    def forward(self, inputs: tuple[Any, ...]) -> Any:
        """What the loss is given for these inputs."""
        raise NotImplementedError

    def _train_step(self, inputs: tuple[Any, ...], target: Any) -> float:
        """One step on a batch; the loss before it."""
        raise NotImplementedError

    def _loss(self, output: Any, target: Any) -> Any:
        raise NotImplementedError

    def _changed(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Output and target after the edits."""
        raise NotImplementedError

    def _array(self, tensor: Any) -> Array:
        """A copy of a tensor as an array."""
        raise NotImplementedError

    def _quietly(self) -> AbstractContextManager[None]:
        """Random numbers of its own; what fails in the copy says so."""
        raise NotImplementedError

    def _learning(self) -> AbstractContextManager[None]:
        """The same, with gradients."""
        raise NotImplementedError

    def _set(self, module: Any, **values: bool) -> None:
        """Attributes of a module."""
        raise NotImplementedError

    # -- training -----------------------------------------------------------------------------

    def apply(self, edit: Edit) -> None:
        with self._quietly():
            super().apply(edit)

    def train(self, steps: int) -> list[float]:
        curve = []
        self.model.train(self.training)
        with self._learning():
            for _ in range(steps):
                if not self._waiting:
                    self._waiting = self._order.permutation(len(self.batches)).tolist()
                curve.append(self._train_step(*self.batches[self._waiting.pop()]))
        return curve

    def losses_at(self, rates: Sequence[float], batch: int = 0) -> list[float]:
        found = []
        self.model.train(self.training)
        self.rates = []
        with self._learning():
            for rate in rates:
                for group in self._groups():
                    group["lr"] = rate
                found.append(self._train_step(*self.batches[batch]))
        return found

    def _rate(self) -> float:
        """The run's learning rate, as it was at its sampled steps."""
        numbers, rates = zip(*self.rates, strict=True)
        return float(rates[0] if self.constant_rate else np.interp(self.done, numbers, rates))

    # -- measuring ----------------------------------------------------------------------------

    def answers(self, batches: Sequence[Batch]) -> list[Pair]:
        found = []
        with self._at_rest():
            if self.noisy:
                self.model.train()
            for inputs, target in batches:
                output, known = self._changed(self.forward(inputs), target)
                found.append((self._array(output), self._array(known)))
        return found

    def mean_loss(self, held: bool = False) -> float:
        """The loss itself, in eval mode, over a few batches; nan where there are none."""
        with self._at_rest():
            losses = [float(self._loss(self.forward(x), t))
                      for x, t in self._few(self.held if held else self.batches)]  # fmt: skip
        return float(np.mean(losses)) if losses else math.nan

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Inside, nothing is trained."""
        modes = [(m, m.training) for m in self.model.modules()]
        norms = [m for m in self.model.modules() if getattr(m, "track_running_stats", False)]
        self.model.eval()
        for module in norms if self.by_batch else ():
            self._set(module, training=True, track_running_stats=False)
        try:
            with self._quietly(), self.no_grad():
                yield
        finally:
            for module in norms:
                self._set(module, track_running_stats=True)
            for module, mode in modes:
                self._set(module, training=mode)


__all__ = ["Twin"]
