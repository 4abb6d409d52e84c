"""Products of vectors, matrices and tensors, all of them made of one: `matmul`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import all_axes, one_axis, torch_names
from fathom.ops.checks import need_axes, need_square, operand
from fathom.ops.elementwise import mul
from fathom.ops.linalg import matmul
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import concatenate, permute, reshape, transpose

__all__ = [
    "addmm",
    "baddbmm",
    "bmm",
    "cross",
    "dot",
    "inner",
    "kron",
    "matrix_power",
    "mm",
    "multi_dot",
    "mv",
    "outer",
    "tensordot",
    "vdot",
    "vecdot",
]


def _same_length(name: str, x: Any, y: Any, i: int, j: int) -> None:
    if x.shape[i] != y.shape[j]:
        left, right = mark_axes(x.shape, [i]), mark_axes(y.shape, [j])
        raise ShapeError(f"{name}: {left} and {right}: {x.shape[i]} meets {y.shape[j]}")


def dot(x: TensorLike, y: TensorLike) -> Tensor:
    """The sum of x * y for two vectors: (n,), (n,) -> ().

    >>> import fathom
    >>> fathom.dot(fathom.tensor([1.0, 2.0]), fathom.tensor([3.0, 4.0]))
    tensor(11.)
    """
    a, b = operand(x), operand(y)
    need_axes("dot", "the left", a, (1,), "(n,)")
    need_axes("dot", "the right", b, (1,), "(n,)")
    _same_length("dot", a, b, 0, 0)
    return matmul(a, b)


vdot = dot  # of real numbers, which have no imaginary part to conjugate


@torch_names
def vecdot(x: TensorLike, y: TensorLike, axis: int = -1) -> Tensor:
    """Dot products along one axis of two arrays that broadcast."""
    product: Any = mul(operand(x), operand(y))
    return sum_(product, one_axis(axis, product.ndim, "vecdot"))


def inner(x: TensorLike, y: TensorLike) -> Tensor:
    """Sums of products over the last axes: (..., n), (***, n) -> (..., ***)."""
    a, b = operand(x), operand(y)
    if not a.ndim or not b.ndim:
        return mul(a, b)
    _same_length("inner", a, b, -1, -1)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


def outer(x: TensorLike, y: TensorLike) -> Tensor:
    """Every product of an element of x and one of y: (n,), (m,) -> (n, m)."""
    a, b = operand(x), operand(y)
    need_axes("outer", "the left", a, (1,), "(n,)")
    need_axes("outer", "the right", b, (1,), "(m,)")
    return mul(reshape(a, (a.shape[0], 1)), b)


def mm(x: TensorLike, y: TensorLike) -> Tensor:
    """The product of two matrices, (n, k) @ (k, m); nothing is broadcast."""
    a, b = operand(x), operand(y)
    need_axes("mm", "the left", a, (2,), "(n, k)")
    need_axes("mm", "the right", b, (2,), "(k, m)")
    return matmul(a, b)


def mv(x: TensorLike, y: TensorLike) -> Tensor:
    """The product of a matrix and a vector, (n, k) @ (k,)."""
    a, b = operand(x), operand(y)
    need_axes("mv", "the matrix", a, (2,), "(n, k)")
    need_axes("mv", "the vector", b, (1,), "(k,)")
    return matmul(a, b)


def bmm(x: TensorLike, y: TensorLike) -> Tensor:
    """Products of as many matrices on both sides: (b, n, k), (b, k, m) -> (b, n, m)."""
    a, b = operand(x), operand(y)
    need_axes("bmm", "the left", a, (3,), "(b, n, k)")
    need_axes("bmm", "the right", b, (3,), "(b, k, m)")
    _same_length("bmm", a, b, 0, 0)
    return matmul(a, b)


def addmm(
    input: TensorLike, mat1: TensorLike, mat2: TensorLike, beta: float = 1.0, alpha: float = 1.0
) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
    return _added(input, mm(mat1, mat2), beta, alpha)


def baddbmm(
    input: TensorLike,
    batch1: TensorLike,
    batch2: TensorLike,
    *,
    beta: float = 1.0,
    alpha: float = 1.0,
) -> Tensor:
    """beta * input + alpha * (batch1 @ batch2), for batches of matrices."""
    return _added(input, bmm(batch1, batch2), beta, alpha)


def _added(input: Any, product: Any, beta: float, alpha: float) -> Any:
    if alpha != 1:
        product = product * alpha
    if beta == 0:  # what stands in `input` does not matter then, not even nan
        return product
    return product + (operand(input) if beta == 1 else operand(input) * beta)


def _contracted(x: Any, y: Any, dims: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of both sides that are summed over."""
    if hasattr(dims, "__index__"):
        n = dims.__index__()
        if not 0 <= n <= min(x.ndim, y.ndim):
            raise ArgumentError(
                f"tensordot: dims={n} axes of {x.shape} and {y.shape} cannot be summed over"
            )
        return tuple(range(x.ndim - n, x.ndim)), tuple(range(n))
    left, right = ((d,) if hasattr(d, "__index__") else tuple(d) for d in dims)
    a, b = all_axes(left, x.ndim, "tensordot"), all_axes(right, y.ndim, "tensordot")
    if len(a) != len(b):
        raise ArgumentError(f"tensordot: dims {dims} names {len(a)} axes and {len(b)} axes")
    return a, b


def tensordot(x: TensorLike, y: TensorLike, dims: Any = 2) -> Tensor:
    """Sums of products over several axes.

    `dims` is a number (the last axes of x with the first of y) or two lists of axes.

    >>> import fathom
    >>> fathom.tensordot(fathom.ones(2, 3, 4), fathom.ones(3, 4, 5)).shape
    (2, 5)
    """
    a, b = operand(x), operand(y)
    left, right = _contracted(a, b, dims)
    for i, j in zip(left, right, strict=True):
        _same_length("tensordot", a, b, i, j)
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [j for j in range(b.ndim) if j not in right]
    n, m = [a.shape[i] for i in rows], [b.shape[j] for j in columns]
    k = math.prod(a.shape[i] for i in left)
    a = reshape(permute(a, (*rows, *left)), (math.prod(n), k))
    b = reshape(permute(b, (*right, *columns)), (k, math.prod(m)))
    return reshape(matmul(a, b), (*n, *m))


def kron(x: TensorLike, y: TensorLike) -> Tensor:
    """The Kronecker product: every element of x times the whole of y, as blocks."""
    a, b = operand(x), operand(y)
    rank = max(a.ndim, b.ndim)
    n, m = ((1,) * (rank - v.ndim) + tuple(v.shape) for v in (a, b))
    a = reshape(a, tuple(s for size in n for s in (size, 1)))
    b = reshape(b, tuple(s for size in m for s in (1, size)))
    return reshape(mul(a, b), tuple(i * j for i, j in zip(n, m, strict=True)))


@torch_names
def cross(x: TensorLike, y: TensorLike, axis: int = -1) -> Tensor:
    """The vector product in three dimensions; `axis` holds the three components."""
    a, b = operand(x), operand(y)
    rank = max(a.ndim, b.ndim)
    where = one_axis(axis, rank, "cross") - rank
    for v in (a, b):
        if v.ndim < -where or v.shape[where] != 3:
            raise ShapeError(f"cross: axis {axis} must have size 3; received shape {v.shape}")

    def turned(v: Any, k: int) -> Any:
        """Components k, k+1, k+2 (counted in circles)."""
        at = v.ndim + where
        cut = [(slice(None),) * at + (slice(i, i + 1),) for i in (k % 3, (k + 1) % 3, (k + 2) % 3)]
        return concatenate([v[c] for c in cut], at)

    return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)


def multi_dot(tensors: Sequence[TensorLike]) -> Tensor:
    """The product of several matrices in the cheapest order; the ends may be vectors."""
    parts = [operand(t) for t in tensors]
    if len(parts) < 2:
        raise ArgumentError(f"multi_dot: needs at least two matrices; received {len(parts)}")
    while len(parts) > 2:  # take the inner axis that vanishes to greatest effect: the largest
        sizes = [p.shape[0] for p in parts[1:]]
        i = sizes.index(max(sizes))
        if parts[i].ndim == 1 and parts[i + 1].ndim == 1:
            raise ShapeError("multi_dot: only the first and the last may be vectors")
        parts[i : i + 2] = [matmul(parts[i], parts[i + 1])]
    return matmul(parts[0], parts[1])


def matrix_power(x: TensorLike, n: int) -> Tensor:
    """x multiplied with itself n times, by repeated squaring; n < 0 takes the inverse.

    >>> import fathom
    >>> fathom.linalg.matrix_power(fathom.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    from fathom.ops.solve import inv
    from fathom.ops.triangle import eye_like

    a: Any = operand(x)
    need_square("matrix_power", a)
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise ArgumentError(f"matrix_power: the power is a whole number; received {n!r}")
    if n < 0:
        a, n = inv(a), -n
    result: Any = None
    while n:
        if n & 1:
            result = a if result is None else matmul(result, a)
        n >>= 1
        if n:
            a = matmul(a, a)
    return eye_like(a) if result is None else result


def swap(x: Any) -> Any:
    """The last two axes swapped."""
    return transpose(x, -1, -2)
