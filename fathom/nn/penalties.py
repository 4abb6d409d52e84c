"""Penalties on the weights of a model, and the proximal step that makes exact zeros."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fathom.activations.formulas import soft_shrink
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike, mark_written
from fathom.nn.module import Module
from fathom.ops.create import as_tensor
from fathom.ops.elementwise import abs as abs_
from fathom.ops.elementwise import square

__all__ = [
    "elastic_penalty",
    "l1_penalty",
    "l2_penalty",
    "proximal_l1",
    "proximal_l1_",
]


def _weights(where: Module | Iterable[Any], biases: bool) -> list[Any]:
    """The tensors a penalty falls on: of a model those with two axes or more, or all."""
    if not isinstance(where, Module):
        return [where] if isinstance(where, Tensor) else list(where)
    return [p for p in where.parameters() if biases or p.ndim > 1]


def _strength(name: str, value: Any) -> float:
    if not value >= 0:
        raise ArgumentError(f"{name}: the strength must be >= 0; received {value!r}")
    return float(value)


def l1_penalty(where: Module | Iterable[Any], strength: float = 1.0, biases: bool = False) -> Any:
    """strength * sum |w| over the weights of a model, or over given tensors (Tibshirani, 1996).

    biases : count vectors (biases, scales of norms), too.

    >>> import fathom
    >>> l1_penalty([fathom.tensor([1.0, -2.0])], 0.1)
    tensor(0.3)
    """
    scale = _strength("l1_penalty", strength)
    return sum((abs_(w).sum() for w in _weights(where, biases)), start=0.0) * scale


def l2_penalty(where: Module | Iterable[Any], strength: float = 1.0, biases: bool = False) -> Any:
    """strength * sum w^2 over the weights of a model, or over given tensors.

    Its gradient is 2 strength w: `weight_decay=2 * strength` of plain SGD.
    """
    scale = _strength("l2_penalty", strength)
    return sum((square(w).sum() for w in _weights(where, biases)), start=0.0) * scale


def elastic_penalty(
    where: Module | Iterable[Any], l1: float = 1.0, l2: float = 1.0, biases: bool = False
) -> Any:
    """l1 * sum |w| + l2 * sum w^2 (Zou and Hastie, 2005)."""
    return l1_penalty(where, l1, biases) + l2_penalty(where, l2, biases)


def proximal_l1(x: TensorLike, threshold: float) -> Tensor:
    """The x' nearest to x under threshold * |x'|: drawn towards 0, exactly 0 within threshold.

    >>> import fathom
    >>> proximal_l1(fathom.tensor([-3.0, 0.5, 1.0]), 1.0)
    tensor([-2.,  0.,  0.])
    """
    return soft_shrink(as_tensor(x), _strength("proximal_l1", threshold))


def proximal_l1_(where: Module | Iterable[Any], threshold: float, biases: bool = False) -> int:
    """`proximal_l1` on the weights in place; returns how many are exactly 0 then.

    After each step of gradient descent with learning rate lr, threshold = lr * strength makes
    it ISTA (Daubechies et al., 2004) for the L1 penalty of that strength.
    """
    zeros = 0
    for w in _weights(where, biases):
        w.data[...] = proximal_l1(w.value(), threshold).value()
        mark_written(w)
        zeros += int((w.data == 0).sum())
    return zeros
