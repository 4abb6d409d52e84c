"""Pooling against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from fathom.nn import functional as F
from tests.oracles.battery import battery
from tests.oracles.harness import Case

torch = pytest.importorskip("torch")
TF = torch.nn.functional


def case(function, shapes, domain=(-2.0, 2.0), **options):
    """The same function with the same options in both libraries."""
    return Case(
        f"{function} " + " ".join(f"{k}={v}" for k, v in options.items()),
        lambda x: getattr(F, function)(x, **options),
        lambda x: getattr(TF, function)(x, **options),
        shapes,
        domain,
    )


X1 = (((2, 3, 7),), ((3, 7),), ((0, 3, 7),))
X2 = (((2, 3, 7, 6),), ((3, 7, 6),), ((0, 3, 7, 6),))
X3 = (((1, 2, 5, 4, 6),), ((2, 4, 4, 4),))
WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
]
MAX = [
    *(case(f"max_pool{rank}d", shapes, **w)
      for rank, shapes in ((1, X1), (2, X2), (3, X3)) for w in WINDOWS),
    case("max_pool1d", X1, kernel_size=2, dilation=3),
    case("max_pool2d", X2, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(2, 3)),
    case("max_pool2d", X2, kernel_size=(2, 3), stride=(1, 2), padding=(1, 1), ceil_mode=True),
    case("max_pool3d", X3, kernel_size=(2, 1, 3), stride=1, dilation=(1, 2, 1)),
]  # fmt: skip
AVERAGE = [
    *(case(f"avg_pool{rank}d", shapes, **w)
      for rank, shapes in ((1, X1), (2, X2), (3, X3)) for w in WINDOWS),
    *(case(f"avg_pool{rank}d", shapes, count_include_pad=False, **w)
      for rank, shapes in ((1, X1), (2, X2), (3, X3)) for w in WINDOWS[2:]),
    case("avg_pool2d", X2, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0)),
    case("avg_pool2d", X2, kernel_size=3, padding=1, divisor_override=2),
    case("avg_pool3d", X3, kernel_size=2, ceil_mode=True, divisor_override=-3),
]  # fmt: skip
POSITIVE = (0.5, 2.0)
OTHERS = [
    *(case(f"lp_pool{rank}d", shapes[:1], POSITIVE, norm_type=p, kernel_size=2, ceil_mode=c)
      for rank, shapes in ((1, X1), (2, X2), (3, X3)) for p in (2, 3.0) for c in (False, True)),
    case("lp_pool2d", X2[:1], norm_type=2, kernel_size=(3, 2), stride=1),
    case("lp_pool1d", X1[:1], POSITIVE, norm_type=1, kernel_size=3, stride=2),
    *(case(f"adaptive_{kind}_pool1d", X1, output_size=s) for kind in ("avg", "max")
      for s in (1, 3, 7, 9)),
    *(case(f"adaptive_{kind}_pool2d", X2, output_size=s) for kind in ("avg", "max")
      for s in (1, 2, (7, 3), (None, 4), (3, 8))),
    *(case(f"adaptive_{kind}_pool3d", X3, output_size=s) for kind in ("avg", "max")
      for s in (1, (2, 2, 3), (4, None, 2))),
]  # fmt: skip

CASES = MAX + AVERAGE + OTHERS
test_equals_pytorch, test_forward_mode, test_vmap, test_float32_stays_float32 = battery(
    CASES, torch
)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_indices_and_ties_are_those_of_pytorch(rank: int, window) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, (2, 3, 7, 6, 5)[: rank + 2]).astype(np.float64)  # many ties
    a[0, 0] = -np.inf
    ours, theirs = ft.Tensor(a, True), torch.tensor(a, requires_grad=True)
    y, i = getattr(F, f"max_pool{rank}d")(ours, **window, return_indices=True)
    ty, ti = getattr(TF, f"max_pool{rank}d")(theirs, **window, return_indices=True)
    np.testing.assert_array_equal(y.detach().numpy(), ty.detach().numpy())
    np.testing.assert_array_equal(i.numpy(), ti.numpy())
    g = rng.standard_normal(y.shape)
    y.backward(g)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy())


@pytest.mark.parametrize("size", [1, 2, (3, 5), (7, 4)], ids=str)
def test_adaptive_indices(size) -> None:
    a = np.random.default_rng(0).integers(0, 3, (2, 3, 7, 6)).astype(np.float64)
    y, i = F.adaptive_max_pool2d(ft.Tensor(a), size, return_indices=True)
    ty, ti = TF.adaptive_max_pool2d(torch.tensor(a), size, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), ty.numpy())
    np.testing.assert_array_equal(i.numpy(), ti.numpy())


def test_nan_wins() -> None:
    a = np.arange(36.0).reshape(1, 1, 6, 6)
    a[0, 0, 1, 2] = a[0, 0, 4, 4] = np.nan
    y, i = F.max_pool2d(ft.Tensor(a), 3, 2, return_indices=True)
    ty, ti = TF.max_pool2d(torch.tensor(a), 3, 2, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), ty.numpy())
    np.testing.assert_array_equal(i.numpy(), ti.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_unpool(rank: int) -> None:
    a = np.random.default_rng(0).standard_normal((2, 3, 6, 6, 6)[: rank + 2])
    x, t = ft.Tensor(a, True), torch.tensor(a, requires_grad=True)

    def there_and_back(f, v):
        y, i = getattr(f, f"max_pool{rank}d")(v, 2, return_indices=True)
        return getattr(f, f"max_unpool{rank}d")(y, i, 2)

    y, ty = there_and_back(F, x), there_and_back(TF, t)
    np.testing.assert_array_equal(y.detach().numpy(), ty.detach().numpy())
    (y * y).sum().backward()
    (ty * ty).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy())
    odd = getattr(F, f"max_unpool{rank}d")(
        *getattr(F, f"max_pool{rank}d")(x, 2, return_indices=True), 2, output_size=(7,) * rank
    )
    assert odd.shape[2:] == (7,) * rank


def test_windows_of_ones_take_no_shortcut_that_shares_memory() -> None:
    x = np.ones((1, 1, 3, 3))
    F.max_pool2d(x, 1)[...] = 5
    F.avg_pool2d(x, 1)[...] = 5
    assert (x == 1).all()


ONE = ft.ones(1, 2, 6, 6)
BAD = [
    (lambda: F.max_pool2d(ONE, 7), ValueError, ">6<"),
    (lambda: F.max_pool2d(ONE, 2, padding=2), ValueError, "half of the kernel"),
    (lambda: F.max_pool2d(ft.ones(6, 6), 2), ValueError, "(n, c, h, w)"),
    (lambda: F.max_pool2d(ONE, 0), ValueError, "kernel_size must be >= 1"),
    (lambda: F.max_pool2d(ft.tensor(np.ones((1, 1, 4, 4), int)), 2), TypeError, "floats"),
    (lambda: F.avg_pool2d(ONE, 2, divisor_override=0), ValueError, "divisor_override"),
    (lambda: F.avg_pool2d(ONE, (2, 2, 2)), ValueError, "2 of them"),
    (lambda: F.adaptive_avg_pool2d(ONE, (1, 2, 3)), ValueError, "2 numbers"),
    (lambda: F.adaptive_max_pool2d(ft.ones(1, 2, 0, 4), 1), ValueError, "nothing to pool"),
    (lambda: F.max_unpool2d(ft.ones(1, 1, 2, 2), np.full((1, 1, 2, 2), 99), 2), ValueError, "99"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[t for *_, t in BAD])
def test_errors_teach(call, kind, text) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ft.FathomError)
    assert text in str(caught.value)
