"""INT8: a trained `Sequential` in whole numbers, its activations as tables of 256 entries.

A number r is stored as q with r = scale * (q - zero_point) (Jacob et al., 2018). Weights are
symmetric, with one scale for each output of a linear layer and each channel of a convolution;
activations affine, one scale for the whole tensor, with ranges seen on calibration data. Products
of int8 are summed in whole numbers; what stands between is looked up, or pooled.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn import pooling
from fathom.nn.conv import Conv1d, Conv2d, Conv3d
from fathom.nn.linear import Flatten, Linear

UNCHANGED = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Identity")
POOLS = (
    pooling.MaxPool1d, pooling.MaxPool2d, pooling.MaxPool3d, pooling.AvgPool1d,
    pooling.AvgPool2d, pooling.AvgPool3d, pooling.AdaptiveAvgPool1d, pooling.AdaptiveAvgPool2d,
    pooling.AdaptiveMaxPool1d, pooling.AdaptiveMaxPool2d, pooling.GlobalAvgPool,
    pooling.GlobalMaxPool,
)  # fmt: skip


@dataclass(frozen=True)
class Affine:
    """A grid of 256 numbers: r = scale * (q - zero_point), q from -128 to 127."""

    scale: float
    zero_point: int

    @classmethod
    def fit(cls, low: float, high: float) -> Affine:
        """The grid over [low, high] and 0, which it holds exactly.

        >>> Affine.fit(0.0, 255.0)
        Affine(scale=1.0, zero_point=-128)
        """
        if not np.isfinite([low, high]).all() or high < low:
            raise DataError(f"no grid over [{low}, {high}]")
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = (high - low) / 255.0 or 1.0
        return cls(scale, int(np.clip(round(-128 - low / scale), -128, 127)))

    def quantize(self, r: Any) -> Array:
        """The nearest codes, numbers outside the range at its ends."""
        codes = np.rint(np.asarray(r, np.float64) / self.scale) + self.zero_point
        return np.clip(codes, -128, 127).astype(np.int8)

    def dequantize(self, q: Any) -> Array:
        """The numbers of codes."""
        return self.scale * (np.asarray(q, np.int32) - self.zero_point)


def lookup_table(
    function: Callable[[Array], Array], grid_in: Affine, grid_out: Affine | None = None
) -> tuple[Array, Affine]:
    """(table of 256 codes, grid of the results): function(r) is table[q + 128].

    Its error is at most half a step of `grid_out`, beyond that of the input's own grid.

    >>> table, grid = lookup_table(lambda r: np.maximum(r, 0), Affine(0.1, 0))
    >>> int(table[0]), int(table[128 + 5]) - grid.zero_point  # 0, and 10 steps of 12.7 / 255
    (-128, 10)
    """
    values = np.asarray(function(grid_in.dequantize(np.arange(-128, 128))), np.float64)
    grid = grid_out or Affine.fit(values.min(), values.max())
    return grid.quantize(values), grid


@dataclass(frozen=True)
class QuantLayer:
    """A linear layer or a convolution: int8 weight, a scale an output channel, int32 bias.

    The bias is in units of input scale times weight scale. `sums` multiplies and adds whole
    numbers with the geometry of the layer, in float64, which is exact below 2^53.
    """

    weight: Array
    scales: Array
    bias: Array
    grid_in: Affine
    grid_out: Affine
    sums: Callable[[Array], Array]

    def __call__(self, q: Array) -> Array:
        total = self.sums(q.astype(np.float64) - self.grid_in.zero_point)
        behind = (1,) * (self.weight.ndim - 2)  # axes of an image, behind its channels
        total += self.bias.reshape(-1, *behind)
        values = total * (self.grid_in.scale * self.scales).reshape(-1, *behind)
        return self.grid_out.quantize(values)


@dataclass(frozen=True)
class Pooled:
    """Pooling (or another shape) of codes: a largest is exact, a mean is rounded to their grid."""

    pool: Callable[[Array], Array]
    grid_out: Affine

    def __call__(self, q: Array) -> Array:
        zero = self.grid_out.zero_point
        values = self.pool(q.astype(np.float64) - zero)
        return (np.rint(values) + zero).astype(np.int8)


@dataclass(frozen=True)
class Lookup:
    """An activation as a table of 256 codes."""

    table: Array
    grid_in: Affine
    grid_out: Affine
    name: str

    def __call__(self, q: Array) -> Array:
        return np.asarray(self.table[q.astype(np.int32) + 128])


@dataclass(frozen=True)
class LayerError:
    """How far a layer's output is from the float one: in its units and in steps of its grid."""

    name: str
    largest: float
    mean: float
    step: float
    codes: int  # different codes that occur, of 256

    @property
    def steps(self) -> float:
        return self.mean / self.step


class QuantizedModel:
    """A quantized `Sequential`: callable on arrays, with `predict`, `report` and its size."""

    def __init__(self, layers: list[Any], grid: Affine, names: list[str], floats: int) -> None:
        self.layers, self.grid, self.names, self.floats = layers, grid, names, floats

    @property
    def nbytes(self) -> int:
        """Bytes of weights, biases, scales and tables."""
        total = 0
        for layer in self.layers:
            if isinstance(layer, QuantLayer):
                total += layer.weight.nbytes + layer.bias.nbytes + 4 * layer.scales.size
            elif isinstance(layer, Lookup):
                total += layer.table.nbytes
        return total

    def codes(self, x: Any) -> list[Array]:
        """The int8 output of each layer."""
        q = self.grid.quantize(x)
        found = []
        for layer in self.layers:
            q = q if layer is None else layer(q)
            found.append(q)
        return found

    def predict(self, x: Any) -> Array:
        """The outputs (n, ...) as floats."""
        return self._grids()[-1].dequantize(self.codes(x)[-1])

    __call__ = predict

    def _grids(self) -> list[Affine]:
        grids, grid = [], self.grid
        for layer in self.layers:
            grid = grid if layer is None else layer.grid_out
            grids.append(grid)
        return grids

    def report(self, model: Any, x: Any) -> list[LayerError]:
        """The error of each layer's output on x, beside the float model's."""
        wanted = _outputs(model, x)
        found = []
        for name, q, grid, exact in zip(
            self.names, self.codes(x), self._grids(), wanted, strict=True
        ):
            rest = np.abs(grid.dequantize(q) - exact.reshape(q.shape))
            found.append(
                LayerError(
                    name, float(rest.max()), float(rest.mean()), grid.scale, len(np.unique(q))
                )
            )
        return found

    def __repr__(self) -> str:
        return f"QuantizedModel({', '.join(self.names)}; {self.nbytes} bytes of {self.floats})"


def quantize(model: Any, x: Any, *, clip: float = 0.0) -> QuantizedModel:
    """A trained `Sequential` of linear, convolutional, pooling and elementwise layers in INT8.

    Dropout and Flatten may stand between them.

    x : calibration rows, from which the ranges of the activations are taken. clip : share of
    the values at each end that may fall outside (0.001 tames outliers).

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.nn.Sequential(
    ...         fathom.nn.Linear(4, 8), fathom.nn.Tanh(), fathom.nn.Linear(8, 3))
    >>> small = quantize(model, data.x)
    >>> bool(np.abs(small.predict(data.x) - model.predict(data.x)).max() < 0.1)
    True
    """
    if not 0.0 <= clip < 0.5:
        raise ArgumentError(f"clip is a share in [0, 0.5); received {clip!r}")
    inputs = np.asarray(x)
    outputs = _outputs(model, inputs)
    children = list(model.named_children())

    def grid_of(values: Array) -> Affine:
        low, high = (
            np.quantile(values, [clip, 1.0 - clip]) if clip else (values.min(), values.max())
        )
        return Affine.fit(low, high)

    grid = first = grid_of(inputs)
    layers: list[Any] = []
    names: list[str] = []
    for (name, layer), output in zip(children, outputs, strict=True):
        kind = type(layer).__name__
        names.append(f"{name} {kind}")
        if kind in UNCHANGED:
            layers.append(None)
            continue
        made: Any
        if isinstance(layer, Linear | Conv1d | Conv2d | Conv3d):
            made = _weighted(layer, grid, grid_of(output))
        elif isinstance(layer, (*POOLS, Flatten)):
            made = Pooled(_function(layer), grid)
        elif list(layer.parameters()) or not _elementwise(layer):
            raise ArgumentError(
                f"layer {name} ({kind}) cannot be quantized: only Linear, Conv1d to Conv3d, max "
                "and mean pooling, Flatten, Dropout and elementwise activations can"
            )
        else:
            table, out = lookup_table(_function(layer), grid, grid_of(output))
            made = Lookup(table, grid, out, kind)
        layers.append(made)
        grid = made.grid_out
    floats = sum(p.nbytes for p in model.parameters())
    return QuantizedModel(layers, first, names, floats)


def _weighted(layer: Any, grid_in: Affine, grid_out: Affine) -> QuantLayer:
    weight = layer.weight.value().astype(np.float64)
    scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127.0
    scales[scales == 0] = 1.0
    codes = np.rint(weight / scales.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.int8)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.value().astype(np.float64)
    units = np.rint(bias / (grid_in.scale * scales))
    limit = np.iinfo(np.int32)
    whole = np.clip(units, limit.min, limit.max).astype(np.int32)
    twin = copy.deepcopy(layer)
    twin.weight.data = codes.astype(np.float64)
    if twin.bias is not None:
        twin.bias.data = np.zeros(len(weight))
    return QuantLayer(codes, scales, whole, grid_in, grid_out, _function(twin))


def _function(layer: Any) -> Callable[[Array], Array]:
    def call(values: Array) -> Array:
        with no_grad():
            return np.asarray(layer(Tensor(np.asarray(values, np.float64))).value())

    return call


def _elementwise(layer: Any) -> bool:
    """Whether each output is a function of its own input alone."""
    probe = np.linspace(-2.0, 2.0, 7)
    try:
        whole = _function(layer)(probe)
        each = np.array([_function(layer)(np.array([v]))[0] for v in probe])
    except Exception:  # any failure says that it is not
        return False
    return whole.shape == probe.shape and bool(np.allclose(whole, each))


def _outputs(model: Any, x: Any) -> list[Array]:
    """The output of each layer of a Sequential, in eval mode."""
    if not hasattr(model, "named_children") or type(model).__name__ != "Sequential":
        raise ArgumentError(f"quantize takes a Sequential; received {type(model).__name__}")
    modes = [(m, m.training) for m in model.modules()]
    kind = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    value = Tensor(np.asarray(x, kind))
    if value.ndim < 2:
        raise ShapeError(f"x needs a row per example; received shape {value.shape}")
    found = []
    try:
        model.eval()
        with no_grad():
            for _, layer in model.named_children():
                value = layer(value)
                found.append(value.value().astype(np.float64))
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    return found
