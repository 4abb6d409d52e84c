"""Initial weights. Functions with a trailing underscore fill a tensor in place.

All draw from the stream "init" of the current `Random`, so a seed fixes every weight.
"""

from __future__ import annotations

import math

from fathom.engine.errors import ShapeError
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, mark_written


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    if tensor.ndim < 2:
        raise ShapeError(f"fans need a weight of at least 2 axes; received shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def uniform_(tensor: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Evenly spread over [low, high)."""
    tensor.data[...] = current().stream("init").uniform(tensor.shape, low, high, tensor.dtype)
    mark_written(tensor)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normally distributed."""
    tensor.data[...] = current().stream("init").normal(tensor.shape, mean, std, tensor.dtype)
    mark_written(tensor)
    return tensor


def constant_(tensor: Tensor, value: float) -> Tensor:
    """All the same value."""
    tensor.data[...] = value
    mark_written(tensor)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """All zeros."""
    return constant_(tensor, 0.0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def kaiming_uniform_(tensor: Tensor, gain: float = math.sqrt(2.0)) -> Tensor:
    """U(-a, a) with a = gain sqrt(3 / fan_in); the default gain fits ReLU (He et al., 2015)."""
    bound = gain * math.sqrt(3.0 / max(fans(tensor)[0], 1))
    return uniform_(tensor, -bound, bound)
