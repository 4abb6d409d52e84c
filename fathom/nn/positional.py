"""Where a token stands: sinusoidal, learned and rotary positions, and linear biases (ALiBi)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import alike, flag, floating, number, positive
from fathom.nn.dropout import probability
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.shape import concatenate, reshape, stack


def sinusoids(length: int, width: int, base: float = 10000.0) -> Any:
    """Sines and cosines of the positions 0 ... length-1, (length, width) float64.

    Even columns 2i are sin(p / base^(2i/width)), odd ones the cosine. Vaswani et al. (2017).

    >>> sinusoids(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    angles = np.arange(length)[:, None] * base ** (-np.arange(0, width, 2) / width)
    table = np.empty((length, width))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : width // 2])
    return table


def alibi_slopes(heads: int) -> Any:
    """One slope a head: 2^(-8/heads), 2^(-16/heads), ... (Press, Smith & Lewis, 2022).

    For a number of heads that is no power of two, every second slope of the next power fills up.

    >>> alibi_slopes(8)[:2].tolist()
    [0.5, 0.25]
    """
    power = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
    if power < heads:
        more = 2.0 ** (-4.0 / power * np.arange(1, 2 * (heads - power), 2))
        slopes = np.concatenate([slopes, more])
    return slopes


def alibi_bias(heads: int, length: int, source: int | None = None) -> Any:
    """-slope * distance, (heads, length, source): added to attention scores."""
    source = length if source is None else source
    distance = np.abs(np.arange(length)[:, None] + (source - length) - np.arange(source))
    return -alibi_slopes(heads)[:, None, None] * distance


class _Added(Module):
    """What the two kinds share that are added to the input."""

    def __init__(self, d_model: int, max_len: int, dropout: float, batch_first: bool) -> None:
        super().__init__()
        kind = type(self).__name__
        self.d_model = positive(d_model, "d_model", kind)
        self.max_len = positive(max_len, "max_len", kind)
        self.dropout = probability(dropout, kind, "dropout")
        self.batch_first = flag(batch_first, "batch_first", kind)

    def _table(self) -> Any:
        raise NotImplementedError

    def forward(self, x: TensorLike, offset: int = 0) -> Tensor:
        a: Any = alike(self, x, self._table())
        kind, axis = type(self).__name__, -2 if self.batch_first else 0
        if a.ndim not in (2, 3) or a.shape[-1] != self.d_model:
            marked = mark_axes(a.shape, [-1]) if a.ndim else "()"
            raise ShapeError(f"{kind}: needs (..., {self.d_model}); received {marked}")
        time = a.shape[axis]
        if offset < 0 or offset + time > self.max_len:
            raise ShapeError(
                f"{kind}: positions {offset} to {offset + time - 1} of {mark_axes(a.shape, [axis])}"
                f" do not fit max_len {self.max_len}",
                fix="make max_len larger, or cut the sequence",
            )
        rows = self._table()[offset : offset + time]
        if a.ndim == 3 and not self.batch_first:
            rows = reshape(rows, (time, 1, self.d_model))
        return F.dropout(a + rows, self.dropout, self.training)

    def config(self) -> dict[str, Any]:
        return {
            "d_model": self.d_model,
            "max_len": self.max_len,
            "dropout": self.dropout,
            "batch_first": self.batch_first,
        }


class SinusoidalPositionalEncoding(_Added):
    """x plus sines and cosines of its positions: (n, time, d_model) -> the same.

    Vaswani et al. (2017). Nothing is learned, and any two positions k apart differ by the same
    rotation. `offset` is the position of the first token. (time, n, d_model) with
    `batch_first=False`.

    >>> import fathom
    >>> SinusoidalPositionalEncoding(6)(fathom.zeros(2, 5, 6)).shape
    (2, 5, 6)
    """

    def __init__(
        self, d_model: int, max_len: int = 5000, dropout: float = 0.0, batch_first: bool = True
    ) -> None:
        super().__init__(d_model, max_len, dropout, batch_first)
        table = Tensor(sinusoids(self.max_len, self.d_model).astype(np.float32))
        self.register_buffer("pe", table, persistent=False)

    def _table(self) -> Any:
        return self.pe


class LearnedPositionalEncoding(_Added):
    """x plus a learned vector for each position: (n, time, d_model) -> the same.

    >>> import fathom
    >>> LearnedPositionalEncoding(6, max_len=16)(fathom.zeros(2, 5, 6)).shape
    (2, 5, 6)
    """

    def __init__(
        self, d_model: int, max_len: int = 512, dropout: float = 0.0, batch_first: bool = True
    ) -> None:
        super().__init__(d_model, max_len, dropout, batch_first)
        self.weight = Parameter(np.empty((self.max_len, self.d_model), np.float32))
        init.normal_(self.weight, 0.0, 0.02)

    def _table(self) -> Any:
        return self.weight


class RotaryEmbedding(Module):
    """Pairs of features turned by an angle that grows with the position: (..., time, dim).

    Su et al. (2021): after it, the product of a query and a key depends on their distance only.
    Pairs are (i, i + dim/2), as in most of today's models; `interleaved` pairs (2i, 2i + 1), as
    in the paper.

    >>> import fathom
    >>> RotaryEmbedding(4)(fathom.ones(2, 5, 4)).shape
    (2, 5, 4)
    """

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        self.dim = positive(dim, "dim", "RotaryEmbedding")
        if self.dim % 2:
            raise ArgumentError(f"RotaryEmbedding: dim must be even, for pairs; received {dim}")
        self.base = number(base, "base", self, 0.0, above=True)
        self.interleaved = flag(interleaved, "interleaved", self)

    def forward(self, x: TensorLike, offset: int = 0) -> Tensor:
        a: Any = floating(self, x)
        if a.ndim < 2 or a.shape[-1] != self.dim:
            marked = mark_axes(a.shape, [-1]) if a.ndim else "()"
            raise ShapeError(f"RotaryEmbedding: needs (..., time, {self.dim}); received {marked}")
        half = self.dim // 2
        speed = self.base ** (-np.arange(half) / half)
        angles = (np.arange(a.shape[-2]) + offset)[:, None] * speed
        if self.interleaved:
            angles = np.repeat(angles, 2, axis=-1)
            turned: Any = stack([-a[..., 1::2], a[..., 0::2]], -1)
            turned = reshape(turned, a.shape)
        else:
            angles = np.concatenate([angles, angles], axis=-1)
            turned = concatenate([-a[..., half:], a[..., :half]], -1)
        return a * np.cos(angles).astype(a.dtype) + turned * np.sin(angles).astype(a.dtype)

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim, "base": self.base, "interleaved": self.interleaved}
