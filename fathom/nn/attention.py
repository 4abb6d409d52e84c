"""Attention with many heads (Vaswani et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import flag, positive
from fathom.nn.dropout import probability
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.nn.positional import RotaryEmbedding, alibi_bias
from fathom.ops.attention import _masked as masked_scores
from fathom.ops.checks import floats, operand
from fathom.ops.elementwise import where
from fathom.ops.products import swap
from fathom.ops.reduce import mean
from fathom.ops.shape import broadcast_to, concatenate, reshape, transpose


class KeyValueCache:
    """Keys and values of the tokens an attention has read, (n, heads, length, head_dim).

    What a causal attention computed for a token does not change with the tokens behind it, so
    one more token costs one row. The memory doubles when it is full.
    """

    def __init__(self) -> None:
        self.length = 0
        self._store: Any = None  # keys and values, (2, n, heads, room, head_dim)

    def extend(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append those of new tokens; returns all there are."""
        new = keys.shape[-2]
        if keys.requires_grad or values.requires_grad:
            raise ArgumentError(
                "KeyValueCache: gradients do not pass through stored keys and values",
                fix="with fathom.no_grad(): ...",
            )
        self._make_room(keys, self.length + new)
        for store, given in zip(self._store, (keys, values), strict=True):
            store[..., self.length : self.length + new, :] = given.value()
        self.length += new
        keys, values = (Tensor(store[..., : self.length, :]) for store in self._store)
        return keys, values

    def _make_room(self, keys: Any, length: int) -> None:
        old = self._store
        n, heads, _, width = keys.shape
        if old is not None and old.shape[1] != n:
            raise ShapeError(f"KeyValueCache: holds a batch of {old.shape[1]}; received one of {n}")
        if old is None or old.shape[3] < length:
            self._store = np.empty((2, n, heads, max(2 * length, 16), width), keys.dtype)
            if old is not None:
                self._store[..., : self.length, :] = old[..., : self.length, :]


@contextmanager
def key_value_cache(model: Module) -> Iterator[list[KeyValueCache]]:
    """Inside, every self-attention of `model` remembers the tokens it has read.

    Each call then takes the tokens that are new only, and its causal mask and its rotary or
    ALiBi positions go on where the last call ended; positions that are added to the input take
    an `offset`. Not for training. Yields the caches, one an attention; they are gone behind it.

    >>> import fathom
    >>> layer, x = MultiheadAttention(8, 2, batch_first=True, rotary=True), fathom.randn(1, 5, 8)
    >>> with fathom.no_grad(), key_value_cache(layer):
    ...     parts = [layer(t, t, t, is_causal=True)[0] for t in (x[:, :3], x[:, 3:])]
    >>> whole = layer(x, x, x, is_causal=True)[0]
    >>> bool(abs(fathom.concatenate(parts, 1) - whole).max() < 1e-6)
    True
    """
    attentions = [layer for layer in model.modules() if isinstance(layer, MultiheadAttention)]
    before = [layer.cache for layer in attentions]
    caches = [KeyValueCache() for _ in attentions]
    try:
        for layer, cache in zip(attentions, caches, strict=True):
            layer.cache = cache
        yield caches
    finally:
        for layer, old in zip(attentions, before, strict=True):
            layer.cache = old


class MultiheadAttention(Module):
    """Attention in several subspaces at once (Vaswani et al., 2017), as `torch.nn`'s.

    query (length, n, embed_dim), key (source, n, kdim), value (source, n, vdim), or with the
    batch first, or without one. Returns the output, as the query, and the attention weights
    (n, length, source), per head (n, heads, length, source) with `average_attn_weights=False`,
    or None with `need_weights=False`.

    key_padding_mask : (n, source), True where a key is to be ignored; or floats to be added.
    attn_mask : (length, source) or (n * heads, length, source), True where a query may *not*
        attend (PyTorch's convention here); or floats to be added to the scores.
    is_causal : a position attends to itself and those before it; needs no mask besides.
    rotary, alibi : positions by rotation of queries and keys, or by a bias that falls with the
        distance.

    A query that may attend to nothing gets zeros (PyTorch: nan).

    >>> import fathom
    >>> x = fathom.ones(2, 5, 8)
    >>> out, weights = MultiheadAttention(8, 2, batch_first=True)(x, x, x, is_causal=True)
    >>> out.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    builds_children = True
    cache: KeyValueCache | None = None  # set by `key_value_cache`

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        rotary: bool = False,
        alibi: bool = False,
    ) -> None:
        super().__init__()
        kind = "MultiheadAttention"
        self.embed_dim = positive(embed_dim, "embed_dim", kind)
        self.num_heads = positive(num_heads, "num_heads", kind)
        if self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"{kind}: embed_dim {embed_dim} must be a multiple of num_heads {num_heads}"
            )
        self.head_dim = self.embed_dim // self.num_heads
        self.dropout = probability(dropout, kind, "dropout")
        self.bias = flag(bias, "bias", kind)
        self.add_zero_attn = flag(add_zero_attn, "add_zero_attn", kind)
        self.batch_first = flag(batch_first, "batch_first", kind)
        flag(rotary, "rotary", kind)
        self.kdim = self.embed_dim if kdim is None else positive(kdim, "kdim", kind)
        self.vdim = self.embed_dim if vdim is None else positive(vdim, "vdim", kind)
        self.alibi = flag(alibi, "alibi", kind)
        self._make_parameters(flag(add_bias_kv, "add_bias_kv", kind))
        self.rotary = RotaryEmbedding(self.head_dim) if rotary else None

    @property
    def _one_width(self) -> bool:
        return self.kdim == self.vdim == self.embed_dim

    def _make_parameters(self, add_bias_kv: bool) -> None:
        width = self.embed_dim

        def matrix(rows: int, columns: int) -> Parameter:
            weight = Parameter(np.empty((rows, columns), np.float32))
            init.xavier_uniform_(weight)
            return weight

        if self._one_width:
            self.in_proj_weight = matrix(3 * width, width)
        else:
            self.q_proj_weight = matrix(width, width)
            self.k_proj_weight = matrix(width, self.kdim)
            self.v_proj_weight = matrix(width, self.vdim)
        bias = Parameter(np.zeros(3 * width, np.float32)) if self.bias else None
        self.register_parameter("in_proj_bias", bias)
        self.out_proj = Linear(width, width, self.bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        for name in ("bias_k", "bias_v"):
            extra = Parameter(np.empty((1, 1, width), np.float32)) if add_bias_kv else None
            if extra is not None:
                init.normal_(extra, 0.0, math.sqrt(2.0 / (2 * width)))
            self.register_parameter(name, extra)

    def config(self) -> dict[str, Any]:
        return {
            "embed_dim": self.embed_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "bias": self.bias,
            "add_bias_kv": self.bias_k is not None,
            "add_zero_attn": self.add_zero_attn,
            "kdim": self.kdim,
            "vdim": self.vdim,
            "batch_first": self.batch_first,
            "rotary": self.rotary is not None,
            "alibi": self.alibi,
        }

    # -- forward ------------------------------------------------------------------------

    def forward(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        given = tuple(operand(x) for x in (query, key, value))
        single = self._check(*given)
        n = 1 if single else given[0].shape[0 if self.batch_first else 1]
        distinct = self._distinct(given)
        cache = self.cache if len(distinct) == 1 else None  # other attention reads what it is given
        read = 0 if cache is None else cache.length
        q, k, v = self._project(*(self._batched(x, single) for x in distinct), read=read)
        if cache is not None:
            k, v = cache.extend(k, v)
        length = q.shape[-2]
        k, v, extra = self._more_keys(k, v, n)
        shape = (n, length, k.shape[-2])
        mask = self._mask(attn_mask, key_padding_mask, is_causal, shape, extra, read)
        if mask is not None and mask.dtype.kind == "f":
            mask = mask.astype(q.dtype)
        dropout = self.dropout if self.training else 0.0
        weights: Any = None
        if need_weights:
            out, weights = _weighted(q, k, v, mask, dropout)
            if average_attn_weights:
                weights = mean(weights, 1)
            if single:
                weights = weights[0]
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(reshape(transpose(out, 1, 2), (n, length, self.embed_dim)))
        if single:
            return out[0], weights
        return (out if self.batch_first else transpose(out, 0, 1)), weights

    def _check(self, q: Any, k: Any, v: Any) -> bool:
        """The shapes; True if there is no batch axis."""
        kind = "MultiheadAttention"
        floats(kind, q, k, v)
        if not q.ndim == k.ndim == v.ndim or q.ndim not in (2, 3):
            raise ShapeError(
                f"{kind}: query, key and value have 3 axes each, or 2 without a batch; received "
                f"{q.shape}, {k.shape}, {v.shape}"
            )
        widths = (self.embed_dim, self.kdim, self.vdim)
        for name, x, width in zip(("query", "key", "value"), (q, k, v), widths, strict=True):
            if x.shape[-1] != width:
                raise ShapeError(
                    f"{kind}: the {name} must be {width} wide; received {mark_axes(x.shape, [-1])}"
                )
        time = 0 if q.ndim == 2 or not self.batch_first else 1
        if k.shape[:-1] != v.shape[:-1]:
            raise ShapeError(
                f"{kind}: key {mark_axes(k.shape, range(k.ndim - 1))} and value "
                f"{mark_axes(v.shape, range(v.ndim - 1))} need one length and batch"
            )
        if q.ndim == 3 and q.shape[1 - time] != k.shape[1 - time]:
            raise ShapeError(
                f"{kind}: query {mark_axes(q.shape, [1 - time])} and key "
                f"{mark_axes(k.shape, [1 - time])} need one batch size"
            )
        return bool(q.ndim == 2)

    def _distinct(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Self-attention: one input, so that its projections are one product."""
        q, k, v = given
        return (q,) if q is k and k is v and self._one_width else given

    def _batched(self, x: Any, single: bool) -> Any:
        """(n, time, width)."""
        if single:
            return reshape(x, (1, *x.shape))
        return x if self.batch_first else transpose(x, 0, 1)

    def _project(self, *given: Any, read: int = 0) -> list[Any]:
        """Queries, keys and values by head, (n, heads, time, head_dim), behind `read` tokens."""
        e, bias = self.embed_dim, self.in_proj_bias
        if len(given) == 1:
            whole = F.linear(given[0], self.in_proj_weight, bias)
            parts = [whole[..., i * e : (i + 1) * e] for i in range(3)]
        else:
            if self._one_width:
                weights = [self.in_proj_weight[i * e : (i + 1) * e] for i in range(3)]
            else:
                weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
            shifts = [None if bias is None else bias[i * e : (i + 1) * e] for i in range(3)]
            parts = [F.linear(x, w, b) for x, w, b in zip(given, weights, shifts, strict=True)]
        heads = [self._split(p) for p in parts]
        if self.rotary is not None:
            heads[:2] = [self.rotary(h, read) for h in heads[:2]]
        return heads

    def _split(self, x: Any) -> Any:
        n, time, _ = x.shape
        return transpose(reshape(x, (n, time, self.num_heads, self.head_dim)), 1, 2)

    def _more_keys(self, k: Any, v: Any, n: int) -> tuple[Any, Any, int]:
        """The learned key and the key of zeros at the end, where asked for; how many."""
        before = k.shape[-2]
        if self.bias_k is not None:
            more = [broadcast_to(b, (n, 1, self.embed_dim)) for b in (self.bias_k, self.bias_v)]
            k, v = (concatenate([x, self._split(m)], -2) for x, m in zip((k, v), more, strict=True))
        if self.add_zero_attn:
            zero = Tensor(np.zeros((n, self.num_heads, 1, self.head_dim), k.dtype))
            k, v = concatenate([k, zero], -2), concatenate([v, zero], -2)
        return k, v, k.shape[-2] - before

    def _mask(
        self,
        attn: Any,
        padding: Any,
        causal: bool,
        shape: tuple[int, int, int],
        extra: int,
        read: int = 0,
    ) -> Any:
        """One mask in the convention of the function: True may attend, floats are added."""
        n, length, total = shape
        source = total - extra
        masks = []
        if causal and attn is None:
            masks.append(np.tri(length, source, read, dtype=bool))
        if attn is not None:
            masks.append(self._attention_mask(operand(attn), n, length, source))
        if padding is not None:
            p = operand(padding)
            wanted = (n, source)
            if p.shape != wanted and not (n == 1 and p.shape == (source,)):
                raise ShapeError(
                    f"MultiheadAttention: key_padding_mask must have shape {wanted}; received "
                    f"{p.shape}"
                )
            p = reshape(p, (n, 1, 1, source))
            masks.append(_allowed(p))
        masks = [_widened(m, extra) for m in masks]
        if self.alibi:
            bias = alibi_bias(self.num_heads, length, source).astype(np.float32)
            masks.append(_widened(bias, extra))
        return _combined(masks)

    def _attention_mask(self, mask: Any, n: int, length: int, source: int) -> Any:
        if mask.shape == (length, source):
            return _allowed(mask)
        if mask.shape == (n * self.num_heads, length, source):
            return _allowed(reshape(mask, (n, self.num_heads, length, source)))
        raise ShapeError(
            f"MultiheadAttention: attn_mask must have shape {(length, source)} or "
            f"{(n * self.num_heads, length, source)}; received {mask.shape}"
        )


def _allowed(mask: Any) -> Any:
    """From True for closed to True for open; floats as they are."""
    if mask.dtype.kind == "b":
        return ~mask
    floats("MultiheadAttention", mask)
    return mask


def _widened(mask: Any, extra: int) -> Any:
    """Open for the keys added at the end."""
    if not extra:
        return mask
    fill = np.full((*mask.shape[:-1], extra), mask.dtype.kind == "b", mask.dtype)
    return concatenate([mask, fill], -1)


def _combined(masks: list[Any]) -> Any:
    """All masks as one: booleans if all are, else floats."""
    total: Any = None
    for mask in masks:
        if total is None:
            total = mask
        elif total.dtype.kind == mask.dtype.kind == "b":
            total = total & mask
        else:
            total = _as_floats(total) + _as_floats(mask)
    return total


def _as_floats(mask: Any) -> Any:
    return where(mask, 0.0, -math.inf) if mask.dtype.kind == "b" else mask


def _weighted(q: Any, k: Any, v: Any, mask: Any, dropout: float) -> tuple[Any, Any]:
    """Output and weights, where the weights are asked for."""
    scores: Any = (q * (1.0 / math.sqrt(q.shape[-1]))) @ swap(k)
    scores, dead = masked_scores(scores, mask, False)
    weights: Any = F.softmax(scores, -1)
    if dead is not None:
        weights = where(dead, 0.0, weights)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights @ v, weights
