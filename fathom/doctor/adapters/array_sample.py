"""Statistics of a layer's output in NumPy, in few passes over what is there."""

from __future__ import annotations

import math

import numpy as np

from fathom.doctor.case import Layer, LayerStats
from fathom.engine.tensor import Array

RECTIFIERS = frozenset({"relu", "relu6", "threshold", "clamp"})
# |z| from which the slope is below 1 % of the activation's largest one
FLAT = {"sigmoid": 5.99, "tanh": 2.99, "hardtanh": 1.0, "softsign": 9.0, "hardsigmoid": 3.0,
        "erf": 2.15}  # fmt: skip
MANY = 1 << 16  # elements of a layer's output that are looked at closely
CHANNELS = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm", "SyncBatchNorm")


class ArraySample:
    """Makes `LayerStats` of arrays.

    alive : for each layer the units that were above 0 on some row since the run began. examples :
    how many rows that were.
    """

    def __init__(self) -> None:
        self.alive: dict[str, Array] = {}
        self.examples: dict[str, int] = {}

    def of(self, name: str, z: Array, layer: Layer, direct: bool) -> LayerStats:
        """Statistics of a layer's output; direct : its activation gets it as it is."""
        axis = 1 if layer.kind.startswith(CHANNELS) and z.ndim > 2 else z.ndim - 1
        units = z.shape[axis] if z.ndim else 1
        rows = layer.rows = z.size // max(units, 1) if z.ndim > 1 else 1
        stats = LayerStats()
        high, low = float(z.max()), float(z.min())
        stats.largest, stats.finite = max(high, -low), math.isfinite(high + low)
        if z.size > MANY and z.ndim > 1 and len(z) > 1:
            z = z[:: min(-(-z.size // MANY), len(z) // 2)]
        last = axis == z.ndim - 1
        x = (z if last else np.moveaxis(z, axis, -1)).reshape(-1, units)
        means = np.add.reduce(x, axis=0)
        means /= len(x)
        apart = x - means
        variance = np.einsum("ij,ij->j", apart, apart)
        variance /= len(x)
        stats.mean = mean = float(np.add.reduce(means)) / units
        if rows > 1:
            between = float(np.dot(means, means)) / units - mean * mean
            stats.std = math.sqrt(float(np.add.reduce(variance)) / units + max(between, 0.0))
            deviation, sizes = np.sqrt(variance), np.abs(means)
            stats.off = np.count_nonzero(sizes > 3 * deviation) / units
            spread = float(np.add.reduce(deviation)) / units
            stats.spread = spread / (float(np.add.reduce(sizes)) / units + spread + 1e-8)
        else:
            stats.std = float(x.std())
        if direct and layer.activation in RECTIFIERS:
            stats.zero = 1.0 - np.count_nonzero(x > 0) / x.size
            stats.dead = self._dead(name, x)
            stats.examples = self.examples[name]
        limit = FLAT.get(layer.activation or "") if direct else None
        if limit is not None:
            stats.flat = np.count_nonzero(np.abs(x) > limit) / x.size
        return stats

    def _dead(self, name: str, x: Array) -> float:
        """Share of the units that were never above 0, over all samples so far."""
        above = x.max(axis=0) > 0
        before = self.alive.get(name)
        if before is not None and before.shape == above.shape:
            above |= before
        self.alive[name] = above
        self.examples[name] = self.examples.get(name, 0) + len(x)
        return 1.0 - np.count_nonzero(above) / len(above)


__all__ = ["CHANNELS", "FLAT", "MANY", "RECTIFIERS", "ArraySample"]
