"""The exponential of a matrix, and linear systems of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import all_axes, operand, whole
from fathom.ops.checks import floats, need_square, raw
from fathom.ops.linalg import matmul
from fathom.ops.shape import permute, reshape
from fathom.ops.solve import inv, solve
from fathom.ops.triangle import eye_like

__all__ = ["matrix_exp", "tensorinv", "tensorsolve"]

# N. J. Higham, "The scaling and squaring method for the matrix exponential revisited", SIAM J.
# Matrix Anal. Appl. 26 (2005): up to this norm the approximant of degree 13 is exact in float64.
_REACH = 5.371920351148152
_DEGREE = 13


def _coefficients() -> list[float]:
    """Of the Padé approximant of exp: the powers of A in its numerator, from the lowest."""
    f, m = math.factorial, _DEGREE
    return [f(2 * m - k) * f(m) / (f(2 * m) * f(k) * f(m - k)) for k in range(m + 1)]


_B = _coefficients()


def matrix_exp(A: TensorLike) -> Tensor:
    """The exponential of square matrices, 1 + A + A A / 2 + ... (not of their elements).

    >>> import fathom
    >>> fathom.linalg.matrix_exp(fathom.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    a: Any = operand(A, "matrix_exp")
    floats("matrix_exp", a)
    need_square("matrix_exp", a)
    size = float(np.abs(raw(a)).sum(axis=-2).max(initial=0.0))
    halvings = max(0, math.ceil(math.log2(size / _REACH))) if 0 < size < math.inf else 0
    a = a * 0.5**halvings
    one = eye_like(a)
    a2 = matmul(a, a)
    a4 = matmul(a2, a2)
    a6 = matmul(a2, a4)
    odd = matmul(a6, a6 * _B[13] + a4 * _B[11] + a2 * _B[9])
    odd = matmul(a, odd + a6 * _B[7] + a4 * _B[5] + a2 * _B[3] + one * _B[1])
    even = matmul(a6, a6 * _B[12] + a4 * _B[10] + a2 * _B[8])
    even = even + a6 * _B[6] + a4 * _B[4] + a2 * _B[2] + one * _B[0]
    out = solve(even - odd, even + odd)
    for _ in range(halvings):
        out = matmul(out, out)
    return out


def tensorsolve(A: TensorLike, B: TensorLike, dims: Sequence[int] | None = None) -> Tensor:
    """The X with tensordot(A, X, X.ndim) = B: the first axes of A are those of B, the rest X's.

    `dims` names axes of A that are moved to the end first.

    >>> import fathom
    >>> A = fathom.eye(6).reshape(2, 3, 6)
    >>> fathom.linalg.tensorsolve(A, fathom.ones(2, 3)).shape
    (6,)
    """
    a, b = operand(A, "tensorsolve"), operand(B, "tensorsolve")
    if dims is not None:
        last = all_axes(tuple(dims), a.ndim, "tensorsolve")
        a = permute(a, (*(i for i in range(a.ndim) if i not in last), *last))
    rest = a.shape[b.ndim :]
    if math.prod(rest) != math.prod(a.shape[: b.ndim]) or b.size != math.prod(rest):
        raise ShapeError(
            f"tensorsolve: A of shape {a.shape} is no square system for B of shape {b.shape}",
            fix="the sizes of A's first axes and of its others must have one product",
        )
    return reshape(solve(reshape(a, (b.size, b.size)), reshape(b, -1)), rest)


def tensorinv(A: TensorLike, ind: int = 2) -> Tensor:
    """The inverse of A as a map from its last axes to its first `ind`."""
    a, count = operand(A, "tensorinv"), whole(ind, "tensorinv", "ind")
    left, right = a.shape[:count], a.shape[count:]
    if count < 1 or math.prod(left) != math.prod(right):
        raise ShapeError(
            f"tensorinv: with ind={ind} shape {a.shape} is a map from {right} to {left}, "
            "which are not of one size"
        )
    n = math.prod(left)
    return reshape(inv(reshape(a, (n, n))), (*right, *left))
