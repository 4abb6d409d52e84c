"""Attention that needs less: in tiles with an online softmax, and at linear cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import flag, positive
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.ops.checks import floats, one_of, operand
from fathom.ops.cumulate import cumsum
from fathom.ops.elementwise import exp, maximum, where
from fathom.ops.products import swap
from fathom.ops.reduce import max as max_
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import concatenate, reshape, transpose

__all__ = [
    "LinearAttention",
    "linear_attention",
    "softmax_features",
    "tiled_attention",
]

# -- exact attention in tiles ----------------------------------------------------------------------


def tiled_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    is_causal: bool = False,
    scale: float | None = None,
    block: int = 64,
) -> Tensor:
    """Attention block by block, with a softmax that is put right as it goes on.

    The same values as `scaled_dot_product_attention`, without the (length, source) scores in
    memory at once: FlashAttention (Dao et al., 2022) on the online softmax of Milakov &
    Gimelshein (2018). Tiles that a causal mask closes are never computed.

    >>> import fathom
    >>> q = fathom.randn(2, 100, 8)
    >>> exact = fathom.nn.functional.scaled_dot_product_attention(q, q, q)
    >>> bool(abs(tiled_attention(q, q, q, block=32) - exact).max() < 1e-5)
    True
    """
    q, k, v = operand(query), operand(key), operand(value)
    floats("tiled_attention", q, k, v)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            "tiled_attention: needs (..., length, width), (..., source, width) and "
            f"(..., source, out); received {q.shape}, {k.shape}, {v.shape}"
        )
    size = positive(block, "block", "tiled_attention")
    q = q * (1.0 / math.sqrt(q.shape[-1]) if scale is None else scale)
    tiles = [
        _row_of_tiles(q[..., i : i + size, :], k, v, i if is_causal else None, size)
        for i in range(0, q.shape[-2], size)
    ]
    return concatenate(tiles, -2)


def _row_of_tiles(q: Any, k: Any, v: Any, first: int | None, size: int) -> Any:
    """One block of queries over all blocks of keys; `first` is its position if causal."""
    rows = q.shape[-2]
    end = k.shape[-2] if first is None else min(k.shape[-2], first + rows)
    top: Any = None
    total: Any = None
    out: Any = None
    for j in range(0, end, size):
        keys, values = k[..., j : j + size, :], v[..., j : j + size, :]
        scores = q @ swap(keys)
        if first is not None and j + size > first:
            places = np.arange(first, first + rows)[:, None] >= np.arange(j, j + keys.shape[-2])
            scores = where(places, scores, -math.inf)
        peak = max_(_still(scores), -1, keepdims=True)
        new = peak if top is None else maximum(top, peak)
        share = exp(scores - new)
        if top is None:
            total, out = sum_(share, -1, keepdims=True), share @ values
        else:
            old = exp(top - new)  # what was summed so far, on the new scale
            total = total * old + sum_(share, -1, keepdims=True)
            out = out * old + share @ values
        top = new
    return out / total


def _still(x: Any) -> Any:
    """The value without its history: the result does not depend on the shift."""
    return x.detach() if isinstance(x, Tensor) else x


# -- attention of linear cost ----------------------------------------------------------------------


def linear_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    is_causal: bool = False,
    feature: str = "elu",
    eps: float = 1e-6,
) -> Tensor:
    """phi(q) (phi(k).T v) / (phi(q) sum phi(k)): cost grows with the length, not its square.

    Katharopoulos et al. (2020): the softmax' exponential of a product becomes a product of
    features, phi(x) = elu(x) + 1 ("elu"), relu(x) ("relu") or exp(x) ("exp"). Shapes as for
    `scaled_dot_product_attention`. Equal to softmax attention only approximately.
    """
    q, k, v = operand(query), operand(key), operand(value)
    floats("linear_attention", q, k, v)
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            "linear_attention: needs (..., length, width), (..., source, width) and "
            f"(..., source, out); received {q.shape}, {k.shape}, {v.shape}"
        )
    q, k = _features(q, feature), _features(k, feature)
    return weighted_by_features(q, k, v, is_causal, eps)


def weighted_by_features(
    q: Any, k: Any, v: Any, is_causal: bool = False, eps: float = 1e-6
) -> Tensor:
    """Attention whose weights are products of features q (..., length, m), k (..., source, m)."""
    if not is_causal:
        out = q @ (swap(k) @ v)
        norm = q @ swap(sum_(k, -2, keepdims=True))
        return out / (norm + eps)
    if q.shape[-2] != k.shape[-2]:
        raise ShapeError(
            f"linear_attention: is_causal needs one length; received {mark_axes(q.shape, [-2])} "
            f"and {mark_axes(k.shape, [-2])}"
        )
    outer = reshape(k, (*k.shape, 1)) * reshape(v, (*v.shape[:-1], 1, v.shape[-1]))
    state = cumsum(outer, -3)  # (..., time, m, out): what a recurrent network would carry along
    row = reshape(q, (*q.shape[:-1], 1, q.shape[-1])) @ state
    norm = sum_(q * cumsum(k, -2), -1, keepdims=True)
    return reshape(row, (*q.shape[:-1], v.shape[-1])) / (norm + eps)


def softmax_features(x: TensorLike, directions: TensorLike) -> Tensor:
    """Positive random features whose products average to exp(q . k); (..., m).

    Choromanski et al. (2021, Performer): exp(w . x - |x|^2 / 2) / sqrt(m) for normally
    distributed rows w of `directions` (m, width). Scale q and k by width^-1/4 first.
    """
    a, w = operand(x), operand(directions)
    size = sum_(a * a, -1, keepdims=True) * 0.5
    return exp(a @ swap(w) - size) * (1.0 / math.sqrt(w.shape[0]))


def _features(x: Any, feature: str) -> Any:
    one_of("linear_attention", "feature", feature, ("elu", "relu", "exp"))
    if feature == "relu":
        return F.relu(x)
    if feature == "exp":
        return exp(x)
    negative = where(x > 0, 0.0, x)  # keeps exp from overflowing on the side not taken
    return where(x > 0, x + 1.0, exp(negative))


class LinearAttention(Module):
    """Self-attention of linear cost with several heads: (n, time, embed_dim) -> the same.

    See `linear_attention`; Katharopoulos et al. (2020).

    >>> import fathom
    >>> LinearAttention(8, 2, is_causal=True)(fathom.ones(2, 5, 8)).shape
    (2, 5, 8)
    """

    builds_children = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        is_causal: bool = False,
        feature: str = "elu",
    ) -> None:
        super().__init__()
        self.embed_dim = positive(embed_dim, "embed_dim", "LinearAttention")
        self.num_heads = positive(num_heads, "num_heads", "LinearAttention")
        if self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"LinearAttention: embed_dim {embed_dim} must be a multiple of num_heads "
                f"{num_heads}"
            )
        one_of("LinearAttention", "feature", feature, ("elu", "relu", "exp"))
        self.bias, self.feature = flag(bias, "bias", self), feature
        self.is_causal = flag(is_causal, "is_causal", self)
        self.in_proj = Linear(self.embed_dim, 3 * self.embed_dim, self.bias)
        self.out_proj = Linear(self.embed_dim, self.embed_dim, self.bias)

    def forward(self, x: TensorLike) -> Tensor:
        a = operand(x)
        if a.ndim != 3:
            raise ShapeError(
                f"LinearAttention: needs (n, time, {self.embed_dim}); received {a.shape}"
            )
        n, time, width = a.shape
        whole: Any = reshape(self.in_proj(a), (n, time, 3, self.num_heads, -1))
        q, k, v = (transpose(whole[:, :, i], 1, 2) for i in range(3))
        out = linear_attention(q, k, v, self.is_causal, self.feature)
        return self.out_proj(reshape(transpose(out, 1, 2), (n, time, width)))

    def config(self) -> dict[str, Any]:
        return {
            "embed_dim": self.embed_dim,
            "num_heads": self.num_heads,
            "bias": self.bias,
            "is_causal": self.is_causal,
            "feature": self.feature,
        }
