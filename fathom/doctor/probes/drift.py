"""What training does to the inputs of layers, and how well a gradient foretells the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.recording import Record, record
from fathom.doctor.probes.running import (
    by_unit,
    channels_first,
    has_weights,
    untouched,
    watch,
    weight_layers,
)
from fathom.doctor.table import Result
from fathom.engine import random
from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError
from fathom.engine.modes import enable_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.train.curvature import loss_function

Statistics = dict[str, tuple[Array, Array]]  # of each layer: means and deviations of its inputs


@dataclass(frozen=True)
class DriftRow:
    """One layer with weights; means and standard deviations of its inputs, a number a unit.

    mean_drift, std_drift : how far they move in one step, on average. total_mean, total_std : how
    far from the first step to the last. Root mean squares over units, in units of the standard
    deviation (before the move).
    """

    name: str
    kind: str
    mean_drift: float
    std_drift: float
    total_mean: float
    total_std: float


@dataclass(frozen=True, repr=False)
class CovariateDrift(Result):
    """See `covariate_drift`."""

    rows: tuple[DriftRow, ...]
    steps: int

    @property
    def drift(self) -> float:
        """The mean drift a step, averaged over the layers whose input is not the data."""
        return float(np.mean([row.mean_drift for row in self.rows[1:] or self.rows]))


def covariate_drift(
    model: Module, step: Callable[[], Any], x: Any = None, *, steps: int = 20
) -> CovariateDrift:
    """How the inputs of layers move while the model is trained: "internal covariate shift".

    (Ioffe & Szegedy, 2015.) This trains: `step()` is called `steps` times.

    step : one training step, without arguments. x : look at these rows before each step and
    after the last (in train mode, undisturbed); without x at the batches that the steps
    themselves run on (their last forward pass).

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, (8,))
    >>> adam = fathom.optim.Adam(model.parameters(), lr=0.01)
    >>> def step():
    ...     adam.zero_grad()
    ...     x = fathom.tensor(data.x.astype("float32"))
    ...     fathom.nn.functional.cross_entropy(model(x), data.y).backward()
    ...     adam.step()
    >>> found = covariate_drift(model, step, data.x)
    >>> found["0"].total_mean, found["2"].total_mean > 0
    (0.0, True)
    """
    if steps < 2:
        raise ArgumentError(f"steps must be >= 2; received {steps!r}")
    layers = weight_layers(model)
    history: list[Statistics] = []
    if x is None:
        with record(model, has_weights, inputs=True) as seen:
            for _ in range(steps):
                seen.clear()
                step()
                history.append(_statistics(model, seen))
    else:
        for k in range(steps + 1):
            if k:
                step()
            history.append(_statistics_on(model, x))
    if not history[0]:
        raise ArgumentError("step() ran no layer of this model", fix="train the model given here")
    rows = tuple(
        _drift(name, type(layers[name.partition("#")[0]]).__name__, [h[name] for h in history])
        for name in history[0]
        if all(name in h for h in history)
    )
    return CovariateDrift(rows, steps)


def _statistics(model: Module, seen: Record) -> Statistics:
    first, found = channels_first(model), {}
    for name, call in seen.items():
        if call.input.dtype.kind == "f":
            a = by_unit(call.input, first).astype(np.float64)
            found[name] = (a.mean(axis=0), a.std(axis=0))
    return found


def _statistics_on(model: Module, x: Any) -> Statistics:
    found: Statistics = {}

    def look(seen: Record) -> None:
        found.update(_statistics(model, seen))

    watch(model, x, look, has_weights, inputs=True, training=True, batch_size=1 << 30)
    return found


def _drift(name: str, kind: str, history: list[tuple[Array, Array]]) -> DriftRow:
    means, stds = [m for m, _ in history], [s for _, s in history]
    scales = [_rms(s) or 1.0 for s in stds]
    count = len(history) - 1

    def a_step(values: list[Array]) -> float:
        return sum(_rms(values[k + 1] - values[k]) / scales[k] for k in range(count)) / count

    return DriftRow(
        name, kind, a_step(means), a_step(stds),
        _rms(means[-1] - means[0]) / scales[0], _rms(stds[-1] - stds[0]) / scales[0],
    )  # fmt: skip


def _rms(a: Array) -> float:
    return float(np.sqrt(np.mean(np.square(a))))


# -- gradient predictiveness ---------------------------------------------------------------------


@dataclass(frozen=True)
class PredictRow:
    """At w - rate * gradient: the loss, and of the gradient there its distance from that at w,
    the same over the length of the latter, and their cosine. `beta` is distance / |step|."""

    rate: float
    loss: float
    change: float
    relative_change: float
    cosine: float
    beta: float


@dataclass(frozen=True, repr=False)
class Predictiveness(Result):
    """See `gradient_predictiveness`. beta : the largest, the effective smoothness."""

    rows: tuple[PredictRow, ...]
    loss: float
    gradient: float
    beta: float


def gradient_predictiveness(
    model: Module, loss: Any, x: Any, y: Any, *, lr: float = 0.1,
    rates: Sequence[float] | None = None,
) -> Predictiveness:  # fmt: skip
    """How well the gradient foretells loss and gradient along its own direction.

    (Santurkar, Tsipras, Ilyas & Madry, 2018: batch norm helps because it makes both vary less.)
    The loss and its gradient on one batch are taken at w - rate * gradient, for rates of lr / 4,
    lr / 2, lr and 2 lr or those given. Nothing of the model is changed; its modes are as they
    are, and random layers draw the same numbers at every point.

    >>> import fathom
    >>> model = fathom.nn.Linear(1, 1, bias=False).double()
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    >>> round(gradient_predictiveness(model, "mse", x, y).beta, 6)
    5.0
    """
    chosen = [lr * f for f in (0.25, 0.5, 1.0, 2.0)] if rates is None else list(rates)
    if not chosen or not all(rate > 0.0 for rate in chosen):
        raise ArgumentError(f"rates must be > 0; received {chosen}")
    closure = loss_function(model, x, y, loss)
    with untouched(model), enable_grad():
        parameters = [p for p in model.parameters() if p.requires_grad]
        start = [p.value().copy() for p in parameters]
        value, g = _loss_and_gradient(closure, parameters)
        length = float(np.linalg.norm(g))
        rows = []
        for rate in chosen:
            _move(parameters, start, -rate * g)
            there, h = _loss_and_gradient(closure, parameters)
            change = float(np.linalg.norm(h - g))
            size = length * float(np.linalg.norm(h))
            rows.append(
                PredictRow(
                    float(rate), there, change, change / (length or 1.0),
                    float(g @ h) / size if size else 1.0, change / (rate * length or 1.0),
                )
            )  # fmt: skip
    return Predictiveness(tuple(rows), value, length, max(row.beta for row in rows))


def _loss_and_gradient(closure: Callable[[], Tensor], parameters: list[Any]) -> tuple[float, Array]:
    with random.use(random.Random(0)):
        value = closure()
    found = grad([value], parameters, allow_unused=True)
    parts = [
        np.zeros(p.size) if g is None else g.value().astype(np.float64).reshape(-1)
        for g, p in zip(found, parameters, strict=True)
    ]
    return float(value.item()), np.concatenate(parts)


def _move(parameters: list[Any], start: list[Array], step: Array) -> None:
    ends = np.cumsum([p.size for p in parameters])
    for p, origin, part in zip(parameters, start, np.split(step, ends[:-1]), strict=True):
        p.data = (origin + part.reshape(origin.shape)).astype(origin.dtype)


__all__ = [
    "CovariateDrift",
    "DriftRow",
    "PredictRow",
    "Predictiveness",
    "covariate_drift",
    "gradient_predictiveness",
]
