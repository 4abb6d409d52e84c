"""Probes of single units: dead ones, saturated ones, and ones that are copies of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.recording import Filter, Record
from fathom.doctor.probes.running import (
    activation_layers,
    by_unit,
    channels_first,
    kind_of,
    watch,
)
from fathom.doctor.table import Result
from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError
from fathom.engine.modes import enable_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.conv import _ConvTranspose
from fathom.nn.embedding import Embedding, EmbeddingBag
from fathom.nn.module import Module


@dataclass(frozen=True)
class DeadRow:
    """One activation layer. `zero_share` is the share of outputs that are 0; `dead` counts the
    units that are 0 on every row of the data, `which` says which they are."""

    name: str
    kind: str
    units: int
    dead: int
    dead_share: float
    zero_share: float
    which: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class DeadUnits(Result):
    """See `dead_units`."""

    rows: tuple[DeadRow, ...]
    examples: int

    @property
    def dead(self) -> int:
        """Dead units in all layers."""
        return sum(row.dead for row in self.rows)


@dataclass
class _Sizes:
    kind: str
    examples: int = 0
    count: int = 0
    zeros: int = 0
    largest: Any = 0.0  # of each unit

    def add(self, size: Array, tolerance: float) -> None:
        self.count += size.size
        self.zeros += int(np.count_nonzero(size <= tolerance))
        self.largest = np.maximum(self.largest, size.max(axis=0))

    def row(self, name: str, tolerance: float) -> DeadRow:
        which = tuple(int(i) for i in np.flatnonzero(self.largest <= tolerance))
        units, zeros = len(self.largest), self.zeros / self.count
        return DeadRow(name, self.kind, units, len(which), len(which) / units, zeros, which)


def dead_units(
    model: Module, data: Any, only: Filter = None, *, tolerance: float = 0.0, batch_size: int = 256
) -> DeadUnits:
    """Units whose output is 0 on every row of a data set, per activation layer.

    A healthy ReLU puts out zeros for about half of its inputs; counting zeros, as is often
    done, says nothing about death (Lu et al., 2020). What counts is each unit's largest absolute
    output over all rows. A unit is a feature, or a channel of an image.

    data : array (n, ...), `DataLoader`, or an iterable of batches. only : other layers than the
    elementwise activations. tolerance : outputs up to this count as 0.

    >>> import fathom
    >>> from fathom import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data[...] = 1.0
    >>> model[0].bias.data[...] = [0.0, -100.0, 0.0]
    >>> found = dead_units(model, fathom.data.load("iris").x)
    >>> found.dead, found["1"].which
    (1, (1,))
    """
    if not tolerance >= 0.0:
        raise ArgumentError(f"tolerance must be >= 0; received {tolerance!r}")
    found: dict[str, _Sizes] = {}
    first = channels_first(model)

    def look(seen: Record) -> None:
        for name, call in seen.items():
            so_far = found.setdefault(name, _Sizes(kind_of(call)))
            so_far.add(np.abs(by_unit(call.array, first)), tolerance)
            so_far.examples += len(call.array)

    watch(model, data, look, activation_layers(model, only), batch_size=batch_size)
    rows = tuple(sizes.row(name, tolerance) for name, sizes in found.items())
    return DeadUnits(rows, max((sizes.examples for sizes in found.values()), default=0))


# -- saturation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SaturationRow:
    """One activation layer: `scale` is the standard deviation of its inputs z, `slope` the mean
    of |f'(z)|, `flat_share` the share of all z with |f'(z)| below the threshold, `stuck_share`
    that of the units that are below it on every row."""

    name: str
    kind: str
    units: int
    scale: float
    slope: float
    flat_share: float
    stuck_share: float


@dataclass(frozen=True, repr=False)
class Saturation(Result):
    """See `saturation`."""

    rows: tuple[SaturationRow, ...]
    threshold: float


def slope(activation: Module, z: Array) -> Array:
    """f'(z) of an elementwise layer, exact (by its formula's derivative).

    Worked out in float64, or in the float type of the layer's own parameters, if it has any.

    >>> import fathom
    >>> slope(fathom.nn.Sigmoid(), np.array([0.0, 2.0])).round(4).tolist()
    [0.25, 0.105]
    """
    kind = next((p.dtype for p in activation.parameters()), np.dtype(np.float64))
    with enable_grad():
        point = Tensor(np.asarray(z, kind), True)
        out = activation.forward(point)  # past the hooks of whoever is watching
        if not isinstance(out, Tensor) or out.shape != point.shape:
            raise ArgumentError(
                f"{type(activation).__name__} does not give one number for each number it gets, "
                "so it has no slope",
            )
        if not out.requires_grad:
            return np.zeros(point.shape)
        ones = Tensor(np.ones(out.shape, out.dtype))
        found = grad([out], [point], [ones], allow_unused=True)[0]
    return np.zeros(point.shape) if found is None else np.asarray(found.value(), np.float64)


@dataclass
class _Flatness:
    kind: str
    count: int = 0
    flat: int = 0
    slopes: float = 0.0
    total: float = 0.0
    square: float = 0.0
    steepest: Any = 0.0  # of each unit

    def add(self, z: Array, slopes: Array, threshold: float) -> None:
        self.count += z.size
        self.flat += int(np.count_nonzero(slopes < threshold))
        self.slopes += float(slopes.sum())
        self.total += float(z.sum(dtype=np.float64))
        self.square += float(np.square(z, dtype=np.float64).sum())
        self.steepest = np.maximum(self.steepest, slopes.max(axis=0))

    def row(self, name: str, threshold: float) -> SaturationRow:
        n, mean = self.count, self.total / self.count
        scale = float(np.sqrt(max(self.square / n - mean * mean, 0.0)))
        stuck = float(np.mean(self.steepest < threshold))
        return SaturationRow(
            name, self.kind, len(self.steepest), scale, self.slopes / n, self.flat / n, stuck
        )


def saturation(
    model: Module, data: Any, threshold: float = 0.01, only: Filter = None,
    *, batch_size: int = 256,
) -> Saturation:  # fmt: skip
    """The share of pre-activations z at which an activation is flat: |f'(z)| < threshold.

    (Glorot & Bengio, 2010.) The derivative is that of the layer itself, so it is exact for every
    activation, one's own included: any `Elementwise` layer, or those named with `only`. For ReLU
    it is the share of units that are off.

    >>> import fathom
    >>> from fathom import nn
    >>> with fathom.seed(0):
    ...     model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    >>> x = fathom.data.load("iris").x
    >>> saturation(model, x)["1"].flat_share < saturation(model, 100 * x)["1"].flat_share
    True
    """
    if not threshold > 0.0:
        raise ArgumentError(f"threshold must be > 0; received {threshold!r}")
    found: dict[str, _Flatness] = {}
    first, layers = channels_first(model), activation_layers(model, only)

    def look(seen: Record) -> None:
        for name, call in seen.items():
            so_far = found.setdefault(name, _Flatness(kind_of(call)))
            slopes = np.abs(slope(call.module, call.input))
            so_far.add(by_unit(call.input, first), by_unit(slopes, first), threshold)

    watch(model, data, look, layers, inputs=True, batch_size=batch_size)
    rows = tuple(flatness.row(name, threshold) for name, flatness in found.items())
    return Saturation(rows, float(threshold))


# -- duplicates ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DuplicateRow:
    """One matrix of weights (units, everything else; biases belong to it).

    `duplicates` counts the units that have a twin, `groups` the sets of twins. `nearest` is the
    smallest distance of two rows over the length of the longest, `difference` the largest
    difference of two rows in any weight: 0.0 if, and only if, all rows are identical.
    """

    name: str
    kind: str
    units: int
    duplicates: int
    groups: int
    nearest: float
    difference: float


@dataclass(frozen=True, repr=False)
class DuplicateUnits(Result):
    """See `duplicate_units`."""

    rows: tuple[DuplicateRow, ...]
    tolerance: float

    @property
    def duplicates(self) -> int:
        """Units with a twin, in all layers."""
        return sum(row.duplicates for row in self.rows)


def duplicate_units(model: Module, tolerance: float = 1e-6) -> DuplicateUnits:
    """Units of a layer whose incoming weights are the same: a symmetry nobody broke.

    Units that start alike and feed alike get the same gradient and stay alike for ever
    (Rumelhart, Hinton & Williams, 1986); a layer of them is worth one unit.

    tolerance : rows whose distance is at most this share of the longest row are twins.

    >>> import fathom
    >>> from fathom import nn
    >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> for p in model[0].parameters():
    ...     _ = nn.init.constant_(p, 0.5)
    >>> duplicate_units(model)["0.weight"].duplicates
    4
    """
    if not tolerance >= 0.0:
        raise ArgumentError(f"tolerance must be >= 0; received {tolerance!r}")
    rows = tuple(
        _duplicates(name, kind, matrix, tolerance) for name, kind, matrix in _matrices(model)
    )
    if not rows:
        raise ArgumentError("the model has no layer with a matrix of weights")
    return DuplicateUnits(rows, float(tolerance))


def _matrices(model: Module) -> Iterator[tuple[str, str, Array]]:
    """(name, kind of layer, rows of incoming weights with their biases) of every matrix."""
    for prefix, module in model.named_modules():
        if isinstance(module, Embedding | EmbeddingBag):
            continue
        for name, p in module._parameters.items():
            if p is None or p.ndim < 2:
                continue
            w = p.value().astype(np.float64)
            if isinstance(module, _ConvTranspose):  # (in, out / groups, ...)
                w = np.moveaxis(w, 1, 0)
            w = w.reshape(len(w), -1)
            bias = module._parameters.get(name.replace("weight", "bias"))
            if bias is not None and bias is not p and bias.shape == (len(w),):
                w = np.concatenate([w, bias.value()[:, None]], axis=1)
            yield (f"{prefix}.{name}" if prefix else name), type(module).__name__, w


def _duplicates(name: str, kind: str, w: Array, tolerance: float) -> DuplicateRow:
    units = len(w)
    longest = float(np.linalg.norm(w, axis=1).max())
    difference = float(np.ptp(w, axis=0).max())
    twin = np.arange(units)  # the first unit that each is a twin of
    nearest = np.inf
    for i in range(1, units):
        apart = np.linalg.norm(w[:i] - w[i], axis=1)
        nearest = min(nearest, float(apart.min()))
        close = np.flatnonzero(apart <= tolerance * longest)
        twin[i] = twin[close[0]] if len(close) else i
    _, sizes = np.unique(twin, return_counts=True)
    groups = sizes[sizes > 1]
    return DuplicateRow(
        name, kind, units, int(groups.sum()), len(groups),
        nearest / longest if longest else (0.0 if units > 1 else np.inf), difference,
    )  # fmt: skip


__all__ = [
    "DeadRow",
    "DeadUnits",
    "DuplicateRow",
    "DuplicateUnits",
    "Saturation",
    "SaturationRow",
    "dead_units",
    "duplicate_units",
    "saturation",
    "slope",
]
