"""Probes of centring: what a mean that is not 0 does to the next layer's gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.recording import Record
from fathom.doctor.probes.running import (
    by_unit,
    channels_first,
    differentiated,
    has_weights,
    kind_of,
    watch,
    weight_layers,
)
from fathom.doctor.table import Result
from fathom.engine import random
from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn import BatchNorm1d, Linear, Sequential
from fathom.nn.activation import activation as activation_layer
from fathom.nn.module import Module


@dataclass(frozen=True)
class CentringRow:
    """What comes into one layer, the activations a of the layers before.

    mean : over units and rows. offset : length of the mean vector over the root of E[|a|^2], 0 for
    centred and 1 for constant activations. positive_share : of the values > 0.
    condition : of E[a a'], the curvature that a linear unit under squared error has in its
    weights; centred_condition : of their covariance, what it would be with the mean taken off.
    """

    name: str
    kind: str
    units: int
    mean: float
    offset: float
    positive_share: float
    condition: float
    centred_condition: float


@dataclass(frozen=True, repr=False)
class Centring(Result):
    """See `zero_centring`."""

    rows: tuple[CentringRow, ...]


@dataclass
class _Moments:
    """Sums over rows of a and a a'."""

    kind: str
    count: int = 0
    positive: int = 0
    first: Any = 0.0
    second: Any = 0.0

    def add(self, a: Array) -> None:
        a = a.astype(np.float64)
        self.count += len(a)
        self.positive += int(np.count_nonzero(a > 0))
        self.first = self.first + a.sum(axis=0)
        self.second = self.second + a.T @ a

    def row(self, name: str) -> CentringRow:
        mean, second = self.first / self.count, self.second / self.count
        size = float(np.trace(second))
        return CentringRow(
            name, self.kind, len(mean), float(mean.mean()),
            float(np.sqrt(mean @ mean / size)) if size else 0.0,
            self.positive / (self.count * len(mean)),
            condition(second), condition(second - np.outer(mean, mean)),
        )  # fmt: skip


def condition(matrix: Array) -> float:
    """Largest over smallest eigenvalue of a symmetric matrix >= 0, those that are 0 left out.

    In a direction without curvature gradient descent does not move; it costs no steps.

    >>> condition(np.diag([8.0, 2.0, 0.0]))
    4.0
    """
    values = np.linalg.eigvalsh(matrix)
    live = values[values > len(values) * np.finfo(np.float32).eps * values[-1]]
    return float(live[-1] / live[0]) if len(live) else 1.0


def zero_centring(source: Any, data: Any = None, *, batch_size: int = 256) -> Centring:
    """How far from centred the inputs of each layer with weights are, and what that costs.

    source : a model, with its data; or activations (n, units). Inputs with one sign force the
    gradients of a unit's weights to have one sign, too, for each row; in the average over rows
    what remains is a badly conditioned E[a a'] (LeCun, Bottou, Orr & Müller, 1998).

    >>> z = random.Random(0).stream("z").normal((4000, 2), dtype=np.float64)
    >>> sigmoid, tanh = zero_centring(1 / (1 + np.exp(-z))), zero_centring(np.tanh(z))
    >>> round(sigmoid.rows[0].condition), round(tanh.rows[0].condition)
    (13, 1)
    """
    found: dict[str, _Moments] = {}
    if not isinstance(source, Module):
        a = _activations(source)
        found["activations"] = _Moments("array")
        found["activations"].add(a)
        return Centring((found["activations"].row("activations"),))
    first = channels_first(source)

    def look(seen: Record) -> None:
        for name, call in seen.items():
            if call.input.dtype.kind == "f":
                moments = found.setdefault(name, _Moments(kind_of(call)))
                moments.add(by_unit(call.input, first))

    weight_layers(source)
    watch(source, data, look, has_weights, inputs=True, batch_size=batch_size)
    return Centring(tuple(moments.row(name) for name, moments in found.items()))


def _activations(values: Any) -> Array:
    a = np.asarray(values.value() if isinstance(values, Tensor) else values, np.float64)
    if a.ndim != 2 or not a.size:
        raise ShapeError(f"activations must have the shape (n, units); received {a.shape}")
    if not np.isfinite(a).all():
        raise DataError("the activations hold values that are not finite")
    return a


# -- signs of gradients --------------------------------------------------------------------------


@dataclass(frozen=True)
class SignRow:
    """Of the gradients of units in batches of that size, the share whose entries all have one
    sign. `name` is the layer."""

    name: str
    batch: int
    one_sign_share: float


@dataclass(frozen=True, repr=False)
class SignAgreement(Result):
    """See `sign_agreement`."""

    rows: tuple[SignRow, ...]

    def by_batch(self, name: str | None = None) -> dict[int, float]:
        """{batch size: share} of a layer, the first by default."""
        name = self.rows[0].name if name is None else name
        return {row.batch: row.one_sign_share for row in self.rows if row.name == name}


SIZES = (1, 4, 16, 64, 256)


def sign_agreement(
    activations: Any, deltas: Any = None, *, sizes: Sequence[int] = SIZES, repeats: int = 50,
    seed: int = 0,
) -> SignAgreement:  # fmt: skip
    """How often all weights of a unit are pushed in the same direction, by batch size.

    The gradient of a unit's weights is the sum of delta_i a_i over the rows i of a batch. With
    one row and activations >= 0 all its entries have the sign of delta; over many rows, whose
    deltas have both signs, they part. Entries that are 0 go with either sign.

    activations : (n, inputs), n >= the largest size. deltas : (n, units); without them 16 units
    of normal noise, as an untrained net has about. Batches are drawn with replacement.

    >>> z = random.Random(0).stream("z").normal((1000, 20))
    >>> found = sign_agreement(np.maximum(z, 0.0)).by_batch()
    >>> found[1], found[256] < 0.05
    (1.0, True)
    """
    a = _activations(activations)
    rng = random.Random(seed).stream("batches")
    d = rng.normal((len(a), 16), dtype=np.float64) if deltas is None else _activations(deltas)
    if len(d) != len(a):
        raise ShapeError(f"{len(a)} rows of activations, but {len(d)} of deltas")
    return SignAgreement(_signs("activations", a, d, sizes, repeats, rng))


def sign_agreement_of(
    model: Module, loss: Any, x: Any, y: Any, *, sizes: Sequence[int] = SIZES, repeats: int = 50,
    seed: int = 0,
) -> SignAgreement:  # fmt: skip
    """The same for every `Linear` of a model, with its activations and deltas on x and y.

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, (8, 8), "sigmoid")
    >>> sign_agreement_of(model, "auto", data.x, data.y, sizes=(1, 64)).by_batch("2")[1]
    1.0
    """
    rng = random.Random(seed).stream("batches")
    rows: list[SignRow] = []
    with differentiated(model, loss, x, y) as (_, seen):
        for name, call in seen.items():
            if isinstance(call.module, Linear) and call.gradient is not None:
                a, d = by_unit(call.input), by_unit(call.gradient)
                rows += _signs(name, a.astype(np.float64), d, sizes, repeats, rng)
    if not rows:
        raise ArgumentError("the model has no Linear layer that gets a gradient")
    return SignAgreement(tuple(rows))


def _signs(
    name: str, a: Array, d: Array, sizes: Sequence[int], repeats: int, rng: random.Stream
) -> tuple[SignRow, ...]:
    if repeats < 1 or any(size < 1 for size in sizes):
        raise ArgumentError(f"repeats and sizes must be >= 1; received {repeats} and {sizes}")
    rows = []
    for size in sizes:
        shares = []
        for _ in range(repeats):
            i = rng.integers(0, len(a), (size,))
            g = d[i].T @ a[i]  # (units, inputs)
            low, high = g.min(axis=1), g.max(axis=1)
            live = (low != 0) | (high != 0)
            shares += ((low >= 0) | (high <= 0))[live].tolist()
        rows.append(SignRow(name, int(size), float(np.mean(shares)) if shares else float("nan")))
    return tuple(rows)


# -- the path of gradient descent ----------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class PathRatio(Result):
    """Steps of gradient descent to the target with the activations as they are and centred, and
    the condition numbers that rule them. See `path_ratio`."""

    steps: int
    centred_steps: int
    condition: float
    centred_condition: float

    @property
    def ratio(self) -> float:
        return self.steps / self.centred_steps


def path_ratio(
    activations: Any, target: Any = None, *, tolerance: float = 1e-3, limit: int = 100_000
) -> PathRatio:
    """Steps that gradient descent needs to learn a linear unit, as given and centred.

    The loss is (w - target)' E[a a'] (w - target) / 2 from w = 0, with the best fixed rate
    2 / (smallest + largest eigenvalue); it is learned when w is nearer than `tolerance`. target :
    (units,), by default +1, -1, +1, ...: weights of both signs, which one-sided gradients reach
    by zigzag only.

    >>> z = random.Random(0).stream("z").normal((4000, 2), dtype=np.float64)
    >>> found = path_ratio(1 / (1 + np.exp(-z)))
    >>> found.steps > 10 * found.centred_steps
    True
    """
    a = _activations(activations)
    units = a.shape[1]
    goal = (-1.0) ** np.arange(units) if target is None else np.asarray(target, np.float64)
    if goal.shape != (units,):
        raise ShapeError(f"target has shape {goal.shape}; expected ({units},)")
    if not tolerance > 0.0:
        raise ArgumentError(f"tolerance must be > 0; received {tolerance!r}")
    second, centred = a.T @ a / len(a), np.cov(a.T, bias=True).reshape(units, units)
    if np.linalg.matrix_rank(centred) < units:
        raise DataError(
            f"the activations do not vary in all {units} directions, so no number of steps "
            "reaches every target",
            fix="leave dead and duplicate units out, or give more rows",
        )
    return PathRatio(
        _descend(second, goal, tolerance, limit), _descend(centred, goal, tolerance, limit),
        condition(second), condition(centred),
    )  # fmt: skip


def _descend(curvature: Array, goal: Array, tolerance: float, limit: int) -> int:
    values = np.linalg.eigvalsh(curvature)
    rate, error, steps = 2.0 / (values[0] + values[-1]), -goal, 0
    while float(np.linalg.norm(error)) >= tolerance and steps < limit:
        error = error - rate * (curvature @ error)
        steps += 1
    return steps


# -- where the norm stands -----------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class NormOrder(Result):
    """Mean and standard deviation of what comes into the next layer, with the norm before the
    activation (layer, norm, activation) and behind it (layer, activation, norm)."""

    activation: str
    before_mean: float
    before_std: float
    behind_mean: float
    behind_std: float


def next_layer_mean(model: Module, x: Any, *, training: bool = True) -> dict[str, float]:
    """The mean of what comes into each layer with weights, by name.

    training : with the batch's own statistics in norms, as in training, or the running ones.

    >>> import fathom
    >>> from fathom import nn
    >>> model = nn.Sequential(nn.ReLU(), nn.Linear(1, 1))
    >>> next_layer_mean(model, [[-1.0], [3.0]])
    {'1': 1.5}
    """
    total: dict[str, list[float]] = {}

    def look(seen: Record) -> None:
        for name, call in seen.items():
            sums = total.setdefault(name, [0.0, 0.0])
            sums[0] += float(call.input.sum(dtype=np.float64))
            sums[1] += call.input.size

    weight_layers(model)
    watch(model, x, look, has_weights, inputs=True, training=training, batch_size=1 << 30)
    return {name: total / count for name, (total, count) in total.items()}


def bn_order(x: Any, units: int = 64, activation: str = "relu", seed: int = 0) -> NormOrder:
    """Batch norm before or behind the activation: what the next layer gets on x (n, features).

    Before it (Ioffe & Szegedy, 2015) the activation sees mean 0 and variance 1, and the next
    layer the mean of activation(z) for such z: for ReLU and a normal z, 1 / sqrt(2 pi) = 0.399.
    Behind it the next layer sees mean 0.

    >>> found = bn_order(random.Random(0).stream("x").normal((2000, 16)))
    >>> round(found.before_mean, 2), abs(found.behind_mean) < 1e-6
    (0.4, True)
    """
    a = _activations(x).astype(np.float32)
    with random.use(random.Random(seed)), no_grad():
        layer = Linear(a.shape[1], units)
        bend, norm = activation_layer(activation), BatchNorm1d(units)
        before = Sequential(layer, norm, bend)(Tensor(a)).value().astype(np.float64)
        behind = Sequential(layer, bend, norm)(Tensor(a)).value().astype(np.float64)
    return NormOrder(
        activation, float(before.mean()), float(before.std()), float(behind.mean()),
        float(behind.std()),
    )  # fmt: skip


__all__ = [
    "Centring",
    "CentringRow",
    "NormOrder",
    "PathRatio",
    "SignAgreement",
    "SignRow",
    "bn_order",
    "condition",
    "next_layer_mean",
    "path_ratio",
    "sign_agreement",
    "sign_agreement_of",
    "zero_centring",
]
