"""Reductions, running sums and order against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import CHECKS, Case, check

torch = pytest.importorskip("torch")

ANY = (((),), ((3,),), ((2, 3),), ((2, 1, 3),))
ANY_OR_NONE = (*ANY, ((0, 3),))
MATRIX = (((4, 3),), ((1, 5),))
inf = float("inf")


def case(name, ours, theirs=None, shapes=ANY, domain=(-2.0, 2.0), **more):
    return Case(name, ours, theirs or ours, shapes, domain, **more)


def zeroed(x):
    """Every other element zero, in either library."""
    return x * (x > 0)


CASES = [
    case("sum", lambda x: x.sum(), shapes=ANY_OR_NONE),
    case("sum_axis", lambda x: x.sum(axis=1), shapes=[((2, 3),), ((2, 0),), ((2, 3, 4),)]),
    case("sum_axes", lambda x: x.sum(axis=(0, -1), keepdims=True), shapes=[((2, 3, 4),)]),
    case("sum_dtype", lambda x: x.sum(dim=0, dtype=ft.float32),
         lambda x: x.sum(dim=0, dtype=torch.float32), [((2, 3),)]),
    case("mean", lambda x: x.mean()),
    case("mean_dim", lambda x: x.mean(dim=-1, keepdim=True), shapes=MATRIX),
    case("prod", lambda x: x.prod(), shapes=ANY_OR_NONE),
    case("prod_axis", lambda x: x.prod(1), shapes=[((2, 3),), ((2, 0),), ((2, 3, 4),)]),
    case("prod_keepdim", lambda x: x.prod(dim=0, keepdim=True), shapes=MATRIX),
    case("prod_axes", lambda x: ft.prod(x, (0, 2)), lambda x: x.prod(2).prod(0), [((2, 3, 2),)]),
    case("prod_zeros", lambda x: zeroed(x).prod(1), shapes=[((5, 3),), ((4, 4),), ((3, 1),)]),
    case("cumsum", lambda x: x.cumsum(-1), shapes=[((3,),), ((2, 3),), ((2, 0),)]),
    case("cumsum_0", lambda x: ft.cumsum(x, axis=0), lambda x: torch.cumsum(x, 0), [((4, 2, 3),)]),
    case("cumsum_flat", lambda x: ft.cumsum(x), lambda x: x.reshape(-1).cumsum(0), [((2, 3),)]),
    case("cumprod", lambda x: x.cumprod(-1), shapes=[((3,),), ((2, 5),), ((2, 0),), ((2, 1),)]),
    case("cumprod_0", lambda x: ft.cumprod(x, dim=0), lambda x: torch.cumprod(x, 0), [((4, 2),)]),
    case("cumprod_zeros", lambda x: zeroed(x).cumprod(1), shapes=[((3, 6),)]),
    case("max", lambda x: x.max()),
    case("min", lambda x: x.min()),
    case("max_axis", lambda x: x.max(axis=1), lambda x: x.amax(1), MATRIX),
    case("max_dim", lambda x: x.max(dim=1).values, lambda x: x.max(dim=1).values, MATRIX),
    case("max_dim_keep", lambda x: x.max(dim=0, keepdim=True)[0], shapes=MATRIX),
    case("max_indices", lambda x: x.max(dim=1).indices, shapes=MATRIX),
    case("min_dim", lambda x: x.min(dim=-1).values, shapes=[*MATRIX, ((),)]),
    case("min_indices", lambda x: x.min(dim=0, keepdim=True).indices, shapes=MATRIX),
    case("amax", lambda x: x.amax(dim=(0, 1)), shapes=MATRIX),
    case("amin", lambda x: x.amin(dim=1, keepdim=True), shapes=MATRIX),
    case("argmax", lambda x: x.argmax(dim=1), shapes=MATRIX),
    case("argmin", lambda x: x.argmin(dim=0, keepdim=True), shapes=MATRIX),
    case("argmax_flat", lambda x: x.argmax()),
    case("all", lambda x: (x > -1).all(), shapes=ANY_OR_NONE),
    case("any_axis", lambda x: (x > 1).any(dim=1), shapes=MATRIX),
    case("all_keepdim", lambda x: (x > -1).all(dim=0, keepdim=True), shapes=MATRIX),
    case("count_nonzero", lambda x: zeroed(x).count_nonzero(dim=0), shapes=MATRIX),
    case("var", lambda x: x.var(), shapes=[((3,),), ((2, 3),)]),
    case("var_axis", lambda x: x.var(dim=0), shapes=[((4, 3),)]),
    case("var_unbiased", lambda x: x.var(dim=1, unbiased=False), shapes=[((4, 3),)]),
    case("var_axes", lambda x: x.var(dim=(0, 2), keepdim=True), shapes=[((2, 3, 4),)]),
    case("std", lambda x: x.std(dim=1, correction=0), shapes=[((4, 3),)]),
    case("std_ddof", lambda x: ft.std(x, ddof=2), lambda x: torch.std(x, correction=2), [((4,),)]),
    case("logsumexp", lambda x: x.logsumexp(dim=1), shapes=MATRIX),
    case("logsumexp_axes", lambda x: x.logsumexp(dim=(0, 1), keepdim=True), shapes=MATRIX),
    *(case(f"norm_{p}", lambda x, p=p: ft.norm(x, p), lambda x, p=p: torch.norm(x, p), MATRIX)
      for p in (2, 1, 3, 0.5, 1.5, inf, -inf, -2)),
    case("norm_dim", lambda x: x.norm(dim=1, keepdim=True), shapes=MATRIX),
    case("norm_dims", lambda x: x.norm(2, dim=(0, 1)), shapes=MATRIX),
    case("sort", lambda x: x.sort().values, shapes=[((3,),), ((2, 5),), ((),), ((2, 0),)]),
    case("sort_descending", lambda x: x.sort(dim=0, descending=True)[0], shapes=MATRIX),
    case("sort_indices", lambda x: x.sort(dim=0, descending=True).indices, shapes=MATRIX),
    case("argsort", lambda x: x.argsort(dim=1), shapes=MATRIX),
    case("msort", lambda x: x.msort(), shapes=MATRIX),
    case("topk", lambda x: x.topk(2, dim=0).values, shapes=[((4, 3),), ((5,),)]),
    case("topk_smallest", lambda x: x.topk(2, largest=False)[0], shapes=[((4, 3),)]),
    case("topk_indices", lambda x: x.topk(3, dim=-1).indices, shapes=[((4, 3),)]),
    case("kthvalue", lambda x: x.kthvalue(2, dim=1).values, shapes=[((4, 3),)]),
    case("kthvalue_keep", lambda x: x.kthvalue(1, dim=0, keepdim=True)[0], shapes=[((4, 3),)]),
    case("median", lambda x: x.median(), shapes=[((3,),), ((4,),), ((2, 3),)]),
    case("median_dim", lambda x: x.median(dim=1).values, shapes=[((4, 3),), ((3, 4),)]),
    case("median_keep", lambda x: x.median(dim=0, keepdim=True)[0], shapes=[((4, 3),)]),
    case("quantile", lambda x: x.quantile(0.3, dim=1), shapes=[((4, 3),), ((3, 4),)]),
    case("quantile_all", lambda x: x.quantile(0.7), shapes=[((4, 3),)]),
    case("quantile_keep", lambda x: x.quantile(0.5, dim=0, keepdim=True), shapes=[((4, 3),)]),
    case("quantiles", lambda x: ft.quantile(x, [0.1, 0.9], dim=1, keepdim=True),
         lambda x: torch.quantile(x, torch.tensor([0.1, 0.9], dtype=x.dtype), dim=1, keepdim=True),
         [((4, 3),)]),
]  # fmt: skip


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, what: str) -> None:
    check(case, what, torch)


# -- ties, nan, none -------------------------------------------------------------------------------

nan = float("nan")
ROWS = [
    [2.0, 1.0, 2.0, 1.0], [1.0, nan, 3.0, nan], [inf, -inf, inf, 0.0], [0.0, -0.0, 0.0, -0.0],
    [nan, nan, nan, nan],
]  # fmt: skip
OF_ROWS = {
    "max": lambda x: x.max(dim=-1),
    "min": lambda x: x.min(dim=-1),
    "sort": lambda x: x.sort(dim=-1, stable=True),
    "sort_descending": lambda x: x.sort(dim=-1, descending=True, stable=True),
    "argmax": lambda x: (x.argmax(dim=-1),),
    "argmin": lambda x: (x.argmin(dim=-1),),
    "amax": lambda x: (x.amax(dim=-1),),
    "prod": lambda x: (x.prod(dim=-1),),
    "cumsum": lambda x: (x.cumsum(-1),),
    "sum": lambda x: (x.sum(),),
    "logsumexp": lambda x: (x.logsumexp(dim=-1),),
    "any": lambda x: (x.any(dim=-1), x.all(dim=-1), x.count_nonzero(dim=-1)),
    "norm": lambda x: (x.norm(), x.norm(1), x.norm(inf), x.norm(0)),
    "quantile": lambda x: (x.quantile(0.5, dim=-1),),
    "var": lambda x: (x.var(dim=-1), x.std(dim=-1)),
}


@pytest.mark.parametrize("row", range(len(ROWS)))
@pytest.mark.parametrize("name", OF_ROWS)
def test_special_rows(name: str, row: int) -> None:
    values = np.array(ROWS[row])
    for a, b in zip(
        OF_ROWS[name](ft.Tensor(values)), OF_ROWS[name](torch.tensor(values)), strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_sorting_is_stable_and_the_median_finds_a_nan() -> None:
    x = ft.tensor([2, 1, 2, 1, 2])
    assert x.sort().indices.tolist() == [1, 3, 0, 2, 4]
    assert x.sort(descending=True).indices.tolist() == [0, 2, 4, 1, 3]
    assert x.topk(3).indices.tolist() == [0, 2, 4]
    values, indices = ft.tensor([1.0, nan, 3.0]).median(dim=0)
    assert np.isnan(float(values)) and int(indices) == 1


def test_no_elements() -> None:
    x = ft.zeros(0, 3)
    assert x.sum() == 0 and x.prod() == 1 and np.isnan(float(x.mean()))
    assert x.all() and not x.any() and x.logsumexp(0).tolist() == [-inf] * 3
    assert x.cumprod(0).shape == (0, 3) and x.norm() == 0
    assert x.sort(0).values.shape == (0, 3)
    assert x.amax(1).shape == (0,) and x.argmax(1).shape == (0,)
    for name in "max min amax amin argmax argmin median".split():
        with pytest.raises(ft.FathomError, match=name):
            getattr(x, name)()
        with pytest.raises(ft.FathomError, match=name):
            getattr(x, name)(axis=0)
    with pytest.raises(ft.FathomError, match="max"):
        x.max(dim=0)
    with pytest.raises(ft.FathomError, match="quantile"):
        x.quantile(0.5)


def test_the_four_ways_to_call_max() -> None:
    x = ft.tensor([[1.0, 5.0], [7.0, 2.0]])
    assert float(ft.max(x)) == 7 and ft.max(x, axis=0).tolist() == [7, 5]
    pair = x.max(dim=0)
    assert pair._fields == ("values", "indices") and pair.indices.tolist() == [1, 0]
    assert ft.max(x, ft.tensor(3.0)).tolist() == [[3, 5], [7, 3]]
    assert x.max(axis=(0, 1), keepdims=True).shape == (1, 1)
    with pytest.raises(ft.FathomError):
        ft.max(x, axis=0, dim=0)


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "cumprod"])
def test_whole_numbers_add_up_to_int64(name: str, kind) -> None:
    a = np.array([1, 0, 1], kind)
    ours, theirs = getattr(ft, name)(ft.Tensor(a), 0), getattr(torch, name)(torch.tensor(a), 0)
    assert ours.dtype == theirs.numpy().dtype == np.int64
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


WHOLE = "max min amax amin argmax sort_values median any all count_nonzero".split()


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    a = np.array([3, 1, 2, 2])
    f = {"sort_values": lambda x: x.sort().values}.get(name, lambda x: getattr(x, name)())
    ours, theirs = f(ft.Tensor(a)), f(torch.tensor(a))
    assert ours.dtype == theirs.numpy().dtype and ours.tolist() == theirs.tolist()


AXES = """sum mean prod max min amax amin argmax argmin all any count_nonzero var std logsumexp
    cumsum cumprod sort argsort median norm""".split()


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("axis", [2, -3, 1.5, "a"])
def test_wrong_axis(name: str, axis) -> None:
    with pytest.raises(ft.FathomError, match=name):
        getattr(ft, name)(ft.ones(2, 3), axis=axis)
    with pytest.raises(ft.FathomError, match=name):
        getattr(ft, name)(ft.ones(2, 3), dim=axis)


@pytest.mark.parametrize("name", AXES)
def test_wrong_argument(name: str) -> None:
    for wrong in ("text", object(), [[1.0], [1.0, 2.0]]):
        with pytest.raises(ft.FathomError):
            getattr(ft, name)(wrong)


MISTAKES = [
    lambda x: ft.topk(x, 4),
    lambda x: ft.topk(x, 1.5),
    lambda x: ft.topk(x, 1, 2),
    lambda x: ft.kthvalue(x, 0),
    lambda x: ft.kthvalue(x, 4),
    lambda x: ft.kthvalue(x, 1, 5),
    lambda x: ft.sum(x, (0, 0)),
    lambda x: ft.sum(x, axis=0, dim=0),
    lambda x: ft.var(x, unbiased=True, ddof=1),
    lambda x: ft.var(x, correction="one"),
    lambda x: ft.norm(x, "nuc"),
    lambda x: ft.quantile(x, 1.5),
    lambda x: ft.quantile(x, 0.5, 3),
    lambda x: ft.median(x, axis=0, dim=0),
    lambda x: ft.sum(x, dtype="nothing"),
]


@pytest.mark.parametrize("mistake", range(len(MISTAKES)))
def test_mistakes(mistake: int) -> None:
    with pytest.raises(ft.FathomError):
        MISTAKES[mistake](ft.ones(2, 3))
