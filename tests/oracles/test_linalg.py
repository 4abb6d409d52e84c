"""Linear algebra against PyTorch, SciPy and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from tests.oracles.battery import battery
from tests.oracles.harness import Case

torch = pytest.importorskip("torch")
scipy_linalg = pytest.importorskip("scipy.linalg")
L, T = ft.linalg, torch.linalg
SQUARE = (((3, 3),), ((2, 4, 4),), ((1, 1),), ((0, 3, 3),), ((2, 1, 2, 2),))


def same(name, shapes, call, **options):
    """One expression for both libraries: `call(x..., linalg, library)`."""
    return Case(
        name,
        lambda *xs: call(*xs, la=L, m=ft),
        lambda *xs: call(*xs, la=T, m=torch),
        shapes,
        **options,
    )


def spd(x):
    """Symmetric positive definite, whatever x."""
    n = x.shape[-1]
    eye = np.eye(n, dtype=str(x.dtype).removeprefix("torch."))
    return x @ x.mT + (eye if isinstance(x, ft.Tensor) else torch.tensor(eye)) * 2


def far(x):
    """Regular with well separated values: x plus a graded diagonal."""
    m, n = x.shape[-2:]
    d = np.zeros((m, n), str(x.dtype).removeprefix("torch."))
    i = np.arange(min(m, n))
    d[i, i] = 3.0 * (i + 1)
    return x * 0.5 + (d if isinstance(x, ft.Tensor) else torch.tensor(d))


PRODUCTS = [
    same("dot", [((3,), (3,)), ((0,), (0,))], lambda x, y, la, m: m.dot(x, y)),
    same("vdot", [((3,), (3,))], lambda x, y, la, m: m.vdot(x, y)),
    same("inner", [((2, 3), (4, 3)), ((3,), (2, 4, 3)), ((3,), (3,))],
         lambda x, y, la, m: m.inner(x, y)),
    same("outer", [((3,), (2,)), ((0,), (2,))], lambda x, y, la, m: m.outer(x, y)),
    same("mm", [((2, 3), (3, 4)), ((0, 3), (3, 2)), ((2, 0), (0, 2))],
         lambda x, y, la, m: m.mm(x, y)),
    same("mv", [((2, 3), (3,))], lambda x, y, la, m: m.mv(x, y)),
    same("bmm", [((5, 2, 3), (5, 3, 4)), ((0, 2, 3), (0, 3, 4))], lambda x, y, la, m: m.bmm(x, y)),
    same("addmm", [((2, 4), (2, 3), (3, 4)), ((4,), (2, 3), (3, 4))],
         lambda a, x, y, la, m: m.addmm(a, x, y, beta=0.5, alpha=2.0)),
    same("vecdot", [((2, 3), (2, 3)), ((2, 3), (3,))], lambda x, y, la, m: la.vecdot(x, y)),
    same("tensordot", [((2, 3, 4), (3, 4, 5))], lambda x, y, la, m: m.tensordot(x, y, 2)),
    same("tensordot_0", [((2, 3), (4,))], lambda x, y, la, m: m.tensordot(x, y, 0)),
    same("tensordot_axes", [((2, 3, 4), (5, 4, 2))],
         lambda x, y, la, m: m.tensordot(x, y, ([0, -1], [2, 1]))),
    same("kron", [((2, 3), (3, 2)), ((2,), (3,)), ((2, 3), (2,)), ((2, 2, 1), (3, 1))],
         lambda x, y, la, m: m.kron(x, y)),
    same("cross", [((3,), (3,)), ((2, 3), (2, 3)), ((4, 3), (1, 3))],
         lambda x, y, la, m: la.cross(x, y)),
    same("cross_0", [((3, 2), (3, 2))], lambda x, y, la, m: la.cross(x, y, dim=0)),
    same("multi_dot", [((2, 3), (3, 5), (5, 2)), ((3,), (3, 5), (5,)), ((2, 3), (3, 4), (4,))],
         lambda x, y, z, la, m: la.multi_dot([x, y, z])),
    same("power_3", SQUARE, lambda x, la, m: la.matrix_power(x, 3)),
    same("power_0", [((3, 3),), ((2, 2, 2),)], lambda x, la, m: la.matrix_power(x, 0) + x),
    same("power_-2", [((3, 3),)], lambda x, la, m: la.matrix_power(far(x), -2)),
]  # fmt: skip

EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,kj": ((2, 3), (4, 3)),
    "ij->ji": ((2, 3),),
    "ij->": ((2, 3),),
    "ij->j": ((2, 3),),
    "ii->i": ((3, 3),),
    "ii": ((3, 3),),
    "iji->j": ((2, 3, 2),),
    "i,j->ij": ((2,), (3,)),
    "i,i->i": ((3,), (3,)),
    "i,i": ((3,), (3,)),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
    "...ij,...jk->...ik": ((2, 3, 4), (4, 5)),
    "...ij,...jk": ((2, 1, 3, 4), (5, 4, 2)),
    "b...,b...->b": ((2, 3, 4), (2, 3, 4)),
    "...i->...": ((2, 3),),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 2)),
    "bhqd,bhkd->bhqk": ((2, 2, 3, 4), (2, 2, 5, 4)),
    "ijk,jil->kl": ((2, 3, 4), (3, 2, 5)),
    "ij,ij,j->i": ((2, 3), (2, 3), (3,)),
    "ik,jk->": ((2, 3), (4, 3)),
    "bn,anm,bm->ba": ((2, 3), (4, 3, 5), (2, 5)),
    "i...->...i": ((2, 3, 4),),
    "ij,jk -> ki": ((0, 3), (3, 2)),
    "ijk->": ((2, 0, 3),),
    "ij,ij->ij": ((2, 1), (1, 3)),
}
EINSUM = [
    same("einsum " + e, [shapes], lambda *xs, la, m, e=e: m.einsum(e, *xs))
    for e, shapes in EQUATIONS.items()
]
EINSUM += [
    same("einsum number", [((3,), (2, 3))], lambda x, y, la, m: m.einsum(",ij->ij", x.sum(), y)),
    same("inner number", [((3,), (2, 3))], lambda x, y, la, m: m.inner(x.sum(), y)),
]

PARTS = [
    same("trace", [((3, 3),), ((2, 3),)], lambda x, la, m: m.trace(x)),
    same("diag", [((3,),), ((3, 2),), ((0,),)], lambda x, la, m: m.diag(x)),
    same("diag_1", [((3,),), ((3, 4),)], lambda x, la, m: m.diag(x, 1)),
    same("diag_-2", [((3,),), ((4, 3),)], lambda x, la, m: m.diag(x, -2)),
    same("diagonal", [((3, 4),), ((2, 3, 4),)], lambda x, la, m: m.diagonal(x)),
    same("diagonal_dims", [((2, 3, 4),)], lambda x, la, m: m.diagonal(x, -1, 2, 0)),
    same("linalg.diagonal", [((2, 3, 4),)], lambda x, la, m: la.diagonal(x, offset=1)),
    same("diag_embed", [((3,),), ((2, 3),), ((2, 0),)], lambda x, la, m: m.diag_embed(x)),
    same("diag_embed_dims", [((2, 3),)], lambda x, la, m: m.diag_embed(x, 1, 0, 2)),
    same("diag_embed_swap", [((2, 3),)], lambda x, la, m: m.diag_embed(x, -1, 2, 0)),
    *(same(f"{f}_{k}", [((3, 4),), ((2, 4, 3),), ((0, 2),)],
           lambda x, la, m, f=f, k=k: getattr(m, f)(x, k))
      for f in ("tril", "triu") for k in (-1, 0, 2)),
]  # fmt: skip

SYSTEMS = [
    same("solve", [((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (2, 3, 1)), ((2, 3, 3), (2, 3)),
                   ((3, 3), (5, 3, 2)), ((5, 3, 3), (3, 2)), ((0, 3, 3), (0, 3, 2)),
                   ((3, 3), (3, 0))],
         lambda a, b, la, m: la.solve(far(a), b)),
    same("solve_right", [((3, 3), (2, 3)), ((4, 3, 3), (4, 2, 3))],
         lambda a, b, la, m: la.solve(far(a), b, left=False)),
    *(same(f"triangular_{u}_{left}_{unit}", [((3, 3), (3, 3)), ((2, 3, 3), (2, 3, 3))],
           lambda a, b, la, m, u=u, left=left, unit=unit: la.solve_triangular(
               far(a).triu() if u else far(a).tril(), b, upper=u, left=left, unitriangular=unit)
           if not unit else la.solve_triangular(
               far(a).triu(1) if u else far(a).tril(-1), b, upper=u, left=left, unitriangular=True))
      for u in (False, True) for left in (False, True) for unit in (False, True)),
    same("inv", SQUARE, lambda x, la, m: la.inv(far(x))),
    same("pinv", [((3, 2),), ((2, 3),), ((2, 4, 2),), ((3, 3),)],
         lambda x, la, m: la.pinv(far(x))),
    same("lstsq", [((4, 2), (4, 3)), ((2, 3, 2), (2, 3, 1))],
         lambda a, b, la, m: la.lstsq(far(a), b).solution),
    same("det", SQUARE, lambda x, la, m: la.det(x)),
    same("slogdet", SQUARE, lambda x, la, m: la.slogdet(far(x))[1]),
    same("slogdet_sign", [((3, 3),)], lambda x, la, m: la.slogdet(far(x))[0] * x),
    same("logdet", SQUARE, lambda x, la, m: m.logdet(spd(x))),
    same("cholesky", SQUARE, lambda x, la, m: la.cholesky(spd(x))),
    same("cholesky_upper", [((3, 3),)], lambda x, la, m: la.cholesky(spd(x), upper=True)),
    Case("cholesky_solve", lambda a, b: L.cholesky_solve(b, L.cholesky(spd(a))),
         lambda a, b: torch.cholesky_solve(b, T.cholesky(spd(a))),
         [((3, 3), (3, 2)), ((2, 3, 3), (2, 3, 1))]),
    Case("cholesky_inverse", lambda a: L.cholesky_inverse(L.cholesky(spd(a))),
         lambda a: torch.cholesky_inverse(T.cholesky(spd(a))), [((3, 3),)]),
]  # fmt: skip


def rebuilt(q, r, m):
    """Of Q and R what does not depend on signs, but on both."""
    return q @ (r @ r.mT) @ q.mT + q.abs()[..., :1] * 0.3


def eigen(x, la, m, uplo="L"):
    values, v = la.eigh(far(x) + far(x).mT, UPLO=uplo)
    return v @ m.diag_embed(m.exp(values * 0.1)) @ v.mT + (v * v) * 0.5


def singular(x, la, m):
    u, s, vh = la.svd(far(x), full_matrices=False)
    return u @ m.diag_embed(m.exp(-s * 0.2)) @ vh


RECTANGLES = (((3, 3),), ((4, 2),), ((2, 4),), ((2, 3, 2),), ((0, 3, 2),))
DECOMPOSED = [
    same("qr", RECTANGLES, lambda x, la, m: rebuilt(*la.qr(far(x)), m)),
    same("qr_R", RECTANGLES, lambda x, la, m: la.qr(far(x))[1].abs()),
    same("qr_Q", [((3, 3),), ((4, 2),)], lambda x, la, m: la.qr(far(x))[0].abs()),
    same("eigh", SQUARE, eigen),
    same("eigh_U", [((3, 3),)], lambda x, la, m: eigen(x, la, m, "U")),
    same("eigvalsh", SQUARE, lambda x, la, m: la.eigvalsh(far(x) + far(x).mT)),
    same("svd", RECTANGLES, singular),
    same("svd_U", RECTANGLES, lambda x, la, m: la.svd(far(x), full_matrices=False)[0].abs()),
    same("svd_V", RECTANGLES, lambda x, la, m: la.svd(far(x), full_matrices=False)[2].abs()),
    same("svd_default", [((3, 3),)], lambda x, la, m: la.svd(far(x))[1]),
    same("svdvals", RECTANGLES, lambda x, la, m: la.svdvals(far(x))),
]

NORMS = [
    *(same(f"vector_{p}", [((3,),), ((2, 3),), ((),)],
           lambda x, la, m, p=p: la.vector_norm(x, p)) for p in (1, 2, 3, 2.5, np.inf, -np.inf)),
    same("vector_0", [((3,),)], lambda x, la, m: la.vector_norm(x, 0) * x),
    same("vector_.5", [((3,),)], lambda x, la, m: la.vector_norm(x, 0.5), domain=(0.5, 2.0)),
    same("vector_dim", [((2, 3),), ((2, 0),)],
         lambda x, la, m: la.vector_norm(x, 2, dim=1, keepdim=True)),
    same("vector_dims", [((2, 3, 4),)], lambda x, la, m: la.vector_norm(x, 3, dim=(0, -1))),
    *(same(f"matrix_{p}", [((3, 3),), ((2, 3, 2),)],
           lambda x, la, m, p=p: la.matrix_norm(far(x), p))
      for p in ("fro", "nuc", np.inf, -np.inf, 1, -1, 2, -2)),
    same("matrix_dims", [((3, 4, 2),)],
         lambda x, la, m: la.matrix_norm(x, 1, dim=(2, 0), keepdim=True)),
    same("matrix_nuc_dims", [((3, 4, 2),)],
         lambda x, la, m: la.matrix_norm(x, "nuc", dim=(0, 2), keepdim=True)),
    same("norm", [((3,),), ((2, 3),), ((2, 3, 2),)], lambda x, la, m: la.norm(x)),
    same("norm_1", [((3,),), ((2, 3),)], lambda x, la, m: la.norm(x, 1)),
    same("norm_fro", [((2, 3),)], lambda x, la, m: la.norm(x, "fro")),
    same("norm_dim", [((2, 3, 4),)], lambda x, la, m: la.norm(x, 3, dim=1)),
    same("norm_dims", [((2, 3, 4),)], lambda x, la, m: la.norm(x, "nuc", dim=(0, 1))),
    *(same(f"cond_{p}", [((3, 3),)], lambda x, la, m, p=p: la.cond(far(x), p)) for p in (None, -2)),
    *(Case(f"cond_{p}", lambda x, p=p: L.cond(far(x), p),  # torch.linalg.cond fails in backward
           lambda x, p=p: T.matrix_norm(far(x), p) * T.matrix_norm(T.inv(far(x)), p), [((3, 3),)])
      for p in (1, "fro")),
]  # fmt: skip

CASES = PRODUCTS + EINSUM + PARTS + SYSTEMS + DECOMPOSED + NORMS
test_equals_pytorch, test_forward_mode, test_vmap, test_float32_stays_float32 = battery(
    CASES, torch, rtol=2e-3, atol=2e-4
)


# -- what has no table ---------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [3, 2, 1, 0])
@pytest.mark.parametrize("n", [3, 4])
def test_gradient_of_det_is_exact_at_every_rank(n: int, rank: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))
    x = ft.Tensor(a, True)
    L.det(x).backward()
    minors = np.array(
        [[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(n)]
         for i in range(n)]
    )  # fmt: skip
    np.testing.assert_allclose(x.grad.numpy(), minors, atol=1e-12)


@pytest.mark.parametrize("rank", [3, 2, 1, 0])
def test_second_derivative_of_det_at_every_rank(rank: int) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((3, rank)) @ rng.standard_normal((rank, 3))

    def leibniz(x):
        return (x[0, 0] * (x[1, 1] * x[2, 2] - x[1, 2] * x[2, 1])
                - x[0, 1] * (x[1, 0] * x[2, 2] - x[1, 2] * x[2, 0])
                + x[0, 2] * (x[1, 0] * x[2, 1] - x[1, 1] * x[2, 0]))  # fmt: skip

    found, expected = (ft.func.hessian(f)(ft.Tensor(a)).numpy() for f in (L.det, leibniz))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_third_derivative_of_det() -> None:
    x = np.random.default_rng(2).standard_normal((3, 3)) + 2 * np.eye(3)
    t = np.random.default_rng(3).standard_normal((3, 3))

    def third(f):
        def along(s):
            return f(x + s * t)

        return ft.func.grad(ft.func.grad(ft.func.grad(along)))(ft.Tensor(np.array(0.0)))

    np.testing.assert_allclose(third(L.det).numpy(), 6 * np.linalg.det(t), rtol=1e-9)
    pushed = ft.func.jacfwd(ft.func.jacfwd(ft.func.jacfwd(lambda s: L.det(x + s * t))))
    np.testing.assert_allclose(
        pushed(ft.Tensor(np.array(0.0))).numpy(), 6 * np.linalg.det(t), rtol=1e-9
    )


def test_lstsq_of_pytorch_and_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    ours = L.lstsq(ft.Tensor(a), ft.Tensor(b))
    x, residuals, rank, values = scipy_linalg.lstsq(a, b)
    np.testing.assert_allclose(ours.solution.numpy(), x)
    np.testing.assert_allclose(ours.residuals.numpy(), residuals)
    np.testing.assert_allclose(ours.singular_values.numpy(), values)
    assert ours.rank.item() == rank


def test_matrix_rank_and_complete_qr() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 5, 2)) @ rng.standard_normal((2, 2, 4))
    assert L.matrix_rank(ft.Tensor(a)).tolist() == T.matrix_rank(torch.tensor(a)).tolist()
    q, r = L.qr(ft.Tensor(a), mode="complete")
    tq, tr = T.qr(torch.tensor(a), mode="complete")
    assert q.shape == tq.shape and r.shape == tr.shape
    np.testing.assert_allclose((q @ r).numpy(), a, atol=1e-12)
    u, s, vh = L.svd(ft.Tensor(a))
    assert u.shape == (2, 5, 5) and vh.shape == (2, 4, 4) and s.shape == (2, 4)


def test_norm_at_zero_has_slope_zero() -> None:
    for p in (1, 2, 3):
        x = ft.Tensor(np.zeros(3), True)
        L.vector_norm(x, p).backward()
        assert x.grad.tolist() == [0, 0, 0]


def test_logdet_of_negative_and_singular() -> None:
    assert np.isnan(ft.logdet(ft.tensor([[-1.0]])).item())
    assert ft.logdet(ft.tensor([[0.0]])).item() == -np.inf


BAD = [
    (lambda: L.solve(ft.ones(2, 2), ft.ones(2)), L.LinAlgError, "singular"),
    (lambda: L.inv(ft.tensor(np.stack([np.eye(2), np.zeros((2, 2))]))), L.LinAlgError, "matrix 1"),
    (lambda: L.solve(ft.tensor(np.stack([np.eye(2), np.zeros((2, 2))])), ft.ones(2, 1)),
     L.LinAlgError, "matrix 1 of the batch"),
    (lambda: L.cholesky(ft.tensor([[1.0, 2.0], [2.0, 1.0]])), L.LinAlgError, "positive definite"),
    (lambda: L.cholesky(ft.tensor(np.stack([np.eye(2), -np.eye(2)]))), L.LinAlgError, "matrix 1"),
    (lambda: L.inv(ft.ones(2, 3)), ft.FathomError, "square"),
    (lambda: L.det(ft.ones(3)), ValueError, "square"),
    (lambda: L.inv(ft.tensor([[1, 2], [3, 4]])), TypeError, "floats"),
    (lambda: L.solve(ft.ones(3, 3), ft.ones(2, 2)), ValueError, ">3<"),
    (lambda: L.qr(ft.ones(3, 3), mode="reducd"), ValueError, "did you mean 'reduced'"),
    (lambda: L.norm(ft.ones(3, 3), "frob"), ValueError, "frob"),
    (lambda: ft.einsum("ij,jk", ft.ones(2, 3)), ValueError, "2 operands"),
    (lambda: ft.einsum("ij,jk", ft.ones(2, 3), ft.ones(4, 2)), ValueError, "size 3"),
    (lambda: ft.einsum("ijk->i", ft.ones(2, 3)), ValueError, "names 3 axes"),
    (lambda: ft.einsum("ij->ik", ft.ones(2, 3)), ValueError, "'k'"),
    (lambda: ft.einsum("i1->i", ft.ones(2, 3)), ValueError, "'1'"),
    (lambda: ft.dot(ft.ones(3), ft.ones(4)), ValueError, "3 meets 4"),
    (lambda: ft.mm(ft.ones(3), ft.ones(3, 1)), ValueError, "(n, k)"),
    (lambda: ft.bmm(ft.ones(2, 3, 4), ft.ones(3, 4, 5)), ValueError, ">2<"),
    (lambda: ft.diagonal(ft.ones(2, 2), 0, 1, 1), IndexError, "differ"),
    (lambda: ft.trace(ft.ones(2, 2, 2)), ValueError, "(n, m)"),
    (lambda: L.svd(ft.ones(2, 3).requires_grad_()), RuntimeError, "full_matrices=False"),
    (lambda: L.matrix_power(ft.ones(2, 2), 1.5), ValueError, "whole number"),
    (lambda: L.cross(ft.ones(2), ft.ones(2)), ValueError, "size 3"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[t for *_, t in BAD])
def test_errors_teach(call, kind, text) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ft.FathomError)
    assert text in str(caught.value)


def test_multiply_adds_and_methods() -> None:
    x = ft.tensor([[2.0, 1.0], [1.0, 3.0]])
    assert x.det().item() == pytest.approx(5.0)
    assert x.trace().item() == 5.0
    assert x.mm(x.inverse()).numpy() == pytest.approx(np.eye(2), abs=1e-6)
    assert x.diag().tolist() == [2.0, 3.0]
    assert x.tril().tolist() == [[2.0, 0.0], [1.0, 3.0]]
    assert isinstance(ft.dot(np.ones(3), np.ones(3)), (np.ndarray, np.generic))
