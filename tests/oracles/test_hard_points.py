"""The table of docs/hard_points.md, row by row: what is chosen, and that PyTorch agrees."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fathom as ft

torch = pytest.importorskip("torch")
F = torch.nn.functional

inf, nan = float("inf"), float("nan")
PAGE = Path(__file__).parents[2] / "docs" / "hard_points.md"


def fun(name, *more, **keywords):
    """The same function in both libraries, and how to call it."""
    return lambda m, *xs: getattr(m, name)(*xs, *more, **keywords)


# (operation, point): expression of library and inputs, the inputs, the value, the slope in each
SAME = {
    ("relu", "0"): (fun("relu"), [[0.0, -0.0]], [0, 0], [[0, 0]]),
    ("abs", "0"): (fun("abs"), [[0.0, -0.0]], [0, 0], [[0, 0]]),
    ("sign, floor, ceil, round, trunc", "everywhere"): (
        lambda m, x: m.sign(x) + m.floor(x) + m.ceil(x) + m.round(x) + m.trunc(x),
        [[0.0, 1.0, -1.5]], None, [[0, 0, 0]]),
    ("round", "halves"): (fun("round"), [[0.5, 1.5, 2.5, -0.5]], [0, 2, 2, 0], [[0, 0, 0, 0]]),
    ("sign", "nan"): (fun("sign"), [[nan]], [0], [[0]]),
    ("frac", "whole numbers"): (fun("frac"), [[1.0, -2.0]], [0, 0], [[1, 1]]),
    ("div(rounding_mode=), floor_divide", "everywhere"): (
        fun("div", rounding_mode="floor"), [[5.0, -5.0, 5.0], [3.0, 3.0, 0.0]], [1, -2, inf],
        [[0, 0, 0], [0, 0, 0]]),
    ("remainder", "signs"): (fun("remainder"), [[5.0, -5.0, 5.0, -5.0], [3.0, 3.0, -3.0, -3.0]],
                             [2, 1, -1, -2], [[1, 1, 1, 1], [-1, 2, 2, -1]]),
    ("fmod", "signs"): (fun("fmod"), [[5.0, -5.0, 5.0, -5.0], [3.0, 3.0, -3.0, -3.0]],
                        [2, -2, 2, -2], [[1, 1, 1, 1], [-1, 1, 1, -1]]),
    ("sqrt", "0"): (fun("sqrt"), [[0.0]], [0], [[inf]]),
    ("rsqrt", "0"): (fun("rsqrt"), [[0.0]], [inf], [[-inf]]),
    ("reciprocal", "0"): (fun("reciprocal"), [[0.0]], [inf], [[-inf]]),
    ("log", "0"): (fun("log"), [[0.0, -1.0]], [-inf, nan], [[inf, -1]]),
    ("log1p", "-1"): (fun("log1p"), [[-1.0]], [-inf], [[inf]]),
    ("asin, acos", "-1 and 1"): (lambda m, x: m.asin(x) - m.acos(x), [[-1.0, 1.0]], None,
                                 [[inf, inf]]),
    ("acosh", "1"): (fun("acosh"), [[1.0]], [0], [[inf]]),
    ("atanh", "-1 and 1"): (fun("atanh"), [[-1.0, 1.0]], [-inf, inf], [[inf, inf]]),
    ("erfinv", "-1 and 1"): (fun("erfinv"), [[-1.0, 1.0]], [-inf, inf], [[inf, inf]]),
    ("lgamma", "0"): (fun("lgamma"), [[0.0]], [inf], [[-inf]]),
    ("power", "x = 0, constant exponent"): (
        lambda m, x: m.stack([x[0] ** 0, x[1] ** 1, x[2] ** 2, x[3] ** 0.5, x[4] ** -1]),
        [[0.0] * 5], [1, 0, 0, 0, inf], [[0, 1, 0, inf, -inf]]),
    ("power", "x = 0, tensor exponent"): (
        fun("pow"), [[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.5, -1.0]], [1, 0, 0, inf],
        [[0, 0, inf, -inf], [0, 0, 0, -inf]]),
    ("power", "x < 0"): (fun("pow"), [[-1.0, -2.0], [2.0, 2.5]], [1, nan], [[-2, nan], [nan, nan]]),
    ("xlogy", "x = 0"): (fun("xlogy"), [[0.0, 0.0], [0.0, 2.0]], [0, 0],
                         [[0, np.log(2)], [nan, 0]]),
    ("atan2", "(0, 0)"): (fun("atan2"), [[0.0], [0.0]], [0], [[0], [0]]),
    ("hypot", "(0, 0)"): (fun("hypot"), [[0.0], [0.0]], [0], [[nan], [nan]]),
    ("logaddexp", "both -inf"): (fun("logaddexp"), [[-inf], [-inf]], [-inf], [[nan], [nan]]),
    ("sigmoid", "±800"): (fun("sigmoid"), [[-800.0, 800.0]], [0, 1], [[0, 0]]),
    ("maximum, minimum", "ties"): (lambda m, x, y: m.maximum(x, y) + m.minimum(x, y),
                                   [[1.0], [1.0]], [2], [[1], [1]]),
    ("maximum", "tie"): (fun("maximum"), [[1.0], [1.0]], [1], [[0.5], [0.5]]),
    ("maximum", "nan"): (fun("maximum"), [[nan, 1.0], [1.0, nan]], [nan, nan], [[1, 1], [1, 1]]),
    ("fmax", "tie"): (fun("fmax"), [[1.0], [1.0]], [1], [[1], [0]]),
    ("fmax", "nan"): (fun("fmax"), [[nan, 1.0, nan], [1.0, nan, nan]], [1, 1, nan],
                      [[0, 1, 1], [1, 0, 0]]),
    ("clip", "the ends"): (lambda m, x: m.clip(x, -1, 1), [[-1.0, 1.0, -2.0, 2.0]],
                           [-1, 1, -1, 1], [[1, 1, 0, 0]]),
    ("clip", "nan"): (lambda m, x: m.clip(x, -1, 1), [[nan]], [nan], [[0]]),
    ("clip", "tensor bounds, x at the end"): (
        fun("clamp"), [[0.0, -1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [0, 0, 1],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ("clip", "min > max"): (fun("clamp"), [[0.5], [1.0], [0.0]], [0], [[0], [0], [1]]),
    ("clip", "min = max"): (fun("clamp"), [[-1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [1, 1],
                            [[0, 1], [0, 0], [0, 0]]),
    ("nan_to_num", "nan, inf"): (fun("nan_to_num"), [[nan, inf, 1.0]], None, [[0, 0, 1]]),
    ("where", "nan on the side not taken"): (
        lambda m, x: m.where(x > 0, m.sqrt(x), 0.0), [[-1.0, 4.0]], [0, 2], [[nan, 0.25]]),
    ("max, min", "ties, all elements"): (lambda m, x: m.max(x), [[2.0, 1.0, 2.0]], 2,
                                         [[0.5, 0, 0.5]]),
    ("max, min", "ties, dim="): (lambda m, x: m.max(x, dim=0)[0], [[2.0, 1.0, 2.0]], 2,
                                 [[1, 0, 0]]),
    ("max, min", "nan"): (lambda m, x: m.max(x), [[1.0, nan, nan]], nan, [[0, 0.5, 0.5]]),
    ("max, min", "nan, dim="): (lambda m, x: m.max(x, dim=0)[0], [[1.0, nan, nan]], nan,
                                [[0, 1, 0]]),
    ("amax, amin", "ties"): (lambda m, x: m.amin(x, 0), [[1.0, 1.0, 2.0]], 1, [[0.5, 0.5, 0]]),
    ("amax, amin", "nan"): (lambda m, x: m.amax(x, 0), [[1.0, nan]], nan, [[nan, nan]]),
    ("argmax, argmin", "ties and nan"): (
        lambda m, x: m.stack([m.argmax(x[:3]), m.argmin(x[3:])]), [[2.0, 1.0, 2.0, 0.0, nan, nan]],
        [0, 1], None),
    ("prod", "one zero"): (fun("prod"), [[0.0, 2.0, 3.0]], 0, [[6, 0, 0]]),
    ("prod", "two zeros"): (fun("prod"), [[0.0, 0.0, 3.0]], 0, [[0, 0, 0]]),
    ("cumprod", "zeros"): (lambda m, x: m.cumprod(x, 0), [[2.0, 0.0, 3.0, 0.0, 4.0]],
                           [2, 0, 0, 0, 0], [[1, 8, 0, 0, 0]]),
    ("norm", "0, p = 2"): (lambda m, x: m.norm(x), [[0.0, 0.0]], 0, [[0, 0]]),
    ("norm", "0, p = 1"): (lambda m, x: m.norm(x, 1), [[0.0, 2.0]], 2, [[0, 1]]),
    ("norm", "0, p = 3"): (lambda m, x: m.norm(x, 3), [[0.0, 0.0]], 0, [[0, 0]]),
    ("norm", "0 among others, p = 0.5"): (lambda m, x: m.norm(x, 0.5), [[0.0, 2.0]], 2, [[0, 1]]),
    ("norm", "0, p = inf"): (lambda m, x: m.norm(x, inf), [[0.0, 0.0]], 0, [[0, 0]]),
    ("norm", "ties, p = inf"): (lambda m, x: m.norm(x, inf), [[2.0, -2.0, 1.0]], 2,
                                [[0.5, -0.5, 0]]),
    ("std", "all equal"): (fun("std"), [[1.0, 1.0]], 0, [[0, 0]]),
    ("var, std", "one element"): (fun("var"), [[1.0]], nan, [[nan]]),
    ("logsumexp", "all -inf"): (lambda m, x: m.logsumexp(x, 0), [[-inf, -inf]], -inf, [[nan, nan]]),
    ("logsumexp", "one inf"): (lambda m, x: m.logsumexp(x, 0), [[inf, 1.0]], inf, [[nan, 0]]),
    ("median", "even count"): (fun("median"), [[4.0, 1.0, 3.0, 2.0]], 2, [[0, 0, 0, 1]]),
    ("median", "ties, all elements"): (fun("median"), [[1.0, 2.0, 2.0, 3.0]], 2,
                                       [[0, 0.5, 0.5, 0]]),
    ("median", "ties, dim="): (lambda m, x: m.median(x, dim=0)[0], [[1.0, 2.0, 2.0, 3.0]], 2,
                               [[0, 1, 0, 0]]),
    ("median", "nan"): (fun("median"), [[1.0, nan, nan, 3.0]], nan, [[0, 0.5, 0.5, 0]]),
    ("sort", "nan, ties"): (lambda m, x: m.sort(x, stable=True)[0], [[3.0, nan, 1.0, 3.0]],
                            [1, 3, 3, nan], [[1, 1, 1, 1]]),
    ("sum, prod, mean", "no elements"): (
        lambda m, x: m.stack([m.sum(x), m.prod(x), m.mean(x)]), [[]], [0, 1, nan], [[]]),
    ("logsumexp", "no elements"): (lambda m, x: m.logsumexp(x, 0), [[]], -inf, [[]]),
    ("cumsum", "nan"): (lambda m, x: m.cumsum(x, 0), [[1.0, nan, 2.0]], [1, nan, nan],
                        [[3, 2, 1]]),
}  # fmt: skip

# Where the choice is another on purpose: the value and slopes of ours only.
OURS = {
    ("softplus", "beta x > 20"): (fun("softplus"), [[30.0]], [30.0 + np.log1p(np.exp(-30.0))],
                                  [[1 / (1 + np.exp(-30.0))]]),
    ("safe_where", "nan on the side not taken"): (
        lambda m, x: m.safe_where(x > 0, m.sqrt, x), [[-1.0, 0.0, 4.0]], [0, 0, 2], [[0, 0, 0.25]]),
    ("digamma", "-1, -2, ..."): (fun("digamma"), [[0.0, -1.0]], [-inf, nan], [[inf, inf]]),
    ("lgamma", "-1, -2, ..."): (fun("lgamma"), [[-1.0]], [inf], [[nan]]),
    ("x.at[i].set(v)", "i twice, one v"): (lambda m, x, v: x.at[[0, 0]].set(v),
                                           [[1.0, 2.0], [5.0]], [5, 2], [[0, 1], [2]]),
    ("x.at[i].max(v)", "ties"): (lambda m, x, v: x.at[0].max(v[0]), [[1.0, 2.0], [1.0]], [1, 2],
                                 [[0.5, 1], [0.5]]),
}  # fmt: skip
EMPTY = ["max", "min", "amax", "amin", "argmax", "argmin", "median"]


def check_ours(f, values, value, slopes):
    xs = [ft.Tensor(np.array(v, np.float64), True) for v in values]
    y = f(ft, *xs)
    if value is not None:
        np.testing.assert_allclose(y.detach().numpy(), np.asarray(value, float), rtol=1e-14)
    if slopes is None:
        assert not y.requires_grad
        return None
    found = ft.autograd.grad(y.sum(), xs)
    for g, s in zip(found, slopes, strict=True):
        np.testing.assert_allclose(g.numpy(), np.asarray(s, float), rtol=1e-12)
    return found


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("row", SAME, ids=" at ".join)
def test_as_in_pytorch(row) -> None:
    f, values, value, slopes = SAME[row]
    found = check_ours(f, values, value, slopes)
    ts = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    y = f(torch, *ts)
    ours = f(ft, *(ft.Tensor(np.array(v, np.float64)) for v in values))
    np.testing.assert_allclose(ours.numpy(), y.detach().numpy(), rtol=1e-14)
    if found is not None:
        theirs = torch.autograd.grad(y.sum(), ts)
        for a, b in zip(found, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("row", OURS, ids=" at ".join)
def test_our_own_choice(row) -> None:
    check_ours(*OURS[row])


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_choose_from(name: str) -> None:
    with pytest.raises(ft.FathomError, match=name):
        getattr(ft, name)(ft.zeros(0))


def test_second_derivatives_at_zeros_are_exact() -> None:
    def hessian(f, x):
        return ft.func.hessian(f)(ft.Tensor(x)).numpy()

    x = np.array([0.0, 2.0, 0.0, 3.0])
    for ours, theirs in [
        (lambda x: x.prod(), lambda x: x.prod()),
        (lambda x: (x.cumprod(0) ** 2 + x.cumprod(0)).sum(),
         lambda x: (x.cumprod(0) ** 2 + x.cumprod(0)).sum()),
    ]:  # fmt: skip
        exact = torch.autograd.functional.hessian(theirs, torch.tensor(x)).numpy()
        np.testing.assert_allclose(hessian(ours, x), exact, atol=1e-12)
    third = ft.func.jacrev(ft.func.hessian(ft.prod))(ft.Tensor(np.zeros(3))).numpy()
    assert third[0, 1, 2] == 1 and third[0, 0, 1] == 0


def test_second_derivatives_stay_finite() -> None:
    zero = ft.Tensor(np.zeros(3))
    for f in (ft.norm, ft.std, lambda x: ft.norm(x, 3), lambda x: ft.norm(x, 1.5),
              lambda x: ft.safe_where(x > 0, ft.sqrt, x).sum()):  # fmt: skip
        assert np.isfinite(ft.func.hessian(f)(zero).numpy()).all()


def test_the_page_has_every_row() -> None:
    rows = re.findall(r"^\| `?([^|]*?)`? \| ([^|]*?) \|", PAGE.read_text(), re.M)
    listed = {(op.replace("`", ""), point) for op, point in rows[1:]}
    wanted = {*SAME, *OURS, (", ".join(EMPTY), "no elements")}
    assert wanted == listed
