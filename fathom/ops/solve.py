"""Linear systems: solutions, inverses, determinants, Cholesky factors.

The derivatives are those of Giles (2008), "Collected matrix derivative results for forward and
reverse mode algorithmic differentiation".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.errors import FathomError, ShapeError, mark_axes
from fathom.engine.primitive import Primitive, apply, general
from fathom.engine.tape import sum_to
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import floats, need_matrix, need_square, operand
from fathom.ops.elementwise import equal, neg, where
from fathom.ops.linalg import matmul
from fathom.ops.products import swap
from fathom.ops.shape import reshape
from fathom.ops.triangle import diagonals, eye_like, tril, triu

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "det",
    "inv",
    "logdet",
    "pinv",
    "slogdet",
    "solve",
    "solve_triangular",
]


class LinAlgError(FathomError, np.linalg.LinAlgError):
    """A matrix is singular, not positive definite, or an iteration did not converge."""


def guarded(
    name: str, trouble: str, fix: str, first_only: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let NumPy's LinAlgError say which matrix of the batch it is about."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        probe = np.linalg.inv if first_only else function

        @functools.wraps(function)
        def call(x: Any, *rest: Any, **params: Any) -> Any:
            try:
                return function(x, *rest, **params)
            except np.linalg.LinAlgError:
                if np.ndim(x) < 2 or (x.shape[-1] != x.shape[-2] != 0 and name != "svd"):
                    raise
            for position in np.ndindex(x.shape[:-2]):
                try:
                    probe(x[position], **({} if first_only else params))
                except np.linalg.LinAlgError:
                    which = f"matrix {position[0] if len(position) == 1 else position} of the batch"
                    what = which if position else f"the matrix of shape {x.shape}"
                    raise LinAlgError(f"{name}: {what} {trouble}", fix=fix) from None
            raise LinAlgError(f"{name}: a matrix {trouble}", fix=fix)

        return call

    return wrap


SINGULAR = "is singular: its rows are linearly dependent"
SINGULAR_FIX = "add a little to the diagonal (x + 1e-6 * eye), or use fathom.linalg.lstsq or pinv"
INDEFINITE = "is not positive definite"
INDEFINITE_FIX = "check that it is symmetric; add a little to its diagonal (x + 1e-6 * eye)"


# -- systems -----------------------------------------------------------------------------------


@guarded("solve", SINGULAR, SINGULAR_FIX, first_only=True)
def _solve_forward(a: Any, b: Any) -> Any:
    return np.linalg.solve(a, b)


def _solve_shape(a: Any, b: Any) -> tuple[int, ...]:
    need_square("solve", a)
    if b.shape[-2] != a.shape[-1]:
        raise ShapeError(
            f"solve: {mark_axes(a.shape, [-2])} X = {mark_axes(b.shape, [-2])}: "
            f"{a.shape[-1]} equations meet {b.shape[-2]} right-hand sides",
            fix="the right side needs one row for each row of the matrix",
        )
    try:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"solve: the leading axes of {a.shape} and {b.shape} do not broadcast"
        ) from None
    return (*lead, *b.shape[-2:])


_solve: Primitive = general(
    "solve",
    _solve_forward,
    vjp=(
        lambda g, out, a, b: sum_to(neg(matmul(_solved(swap(a), g), swap(out))), a.shape),
        lambda g, out, a, b: sum_to(_solved(swap(a), g), b.shape),
    ),
    jvp=(
        lambda t, out, a, b: neg(_solved(a, matmul(t, out))),
        lambda t, out, a, b: _solved(a, t),
    ),
    saves="in out",
    shape=_solve_shape,
    batch="elementwise",
    cost=lambda a, b: math.prod(a[:-2]) * a[-1] ** 3 // 3 + math.prod(b) * a[-1],
)


def _solved(a: Any, b: Any) -> Any:
    return apply(_solve, a, b)


def solve(A: TensorLike, B: TensorLike, *, left: bool = True) -> Tensor:
    """X with A @ X = B (X @ A = B with left=False); A (..., n, n), B (..., n, k) or (..., n).

    B is a vector if it has one axis, or one less than A and A's other sizes; it may broadcast
    as a matrix. A singular A raises `LinAlgError`.

    >>> import fathom
    >>> A = fathom.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> fathom.linalg.solve(A, fathom.tensor([2.0, 2.0]))
    tensor([1. , 0.5])
    """
    a, b = operand(A), operand(B)
    floats("solve", a, b)
    need_square("solve", a)
    if not b.ndim:
        raise ShapeError("solve: the right side needs at least one axis; received ()")
    if b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1]):
        column = reshape(b, (*b.shape, 1))
        x: Any = solve(a, column, left=True) if left else solve(swap(a), column)
        return reshape(x, x.shape[:-1])
    if not left:
        return swap(solve(swap(a), swap(b)))
    _solve_shape(a, b)
    return apply(_solve, a, b)


def solve_triangular(
    A: TensorLike, B: TensorLike, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """`solve` for a triangular A, of which only that triangle is looked at.

    >>> import fathom
    >>> A = fathom.tensor([[2.0, 9.0], [1.0, 1.0]])
    >>> fathom.linalg.solve_triangular(A, fathom.tensor([[2.0], [3.0]]), upper=False)
    tensor([[1.],
            [2.]])
    """
    a, b = operand(A), operand(B)
    floats("solve_triangular", a, b)
    need_square("solve_triangular", a)
    need_matrix("solve_triangular", b)
    if unitriangular:
        a = triu(a, 1) if upper else tril(a, -1)
        a = a + eye_like(a)
    else:
        a = triu(a) if upper else tril(a)
    return solve(a, b, left=left) if b.ndim != 1 else solve(a, b)


# -- inverses ----------------------------------------------------------------------------------

_inv: Primitive = general(
    "inv",
    guarded("inv", SINGULAR, SINGULAR_FIX)(np.linalg.inv),
    vjp=(lambda g, out, x: neg(matmul(matmul(swap(out), g), swap(out))),),
    jvp=(lambda t, out, x: neg(matmul(matmul(out, t), out)),),
    saves="out",
    shape=lambda x: x.shape,
    batch="native",
    cost=lambda x: math.prod(x) * x[-1],
)


def inv(A: TensorLike) -> Tensor:
    """The inverse of square matrices (..., n, n); prefer `solve` to multiplying with it.

    >>> import fathom
    >>> fathom.linalg.inv(fathom.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    a = operand(A)
    floats("inv", a)
    need_square("inv", a)
    return apply(_inv, a)


def _pinv_forward(x: Any, rtol: float | None, hermitian: bool) -> Any:
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps)
    return np.linalg.pinv(x, rcond=rtol, hermitian=hermitian)


def _pinv_vjp(g: Any, p: Any, x: Any, rtol: Any, hermitian: bool) -> Any:
    """The adjoint of Golub and Pereyra's (1973) derivative."""
    h, pt = swap(g), swap(p)
    out = -matmul(matmul(pt, g), pt)
    k = matmul(h, matmul(p, pt))
    out = out + k - matmul(x, matmul(p, k))
    k = matmul(matmul(pt, p), h)
    return out + k - matmul(matmul(k, p), x)


def _pinv_jvp(t: Any, p: Any, x: Any, rtol: Any, hermitian: bool) -> Any:
    h, pt = swap(t), swap(p)
    k = matmul(matmul(p, pt), h)
    out = -matmul(matmul(p, t), p) + k - matmul(matmul(k, x), p)
    k = matmul(h, matmul(pt, p))
    return out + k - matmul(p, matmul(x, k))


_pinv: Primitive = general(
    "pinv",
    guarded("pinv", "has no singular values: the iteration did not converge", "look for nan")(
        _pinv_forward
    ),
    vjp=(_pinv_vjp,),
    jvp=(_pinv_jvp,),
    saves="in out",
    shape=lambda x, rtol, hermitian: (*x.shape[:-2], x.shape[-1], x.shape[-2]),
    batch="native",
)


def pinv(A: TensorLike, rtol: float | None = None, hermitian: bool = False) -> Tensor:
    """The pseudoinverse (Moore, 1920; Penrose, 1955): (..., m, n) -> (..., n, m).

    Singular values below rtol times the largest count as 0 (max(m, n) * eps by default). The
    derivative holds where the rank does not change.
    """
    a = operand(A)
    floats("pinv", a)
    need_matrix("pinv", a)
    return apply(_pinv, a, rtol=rtol, hermitian=bool(hermitian))


# -- determinants ------------------------------------------------------------------------------


class SlogdetResult(NamedTuple):
    """Sign and logarithm of the absolute value of a determinant."""

    sign: Tensor
    logabsdet: Tensor


def _without(s: Any, count: int) -> Any:
    """Products of all singular values but one (count 1) or but two (count 2)."""
    n = s.shape[-1]
    keep = ~np.eye(n, dtype=bool)
    if count == 2:
        keep = keep[:, None, :] & keep[None, :, :]
    shape = (*s.shape[:-1], *(1,) * count, n)
    return np.multiply.reduce(np.where(keep, s.reshape(shape), s.dtype.type(1)), axis=-1)


def _svd_sign(x: Any) -> tuple[Any, Any, Any, Any]:
    """U, s, V' and det(U) det(V) as (..., 1, 1)."""
    u, s, vh = np.linalg.svd(x)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vh)).astype(x.dtype)
    return u, s, vh, sign[..., None, None]


def _cofactor_forward(x: Any) -> Any:
    """The gradient of det: det(A) A^-T, through the SVD so that A may be singular."""
    u, s, vh, sign = _svd_sign(x)
    return sign * np.matmul(u * _without(s, 1)[..., None, :], vh)


def _slope_forward(t: Any, x: Any) -> Any:
    """The derivative of the cofactors in direction t, from the minors without two rows."""
    u, s, vh, sign = _svd_sign(x)
    m = np.matmul(np.matmul(u.swapaxes(-1, -2), t), vh.swapaxes(-1, -2))
    minors = _without(s, 2)
    off = ~np.eye(s.shape[-1], dtype=bool)
    minors = np.where(off, minors, minors.dtype.type(0))
    inner = -minors * m.swapaxes(-1, -2)
    diagonal = np.matmul(minors, np.diagonal(m, 0, -2, -1)[..., None])[..., 0]
    i = np.arange(s.shape[-1])
    inner[..., i, i] = diagonal
    return sign * np.matmul(np.matmul(u, inner), vh)


def _slope_in_x(g: Any, out: Any, t: Any, x: Any) -> Any:
    """Third derivatives of det, only where the matrix is regular."""
    b = swap(inv(x))

    def pair(u: Any, v: Any) -> Any:
        return (u * v).sum(axis=(-2, -1), keepdims=True)

    d = reshape(det(x), (*x.shape[:-2], 1, 1))
    s = swap(b)  # the inverse
    st, sg = matmul(s, t), matmul(s, g)
    a, c, e = pair(b, t), pair(b, g), pair(st, swap(sg))
    bt, bg = matmul(b, matmul(swap(t), b)), matmul(b, matmul(swap(g), b))
    btg = matmul(bt, matmul(swap(g), b)) + matmul(bg, matmul(swap(t), b))
    return d * ((a * c - e) * b - c * bt - a * bg + btg)


_slope: Primitive = general(
    "cofactor_slope",
    _slope_forward,
    vjp=(lambda g, out, t, x: apply(_slope, g, x), _slope_in_x),
    jvp=(
        lambda t, out, d, x: apply(_slope, t, x),
        lambda t, out, d, x: _slope_in_x(t, out, d, x),  # symmetric in all directions
    ),
    saves="in",
    shape=lambda t, x: x.shape,
    batch="native",
)
_cofactor: Primitive = general(
    "cofactor",
    _cofactor_forward,
    vjp=(lambda g, out, x: apply(_slope, g, x),),
    jvp=(lambda t, out, x: apply(_slope, t, x),),
    saves="in",
    shape=lambda x: x.shape,
    batch="native",
)
_det: Primitive = general(
    "det",
    np.linalg.det,
    vjp=(lambda g, out, x: reshape(g, (*g.shape, 1, 1)) * apply(_cofactor, x),),
    jvp=(lambda t, out, x: (apply(_cofactor, x) * t).sum(axis=(-2, -1)),),
    saves="in",
    shape=lambda x: x.shape[:-2],
    batch="native",
    cost=lambda x: math.prod(x) * x[-1] // 3,
)
_slogdet: Primitive = general(
    "slogdet",
    lambda x: tuple(np.linalg.slogdet(x)),
    vjp=(
        lambda g, out, x: (
            None if g[1] is None else reshape(g[1], (*g[1].shape, 1, 1)) * swap(inv(x))
        ),
    ),
    jvp=(lambda t, out, x: (None, diagonals(_solved(x, t)).sum(axis=-1)),),
    saves="in",
    batch="native",
)


def det(A: TensorLike) -> Tensor:
    """The determinant: (..., n, n) -> (...).

    Its gradient, the matrix of cofactors, is exact for singular matrices too.

    >>> import fathom
    >>> x = fathom.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    >>> fathom.linalg.det(x).backward()
    >>> x.grad.numpy().round(4).tolist()
    [[4.0, -2.0], [-2.0, 1.0]]
    """
    a = operand(A)
    floats("det", a)
    need_square("det", a)
    return apply(_det, a)


def slogdet(A: TensorLike) -> SlogdetResult:
    """Sign and log of the absolute determinant, without overflow: (..., n, n) -> (...), (...)."""
    a = operand(A)
    floats("slogdet", a)
    need_square("slogdet", a)
    return SlogdetResult(*apply(_slogdet, a))


def logdet(A: TensorLike) -> Tensor:
    """The logarithm of the determinant; nan where it is negative, -inf where it is 0."""
    sign, log = slogdet(A)
    return where(equal(sign, -1.0), math.nan, log)


# -- Cholesky ----------------------------------------------------------------------------------


def _half_lower(x: Any) -> Any:
    """The lower triangle with half of the diagonal."""
    return (tril(x) + tril(x, -1)) * 0.5


def _cholesky_vjp(g: Any, out: Any, x: Any) -> Any:
    p = _half_lower(matmul(swap(out), tril(g)))
    s = _solved(swap(out), swap(_solved(swap(out), swap(p))))  # L^-T P L^-1
    return (s + swap(s)) * 0.5


def _cholesky_jvp(t: Any, out: Any, x: Any) -> Any:
    t = (t + swap(t)) * 0.5
    return matmul(out, _half_lower(_solved(out, swap(_solved(out, t)))))


_cholesky: Primitive = general(
    "cholesky",
    guarded("cholesky", INDEFINITE, INDEFINITE_FIX)(np.linalg.cholesky),
    vjp=(_cholesky_vjp,),
    jvp=(_cholesky_jvp,),
    saves="out",
    shape=lambda x: x.shape,
    batch="native",
    cost=lambda x: math.prod(x) * x[-1] // 6,
)


def cholesky(A: TensorLike, *, upper: bool = False) -> Tensor:
    """L with L @ L.mT = A for symmetric positive definite A (U.mT @ U with upper=True).

    Only the lower triangle of A is read; the gradient is symmetric (Murray, 2016).

    >>> import fathom
    >>> fathom.linalg.cholesky(fathom.tensor([[4.0, 2.0], [2.0, 2.0]]))
    tensor([[2., 0.],
            [1., 1.]])
    """
    a = operand(A)
    floats("cholesky", a)
    need_square("cholesky", a)
    out = apply(_cholesky, a)
    return swap(out) if upper else out


def cholesky_solve(B: TensorLike, L: TensorLike, upper: bool = False) -> Tensor:
    """X with A @ X = B from the Cholesky factor L of A."""
    lower = swap(operand(L)) if upper else operand(L)
    half = solve_triangular(lower, B, upper=False)
    return solve_triangular(swap(lower), half, upper=True)


def cholesky_inverse(L: TensorLike, upper: bool = False) -> Tensor:
    """The inverse of A from its Cholesky factor L."""
    a = operand(L)
    need_square("cholesky_inverse", a)
    return cholesky_solve(eye_like(a), a, upper)
