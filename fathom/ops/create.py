"""Making tensors from data, or filled with one value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fathom.engine.tensor import Array, Tensor, to_array

__all__ = [
    "as_tensor",
    "from_numpy",
    "full",
    "ones",
    "tensor",
    "zeros",
]


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`; lists of floats become float32, arrays keep their dtype.

    >>> tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    return Tensor(np.array(to_array(data, dtype)), requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None) -> Tensor:
    """`data` itself if it is a tensor of that dtype, else a tensor that shares memory if it can."""
    if isinstance(data, Tensor) and dtype in (None, data.dtype):
        return data
    return Tensor(data, dtype=dtype)


def from_numpy(array: Array) -> Tensor:
    """A tensor that shares memory with the array."""
    return Tensor(array)


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and not hasattr(sizes[0], "__index__") else sizes


def zeros(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """All zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return Tensor(np.zeros(_shape(shape), dtype), requires_grad)


def ones(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """All ones."""
    return Tensor(np.ones(_shape(shape), dtype), requires_grad)


def full(shape: Any, value: float, dtype: DTypeLike = np.float32) -> Tensor:
    """All `value`."""
    return Tensor(np.full(shape, value, dtype))
