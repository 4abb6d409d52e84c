"""Tools around parameters and gradients, with the names of `torch.nn.utils`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DivergedError, ShapeError
from fathom.engine.modes import tracing
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.ops import concatenate
from fathom.ops.checks import memory, on_arrays

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    """The memory of all gradients; under trace, stand-ins for it."""
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    found: dict[int, Any] = {}
    tracer = tracing()
    for p in given:
        if tracer is not None:
            found[id(p)] = tracer.gradient(p)
        elif p.grad is not None:
            if not p.grad.value().flags.writeable:
                p.grad = Tensor(p.grad.value().copy())
            found[id(p)] = p.grad.value()
    return [g for g in found.values() if g is not None]


def _norm(arrays: Iterable[Array], norm_type: float) -> float:
    if not norm_type > 0:
        raise ArgumentError(f"norm_type must be > 0; received {norm_type!r}")
    with np.errstate(all="ignore"):
        if norm_type == math.inf:
            return max((float(np.abs(a).max()) for a in arrays if a.size), default=0.0)
        if norm_type == 2.0:
            return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))
        powers = (float((np.abs(a).astype(np.float64) ** norm_type).sum()) for a in arrays)
        return float(sum(powers) ** (1.0 / norm_type))


def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all tensors as one vector."""
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    p = float(norm_type)
    return Tensor(on_arrays(_check_norm, *given, norm_type=p, strict=error_if_nonfinite))


def _check_norm(*arrays: Array, norm_type: float, strict: bool) -> Array:
    """The norm of all arrays together; refused, if asked to, when it is not finite."""
    norm = _norm(arrays, norm_type)
    if strict and not math.isfinite(norm):
        raise DivergedError(
            f"the norm of the gradients is {norm}",
            fix="error_if_nonfinite=False to go on regardless",
        )
    return np.asarray(norm)


def _factor(norm: Array, max_norm: float, dtype: Any) -> Array:
    """What the gradients are multiplied by: at most 1, nan if the norm is."""
    with np.errstate(all="ignore"):
        return np.minimum(1.0, max_norm / (norm + 1e-6)).astype(dtype)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Shrink the gradients together until their norm is at most `max_norm` (Pascanu et al., 2013).

    The direction stays. Returns the norm before. Raises `DivergedError` for a norm that is not
    finite, if asked to.

    >>> import fathom
    >>> w = fathom.nn.Parameter([0.0, 0.0])
    >>> w.grad = fathom.tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], 1.0), w.grad
    (tensor(5., dtype=float64), tensor([0.6, 0.8]))
    """
    if not max_norm >= 0:
        raise ArgumentError(f"clip_grad_norm_: max_norm must be >= 0; received {max_norm!r}")
    arrays = _gradients(parameters)
    p = float(norm_type)
    norm = on_arrays(_check_norm, *arrays, norm_type=p, strict=error_if_nonfinite)
    for array in arrays:
        array *= on_arrays(_factor, norm, max_norm=max_norm, dtype=array.dtype)
    return Tensor(norm)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value]; may turn the direction.

    >>> import fathom
    >>> w = fathom.nn.Parameter([0.0, 0.0])
    >>> w.grad = fathom.tensor([3.0, -0.5])
    >>> clip_grad_value_(w, 1.0)
    >>> w.grad
    tensor([ 1. , -0.5])
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value_: clip_value must be >= 0; received {clip_value!r}")
    for array in _gradients(parameters):
        np.clip(array, -clip_value, clip_value, out=array)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters end to end, differentiable."""
    return concatenate([p.reshape(-1) for p in parameters], 0)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write a vector into the parameters, in place."""
    given, values = list(parameters), memory(vec)
    wanted = sum(p.size for p in given)
    if values.shape != (wanted,):
        raise ShapeError(f"the parameters take a vector of {wanted}; received {values.shape}")
    start = 0
    for p in given:
        memory(p)[...] = values[start : start + p.size].reshape(p.shape)
        mark_written(p)
        start += p.size
