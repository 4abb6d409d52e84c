"""Decompositions: QR, eigenvalues, singular values, and what is computed from them.

Where eigenvalues or singular values coincide, the derivative of the vectors does not exist and
comes out as inf or nan, as in PyTorch; that of the values alone is fine.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.errors import ArgumentError, GraphError, ShapeError
from fathom.engine.primitive import apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import floats, need_matrix, need_square, one_of, operand, raw
from fathom.ops.elementwise import greater
from fathom.ops.linalg import matmul
from fathom.ops.products import swap
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import concatenate, reshape
from fathom.ops.solve import LinAlgError, guarded, pinv, solve
from fathom.ops.triangle import as_diagonal, diagonals, tril, triu

__all__ = [
    "eigh",
    "eigvalsh",
    "lstsq",
    "matrix_rank",
    "qr",
    "svd",
    "svdvals",
]


class QRResult(NamedTuple):
    """Orthogonal columns and an upper triangle."""

    Q: Tensor
    R: Tensor


class EighResult(NamedTuple):
    """Eigenvalues (ascending) and eigenvectors (in columns)."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """Left vectors (in columns), singular values (descending), right vectors (in rows)."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class LstsqResult(NamedTuple):
    """A solution and what is known of it."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


NO_CONVERGENCE = "has no decomposition: the iteration did not converge"
LOOK_FOR_NAN = "look for nan or inf in it"


def _added(x: Any, y: Any) -> Any:
    """A sum of gradients of which either may be missing."""
    return y if x is None else x if y is None else x + y


# -- QR ----------------------------------------------------------------------------------------


def _over(x: Any, r: Any) -> Any:
    """x @ r^-1."""
    return swap(solve(swap(r), swap(x)))


def _qr_vjp(g: Any, out: Any, x: Any) -> Any:
    """Walter and Lehmann (2010): (gQ + Q S) R^-T, S the symmetric copy of triu(gR R' - Q' gQ)."""
    (gq, gr), (q, r) = g, out
    m: Any = None if gr is None else matmul(gr, swap(r))
    if gq is not None:
        m = _added(m, -matmul(swap(q), gq))
    s = triu(m) + swap(triu(m, 1))
    return swap(solve(r, swap(_added(gq, matmul(q, s)))))


def _qr_jvp(t: Any, out: Any, x: Any) -> Any:
    q, r = out
    y = _over(t, r)
    c = matmul(swap(q), y)
    low = tril(c, -1)
    turn = low - swap(low)  # the skew part, which turns Q
    return matmul(q, turn) + y - matmul(q, c), matmul(c - turn, r)


_qr = general(
    "qr",
    guarded("qr", NO_CONVERGENCE, LOOK_FOR_NAN)(lambda x: tuple(np.linalg.qr(x))),
    vjp=(_qr_vjp,),
    jvp=(_qr_jvp,),
    saves="out",
    batch="native",
    cost=lambda x: math.prod(x) * x[-1],
)
_qr_complete = general("qr_complete", lambda x: tuple(np.linalg.qr(x, "complete")), batch="native")


def qr(A: TensorLike, mode: str = "reduced") -> QRResult:
    """A = Q @ R with orthogonal columns and an upper triangle: (..., m, n) -> (..., m, k), (..., k, n).

    k is min(m, n), with mode="complete" m; with mode="r" Q is empty. Householder's method
    (1958), which leaves the signs open: compare R.mT @ R, or |R|.

    >>> import fathom
    >>> Q, R = fathom.linalg.qr(fathom.tensor([[3.0, 1.0], [4.0, 2.0]]))
    >>> fathom.abs(R)
    tensor([[5. , 2.2],
            [0. , 0.4]])
    """  # noqa: E501
    x = operand(A)
    one_of("qr", "mode", mode, ("reduced", "complete", "r"))
    floats("qr", x)
    need_matrix("qr", x)
    m, n = x.shape[-2:]
    if mode == "complete" and m > n:
        if isinstance(x, Tensor) and x.requires_grad:
            raise GraphError(
                "qr: with mode='complete' and more rows than columns Q has no derivative",
                fix="use mode='reduced'",
            )
        return QRResult(*apply(_qr_complete, x))
    if m < n:  # the first m columns decide
        q, r = apply(_qr, x[..., :m])
        r = concatenate([r, matmul(swap(q), x[..., m:])], -1)
    else:
        q, r = apply(_qr, x)
    return QRResult(Tensor(np.empty(0, x.dtype)) if mode == "r" else q, r)


# -- symmetric eigenvalues ---------------------------------------------------------------------


def _gaps(values: Any) -> Any:
    """values_j - values_i, and inf on the diagonal, so that dividing gives 0 there."""
    n = values.shape[-1]
    lead = tuple(values.shape[:-1])
    far = np.zeros((n, n), values.dtype)
    far[np.arange(n), np.arange(n)] = np.inf
    return reshape(values, (*lead, 1, n)) - reshape(values, (*lead, n, 1)) + far


def _eigh_vjp(g: Any, out: Any, x: Any, lower: bool) -> Any:
    (gl, gv), (values, v) = g, out
    inner: Any = None
    if gv is not None:
        inner = matmul(swap(v), gv) / _gaps(values)
    if gl is not None:
        inner = _added(inner, as_diagonal(gl))
    return matmul(matmul(v, inner), swap(v))


def _eigh_jvp(t: Any, out: Any, x: Any, lower: bool) -> Any:
    values, v = out
    inner = matmul(matmul(swap(v), t), v)
    return diagonals(inner), matmul(v, inner / _gaps(values))


_eigh = general(
    "eigh",
    guarded("eigh", NO_CONVERGENCE, LOOK_FOR_NAN)(
        lambda x, lower: tuple(np.linalg.eigh(x, "L" if lower else "U"))
    ),
    vjp=(_eigh_vjp,),
    jvp=(_eigh_jvp,),
    saves="out",
    batch="native",
)


def eigh(A: TensorLike, UPLO: str = "L") -> EighResult:
    """Eigenvalues (ascending) and eigenvectors of symmetric matrices (..., n, n).

    Only the lower (or upper) triangle is read. The signs of the vectors are open: compare what
    does not depend on them.

    >>> import fathom
    >>> fathom.linalg.eigh(fathom.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    x = operand(A)
    floats("eigh", x)
    need_square("eigh", x)
    one_of("eigh", "UPLO", UPLO, ("L", "U"))
    return EighResult(*apply(_eigh, x, lower=UPLO == "L"))


def eigvalsh(A: TensorLike, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, ascending."""
    return eigh(A, UPLO).eigenvalues


# -- singular values ---------------------------------------------------------------------------


def _svd_vjp(g: Any, out: Any, x: Any) -> Any:
    (gu, gs, gvh), (u, s, vh) = g, out
    m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
    row, column = (reshape(s, (*s.shape[:-1], *tail)) for tail in ((1, k), (k, 1)))
    inner: Any = None if gs is None else as_diagonal(gs)
    if gu is not None or gvh is not None:
        gaps = _gaps(s * s)
        if gu is not None:
            turn = matmul(swap(u), gu)
            inner = _added(inner, (turn - swap(turn)) / gaps * row)
        if gvh is not None:
            turn = matmul(vh, swap(gvh))
            inner = _added(inner, column * ((turn - swap(turn)) / gaps))
    total = matmul(matmul(u, inner), vh)
    if gu is not None and m > k:  # out of the space that U spans
        total = total + matmul((gu - matmul(u, matmul(swap(u), gu))) / row, vh)
    if gvh is not None and n > k:
        total = total + matmul(u, (gvh - matmul(matmul(gvh, swap(vh)), vh)) / column)
    return total


def _svd_jvp(t: Any, out: Any, x: Any) -> Any:
    u, s, vh = out
    m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
    row, column = (reshape(s, (*s.shape[:-1], *tail)) for tail in ((1, k), (k, 1)))
    right, left = matmul(t, swap(vh)), matmul(swap(u), t)
    p, gaps = matmul(left, swap(vh)), _gaps(s * s)
    a, b = p * row, column * p
    du = matmul(u, (a + swap(a)) / gaps)
    dvh = matmul(swap((b + swap(b)) / gaps), vh)
    if m > k:
        du = du + (right - matmul(u, p)) / row
    if n > k:
        dvh = dvh + (left - matmul(p, vh)) / column
    return du, diagonals(p), dvh


_svd = general(
    "svd",
    guarded("svd", NO_CONVERGENCE, LOOK_FOR_NAN)(
        lambda x: tuple(np.linalg.svd(x, full_matrices=False))
    ),
    vjp=(_svd_vjp,),
    jvp=(_svd_jvp,),
    saves="out",
    batch="native",
    cost=lambda x: 4 * math.prod(x) * min(x[-2:]),
)
_svd_full = general("svd_full", lambda x: tuple(np.linalg.svd(x)), batch="native")


def svd(A: TensorLike, full_matrices: bool = True) -> SVDResult:
    """A = U @ diag(S) @ Vh: (..., m, n) -> (..., m, k), (..., k), (..., k, n), k = min(m, n).

    Singular values come in descending order. With full_matrices=True (PyTorch's default) U and
    Vh are square; the columns beyond k have no derivative, so that with rectangular matrices
    only full_matrices=False can be differentiated.

    >>> import fathom
    >>> U, S, Vh = fathom.linalg.svd(fathom.tensor([[3.0, 0.0], [0.0, 4.0]]))
    >>> S
    tensor([4., 3.])
    """
    x = operand(A)
    floats("svd", x)
    need_matrix("svd", x)
    if full_matrices and x.shape[-1] != x.shape[-2]:
        if isinstance(x, Tensor) and x.requires_grad:
            raise GraphError(
                "svd: the extra columns of full_matrices=True have no derivative",
                fix="svd(A, full_matrices=False)",
            )
        return SVDResult(*apply(_svd_full, x))
    return SVDResult(*apply(_svd, x))


def svdvals(A: TensorLike) -> Tensor:
    """The singular values, descending: (..., m, n) -> (..., min(m, n))."""
    return svd(A, full_matrices=False).S


def matrix_rank(A: TensorLike, rtol: float | None = None) -> Tensor:
    """How many singular values are larger than rtol times the largest; no gradient."""
    x = operand(A)
    s: Any = svdvals(x)
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps)
    if s.shape[-1] == 0:
        return sum_(greater(s, 0.0), -1)
    return sum_(greater(s, s[..., :1] * rtol), -1)


def lstsq(
    A: TensorLike, B: TensorLike, rcond: float | None = None, *, driver: str | None = None
) -> LstsqResult:
    """X that minimizes |A @ X - B|: (..., m, n), (..., m, k) -> (..., n, k).

    Of several solutions the one of least norm. `residuals` holds the squared error of each
    column where m > n and the rank is full, and is empty otherwise.
    """
    a, b = operand(A), operand(B)
    floats("lstsq", a, b)
    need_matrix("lstsq", a)
    if driver is not None:
        one_of("lstsq", "driver", driver, ("gels", "gelsy", "gelsd", "gelss"))
    vector = b.ndim == 1
    right = reshape(b, (*b.shape, 1)) if vector else b
    if right.shape[-2] != a.shape[-2]:
        raise ShapeError(f"lstsq: {a.shape} X = {b.shape}: the rows of both sides must be equal")
    if rcond is not None and rcond < 0:
        raise ArgumentError(f"lstsq: rcond must be >= 0; received {rcond}")
    solution: Any = matmul(pinv(a, rcond), right)
    rank: Any = matrix_rank(a, rcond)
    residuals: Any = Tensor(np.empty(0, a.dtype))
    if a.shape[-2] > a.shape[-1] and bool((raw(rank) == a.shape[-1]).all()):
        residuals = ((matmul(a, solution) - right) ** 2).sum(axis=-2)
    if vector:
        solution = reshape(solution, solution.shape[:-1])
    return LstsqResult(solution, residuals, rank, svdvals(a))


__all__ += ["EighResult", "LinAlgError", "QRResult", "SVDResult"]
