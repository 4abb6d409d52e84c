"""`rank_collapse`: whether the tokens of a sequence become one and the same on their way up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.recording import Filter, record
from fathom.doctor.probes.running import untouched
from fathom.doctor.table import Result
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor, to_array
from fathom.func import leaves
from fathom.nn.container import ModuleList, Sequential
from fathom.nn.module import Module

COLLAPSED = 0.01  # what tokens differ by, over what they share


@dataclass(frozen=True)
class TokenRow:
    """residual : length of the tokens' differences from their mean, over the length of the
    tokens; 0 if all are the same. cosine : mean similarity of two tokens."""

    name: str
    residual: float
    cosine: float


@dataclass(frozen=True, repr=False)
class RankCollapse(Result):
    """See `rank_collapse`. `collapsed` if the last residual is below 1 % of the first."""

    rows: tuple[TokenRow, ...]
    collapsed: bool

    @property
    def residual(self) -> float:
        """What is left of the differences at the end."""
        return self.rows[-1].residual


def rank_collapse(model: Any, x: Any, only: Filter = None, *, token_axis: int = 1) -> RankCollapse:
    """The distance of tokens from their mean, layer by layer (Dong, Cordonnier & Loukas, 2021).

    Attention takes averages; without a way around it (skip connections, feed-forward layers)
    tokens become equal doubly exponentially with depth.

    model : a list, `nn.ModuleList` or `nn.Sequential` of layers (or functions), of which each
    takes what the last one made; or any model, of which the layers named by `only` are looked at
    (by default all whose output has the shape of x). x : (n, tokens, features).
    token_axis : 0 for (tokens, n, features).

    >>> from fathom.engine.random import Random
    >>> x = Random(0).stream("x").normal((1, 8, 4))
    >>> averaging = lambda a: 0.9 * a.mean(axis=1, keepdims=True) + 0.1 * a
    >>> rank_collapse([averaging] * 3, x).collapsed
    True
    """
    a = to_array(x)
    if a.dtype.kind == "f" and (a.ndim != 3 or token_axis not in (0, 1)):
        raise ShapeError(f"x must be (n, tokens, features), token_axis 0 or 1; received {a.shape}")
    if isinstance(model, Module) and not (isinstance(model, Sequential | ModuleList) and not only):
        found = _inside(model, a, only)
    else:
        found = _stack(model, a)
    if a.dtype.kind == "f":
        found = [("input", a), *found]
    if len(found) < 2:
        raise ArgumentError("no layer puts out tokens", fix="name the layers: only='layers.*'")
    rows = tuple(_measure(name, values, token_axis) for name, values in found)
    return RankCollapse(rows, rows[-1].residual < COLLAPSED * rows[0].residual)


def _stack(layers: Iterable[Any], x: Array) -> list[tuple[str, Array]]:
    """The output of each layer after the other."""
    found: list[tuple[str, Array]] = []
    value: Any = Tensor(x)
    given = list(layers)
    whole = ModuleList([layer for layer in given if isinstance(layer, Module)])
    with untouched(whole, training=False), no_grad():
        for i, layer in enumerate(given):
            value = next(v for v in leaves(layer(value)) if isinstance(v, Tensor))
            found.append((str(i), value.value().copy()))
    return found


def _inside(model: Module, x: Array, only: Filter) -> list[tuple[str, Array]]:
    with untouched(model, training=False), record(model, only) as seen, no_grad():
        model(Tensor(x))
    calls = [(name, call.array) for name, call in seen.items()]
    if only is not None:
        return [(name, a) for name, a in calls if a.ndim == 3]
    return [(name, a) for name, a in calls if a.shape == x.shape]


def _measure(name: str, values: Array, token_axis: int) -> TokenRow:
    tokens = np.moveaxis(values.astype(np.float64), token_axis, 1)  # (n, tokens, features)
    size = float(np.linalg.norm(tokens))
    rest = float(np.linalg.norm(tokens - tokens.mean(axis=1, keepdims=True)))
    lengths = np.linalg.norm(tokens, axis=2, keepdims=True)
    unit = tokens / np.where(lengths > 0, lengths, 1.0)
    count = unit.shape[1]
    sums = np.square(unit.sum(axis=1)).sum(axis=1)  # all pairs of a sequence, and the diagonal
    cosine = float(np.mean((sums - count) / max(count * (count - 1), 1)))
    return TokenRow(name, rest / size if size else 0.0, cosine)


__all__ = ["RankCollapse", "TokenRow", "rank_collapse"]
