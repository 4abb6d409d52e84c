"""Formulas: values, derivatives of any order, evaluation, printing, analysis, errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fathom
from fathom import func
from fathom.autograd import grad, gradcheck, gradgradcheck
from fathom.engine.errors import ArgumentError, GraphError
from fathom.ops.expression import Expr, constant, differentiate, make, to_python, trace
from fathom.ops.formula import BLOCK, Formula, Plan, formula

CUBE = 0.044715
sigmoid = formula(lambda x: 1 / (1 + fathom.exp(-x)), name="logistic")
silu = formula(lambda x: x * fathom.sigmoid(x), name="silu")
tanh = formula(lambda x: fathom.tanh(x), name="tanh")
softplus = formula(lambda x: fathom.log(1 + fathom.exp(x)), name="softplus")
gelu = formula(
    lambda x: 0.5 * x * (1 + fathom.tanh(math.sqrt(2 / math.pi) * (x + CUBE * x**3))), name="gelu"
)


@formula
def tilted(x, slope=0.1):
    """Leaky rectifier."""
    return fathom.where(x > 0, x, slope * x)


# -- values and derivatives ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "plain"),
    [
        (sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (silu, lambda x: x / (1 + np.exp(-x))),
        (softplus, lambda x: np.log(1 + np.exp(x))),
        (tilted, lambda x: np.where(x > 0, x, 0.1 * x)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(f, plain, dtype) -> None:
    x = np.linspace(-5, 5, 101).astype(dtype)
    y = f(fathom.Tensor(x))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), plain(x), rtol=3e-6 if dtype == np.float32 else 1e-14)
    assert type(f(x)) is np.ndarray and f(x).dtype == dtype
    np.testing.assert_array_equal(f(x), y.numpy())


@pytest.mark.parametrize("f", [sigmoid, silu, tanh, softplus, gelu])
def test_derivatives_to_the_fourth_order(f) -> None:
    x = np.array([-2.0, -0.3, 0.7, 1.9])
    eps = 1e-5
    for order in range(1, 5):
        lower = f if order == 1 else f.derivative(order - 1)
        numeric = (lower(x + eps) - lower(x - eps)) / (2 * eps)
        np.testing.assert_allclose(f.derivative(order)(x), numeric, rtol=1e-7, atol=1e-8)
    assert f.derivative(2) is f.derivative(1).derivative(1)


@pytest.mark.parametrize("f", [sigmoid, silu, tilted, gelu])
def test_on_the_tape_it_is_one_node_of_any_order(f) -> None:
    x = fathom.tensor([-1.5, 0.4, 2.0], np.float64, requires_grad=True)
    y = f(x)
    assert y.node.name() == f.name
    assert [p for p, _ in y.node.next_functions] == [x]
    assert gradcheck(f, x) and gradgradcheck(f, x)
    (g,) = grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), f.derivative()(x.detach().numpy()), rtol=1e-13)
    if f is not tilted:  # its slope is constant
        (h,) = grad(g.sum(), x, create_graph=True)
        (t,) = grad(h.sum(), x)
        np.testing.assert_allclose(t.numpy(), f.derivative(3)(x.detach().numpy()), rtol=1e-10)


def test_under_transforms() -> None:
    x = fathom.tensor([-1.0, 0.5], np.float64)
    np.testing.assert_allclose(
        func.vmap(func.grad(func.grad(silu)))(x).numpy(), silu.derivative(2)(x).numpy(), rtol=1e-12
    )
    out, tangent = func.jvp(silu, (x,), (fathom.ones(2, dtype=np.float64),))
    np.testing.assert_allclose(tangent.numpy(), silu.derivative()(x).numpy(), rtol=1e-14)
    assert out.dtype == np.float64


def test_several_variables_and_defaults() -> None:
    f = formula(lambda x, a, b=2.0: a * x**2 + b * x, name="parabola")
    x = fathom.tensor([1.0, 2.0], np.float64, requires_grad=True)
    a = fathom.tensor(3.0, np.float64, requires_grad=True)
    assert f(x, a).tolist() == [5.0, 16.0]
    assert f(x, a=a, b=1.0).tolist() == [4.0, 14.0]
    f(x, a).sum().backward()
    assert x.grad.tolist() == [8.0, 14.0] and a.grad.item() == 5.0
    assert f.derivative(1, "a")(np.array([3.0]), 1.0).tolist() == [9.0]
    assert f.derivative(2, "x")(np.array([3.0]), 1.5).tolist() == [3.0]
    assert f.derivative(1, "b")(np.array([3.0]), 1.5).tolist() == [3.0]
    mixed = f.derivative(1, "x").derivative(1, "a")
    assert mixed(np.array([3.0]), 1.0).tolist() == [6.0]
    assert tilted(fathom.tensor([-2.0])).tolist() == pytest.approx([-0.2])
    assert tilted(fathom.tensor([-2.0]), 0.5).tolist() == [-1.0]
    assert tilted.__doc__ == "Leaky rectifier." and tilted.name == "tilted"


def test_broadcasting_of_variables() -> None:
    f = formula(lambda x, y: x * fathom.exp(y))
    x, y = np.linspace(0, 1, 3)[:, None], np.linspace(-1, 1, 4)
    np.testing.assert_allclose(f(x, y), x * np.exp(y))
    tx, ty = (fathom.tensor(v, requires_grad=True) for v in (x, y))
    f(tx, ty).sum().backward()
    np.testing.assert_allclose(tx.grad.numpy(), np.exp(y).sum() * np.ones((3, 1)))
    np.testing.assert_allclose(ty.grad.numpy(), x.sum() * np.exp(y))


def test_a_formula_inside_a_formula_is_written_out() -> None:
    outer = formula(lambda x: silu(x) * silu(2 * x))
    plain = formula(lambda x: x * fathom.sigmoid(x) * (2 * x * fathom.sigmoid(2 * x)))
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(outer(x), plain(x), rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(
        outer.derivative(2)(x), plain.derivative(2)(x), rtol=1e-10, atol=1e-12
    )
    assert "silu" not in repr(outer) and "sigmoid" in repr(outer)


# -- evaluation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("f", [gelu, softplus, tilted])
def test_blocks_equal_plain_evaluation_bitwise(f, dtype) -> None:
    x = np.random.default_rng(0).standard_normal(2 * BLOCK + 77).astype(dtype)
    whole = f(x)
    plan = Plan(f.expr, f.names)
    rest = [np.asarray(v, dtype) for v in f.defaults.values()]
    np.testing.assert_array_equal(whole, plan.run([x, *rest], np.dtype(dtype), None))
    np.testing.assert_array_equal(whole, np.concatenate([f(x[:BLOCK]), f(x[BLOCK:])]))


def test_blocks_leave_the_input_alone() -> None:
    x = np.random.default_rng(1).standard_normal((2, BLOCK + 3))
    kept = x.copy()
    y = gelu.derivative(2)(x)
    np.testing.assert_array_equal(x, kept)
    assert y.shape == x.shape and not np.shares_memory(x, y)
    same = formula(lambda v: v)
    assert not np.shares_memory(same(x[:, :4]), x)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x[::2, ::-1],
        lambda x: x.T,
        np.asfortranarray,
        lambda x: x[:0],
        lambda x: x[0, 0],
        lambda x: np.broadcast_to(x[0], x.shape),
    ],
)
def test_any_memory_layout(layout) -> None:
    x = layout(np.random.default_rng(2).standard_normal((6, 8)))
    np.testing.assert_array_equal(gelu(x), gelu(np.array(x, order="C")))
    assert np.shape(gelu(x)) == np.shape(x)


def test_large_non_contiguous_input() -> None:
    x = np.random.default_rng(3).standard_normal((400, 700)).T
    np.testing.assert_array_equal(gelu(x), gelu(np.ascontiguousarray(x)))


def test_constants_numbers_and_whole_numbers() -> None:
    assert formula(lambda x: 0 * x + 3.0)(fathom.ones(2)).tolist() == [3.0, 3.0]
    assert silu(fathom.tensor([0, 1])).dtype == np.float32
    assert float(silu(1.0)) == pytest.approx(0.7310586)
    assert silu.derivative()(fathom.tensor(0.0)).item() == 0.5


# -- printing --------------------------------------------------------------------------------------


def test_python_and_latex() -> None:
    assert repr(silu) == "silu(x) = x * sigmoid(x)"
    assert silu.latex() == r"x \sigma\left(x\right)"
    f = formula(
        lambda x, alpha=1.0: fathom.where(x > 0, x, alpha * (fathom.exp(x) - 1)), name="elu"
    )
    assert repr(f) == "elu(x, alpha) = where(x > 0, x, alpha * (exp(x) - 1))"
    assert r"\begin{cases}" in f.latex() and r"\alpha" in f.latex() and "e^{x}" in f.latex()
    g = formula(lambda x: fathom.sqrt(abs(x)) / (1 + x**2) - (-x) ** 3)
    assert r"\frac{\sqrt{\left|x\right|}}" in g.latex() and "^{3}" in g.latex()
    assert r"\max" in formula(lambda x: fathom.maximum(x, 0.0)).latex()


EXPRESSIONS = [
    lambda x: -(x + 1) * (x - 2) / (x * x + 1),
    lambda x: x - (x - (x - 1)),
    lambda x: 2 / (3 / (x * x + 2)),
    lambda x: -(x**2) + (-x) ** 2 * 3,
    lambda x: (x + 1) ** 2 - fathom.exp(-x / 2),
    lambda x: 1e-8 * x + 123456789.5 - 0.1,
    lambda x: fathom.where(x <= 0, -x, x * x),
]


@pytest.mark.parametrize("f", EXPRESSIONS)
def test_printed_python_computes_the_same(f) -> None:
    x = np.linspace(0.5, 2, 7)
    names = {**vars(fathom), "x": x}
    expr = trace(f, ["x"])
    again = np.asarray(eval(to_python(expr), names))
    np.testing.assert_allclose(again, Plan(expr, ["x"])(x), rtol=1e-5)


@pytest.mark.parametrize("f", [gelu, tilted, silu.derivative(2)])
def test_printed_source_computes_the_same(f) -> None:
    x = np.linspace(-2, 2, 9)
    source = f.source()
    scope = dict(vars(fathom))
    exec(source.replace(source[4 : source.index("(")], "program", 1), scope)
    rest = [np.float64(v) for v in f.defaults.values()]
    np.testing.assert_allclose(scope["program"](x, *rest), f(x), rtol=1e-13)


def test_plot() -> None:
    ax = silu.plot(-3, 3, orders=2)
    assert [line.get_label() for line in ax.lines[:3]] == ["silu", "silu'", "silu''"]
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, silu(np.asarray(x)))
    assert tilted.plot(ax=ax, slope=0.5) is ax


# -- analysis --------------------------------------------------------------------------------------


def test_sigmoid() -> None:
    a = sigmoid.analyse()
    assert (a.left_limit, a.right_limit) == pytest.approx((0.0, 1.0), abs=1e-9)
    assert a.extrema == () and a.zeros == () and a.monotone
    (bump,) = sigmoid.derivative().analyse().extrema
    assert (bump.x, bump.value, bump.kind) == (pytest.approx(0, abs=1e-7), 0.25, "maximum")


def test_tanh() -> None:
    a = tanh.analyse(-5, 5)
    assert (a.left_limit, a.right_limit) == (-1.0, 1.0) and a.monotone
    assert a.zeros == pytest.approx((0.0,), abs=1e-12)
    assert [kind for _, _, kind in a.pieces] == ["rising"]
    assert tanh.derivative().analyse().extrema[0].value == pytest.approx(1.0)


def test_silu_and_gelu() -> None:
    a = silu.analyse()
    (low,) = a.extrema
    assert (low.x, low.value) == (pytest.approx(-1.2784645, abs=1e-6),
                                  pytest.approx(-0.2784645, abs=1e-6))  # fmt: skip
    assert low.kind == "minimum" and not a.monotone
    assert a.left_limit == pytest.approx(0.0, abs=1e-9) and a.right_limit == math.inf
    assert (a.left_slope, a.right_slope) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert [kind for _, _, kind in a.pieces] == ["falling", "rising"]
    assert a.pieces[0][1] == pytest.approx(low.x, abs=2e-3)
    (low,) = gelu.analyse(-5, 5).extrema
    assert low.x == pytest.approx(-0.7524614, abs=1e-5)
    assert low.value == pytest.approx(-0.17004075, abs=1e-7)


def test_softplus_and_pieces() -> None:
    stable = formula(lambda x: fathom.maximum(x, 0.0) + fathom.log(1 + fathom.exp(-abs(x))))
    a = stable.analyse()
    assert a.monotone and a.left_limit == pytest.approx(0, abs=1e-9) and a.right_limit == math.inf
    assert a.extrema == () and a.zeros == ()
    kinks = tilted.analyse(slope=0.0)
    assert kinks.monotone and [k for _, _, k in kinks.pieces] == ["flat", "rising"]
    wave = formula(lambda x: x**3 - 3 * x).analyse(-3, 3)
    assert [(e.kind, round(e.x, 6), round(e.value, 6)) for e in wave.extrema] == [
        ("maximum", -1.0, 2.0), ("minimum", 1.0, -2.0),
    ]  # fmt: skip
    assert wave.zeros == pytest.approx((-math.sqrt(3), 0.0, math.sqrt(3)), abs=1e-9)
    assert [k for _, _, k in wave.pieces] == ["rising", "falling", "rising"]
    assert (wave.left_limit, wave.right_limit) == (-math.inf, math.inf)


# -- simplification --------------------------------------------------------------------------------

LEAF = st.one_of(
    st.sampled_from([Expr("variable", value="x"), Expr("variable", value="y")]),
    st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5]).map(constant),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["add", "sub", "mul", "maximum"]), inner, inner),
        st.tuples(st.sampled_from(["neg", "square", "tanh", "exp", "sigmoid"]), inner),
        st.tuples(st.just("power"), inner, st.sampled_from([0.0, 1.0, 2.0, 3.0]).map(constant)),
        st.tuples(st.just("div"), inner, st.sampled_from([1.0, 2.0, -4.0]).map(constant)),
    ),
    max_leaves=12,
)


def build(tree, how):
    if isinstance(tree, Expr):
        return tree
    op, *args = tree
    return how(op, *(build(a, how) for a in args))


X, Y = np.array([-1.2, 0.3, 0.8]), np.array([0.7, -0.4, 1.1])


def value_of(expr):
    with np.errstate(all="ignore"):
        return Plan(expr, ["x", "y"])(X, Y)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(TREE)
def test_simplified_and_plain_agree(tree) -> None:
    plain, simple = build(tree, lambda op, *a: Expr(op, a)), build(tree, make)
    assert simple.operations() <= plain.operations()
    pairs = [(plain, simple)]
    for name in ("x", "y"):
        pairs.append((differentiate(plain, name, False), differentiate(simple, name)))
    for a, b in pairs:
        left, right = value_of(a), value_of(b)
        sane = np.isfinite(left) & (np.abs(left) < 1e6)
        np.testing.assert_allclose(right[sane], left[sane], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda x: x * 1 + 0, "x"),
        (lambda x: 0 * x + 2, "2"),
        (lambda x: x - x, "0"),
        (lambda x: fathom.neg(-x), "x"),
        (lambda x: x * x, "x**2"),
        (lambda x: x**1 + x**0, "x + 1"),
        (lambda x: 2 * (3 * x), "6 * x"),
        (lambda x: x / 4, "0.25 * x"),
        (lambda x: x + (-x * 2), "x - 2 * x"),
        (lambda x: fathom.where(x > 0, x, x), "x"),
        (lambda x: fathom.exp(0 * x), "1"),
    ],
)
def test_simplest_form(f, text) -> None:
    assert to_python(trace(f, ["x"])) == text


def test_equal_parts_are_one_object() -> None:
    f = trace(lambda x: fathom.exp(x) * fathom.exp(x) + fathom.exp(x), ["x"])
    assert f.operations() == 3  # exp, its square, the sum
    assert f.operations(shared=False) == 4
    assert f.variables() == ["x"]


# -- expression swell ------------------------------------------------------------------------------


def logistic_map(n):
    """x -> 4 x (1 - x), n times over."""

    def f(x):
        for _ in range(n):
            x = 4 * x * (1 - x)
        return x

    return f


@pytest.mark.parametrize("n", range(1, 8))
def test_four_ways_to_one_derivative(n) -> None:
    """Numeric, symbolic, forward and reverse agree in value."""
    f, at = logistic_map(n), 0.3
    symbolic = formula(f).derivative()(np.array([at]))[0]
    x = fathom.tensor(at, np.float64)
    forward = func.jvp(f, (x,), (fathom.ones((), dtype=np.float64),))[1].item()
    reverse = func.grad(f)(x).item()
    numeric = (f(at + 1e-7) - f(at - 1e-7)) / 2e-7
    assert symbolic == pytest.approx(forward, rel=1e-10)
    assert reverse == pytest.approx(forward, rel=1e-12)
    assert numeric == pytest.approx(forward, rel=1e-4)


def test_expression_swell() -> None:
    """Written out, the derivative grows exponentially; with shared parts, linearly."""
    swell, shared = [], []
    for n in range(1, 9):
        expr = trace(logistic_map(n), ["x"], simplify=False)
        slope = differentiate(expr, "x", simplify=False)
        swell.append(slope.operations(shared=False))
        shared.append(slope.operations())
    ratios = np.array(swell[1:]) / np.array(swell[:-1])
    assert (ratios > 1.9).all() and swell[-1] > 1000
    steps = np.diff(shared)
    assert (steps == steps[1]).sum() >= 5 and shared[-1] < 100
    tidy = formula(logistic_map(8))
    assert tidy.derivative().operations() < shared[-1]
    assert tidy.derivative().operations(shared=False) < swell[-1]


# -- errors ----------------------------------------------------------------------------------------


def branching(x):
    return x if x > 0 else -x


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: formula(branching), GraphError, "cannot branch"),
        (lambda: formula(lambda x: float(x) * 2), GraphError, "cannot branch"),
        (lambda: formula(lambda x: fathom.sum(x)), ArgumentError, "sum is not elementwise"),
        (lambda: formula(lambda x: x @ x), ArgumentError, "matmul is not elementwise"),
        (lambda: formula(lambda x: x * np.ones(3)), ArgumentError, "must be a number"),
        (lambda: silu(1.0, 2.0), ArgumentError, r"takes 1 values \(x\); received 2"),
        (lambda: silu(), ArgumentError, "no value for 'x'"),
        (lambda: silu(1.0, x=2.0), ArgumentError, "not a free variable"),
        (lambda: tilted(1.0, steep=2.0), ArgumentError, "'steep' is not a free variable"),
        (lambda: silu.derivative(0), ArgumentError, "order must be >= 1"),
        (lambda: silu.derivative(1, "z"), ArgumentError, "no variable 'z'"),
    ],
)
def test_mistakes_are_named(run, error, match) -> None:
    with pytest.raises(error, match=match):
        run()


def test_shapes_that_do_not_fit_are_explained() -> None:
    f = formula(lambda x, y: x + y, name="pair")
    with pytest.raises(ValueError, match=r"pair: shapes \(>2<,\) and \(>3<,\)"):
        f(fathom.ones(2), fathom.ones(3))


def test_decorator_with_a_name_and_plain_construction() -> None:
    @formula(name="twice")
    def double(x):
        return 2 * x

    assert double.name == "twice" and double.__name__ == "twice"
    made = Formula(double.expr, ["x"], {}, "made")
    assert made(3.0) == 6.0 and made.operations() == 1
