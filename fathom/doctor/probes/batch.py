"""`batch_effects`: the same number of steps with batches of different sizes, side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.running import untouched
from fathom.doctor.table import Result
from fathom.engine import random
from fathom.engine.errors import ArgumentError
from fathom.engine.modes import enable_grad, no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.optim import SGD
from fathom.train.arguments import as_inputs, as_targets, find_loss
from fathom.train.curvature import batch_noise, sharpness

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BatchRow:
    """One batch size.

    noise : mean squared distance of a batch's gradient from that of all rows, at the start.
    trace : batch * noise, the trace of the covariance of the gradients of single rows, which
    does not depend on the batch. loss, test_loss : after the steps, on all rows and on the test
    rows (nan without them). sharpness : largest eigenvalue of the Hessian there.
    """

    batch: int
    noise: float
    trace: float
    loss: float
    test_loss: float
    sharpness: float


@dataclass(frozen=True, repr=False)
class BatchEffects(Result):
    """See `batch_effects`."""

    rows: tuple[BatchRow, ...]
    steps: int
    lr: float


def batch_effects(
    model: Module, x: Any, y: Any, *, sizes: Sequence[int] = (4, 16, 64), steps: int = 100,
    lr: float = 0.1, loss: Any = "auto", test: tuple[Any, Any] | None = None,
    repeats: int = 200, seed: int = 0,
) -> BatchEffects:  # fmt: skip
    """Noise of the gradient, and where equally many SGD steps lead, by batch size.

    (Keskar et al., 2017; McCandlish et al., 2018.) A copy of the model is trained for each size,
    on batches drawn with replacement; the model itself is not changed. test : (x, y).

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, (8,))
    >>> found = batch_effects(model, data.x, data.y, sizes=(4, 64), steps=10)
    >>> found.rows[0].noise > 10 * found.rows[1].noise
    True
    """
    if steps < 1 or not sizes or any(size < 1 for size in sizes):
        raise ArgumentError(f"steps and sizes must be >= 1; received {steps} and {tuple(sizes)}")
    inputs = as_inputs(model, x)
    targets = as_targets(y, inputs, loss)
    measure = find_loss(loss, targets)
    with untouched(model):
        noise = batch_noise(model, inputs, targets, sizes, repeats, loss, seed)
    rows = []
    for size in sizes:
        trained = _trained(model, inputs, targets, measure, size, steps, lr, seed)
        far = float("nan") if test is None else _loss(trained, *_pair(trained, test, loss), measure)
        rows.append(
            BatchRow(
                int(size), noise[size], size * noise[size],
                _loss(trained, inputs, targets, measure), far,
                sharpness(trained, inputs, targets, loss),
            )
        )  # fmt: skip
    return BatchEffects(tuple(rows), steps, float(lr))


def _trained(
    model: Module, x: Array, y: Array, measure: Loss, size: int, steps: int, lr: float, seed: int
) -> Module:
    """A copy after that many steps, in eval mode."""
    twin = copy.deepcopy(model).train()
    sgd = SGD(twin.parameters(), lr=lr)
    with random.use(random.Random(seed)) as rng, enable_grad():
        for _ in range(steps):
            rows = rng.stream("batches").integers(0, len(x), (size,))
            sgd.zero_grad()
            measure(twin(Tensor(x[rows])), Tensor(y[rows])).backward()
            sgd.step()
    return twin.eval()


def _pair(model: Module, test: tuple[Any, Any], loss: Any) -> tuple[Array, Array]:
    x = as_inputs(model, test[0], "test x")
    return x, as_targets(test[1], x, loss, "test y")


def _loss(model: Module, x: Array, y: Array, measure: Loss) -> float:
    with no_grad():
        return float(np.asarray(measure(model(Tensor(x)), Tensor(y)).value()))


__all__ = ["BatchEffects", "BatchRow", "batch_effects"]
