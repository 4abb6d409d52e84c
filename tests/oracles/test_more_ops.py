"""Differences, running extremes, statistics, distances, counting and building against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import CHECKS, Case, check

torch = pytest.importorskip("torch")

inf, nan = float("inf"), float("nan")
MATRIX = [((4, 3),), ((1, 5),)]
ANY = [((),), ((3,),), ((2, 3),)]
LINE = [((5,),), ((2, 6),)]


def case(name, call, shapes=MATRIX, domain=(-2.0, 2.0), **more):
    """`call(m, x, ...)` with m one library or the other."""
    return Case(
        name, lambda *xs: call(ft, *xs), lambda *xs: call(torch, *xs), shapes, domain, **more
    )


def like(x, values):
    """A constant of the library and dtype of x."""
    if isinstance(x, torch.Tensor):
        return torch.tensor(values, dtype=x.dtype)
    return ft.Tensor(np.array(values, x.dtype))


def whole(x, values):
    return torch.tensor(values) if isinstance(x, torch.Tensor) else ft.tensor(values)


def holed(m, x):
    """x with nan where it is large."""
    return m.where(x > 0.8, like(x, nan), x)


def zeroed(m, x):
    """x with zeros where it is negative."""
    return x * (x > 0)


def vander(m, x, N=None, increasing=False):
    """PyTorch's own has no gradient (it writes in place into what it needs)."""
    if m is ft:
        return ft.vander(x, N, increasing)
    out = torch.linalg.vander(x, N=max(N or len(x), 2))[:, : N or len(x)]
    return out if increasing else out.flip(1)


WAYS = ("sum", "prod", "mean", "amax", "amin")
PLACES = [[0, 1, 2], [0, 0, 1], [3, 1, 2], [0, 1, 1], [2, 2, 2]]

CASES = [
    case("clone", lambda m, x: m.clone(x), ANY),
    case("diff", lambda m, x: m.diff(x), LINE),
    case("diff_n", lambda m, x: x.diff(n=2, dim=0), [((4, 3),), ((1, 2),)]),
    case("diff_ends", lambda m, x, y: m.diff(x, dim=-1, prepend=y, append=x), [((2, 3), (2, 1))]),
    case("inverse", lambda m, x: m.inverse(x + 5 * like(x, np.eye(3).tolist())), [((3, 3),)]),
    case("logit", lambda m, x: m.logit(x), ANY, (0.1, 0.9)),
    case("logit_eps", lambda m, x: x.logit(eps=0.2), MATRIX, (0.0, 1.0)),
    case("sinc", lambda m, x: m.sinc(x), ANY, (0.2, 2.0)),
    case("nansum", lambda m, x: m.nansum(holed(m, x), dim=1, keepdim=True)),
    case("nansum_all", lambda m, x: holed(m, x).nansum(), ANY),
    case("nanmean", lambda m, x: m.nanmean(x * m.where(x > 1, like(x, nan), like(x, 1.0)), dim=0),
         [((4, 3),)], (-2.0, 1.2), second=False),
    case("nanmean_all", lambda m, x: x.nanmean(), ANY),
    case("nanmedian", lambda m, x: m.nanmedian(holed(m, x)), [((7,),), ((4, 3),)]),
    case("nanmedian_dim", lambda m, x: m.nanmedian(holed(m, x), dim=0).values, [((6, 3),)]),
    case("nanmedian_keep", lambda m, x: x.nanmedian(dim=1, keepdim=True)[1]),
    case("var_mean", lambda m, x: m.var_mean(x, dim=0)[0] + m.var_mean(x, dim=0)[1],
         [((4, 3),)]),
    case("std_mean", lambda m, x: m.std_mean(x, dim=(0, 1), keepdim=True)[0], [((4, 3),)]),
    case("aminmax", lambda m, x: m.aminmax(x, dim=1).min - m.aminmax(x, dim=1, keepdim=True).max),
    case("aminmax_all", lambda m, x: x.aminmax()[0] * 2, ANY),
    case("cummax", lambda m, x: m.cummax(x, 0).values, [((6, 2),), ((),)]),
    case("cummax_indices", lambda m, x: x.cummax(dim=1).indices, [((2, 7),)]),
    case("cummin", lambda m, x: x.cummin(dim=-1)[0], [((2, 7),)]),
    case("logcumsumexp", lambda m, x: m.logcumsumexp(x, 1), [((2, 5),), ((3, 1),)]),
    case("logcumsumexp_0", lambda m, x: x.logcumsumexp(dim=0), [((5, 2),), ((),)]),
    *(case(f"dist_{p}", lambda m, x, y, p=p: m.dist(x, y, p), [((2, 3), (2, 3)), ((2, 3), (3,))])
      for p in (1, 2, 3.0, inf)),
    *(case(f"cdist_{p}", lambda m, x, y, p=p: m.cdist(x, y, p=p),
           [((4, 3), (2, 3)), ((2, 4, 3), (2, 2, 3))], second=False) for p in (1, 2.0, 3.0, inf)),
    *(case(f"renorm_{p}_{d}", lambda m, x, p=p, d=d: m.renorm(x, p, d, 1.5), [((4, 3),)])
      for p, d in ((2, 0), (1, 1), (3.0, -1))),
    *(case(f"rot90_{k}", lambda m, x, k=k: m.rot90(x, k, [1, 0]), [((2, 3),)])
      for k in range(-1, 4)),
    case("t", lambda m, x: m.t(x), [((2, 3),), ((3,),), ((),)]),
    case("T_H", lambda m, x: x.t() + x.H + x.mT, [((2, 3),)]),
    case("baddbmm", lambda m, x, y, z: m.baddbmm(x, y, z, beta=0.5, alpha=2),
         [((2, 4), (3, 2, 5), (3, 5, 4))]),
    case("baddbmm_0", lambda m, x, y: x.new_zeros((2, 3, 4)).baddbmm(x, y, beta=0),
         [((2, 3, 5), (2, 5, 4))]),
    case("copysign", lambda m, x, y: m.copysign(x, y), [((2, 3), (3,))]),
    case("trapezoid", lambda m, y: m.trapezoid(y, dx=0.5, dim=0), [((4, 3),), ((1, 2),)]),
    case("trapezoid_x", lambda m, y, x: m.trapezoid(y, x), [((4, 3), (3,)), ((4, 3), (4, 3))]),
    case("cumulative_trapezoid", lambda m, y, x: m.cumulative_trapezoid(y, x, dim=1),
         [((4, 3), (3,))]),
    case("cumulative_trapezoid_dx", lambda m, y: m.cumulative_trapezoid(y, dx=2), LINE),
    case("vander", lambda m, x: vander(m, zeroed(m, x), 4), [((5,),), ((1,),)]),
    case("vander_increasing", lambda m, x: vander(m, x, increasing=True), [((4,),)]),
    case("vander_1", lambda m, x: vander(m, x, 1), [((4,),)]),
    case("linalg_vander", lambda m, x: m.linalg.vander(x, N=3), [((4,),), ((2, 5),)]),
    case("cov", lambda m, x: m.cov(x), [((3, 5),), ((4,),)]),
    case("cov_weights", lambda m, x: m.cov(
        x, correction=0, fweights=whole(x, [1, 2, 1, 3]), aweights=like(x, [0.5, 1, 2, 1])),
        [((3, 4),), ((4,),)]),
    case("cov_corrected", lambda m, x: m.cov(x, aweights=like(x, [0.5, 1, 2, 1])), [((3, 4),)]),
    case("corrcoef", lambda m, x: m.corrcoef(x)[0, 1:], [((3, 5),)]),
    case("block_diag", lambda m, x, y, z: m.block_diag(x, y, z), [((2, 3), (2,), ()),]),
    case("column_stack", lambda m, x, y: m.column_stack((x, y)), [((3,), (3, 2)), ((), ())]),
    case("dstack", lambda m, x, y: m.dstack((x, y)), [((3,), (3,)), ((2, 3), (2, 3)), ((), ())]),
    case("splits", lambda m, x: m.hsplit(x, 2)[1] + m.hsplit(x, [2])[0], [((3, 4),)]),
    case("vsplit", lambda m, x: m.vsplit(x, 2)[1] * x.vsplit((2,))[0], [((4, 2),)]),
    case("dsplit", lambda m, x: m.dsplit(x, 2)[1] + x.dsplit([1, 3])[1], [((2, 1, 4),)]),
    case("tensor_split", lambda m, x: m.cat(m.tensor_split(x, 3)[1:]), [((7,),), ((2, 3),)]),
    *(case(f"scatter_{r}_{s}", lambda m, x, v, r=r, s=s: m.scatter_reduce(
        x, 0, whole(x, PLACES), v, r, include_self=s), [((4, 3), (5, 3))])
      for r in WAYS for s in (True, False)),
    *(case(f"scatter_{r}_1", lambda m, x, v, r=r: x.scatter_reduce(
        dim=1, index=whole(x, [[0, 0, 1], [2, 2, 2]]), src=v, reduce=r), [((2, 4), (2, 3))])
      for r in WAYS),
    case("index_put", lambda m, x, v: m.index_put(
        x, (whole(x, [0, 2]), whole(x, [1, 0])), v), [((3, 2), (2,)), ((3, 2), ())]),
    case("index_put_add", lambda m, x, v: x.index_put(
        (whole(x, [0, 2, 0]),), v, accumulate=True), [((3, 2), (3, 2))]),
    case("searchsorted", lambda m, x: m.searchsorted(like(x, [-1.0, 0.0, 1.0]), x), ANY),
    case("searchsorted_rows", lambda m, s, v: m.searchsorted(m.sort(s, -1)[0], v, right=True),
         [((2, 4), (2, 3)), ((4,), (3,)), ((2, 1, 4), (2, 1, 3))]),
    case("bucketize", lambda m, x: m.bucketize(x, like(x, [-1.0, 0.0, 1.0]), right=True), ANY),
    case("matrix_exp", lambda m, x: m.matrix_exp(x), [((3, 3),), ((2, 2, 2),), ((1, 1),)]),
    case("matrix_exp_large", lambda m, x: m.linalg.matrix_exp(x * 6) * 1e-4, [((3, 3),)],
         (-1.0, 1.0)),
    case("tensorsolve", lambda m, a, b: m.linalg.tensorsolve(
        a + 4 * m.eye(6, dtype=a.dtype).reshape(2, 3, 6), b), [((2, 3, 6), (2, 3))]),
    case("tensorsolve_dims", lambda m, a, b: m.linalg.tensorsolve(
        a + 4 * m.eye(6, dtype=a.dtype).reshape(6, 2, 3).movedim(0, 1), b, dims=(1,)),
        [((2, 6, 3), (2, 3))]),
    case("tensorinv", lambda m, a: m.linalg.tensorinv(
        a + 4 * m.eye(6, dtype=a.dtype).reshape(2, 3, 6)), [((2, 3, 6),)]),
    case("heaviside", lambda m, x: m.heaviside(
        zeroed(m, x).detach(), like(x, 0.5)), [((2, 3),)]),
    case("to", lambda m, x: x.to(m.float32).to(x), ANY, second=False),
]  # fmt: skip


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, what: str) -> None:
    check(case, what, torch)


def second_of_cdist(m, x, y, p):
    gaps = x[:, None, :] - y[None, :, :]
    return m.linalg.vector_norm(gaps, p, -1)


@pytest.mark.parametrize("p", [1, 2, 3.0])
def test_cdist_has_second_derivatives_and_no_nan_at_zero(p) -> None:
    made = Case(
        "cdist", lambda x, y: ft.cdist(x, y, p), lambda x, y: second_of_cdist(torch, x, y, p),
        [((4, 3), (2, 3))],
    )  # fmt: skip
    check(made, "plain", torch)
    x = ft.tensor([[1.0, 2.0]], requires_grad=True)
    ft.cdist(x, x, p).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0]]


def test_sinc_at_zero() -> None:
    for at in (0.0, 1e-9, 0.05, 0.0955):
        x = ft.tensor(np.float64(at), requires_grad=True)
        y = ft.sinc(x)
        (g,) = ft.autograd.grad(y, x, create_graph=True)
        (h,) = ft.autograd.grad(g, x, create_graph=True)
        assert float(y.detach()) == pytest.approx(np.sinc(at), abs=1e-14)
        z = np.pi * at
        series = -(np.pi**2) / 3 * (1 - 3 * z**2 / 10 + z**4 / 56 - z**6 / 2160)
        assert float(h.detach()) == pytest.approx(series, abs=1e-7)
        assert float(g.detach()) == pytest.approx(-np.pi * z / 3 * (1 - z * z / 10), abs=1e-3)


ROWS = [[2.0, 1.0, 2.0, 1.0], [1.0, nan, 3.0, nan], [inf, -inf, inf, 0.0], [nan] * 4,
        [-inf, -inf, 1.0, inf]]  # fmt: skip
OF_ROWS = {
    "cummax": lambda m, x: m.cummax(x, -1),
    "cummin": lambda m, x: m.cummin(x, -1),
    "logcumsumexp": lambda m, x: (m.logcumsumexp(x, -1),),
    "nansum": lambda m, x: (m.nansum(x), m.nanmean(x)),
    "nanmedian": lambda m, x: (m.nanmedian(x), m.nanmedian(x, dim=0)[0]),
    "aminmax": lambda m, x: m.aminmax(x),
    "heaviside": lambda m, x: (m.heaviside(x, x),),
    "unique": lambda m, x: m.unique(x, return_inverse=True, return_counts=True),
}


@pytest.mark.parametrize("row", range(len(ROWS)))
@pytest.mark.parametrize("name", OF_ROWS)
def test_special_rows(name: str, row: int) -> None:
    values = np.array(ROWS[row])
    ours, theirs = OF_ROWS[name](ft, ft.Tensor(values)), OF_ROWS[name](torch, torch.tensor(values))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_logcumsumexp_has_a_gradient_where_nothing_has_come_yet() -> None:
    x = ft.tensor([-inf, 0.0, 1.0], requires_grad=True)
    ft.logcumsumexp(x, 0)[1:].sum().backward()
    assert np.isfinite(x.grad.numpy()).all() and x.grad.tolist()[0] == 0.0
    wide = ft.tensor([0.0, 1000.0, -1000.0], requires_grad=True)
    ft.logcumsumexp(wide, 0).sum().backward()
    assert wide.grad.tolist() == [1.0, 2.0, 0.0]


# -- without gradients -----------------------------------------------------------------------------

NUMBERS = [3, 1, 2, 3, 3, 0]
PLAIN = {
    "bincount": lambda m: m.bincount(m.tensor(NUMBERS), minlength=6),
    "bincount_weights": lambda m: m.bincount(m.tensor(NUMBERS), m.tensor([0.5] * 6)),
    "bincount_whole": lambda m: m.bincount(m.tensor(NUMBERS), m.tensor([2] * 6)),
    "histc": lambda m: m.histc(m.tensor([0.0, 1.0, 2.5, 3.0, 9.0, nan]), 4, 0, 3),
    "histc_range": lambda m: m.histc(m.tensor([1.0, 2.0, 2.5, 7.0]), bins=5),
    "histc_one": lambda m: m.histc(m.tensor([2.0, 2.0]), bins=3),
    "unique": lambda m: m.unique(m.tensor(NUMBERS)),
    "unique_inverse": lambda m: m.tensor(NUMBERS).reshape(2, 3).unique(return_inverse=True)[1],
    "unique_rows": lambda m: m.unique(m.tensor([[1, 2], [0, 5], [1, 2]]), dim=0),
    "unique_rows_counts": lambda m: m.unique(
        m.tensor([[1, 2, 1], [0, 5, 0]]), True, True, True, 1)[2],
    "unique_rows_inverse": lambda m: m.unique(
        m.tensor([[1, 2, 1], [0, 5, 0]]), True, True, True, 1)[1],
    "searchsorted_int32": lambda m: m.searchsorted(
        m.tensor([1, 3, 5]), m.tensor([[3, 6], [0, 5]]), out_int32=True, side="right"),
    "searchsorted_sorter": lambda m: m.searchsorted(
        m.tensor([5, 1, 3]), m.tensor([2]), sorter=m.tensor([1, 2, 0])),
    "tril_indices": lambda m: m.tril_indices(3, 4, 1),
    "triu_indices": lambda m: m.triu_indices(4, 3, offset=-1),
    "unravel": lambda m: m.stack(m.unravel_index(m.tensor([[5, 0], [11, 7]]), (2, 3, 2))),
    "scatter_whole": lambda m: m.zeros(3, dtype=m.int64).scatter_reduce(
        0, m.tensor([0, 0, 2]), m.tensor([4, -9, 3]), "amin", include_self=False),
    "scatter_mean": lambda m: m.ones(2, dtype=m.int64).scatter_reduce(
        0, m.tensor([0, 0, 1]), m.tensor([4, -9, 4]), "mean"),
    "diff_bool": lambda m: m.diff(m.tensor([True, False, False])),
    "cummax_whole": lambda m: m.cummax(m.tensor(NUMBERS), 0)[0],
    "copysign": lambda m: m.copysign(m.tensor([0.0, -1.0, inf]), m.tensor([-0.0, 1.0, -2.0])),
    "copysign_whole": lambda m: m.copysign(m.tensor([1, 2]), m.tensor([-1, 1])),
    "heaviside_whole": lambda m: m.heaviside(m.tensor([-1, 0, 2]), m.tensor(7)),
    "vander": lambda m: m.vander(m.tensor(NUMBERS), 3),
    "dist_0": lambda m: m.dist(m.tensor([1.0, 2.0]), m.tensor([1.0, 3.0]), 0),
    "block_diag_none": lambda m: m.block_diag(),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_values(name: str) -> None:
    ours, theirs = PLAIN[name](ft), PLAIN[name](torch).numpy()
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.numpy(), theirs)


def test_counting_passes_gradients_on() -> None:
    w = ft.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (ft.bincount([0, 1, 0], w) * ft.tensor([2.0, 5.0])).sum().backward()
    assert w.grad.tolist() == [2.0, 5.0, 2.0]
    x = ft.tensor([3.0, 1.0, 3.0], requires_grad=True)
    ft.unique(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


def test_questions() -> None:
    x = ft.zeros(2, 3)
    assert ft.is_tensor(x) and not ft.is_tensor([1.0])
    assert ft.is_floating_point(x) and not ft.tensor([1]).is_floating_point()
    assert ft.numel(x) == x.numel() == x.nelement() == 6
    assert (ft.long, ft.double, ft.half) == (ft.int64, ft.float64, ft.float16)
    assert ft.zeros(2, dtype=ft.uint8).dtype == np.uint8 and ft.int8 != ft.int16


@pytest.mark.parametrize("way", ["prod", "amax", "amin"])
def test_scatter_reduce_at_zeros_and_ties(way) -> None:
    # a tie with an element of x that takes no part is none, though PyTorch counts it
    for include in (True, False):
        values = [np.array([0.0, 2.0 if include else 5.0, 1.0]), np.array([2.0, 2.0, 0.0, 3.0])]
        found = []
        for m, leaf in ((ft, ft.tensor), (torch, torch.tensor)):
            x, v = (leaf(a, requires_grad=True) for a in values)
            out = m.scatter_reduce(
                x, 0, m.tensor([1, 1, 2, 2]), v, way, include_self=include
            )  # fmt: skip
            out.sum().backward()
            found.append((out.tolist(), x.grad.tolist(), v.grad.tolist()))
        assert found[0] == found[1]


MISTAKES = [
    lambda x: ft.diff(ft.tensor(1.0)),
    lambda x: ft.diff(x, n=-1),
    lambda x: ft.t(ft.zeros(2, 2, 2)),
    lambda x: ft.rot90(x, 1, (0, 0)),
    lambda x: ft.rot90(x, 1, (0,)),
    lambda x: ft.cdist(x, ft.zeros(2, 5)),
    lambda x: ft.cdist(x, x, -1),
    lambda x: ft.renorm(x, 2, 0, -1.0),
    lambda x: ft.bincount(x),
    lambda x: ft.bincount([-1]),
    lambda x: ft.bincount([1, 2], [1.0]),
    lambda x: ft.histc(x, 0),
    lambda x: ft.histc(ft.tensor([1]), 2),
    lambda x: ft.histc(ft.tensor([inf]), 2),
    lambda x: ft.searchsorted(x, ft.zeros(3, 3)),
    lambda x: ft.searchsorted([1.0], [1.0], side="middle"),
    lambda x: ft.bucketize(x, x),
    lambda x: ft.trapezoid(x, ft.zeros(7)),
    lambda x: ft.trapezoid(ft.tensor(1.0)),
    lambda x: ft.vander(x),
    lambda x: ft.linalg.vander(ft.tensor(1.0)),
    lambda x: ft.cov(ft.zeros(1, 2, 3)),
    lambda x: ft.cov(x, fweights=[1.0, 2.0, 3.0]),
    lambda x: ft.cov(x, aweights=[1.0]),
    lambda x: ft.hsplit(x, 2),
    lambda x: ft.vsplit(ft.zeros(3), 3),
    lambda x: ft.tensor_split(x, 0),
    lambda x: ft.block_diag(ft.zeros(1, 2, 3)),
    lambda x: ft.unravel_index([9], (2, 3)),
    lambda x: ft.scatter_reduce(x, 0, [[0, 0, 0]], x, "median"),
    lambda x: ft.scatter_reduce(x, 0, [[5, 0, 0]], x, "prod"),
    lambda x: ft.index_put(x, 0, 1.0),
    lambda x: ft.linalg.matrix_exp(x),
    lambda x: ft.linalg.tensorsolve(x, x),
    lambda x: ft.linalg.tensorinv(x, 1),
    lambda x: ft.nanmean(ft.tensor([1])),
    lambda x: ft.nanmedian(x, axis=0, dim=0),
    lambda x: ft.aminmax(ft.zeros(0)),
    lambda x: ft.func.vmap(ft.unique)(x),
    lambda x: ft.func.vmap(lambda i: ft.scatter_reduce(ft.zeros(3), 0, i, x[0], "sum"))(
        ft.zeros(2, 3, dtype=ft.long)),
]  # fmt: skip


@pytest.mark.parametrize("mistake", range(len(MISTAKES)))
def test_mistakes(mistake: int) -> None:
    with pytest.raises(ft.FathomError):
        MISTAKES[mistake](ft.ones(2, 3))
