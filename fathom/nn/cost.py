"""What a layer will cost, worked out from its sizes alone, before it exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.nn.checks import positive

__all__ = ["LayerCost", "conv_cost", "linear_cost"]


@dataclass(frozen=True)
class LayerCost:
    """Numbers to learn, bytes they take, and multiply-adds for one sample."""

    parameters: int
    parameter_bytes: int
    multiply_adds: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each multiply-add."""
        return 2 * self.multiply_adds


def _cost(weights: int, biases: int, uses: int, dtype: Any) -> LayerCost:
    parameters = weights + biases
    return LayerCost(parameters, parameters * np.dtype(dtype).itemsize, weights * uses)


def linear_cost(
    in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32
) -> LayerCost:
    """A dense layer: in * out weights and out biases, each weight used once for a sample.

    `model.summary()` tells the same of a layer that is there; this takes no memory.

    >>> linear_cost(784, 128)
    LayerCost(parameters=100480, parameter_bytes=401920, multiply_adds=100352)
    """
    wide = positive(in_features, "in_features", "linear_cost")
    out = positive(out_features, "out_features", "linear_cost")
    return _cost(wide * out, out if bias else 0, 1, dtype)


def conv_cost(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, ...],
    out_size: tuple[int, ...],
    groups: int = 1,
    bias: bool = True,
    dtype: Any = np.float32,
) -> LayerCost:
    """A convolution: each weight is used once for each place of the output.

    kernel, out_size : one number for each spatial axis.

    >>> conv_cost(64, 32, (3, 3), (224, 224)).multiply_adds
    924844032
    """
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
    c, out, g = (positive(size, name, "conv_cost") for name, size in sizes.items())
    if len(kernel) != len(out_size):
        raise ArgumentError(
            f"conv_cost: kernel and out_size need one number for each axis; received {kernel} and "
            f"{out_size}"
        )
    if c % g or out % g:
        raise ArgumentError(f"conv_cost: {c} and {out} channels do not split into groups={g}")
    window = int(np.prod([positive(n, "kernel", "conv_cost") for n in kernel]))
    places = int(np.prod([positive(n, "out_size", "conv_cost") for n in out_size]))
    return _cost(c // g * out * window, out if bias else 0, places, dtype)
