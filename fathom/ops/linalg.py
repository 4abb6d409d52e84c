"""Linear algebra: products of matrices and vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ShapeError, mark_axes
from fathom.engine.primitive import apply, general, linear
from fathom.engine.tape import sum_to
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.shape import broadcast_to, reshape, transpose

__all__ = [
    "affine",
    "matmul",
]


def matmul_shape(x: Any, y: Any) -> tuple[int, ...]:
    """The shape of x @ y; an error marks the axes that clash."""
    if not x.ndim or not y.ndim:
        raise ShapeError(
            f"matmul: needs at least one axis on both sides; received {x.shape} @ {y.shape}",
            fix="multiply by a single number with *",
        )
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != inner:
        left, right = mark_axes(x.shape, [-1]), mark_axes(y.shape, [-2 if y.ndim > 1 else 0])
        fix = "the last axis of the left must equal the last but one of the right"
        if y.ndim == 2 and x.shape[-1] == y.shape[-1]:
            fix += "; transposing the right fits: x @ y.T"
        elif x.ndim == 2 and x.shape[0] == inner:
            fix += "; transposing the left fits: x.T @ y"
        raise ShapeError(f"matmul: {left} @ {right}: {x.shape[-1]} meets {inner}", fix=fix)
    try:
        lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"matmul: the leading axes of {x.shape} and {y.shape} do not broadcast"
        ) from None
    rows = x.shape[-2:-1] if x.ndim > 1 else ()
    columns = y.shape[-1:] if y.ndim > 1 else ()
    return (*lead, *rows, *columns)


def _left(g: Any, out: Any, x: Any, y: Any) -> Any:
    """d/dx of x @ y: g @ y.T, with vectors treated as one row or column."""
    if y.ndim == 1:
        dx = reshape(g, (*g.shape, 1)) * y
    elif x.ndim == 1:
        dx = matmul(reshape(g, (*g.shape[:-1], 1, g.shape[-1])), transpose(y, -1, -2))
        dx = reshape(dx, (*dx.shape[:-2], dx.shape[-1]))
    else:
        dx = matmul(g, transpose(y, -1, -2))
    return dx if dx.shape == x.shape else sum_to(dx, x.shape)


def _right(g: Any, out: Any, x: Any, y: Any) -> Any:
    """d/dy of x @ y: x.T @ g."""
    if x.ndim == 1:
        dy = (
            x * reshape(g, (*g.shape, 1))
            if y.ndim == 1
            else reshape(x, (-1, 1)) * reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
        )
    elif y.ndim == 1:
        dy = matmul(transpose(x, -1, -2), reshape(g, (*g.shape, 1)))
        dy = reshape(dy, dy.shape[:-1])
    else:
        dy = matmul(transpose(x, -1, -2), g)
    return dy if dy.shape == y.shape else sum_to(dy, y.shape)


def _matmul_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    """Vectors become one row or column, so that the batch axis only ever leads."""
    (x, y), (fx, fy) = values, flags
    row, column = x.ndim - fx == 1, y.ndim - fy == 1
    if row:
        x = reshape(x, (*x.shape[:-1], 1, x.shape[-1]))
    if column:
        y = reshape(y, (*y.shape, 1))
    rank = max(x.ndim - fx, y.ndim - fy)
    x, y = (lead(v, f, rank) for v, f in ((x, fx), (y, fy)))
    out = matmul(x, y)
    shape = list(out.shape)
    if column:
        del shape[-1]
    if row:
        del shape[-1 if column else -2]
    return reshape(out, shape)


def lead(value: Any, batched: bool, rank: int) -> Any:
    """A batched value with ones behind its batch axis, so that its row has `rank` axes."""
    missing = rank - (value.ndim - 1)
    if not batched or missing <= 0:
        return value
    return reshape(value, (value.shape[0], *(1,) * missing, *value.shape[1:]))


def _linear_batch(values: Any, flags: Any, params: Any, size: int) -> Any:
    """Batched rows of one layer, or a layer of its own for each row."""
    (x, weight, bias), (fx, fw, fb) = values, flags
    if not fw and not fb:
        return affine(x, weight, bias)
    rank = x.ndim - fx
    rows = reshape(x, (size if fx else 1, -1, x.shape[-1]))
    out = matmul(rows, transpose(weight if fw else reshape(weight, (1, *weight.shape)), -1, -2))
    out = out + (reshape(bias, (size, 1, -1)) if fb else bias)
    return reshape(out, (size, *x.shape[fx : fx + rank - 1], out.shape[-1]))


def _matmul_cost(x: tuple[int, ...], y: tuple[int, ...]) -> int:
    """Multiply-adds of x @ y, from the shapes."""
    rows = math.prod(matmul_shape(np.empty(x), np.empty(y)))
    return rows * x[-1]


_matmul = linear(
    "matmul", np.matmul, (_left, _right), saves="other", shape=matmul_shape, cost=_matmul_cost,
    batch=_matmul_batch,
)  # fmt: skip


def matmul(x: TensorLike, y: TensorLike) -> Tensor:
    """Matrix product x @ y: (..., n, k) @ (..., k, m) -> (..., n, m); vectors as in NumPy.

    Raises `ShapeError` when the inner axes differ.
    """
    return apply(_matmul, x, y)


def _linear_shape(x: Any, weight: Any, *bias: Any) -> tuple[int, ...]:
    out_features, in_features = weight.shape
    if not x.ndim or x.shape[-1] != in_features:
        got = x.shape[-1] if x.ndim else "a single number"
        fix = f"the last axis of the input must be {in_features}"
        if x.ndim > 2 and np.prod(x.shape[1:]) == in_features:
            fix = "flatten the input first: x.reshape(len(x), -1), or put nn.Flatten() in front"
        raise ShapeError(
            f"linear: expected {in_features} features, received {got} "
            f"(input {mark_axes(x.shape, [-1])}, weight {mark_axes(weight.shape, [-1])})",
            fix=fix,
        )
    return (*x.shape[:-1], out_features)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    if x.shape[-1:] != weight.shape[1:]:
        _linear_shape(x, weight)
    out = np.matmul(x, weight.T)
    out += bias
    return out


def _weight_vjp(g: Any, out: Any, x: Any, weight: Any, bias: Any) -> Any:
    if len(g.shape) > 2:
        g, x = reshape(g, (-1, g.shape[-1])), reshape(x, (-1, x.shape[-1]))
    elif len(g.shape) == 1:
        g, x = reshape(g, (1, -1)), reshape(x, (1, -1))
    return matmul(transpose(g, 0, 1), x)


_linear = general(
    "linear",
    _affine,
    vjp=(
        lambda g, out, x, weight, bias: matmul(g, weight),
        _weight_vjp,
        lambda g, out, x, weight, bias: sum_to(g, bias.shape),
    ),
    jvp=(
        lambda t, out, x, weight, bias: matmul(t, transpose(weight, 0, 1)),
        lambda t, out, x, weight, bias: matmul(x, transpose(t, 0, 1)),
        lambda t, out, x, weight, bias: broadcast_to(t, out.shape),
    ),
    saves="other",
    shape=_linear_shape,
    batch=_linear_batch,
    cost=lambda x, weight, bias: math.prod(x) * weight[0],
)


def affine(x: TensorLike, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias as one operation: (..., in), (out, in), (out,) -> (..., out)."""
    if bias is None:
        if (
            np.shape(x)[-1:] != weight.shape[1:]
            if not isinstance(x, Tensor)
            else (x.shape[-1:] != weight.shape[1:])
        ):
            _linear_shape(x if isinstance(x, (Tensor, np.ndarray)) else Tensor(x), weight)
        return matmul(x, transpose(weight, 0, 1))
    return apply(_linear, x, weight, bias)
