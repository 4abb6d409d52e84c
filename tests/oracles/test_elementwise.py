"""Elementwise operations against PyTorch (and scipy, for the special functions)."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import CHECKS, Case, check

torch = pytest.importorskip("torch")

UNARY = (((),), ((3,),), ((2, 3),), ((0, 3),), ((2, 1, 3),))
BINARY = (
    ((), ()),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((2, 3), ()),
    ((0, 3), (3,)),
    ((4, 1, 3), (2, 1)),
)
TERNARY = (((3,), (3,), (3,)), ((2, 3), (3,), ()), ((2, 1), (1, 3), (2, 3)), ((0, 3), (3,), (1,)))


def unary(name, ours=None, theirs=None, domain=(-2.0, 2.0)):
    return Case(name, ours or getattr(ft, name), theirs or getattr(torch, name), UNARY, domain)


def binary(name, ours=None, theirs=None, domain=(-2.0, 2.0), **more):
    return Case(
        name, ours or getattr(ft, name), theirs or getattr(torch, name), BINARY, domain, **more
    )


F = torch.nn.functional
CASES = [
    binary("add"),
    binary("sub"),
    binary("mul"),
    binary("div", domain=(0.5, 2.0)),
    binary("true_divide", domain=(-2.0, -0.5)),
    binary("power", theirs=torch.pow, domain=(0.5, 2.0)),
    binary("maximum"),
    binary("minimum"),
    binary("fmax"),
    binary("fmin"),
    binary("hypot", domain=(0.5, 2.0)),
    binary("atan2", domain=(0.5, 2.0)),
    binary("atan2_left", ft.atan2, torch.atan2, domain=(-2.0, -0.5)),
    binary("logaddexp"),
    binary("logaddexp2"),
    binary("xlogy", domain=(0.5, 2.0)),
    binary("remainder", domain=(0.7, 3.0)),
    binary(
        "remainder_signs",
        lambda x, y: ft.remainder(x, y - 5.0),
        lambda x, y: torch.remainder(x, y - 5.0),
    ),
    binary("fmod", lambda x, y: ft.fmod(3 * x, y - 5.0), lambda x, y: torch.fmod(3 * x, y - 5.0)),
    binary(
        "div_floor",
        lambda x, y: ft.div(x, y, rounding_mode="floor"),
        lambda x, y: torch.div(x, y, rounding_mode="floor"),
        (0.5, 2.0),
    ),
    binary(
        "div_trunc",
        lambda x, y: ft.div(-x, y, rounding_mode="trunc"),
        lambda x, y: torch.div(-x, y, rounding_mode="trunc"),
        (0.5, 2.0),
    ),
    unary("neg"),
    unary("reciprocal", domain=(0.5, 2.0)),
    unary("square"),
    unary("exp"),
    unary("exp2"),
    unary("expm1"),
    unary("log", domain=(0.5, 2.0)),
    unary("log2", domain=(0.5, 2.0)),
    unary("log10", domain=(0.5, 2.0)),
    unary("log1p", domain=(-0.5, 2.0)),
    unary("sqrt", domain=(0.5, 2.0)),
    unary("rsqrt", domain=(0.5, 2.0)),
    unary("sin"),
    unary("cos"),
    unary("tan", domain=(-1.2, 1.2)),
    unary("asin", domain=(-0.9, 0.9)),
    unary("acos", domain=(-0.9, 0.9)),
    unary("atan"),
    unary("sinh"),
    unary("cosh"),
    unary("tanh"),
    unary("asinh"),
    unary("acosh", domain=(1.2, 3.0)),
    unary("atanh", domain=(-0.9, 0.9)),
    unary("deg2rad"),
    unary("rad2deg"),
    unary("erf"),
    unary("erfc"),
    unary("erfinv", domain=(-0.9, 0.9)),
    unary("lgamma", domain=(0.2, 5.0)),
    unary("lgamma_left", ft.lgamma, torch.lgamma, (-0.9, -0.1)),
    unary("digamma", domain=(0.2, 5.0)),
    unary("digamma_left", ft.digamma, torch.digamma, (-0.9, -0.1)),
    unary("polygamma", lambda x: ft.polygamma(2, x), lambda x: torch.polygamma(2, x), (0.2, 5.0)),
    unary("sigmoid"),
    unary("softplus", theirs=F.softplus),
    unary("softplus_beta", lambda x: ft.softplus(x, 2.0), lambda x: F.softplus(x, 2.0)),
    unary(
        "softplus_threshold", lambda x: ft.softplus(x, 1.0, 0.5), lambda x: F.softplus(x, 1.0, 0.5)
    ),
    unary("logsigmoid", theirs=F.logsigmoid),
    unary("relu"),
    unary("abs"),
    unary("sign"),
    unary("floor"),
    unary("ceil"),
    unary("round"),
    unary("round_1", lambda x: ft.round(x, decimals=1), lambda x: torch.round(x, decimals=1)),
    unary("trunc"),
    unary("frac"),
    unary("nan_to_num"),
    unary("clip", lambda x: ft.clip(x, -1, 1), lambda x: torch.clip(x, -1, 1)),
    unary("clip_low", lambda x: ft.clip(x, min=0.5), lambda x: torch.clip(x, min=0.5)),
    unary("clamp_high", lambda x: x.clamp(max=0.5), lambda x: x.clamp(max=0.5)),
    binary("clamp_min_tensor", lambda x, y: x.clamp(min=y), lambda x, y: x.clamp(min=y)),
    binary("clamp_max_tensor", lambda x, y: x.clamp(max=y), lambda x, y: x.clamp(max=y)),
    unary("power_2", lambda x: x**2, lambda x: x**2),
    unary("power_0", lambda x: x**0, lambda x: x**0),
    unary("power_3.5", lambda x: x**3.5, lambda x: x**3.5, (0.5, 2.0)),
    unary("rpower", lambda x: 2.0**x, lambda x: 2.0**x),
    unary("scalar", lambda x: 3 - (2 * x) / 4 + 1, lambda x: 3 - (2 * x) / 4 + 1),
    unary(
        "modulo",
        lambda x: 7.5 % (x + 4) + x % 0.7,
        lambda x: torch.remainder(torch.full_like(x, 7.5), x + 4) + x % 0.7,
    ),
    unary("greater", lambda x: x > 0, lambda x: x > 0),
    unary(
        "between",
        lambda x: (x > -1) & ~(x > 1) | (x == 0),
        lambda x: (x > -1) & ~(x > 1) | (x == 0),
    ),
    unary("isfinite"),
    unary("isinf"),
    unary("isnan"),
    unary("logical_not"),
    binary("logical_and"),
    binary("logical_or"),
    binary("logical_xor"),
    binary(
        "isclose",
        lambda x, y: ft.isclose(x, y, atol=0.5),
        lambda x, y: torch.isclose(x, y, atol=0.5),
    ),
    unary("astype", lambda x: x.float().double(), lambda x: x.float().double()),
    unary("long", lambda x: x.long(), lambda x: x.long()),
    binary(
        "where", lambda x, y: ft.where(x > y, x, y * 2), lambda x, y: torch.where(x > y, x, y * 2)
    ),
    unary(
        "safe_where",
        lambda x: ft.safe_where(x > 0, ft.log, x),
        lambda x: torch.where(x > 0, torch.log(torch.where(x > 0, x, 1.0)), 0.0),
    ),
    Case(
        "clamp_tensors",
        lambda x, low, high: ft.clamp(x, low - 1, high),
        lambda x, low, high: torch.clamp(x, low - 1, high),
        TERNARY,
    ),
    Case("lerp", ft.lerp, lambda x, y, w: torch.lerp(*torch.broadcast_tensors(x, y), w), TERNARY),
    Case(
        "lerp_number",
        lambda x, y: ft.lerp(x, y, 0.3),
        lambda x, y: torch.lerp(x, y, 0.3),
        [((3,), (3,))],
    ),
    unary("diamond", lambda x: (x + x) * (x + x).exp(), lambda x: (x + x) * (x + x).exp()),
]


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, what: str) -> None:
    check(case, what, torch)


# -- special values ------------------------------------------------------------------------------

SPECIAL = [-np.inf, -3.7, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5, 2.5, np.inf, np.nan]
ONE = """exp exp2 expm1 log log2 log10 log1p sqrt rsqrt abs sign tanh sigmoid relu square neg
    sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv floor ceil round trunc
    frac isnan isinf isfinite nan_to_num reciprocal logical_not lgamma""".split()
TWO = """add sub mul div maximum minimum fmax fmin hypot atan2 power remainder fmod logaddexp xlogy
    equal less greater_equal logical_xor""".split()
NO_SLOPE = {"hypot", "power", "remainder", "fmod", "logaddexp"}  # compared in test_hard_points


@pytest.mark.parametrize("name", ONE)
def test_special_values(name: str) -> None:
    values = np.array(SPECIAL)
    x, t = ft.Tensor(values, True), torch.tensor(values, requires_grad=True)
    y, ty = getattr(ft, name)(x), getattr(torch, name)(t)
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-9, atol=1e-15)
    if not ty.requires_grad:
        return
    (g,), (tg,) = ft.autograd.grad(y.sum(), x), torch.autograd.grad(ty.sum(), t)
    finite = np.isfinite(values)
    if name != "lgamma":
        np.testing.assert_allclose(g.numpy()[finite], tg.numpy()[finite], rtol=1e-9)


@pytest.mark.parametrize("name", TWO)
def test_special_pairs(name: str) -> None:
    left, right = (a.reshape(-1) for a in np.meshgrid(SPECIAL, SPECIAL))
    theirs = getattr(torch, {"power": "pow", "equal": "eq"}.get(name, name))
    x, y = ft.Tensor(left.copy(), True), ft.Tensor(right.copy(), True)
    t, u = torch.tensor(left, requires_grad=True), torch.tensor(right, requires_grad=True)
    out, expected = getattr(ft, name)(x, y), theirs(t, u)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    if expected.requires_grad and name not in NO_SLOPE:
        ours = ft.autograd.grad(out.sum(), [x, y])
        slopes = torch.autograd.grad(expected.sum(), [t, u])
        finite = np.isfinite(left) & np.isfinite(right)
        for a, b in zip(ours, slopes, strict=True):
            np.testing.assert_allclose(a.numpy()[finite], b.numpy()[finite], rtol=1e-9)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-300)))


def test_error_function_to_the_last_bits() -> None:
    special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(-6, 6, 40001), np.logspace(-30, 0, 500), [0.46875, 4.0]])
    assert relative(ft.erf(x), special.erf(x)) < 1e-15
    x = np.concatenate([x, np.linspace(6, 26, 20001)])
    exact = np.array([math.erfc(v) for v in x])  # scipy's tail is off by 6e-14
    assert relative(ft.erfc(x), exact) < 1.5e-15
    q = np.concatenate([np.linspace(-1, 1, 20003)[1:-1], 1 - np.logspace(-15, -3, 200)])
    assert relative(ft.erfinv(q), special.erfinv(q)) < 4e-15
    assert ft.erfc(np.array([30.0, -30.0])).tolist() == [0.0, 2.0]


def test_gamma_family_against_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(0.01, 30, 5001), np.linspace(-5.93, -0.03, 700), [1e5, 1e10]])
    np.testing.assert_allclose(ft.lgamma(x), special.gammaln(x), rtol=1e-13, atol=4e-14)
    np.testing.assert_allclose(ft.digamma(x), special.psi(x), rtol=1e-12, atol=1e-12)
    positive = x[x > 0]
    for n in (1, 2, 3):
        np.testing.assert_allclose(
            ft.polygamma(n, positive), special.polygamma(n, positive), rtol=1e-12
        )


@pytest.mark.parametrize("name", ["erf", "erfc", "lgamma", "digamma", "erfinv"])
def test_special_functions_in_float32(name: str) -> None:
    special = pytest.importorskip("scipy.special")
    x = np.linspace(0.01, 0.99, 999, dtype=np.float32)
    exact = {"lgamma": "gammaln", "digamma": "psi"}.get(name, name)
    out = getattr(ft, name)(x)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, getattr(special, exact)(x.astype(np.float64)), rtol=1e-6)


# -- kinds of elements -----------------------------------------------------------------------------

MIXED = [
    (np.float32, 2.0), (np.float32, 2), (np.float32, True), (np.int64, 2), (np.int64, 2.0),
    (np.float32, np.int64), (np.int32, np.int64), (np.float32, np.float64), (np.bool_, np.float32),
    (np.bool_, 2), (np.bool_, np.int64), (np.float64, np.int32), (np.uint8, np.int64),
    (np.float16, np.float32), (np.float16, np.int64),
]  # fmt: skip
TENSORS_ONLY = {"maximum", "minimum", "atan2", "logical_and"}
PROMOTED = [
    (op, left, right)
    for op in "add mul div maximum minimum remainder floor_divide atan2 less logical_and".split()
    for left, right in MIXED
    if isinstance(right, type) or op not in TENSORS_ONLY
    if not (op in ("remainder", "floor_divide") and left is np.bool_)
]


@pytest.mark.parametrize(("op", "left", "right"), PROMOTED, ids=str)
def test_mixed_dtypes_promote_as_in_pytorch(op: str, left, right) -> None:
    a = np.ones(3, left)
    ours, theirs = ft.Tensor(a), torch.tensor(a)
    b = np.ones((2, 3), right) if isinstance(right, type) else right
    mine = ft.Tensor(b) if isinstance(right, type) else b
    others = torch.tensor(b) if isinstance(right, type) else b
    found = getattr(ft, op)(ours, mine)
    assert found.numpy().dtype == getattr(torch, op)(theirs, others).numpy().dtype


KINDS = [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float16, np.float32]
WHOLE = """exp log sqrt rsqrt sin acos tanh sigmoid erf lgamma digamma log1p exp2 expm1 sign abs
    floor ceil round trunc square isnan reciprocal atan sinh logical_not""".split()
NOT_OF_BOOLEANS = {"abs", "floor", "ceil", "round", "trunc", "square"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_become_float32(name: str, kind) -> None:
    if kind is np.bool_ and name in NOT_OF_BOOLEANS:
        return  # PyTorch refuses
    a = np.array([0, 1, 1], kind)
    ours, theirs = getattr(ft, name)(ft.Tensor(a)), getattr(torch, name)(torch.tensor(a))
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-3)


def test_arrays_with_axes_decide_over_single_numbers() -> None:
    x = ft.Tensor(np.ones(3, np.float32))
    assert (x * ft.Tensor(np.float64(2))).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float32
    assert (np.ones(3, np.float32) * x).dtype == np.float32
    assert isinstance(np.ones(3, np.float32) * x, ft.Tensor)


WHOLE_PAIRS = "bitwise_and bitwise_or bitwise_xor remainder fmod floor_divide maximum".split()


@pytest.mark.parametrize("name", WHOLE_PAIRS)
def test_whole_numbers(name: str) -> None:
    a, b = (v.reshape(-1) for v in np.meshgrid([-7, -2, 0, 5, 12], [-3, 2, 5]))
    ours, theirs = (
        getattr(ft, name)(ft.Tensor(a), ft.Tensor(b)),
        getattr(torch, name)(torch.tensor(a), torch.tensor(b)),
    )
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_operators_on_whole_numbers() -> None:
    a, b = np.array([5, -7, 12]), np.array([3, 2, -5])
    x, y, t, u = ft.Tensor(a), ft.Tensor(b), torch.tensor(a), torch.tensor(b)
    for f in (
        lambda x, y: x & y, lambda x, y: x | y, lambda x, y: x ^ y, lambda x, y: ~x + 6 % y,
        lambda x, y: x // y, lambda x, y: x % y, lambda x, y: 20 // y, lambda x, y: 6 & x,
    ):  # fmt: skip
        np.testing.assert_array_equal(f(x, y).numpy(), f(t, u).numpy())


def test_allclose_and_number_arguments() -> None:
    x = ft.tensor([1.0, float("nan")])
    assert not ft.allclose(x, x) and ft.allclose(x, x, equal_nan=True)
    assert ft.sin(0.0).dtype == np.float32 and float(ft.sin([0.0, math.pi / 2])[1]) == 1.0
    assert isinstance(ft.exp(np.ones(2)), np.ndarray)
    assert isinstance(np.sin(x), ft.Tensor) and isinstance(np.hypot(x, 1.0), ft.Tensor)


ONE_ARGUMENT = [n for n in ONE if n not in ("nan_to_num", "round", "lgamma")]


@pytest.mark.parametrize("name", [*ONE_ARGUMENT, "digamma", "softplus", "logsigmoid", "round"])
@pytest.mark.parametrize(
    "wrong", ["text", [[1.0], [1.0, 2.0]], object()], ids=["str", "ragged", "object"]
)
def test_wrong_argument(name: str, wrong) -> None:
    with pytest.raises(ft.FathomError):
        getattr(ft, name)(wrong)


@pytest.mark.parametrize("name", [n for n in TWO if n not in ("power",)] + ["power", "isclose"])
def test_wrong_shapes(name: str) -> None:
    with pytest.raises(ft.FathomError, match=r"(?s)\(2, >3<\).*>4<") as caught:
        getattr(ft, name)(ft.ones(2, 3), ft.ones(4))
    assert isinstance(caught.value, ValueError)
    with pytest.raises(ft.FathomError):
        getattr(ft, name)(ft.ones(2), "text")


MISTAKES = [
    lambda: ft.where(ft.ones(2) > 0, 1.0),
    lambda: ft.where(ft.ones(2) > 0, ft.ones(3), 0.0),
    lambda: ft.clip(ft.ones(2)),
    lambda: ft.clip(ft.ones(2), ft.ones(3), 1.0),
    lambda: ft.div(ft.ones(2), 2, rounding_mode="up"),
    lambda: ft.floor_divide(ft.tensor([1]), 0),
    lambda: ft.remainder(ft.tensor([1]), ft.tensor([0])),
    lambda: ft.fmod(ft.tensor([1]), 0),
    lambda: ft.tensor([2]) ** -1,
    lambda: ft.bitwise_and(ft.ones(2), ft.ones(2)),
    lambda: ft.bitwise_not(ft.ones(2)),
    lambda: ft.round(ft.ones(2), decimals=0.5),
    lambda: ft.polygamma(-1, ft.ones(2)),
    lambda: ft.lerp(ft.ones(2), ft.ones(3), 0.5),
    lambda: ft.ones(2).astype("nothing"),
    lambda: ft.ones(2).astype(complex),
    lambda: -ft.tensor([True]),
    lambda: ft.tensor([True]) - ft.tensor([True]),
]


@pytest.mark.parametrize("mistake", range(len(MISTAKES)))
def test_mistakes(mistake: int) -> None:
    with pytest.raises(ft.FathomError):
        MISTAKES[mistake]()
