"""Averages of weights along the way: SWA and EMA, with PyTorch's names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.ops.checks import memory
from fathom.optim.lr_scheduler import SWALR
from fathom.optim.optimizer import count_up

Average = Callable[[Array, Array, int], Array]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """average * decay + weights * (1 - decay)."""
    if not 0.0 <= decay <= 1.0:
        raise ArgumentError(f"the decay of an average must lie in [0, 1]; received {decay!r}")

    def average(averaged: Array, current: Array, n: int) -> Array:
        return decay * averaged + (1.0 - decay) * current

    return average


def get_swa_avg_fn() -> Average:
    """The plain mean of all weights so far (Izmailov et al., 2018; Polyak & Juditsky, 1992)."""

    def average(averaged: Array, current: Array, n: int) -> Array:
        return averaged + (current - averaged) / (n + 1)

    return average


class AveragedModel:
    """A copy of a model whose weights are the average of those it has been shown.

    `avg_fn(averaged, current, n)` works on arrays; by default it is the mean. Buffers are
    copied from the model, or averaged with `use_buffers`. After a mean of weights, the
    statistics of batch normalization need `update_bn`.

    >>> import fathom
    >>> model = fathom.nn.Linear(2, 1)
    >>> averaged = AveragedModel(model, avg_fn=get_ema_avg_fn(0.9))
    >>> averaged.update_parameters(model)
    >>> averaged(fathom.zeros(3, 2)).shape, averaged.n_averaged
    ((3, 1), 1)
    """

    def __init__(
        self, model: Any, *, avg_fn: Average | None = None, use_buffers: bool = False
    ) -> None:
        self.module = copy.deepcopy(model)
        self.avg_fn = avg_fn or get_swa_avg_fn()
        self.use_buffers = bool(use_buffers)
        self._count = [0]

    @property
    def n_averaged(self) -> int:
        """How many models went into the average."""
        return self._count[0]

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.module(*inputs, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name == "module":
            raise AttributeError(name)
        return getattr(self.module, name)

    def update_parameters(self, model: Any) -> None:
        """Take the model's present weights into the average; the first ones are copied."""
        own, shown = dict(self.module.named_parameters()), dict(model.named_parameters())
        averaged_buffers = dict(self.module.named_buffers())
        for name, buffer in model.named_buffers():
            if self.use_buffers and buffer.dtype.kind == "f":
                own[name], shown[name] = averaged_buffers[name], buffer
            else:
                _write(averaged_buffers[name], memory(buffer))
        if own.keys() != shown.keys():
            raise ArgumentError("the model shown to the average has other parameters than its own")
        before = count_up(self._count) - 1
        first = before == 0
        for name, p in own.items():
            current = memory(shown[name])
            _write(p, current if first else self.avg_fn(memory(p), current, before))

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights under "module.", and `n_averaged`."""
        weights = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        return {"n_averaged": Tensor(np.asarray(self.n_averaged)), **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._count[0] = int(np.asarray(state["n_averaged"]).reshape(-1)[0])
        self.module.load_state_dict(
            {k.removeprefix("module."): v for k, v in state.items() if k != "n_averaged"}
        )


def _write(tensor: Tensor, values: Array) -> None:
    memory(tensor)[...] = values
    mark_written(tensor)


def update_bn(loader: Iterable[Any], model: Any) -> None:
    """Measure the statistics of batch normalization anew, in one pass over the data.

    `loader` yields inputs, or tuples that begin with them. Every layer with
    `reset_running_stats` takes the plain mean over the batches.
    """
    module = model.module if isinstance(model, AveragedModel) else model
    layers = [m for m in module.modules() if hasattr(m, "reset_running_stats")]
    if not layers:
        return
    modes = [(m, m.training) for m in module.modules()]
    momenta = [m.momentum for m in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the cumulative mean
    module.train()
    try:
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, tuple | list) else batch
                module(x if isinstance(x, Tensor) else Tensor(np.asarray(x)))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for m, training in modes:
            object.__setattr__(m, "training", training)


__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_swa_avg_fn", "update_bn"]
