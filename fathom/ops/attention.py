"""Scaled dot-product attention (Vaswani et al., 2017)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.modes import tracing
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import floats, on_arrays, operand, raw
from fathom.ops.elementwise import where
from fathom.ops.linalg import matmul
from fathom.ops.loss import softmax
from fathom.ops.products import swap
from fathom.ops.sample import dropout
from fathom.ops.shape import broadcast_to, reshape

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.mT * scale + mask) @ value.

    Parameters
    ----------
    query, key, value : (..., length, width), (..., source, width), (..., source, out).
    attn_mask : booleans (True: may attend) or floats that are added; broadcasts to
        (..., length, source). A position that may attend to nothing gets zeros.
    dropout_p : share of the attention weights dropped, from the stream "dropout".
    is_causal : position i attends to positions up to i only.
    scale : 1 / sqrt(width) by default.
    enable_gqa : key and value may have fewer heads (axis -3) than the query; they are repeated.

    >>> import fathom
    >>> x = fathom.ones(2, 5, 4)
    >>> fathom.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True).shape
    (2, 5, 4)
    """
    q, k, v = operand(query), operand(key), operand(value)
    _check(q, k, v, attn_mask, is_causal)
    if enable_gqa:
        k, v = (_repeated(q, x) for x in (k, v))
    factor = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores: Any = matmul(q * factor, swap(k))
    scores, dead = _masked(scores, attn_mask, is_causal)
    weights = softmax(scores, -1)
    if dead is not None:
        weights = where(dead, 0.0, weights)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return matmul(weights, v)


def _check(q: Any, k: Any, v: Any, mask: Any, causal: bool) -> None:
    name = "scaled_dot_product_attention"
    floats(name, q, k, v)
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ShapeError(
            f"{name}: needs (..., length, width); received {q.shape}, {k.shape}, {v.shape}"
        )
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(
            f"{name}: query {mark_axes(q.shape, [-1])} and key {mark_axes(k.shape, [-1])} need "
            "one width"
        )
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{name}: key {mark_axes(k.shape, [-2])} and value {mark_axes(v.shape, [-2])} need "
            "one source length"
        )
    if causal and mask is not None:
        raise ArgumentError(
            f"{name}: give attn_mask or is_causal=True, not both",
            fix="put the causal triangle into the mask: mask & tril(ones)",
        )


def _repeated(q: Any, x: Any) -> Any:
    """Heads (axis -3) repeated until there are as many as the query has."""
    heads, own = q.shape[-3], x.shape[-3]
    if heads % own:
        raise ShapeError(
            f"scaled_dot_product_attention: {heads} heads of the query are no multiple of {own}"
        )
    n = heads // own
    lead = x.shape[:-3]
    x = reshape(x, (*lead, own, 1, *x.shape[-2:]))
    x = broadcast_to(x, (*lead, own, n, *x.shape[-2:]))
    return reshape(x, (*lead, heads, *x.shape[-2:]))


def _masked(scores: Any, mask: Any, causal: bool) -> tuple[Any, Any]:
    """Scores with -inf where nothing may be attended, and the rows where all is forbidden."""
    if causal:
        allowed: Any = np.tri(*scores.shape[-2:], dtype=bool)
        allowed.flags.writeable = False  # compiled code relies on it
    elif mask is None:
        return scores, None
    else:
        allowed = operand(mask)
    try:
        np.broadcast_shapes(allowed.shape, scores.shape)
    except ValueError:
        raise ShapeError(
            f"scaled_dot_product_attention: attn_mask {allowed.shape} does not broadcast to the "
            f"scores {scores.shape}"
        ) from None
    if tracing() is not None and isinstance(allowed, Tensor):
        dead = on_arrays(_dead, allowed)
        return where(dead, 0.0, _closed(scores, allowed)), dead
    scores, dead = _closed(scores, allowed), _dead(raw(allowed))
    if not dead.any():
        return scores, None
    return where(dead, 0.0, scores), dead


def _closed(scores: Any, allowed: Any) -> Any:
    if allowed.dtype.kind == "b":
        return where(allowed, scores, -math.inf)
    return scores + (allowed if allowed.dtype == scores.dtype else allowed.astype(scores.dtype))


def _dead(allowed: Any) -> Any:
    """The rows that may attend to nothing."""
    closed = ~allowed if allowed.dtype.kind == "b" else np.equal(allowed, -np.inf)
    return np.logical_and.reduce(np.atleast_1d(closed), axis=-1, keepdims=True)
