import math

import numpy as np
import pytest
from scipy import integrate, optimize

import fathom
from fathom import activations as A
from fathom import nn
from fathom.engine.errors import ArgumentError, FathomError, ShapeError
from fathom.func import vmap
from fathom.nn import functional as F
from tests.unit.nn.layer_harness import run_layer_test

EDGE = np.array([-1e4, -30.0, -1.0, -1e-8, 0.0, 1e-8, 1.0, 30.0, 1e4])

LAYERS = [
    nn.ReLU, nn.ReLU6, nn.SquaredReLU, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.ELU,
    lambda: nn.Hardtanh(-0.5, 2.0), nn.LeakyReLU, nn.CELU, lambda: nn.CELU(0.5), nn.SELU, nn.GELU,
    lambda: nn.GELU("tanh"), lambda: nn.GELU("sigmoid"), nn.SiLU, nn.Swish, nn.Hardswish, nn.Mish,
    nn.Softplus, lambda: nn.Softplus(2.0, 20.0), nn.Softsign, nn.LogSigmoid, nn.Tanhshrink,
    nn.Hardshrink, nn.Softshrink, lambda: nn.Threshold(0.1, -1.0), nn.Exponential, nn.RReLU,
    nn.Softmax, lambda: nn.Softmax(temperature=0.5), nn.LogSoftmax, nn.Softmin, nn.Sparsemax,
    nn.Entmax15, nn.Step, nn.Sign, nn.GumbelSoftmax,
]  # fmt: skip


@pytest.mark.parametrize("make", LAYERS, ids=lambda m: repr(m()))
def test_layer(make):
    run_layer_test(make, (4, 6), parameters=0, output_shape=(4, 6))


@pytest.mark.parametrize("make", [nn.GLU, nn.ReGLU, nn.GEGLU, nn.SwiGLU, lambda: nn.Maxout(2)])
def test_layers_that_halve(make):
    run_layer_test(make, (4, 6), parameters=0, output_shape=(4, 3))


def test_layers_with_parameters():
    run_layer_test(lambda: nn.PReLU(), (4, 6), parameters=1, output_shape=(4, 6))
    run_layer_test(lambda: nn.PReLU(3), (4, 3, 5), parameters=3, output_shape=(4, 3, 5))
    run_layer_test(lambda: nn.PReLU((3, 5)), (4, 3, 5), parameters=15, output_shape=(4, 3, 5))
    run_layer_test(lambda: nn.Swish(0.5, learnable=True), (4, 6), parameters=1)
    run_layer_test(nn.Softmax2d, (2, 3, 4, 4), parameters=0, output_shape=(2, 3, 4, 4))


class TestFormulas:
    @pytest.mark.parametrize("name", A.FORMULAS)
    def test_exact_derivatives(self, name):
        f = A.FORMULAS[name]
        x = fathom.Tensor(np.random.default_rng(0).standard_normal(40) * 2.5, True)
        if name not in ("step", "sign"):  # no gradient at all
            fathom.autograd.gradcheck(f, x)
        slope = f.derivative()
        (g,) = fathom.autograd.grad(f(x).sum(), x, create_graph=True, allow_unused=True)
        given = np.zeros(40) if g is None else g.value()
        np.testing.assert_allclose(slope(x).value(), given, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("name", A.FORMULAS)
    def test_finite_far_out(self, name):
        x = EDGE if name not in ("exponential", "squared_relu") else EDGE / 1000
        f = A.FORMULAS[name]
        for g in (f, f.derivative()):
            assert np.isfinite(g(fathom.Tensor(x)).value()).all()
            assert np.isfinite(g(fathom.Tensor(x.astype(np.float32))).value()).all()

    @pytest.mark.parametrize(
        ("name", "primitive"),
        [("relu", F.relu), ("sigmoid", F.sigmoid), ("tanh", F.tanh), ("log_sigmoid", F.logsigmoid),
         ("softplus", F.softplus)],
    )  # fmt: skip
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_formula_and_fused_primitive_are_equal(self, name, primitive, dtype):
        x = np.concatenate([EDGE, np.linspace(-5, 5, 101)]).astype(dtype)
        values = []
        for f in (A.FORMULAS[name], primitive):
            t = fathom.Tensor(x, True)
            y = f(t)
            y.sum().backward()
            values.append((y.value(), t.grad.value()))
        for a, b in zip(*values, strict=True):
            assert a.dtype == b.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=4 * np.finfo(dtype).eps)

    def test_documented(self):
        for f in A.FORMULAS.values():
            assert f.__doc__ and f.__doc__.strip()[-1] == ".", f.name
            assert f.latex()

    def test_selu_constants(self):
        assert pytest.approx(1.67326324235, abs=1e-11) == A.SELU_ALPHA
        assert pytest.approx(1.05070098736, abs=1e-11) == A.SELU_SCALE
        phi = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
        f = lambda z: float(A.selu(fathom.Tensor(np.float64(z))).value())  # noqa: E731
        mean = integrate.quad(lambda z: f(z) * phi(z), -12, 12, points=[0])[0]
        second = integrate.quad(lambda z: f(z) ** 2 * phi(z), -12, 12, points=[0])[0]
        assert abs(mean) < 1e-10
        assert abs(second - 1) < 1e-10

    @pytest.mark.slow
    def test_selu_normalizes_itself_through_fifty_layers(self):
        with fathom.seed(0):
            layers = []
            for _ in range(50):
                linear = nn.Linear(256, 256, bias=False)
                nn.init.lecun_normal_(linear.weight)
                layers += [linear, nn.SELU()]
            out = nn.Sequential(*layers)(
                fathom.Tensor(np.random.default_rng(0).standard_normal((256, 256)).astype("f"))
            ).value()
        assert abs(out.mean()) < 0.1
        assert 0.7 < out.var() < 1.3

    @pytest.mark.parametrize(
        ("name", "low", "place", "value"),
        [("silu", -5, -1.27846, -0.27846), ("mish", -5, -1.19243, -0.30884),
         ("gelu", -5, -0.75179, -0.16997), ("hard_swish", -2.9, -1.5, -0.375)],
    )  # fmt: skip
    def test_minima(self, name, low, place, value):
        found = A.FORMULAS[name].analyse(low, 5.0).extrema[0]
        assert found.kind == "minimum"
        assert found.x == pytest.approx(place, abs=1e-4)
        assert found.value == pytest.approx(value, abs=1e-5)

    @pytest.mark.parametrize(("name", "most"), [("gelu_tanh", 4.73e-4), ("gelu_sigmoid", 2.03e-2)])
    def test_approximations_of_gelu(self, name, most):
        x = fathom.Tensor(np.linspace(-8, 8, 160001))
        error = np.abs(A.FORMULAS[name](x).value() - A.gelu(x).value()).max()
        assert error == pytest.approx(most, rel=5e-3)

    def test_special_cases_of_each_other(self):
        x = fathom.Tensor(np.linspace(-6, 6, 101))
        same = lambda a, b: np.testing.assert_allclose(a.value(), b.value(), atol=1e-14)  # noqa: E731
        same(A.celu(x), A.elu(x))
        same(A.swish(x, 1.0), A.silu(x))
        same(A.swish(x, 0.0), x * 0.5)
        same(A.leaky_relu(x, 0.0), A.relu(x))
        same(A.hard_tanh(x), A.hard_sigmoid(x * 3) * 2 - 1)
        same(A.log_sigmoid(x), -A.softplus(-x))
        assert np.abs(A.swish(x, 200.0).value() - A.relu(x).value()).max() < 2e-3

    def test_learnable_arguments(self):
        x = fathom.Tensor(np.random.default_rng(0).standard_normal(9))
        beta = fathom.Tensor(np.float64(0.7), True)
        for f in (A.swish, A.leaky_relu, A.elu, A.celu, A.softplus):
            fathom.autograd.gradcheck(lambda b, f=f: f(x, b), beta)


class TestSimplex:
    def test_sparsemax_is_the_projection_on_the_simplex(self):
        rng = np.random.default_rng(0)
        for size in (1, 2, 5, 9):
            z = rng.standard_normal(size) * 2
            ours = A.sparsemax(fathom.Tensor(z)).value()
            found = optimize.minimize(
                lambda p, z=z: ((p - z) ** 2).sum(), np.full(size, 1 / size),
                bounds=[(0, 1)] * size,
                constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, method="SLSQP",
                options={"ftol": 1e-14},
            )  # fmt: skip
            np.testing.assert_allclose(ours, found.x, atol=1e-6)
            assert ours.sum() == pytest.approx(1.0, abs=1e-12)
        assert (A.sparsemax(fathom.tensor([5.0, 0.0, -5.0])).value() == [1, 0, 0]).all()

    def test_entmax_solves_its_equation(self):
        z = np.random.default_rng(1).standard_normal((50, 7)) * 3
        p = A.entmax15(fathom.Tensor(z)).value()
        np.testing.assert_allclose(p.sum(1), 1.0, atol=1e-12)
        for row, q in zip(z, p, strict=True):
            total = lambda t, row=row: (np.maximum(row / 2 - t, 0) ** 2).sum() - 1  # noqa: E731
            tau = optimize.brentq(total, row.max() / 2 - 1, row.max() / 2, xtol=1e-15)
            np.testing.assert_allclose(q, np.maximum(row / 2 - tau, 0) ** 2, atol=1e-10)
        assert (p == 0).any()

    @pytest.mark.parametrize("f", [A.sparsemax, A.entmax15])
    def test_derivatives_and_axes(self, f):
        x = fathom.Tensor(np.random.default_rng(2).standard_normal((3, 5, 2)), True)
        fathom.autograd.gradcheck(lambda v: f(v, axis=1), x)
        np.testing.assert_allclose(
            f(x, axis=1).value(), np.moveaxis(f(np.moveaxis(x.value(), 1, -1)).value(), -1, 1)
        )
        np.testing.assert_allclose(
            vmap(lambda v: f(v, axis=0))(x.detach()).value(), f(x, 1).value()
        )

    @pytest.mark.parametrize("f", [A.sparsemax, A.entmax15, A.softmax, A.online_softmax])
    def test_shift_changes_nothing(self, f):
        x = np.random.default_rng(3).standard_normal((4, 6))
        a, b = f(fathom.Tensor(x)), f(fathom.Tensor(x + 1000))
        np.testing.assert_allclose(a.value(), b.value(), atol=1e-11)

    @pytest.mark.parametrize("block", [1, 3, 7, 64, 1000])
    def test_online_softmax(self, block):
        x = fathom.Tensor(np.random.default_rng(4).standard_normal((5, 200)) * 30, True)
        ours, batch = A.online_softmax(x, block=block), A.softmax(x)
        np.testing.assert_allclose(ours.value(), batch.value(), atol=1e-12)
        u = fathom.Tensor(np.random.default_rng(5).standard_normal((5, 200)))
        g = [fathom.autograd.grad((y * u).sum(), x)[0].value() for y in (ours, batch)]
        np.testing.assert_allclose(*g, atol=1e-12)

    def test_temperature(self):
        x = fathom.tensor([1.0, 2.0, 3.0], dtype=np.float64)
        cold, hot = A.softmax(x, temperature=1e-3), A.softmax(x, temperature=1e6)
        np.testing.assert_allclose(cold.value(), [0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(hot.value(), 1 / 3, atol=1e-5)
        shares = [A.softmax(x, temperature=t).value() for t in (0.3, 1.0, 3.0, 10.0)]
        entropies = [-(p * np.log(p)).sum() for p in shares]
        assert entropies == sorted(entropies)

    def test_gumbel_softmax_draws_with_the_probabilities_of_softmax(self):
        logits = np.array([0.5, -1.0, 1.5, 0.0])
        with fathom.seed(0):
            draws = nn.GumbelSoftmax(0.5, hard=True)(
                fathom.Tensor(np.broadcast_to(logits, (40000, 4)).copy())
            ).value()
        assert set(np.unique(draws.sum(1)).round(6)) == {1.0}
        expected = A.softmax(fathom.Tensor(logits)).value()
        assert np.abs(draws.mean(0) - expected).max() < 5 * math.sqrt(0.25 / 40000)

    def test_gumbel_in_eval_is_deterministic(self):
        x = fathom.tensor([[0.0, 3.0, 1.0]])
        assert nn.GumbelSoftmax(hard=True).eval()(x).tolist() == [[0.0, 1.0, 0.0]]
        assert nn.GumbelSoftmax().eval()(x).tolist() == A.softmax(x).tolist()


class TestGates:
    def test_halves(self):
        x = np.random.default_rng(0).standard_normal((3, 8))
        a, b = fathom.Tensor(x[:, :4]), fathom.Tensor(x[:, 4:])
        for gated, f in ((A.glu, A.sigmoid), (A.reglu, A.relu), (A.geglu, A.gelu),
                         (A.swiglu, A.silu), (A.bilinear_glu, A.identity)):  # fmt: skip
            np.testing.assert_allclose(gated(fathom.Tensor(x)).value(), (a * f(b)).value())
            fathom.autograd.gradcheck(gated, fathom.Tensor(x, True))

    def test_odd_sizes(self):
        with pytest.raises(ShapeError, match=r"glu: \(3, >5<\) cannot be split into two halves"):
            A.glu(fathom.zeros(3, 5))
        with pytest.raises(ShapeError, match="groups of 2"):
            A.maxout(fathom.zeros(3, 5), 2)

    def test_maxout_holds_relu_and_abs(self):
        x = fathom.tensor([-2.0, 3.0])
        both = lambda a, b: A.maxout(fathom.stack([a, b], -1).reshape(-1), 2)  # noqa: E731
        assert both(x, x * 0).tolist() == [0.0, 3.0]
        assert both(x, -x).tolist() == [2.0, 3.0]

    def test_rrelu_slopes(self):
        layer = nn.RReLU(0.1, 0.3)
        x = -fathom.ones(5000)
        with fathom.seed(0):
            out = -layer(x).value()
        assert 0.1 <= out.min() < 0.11 and 0.29 < out.max() <= 0.3
        np.testing.assert_allclose(layer.eval()(x).value(), -0.2, rtol=1e-6)


class TestAudit:
    def test_known_properties(self):
        table = A.audit(["relu", "sigmoid", "gelu", "selu", "step", "elu", "tanh"], timing=False)
        assert table["sigmoid"].range == (0.0, 1.0)
        assert table["sigmoid"].slopes == (0.0, 0.25)
        assert table["relu"].smoothness == 0 and table["relu"].kinks[0].x == 0.0
        assert table["elu"].smoothness == 1
        assert table["tanh"].smooth and table["tanh"].zero_centred
        assert table["selu"].zero_centred and not table["relu"].zero_centred
        assert table["selu"].std == pytest.approx(1.0, abs=1e-4)
        assert table["step"].lipschitz == math.inf
        assert not table["gelu"].monotone and table["relu"].monotone
        assert table["gelu"].lipschitz == pytest.approx(1.12890, abs=1e-4)
        assert table["sigmoid"].saturates == ("left", "right")
        assert table["relu"].saturates == ("left",)
        assert table["relu"].mean == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-6)
        assert "gelu" in str(table)

    @pytest.mark.parametrize(
        ("name", "places"),
        [("hard_swish", [-3, 3]), ("hard_shrink", [-0.5, 0.5]), ("soft_shrink", [-0.5, 0.5]),
         ("relu6", [0, 6]), ("softplus", []), ("mish", []), ("softsign", [0])],
    )  # fmt: skip
    def test_kinks(self, name, places):
        assert [round(k.x, 5) for k in A.audit(name, timing=False).kinks] == places

    def test_users_own(self):
        formula = A.audit("silu", timing=False)
        plain = A.audit(lambda x: x * fathom.sigmoid(x), timing=False)
        layer = A.audit(nn.SiLU(), timing=False)
        for other in (plain, layer):
            assert other.range == pytest.approx(formula.range)
            assert other.smoothness == formula.smoothness
            assert other.lipschitz == pytest.approx(formula.lipschitz)

    def test_cost_is_measured(self):
        assert 0 < A.audit("mish").cost < 1000
        assert math.isnan(A.audit("mish", timing=False).cost)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="did you mean 'relu'"):
            A.audit("rleu")
        with pytest.raises(ArgumentError, match="whole axis"):
            A.audit(lambda x: x.sum(), timing=False)


class TestByName:
    @pytest.mark.parametrize("name", nn.activation.__globals__["ACTIVATIONS"])
    def test_every_name(self, name):
        options = {"threshold": 0.0, "value": 0.0} if name == "threshold" else {}
        layer = nn.activation(name, **options)
        assert isinstance(layer, nn.Module)
        for spelling in (name.upper(), name.replace("_", ""), name.replace("_", "-")):
            assert type(nn.activation(spelling, **options)) is type(layer)

    def test_options(self):
        assert nn.activation("leaky_relu", negative_slope=0.2).negative_slope == 0.2
        assert nn.activation("gelu_tanh").approximate == "tanh"
        with pytest.raises(ArgumentError, match="unexpected keyword argument 'slope'"):
            nn.activation("leaky_relu", slope=0.2)

    @pytest.mark.parametrize(
        "make",
        [lambda: nn.Hardtanh(1.0, 0.0), lambda: nn.RReLU(0.5, 0.1), lambda: nn.GELU("fast"),
         lambda: nn.Softshrink(-1.0), lambda: nn.Softmax(temperature=0.0), lambda: nn.CELU(0.0),
         lambda: nn.Maxout(0), lambda: nn.GumbelSoftmax(-1.0), lambda: nn.PReLU(0),
         lambda: nn.Softmax("1"), lambda: F.prelu(fathom.zeros(2, 3), fathom.zeros(4)),
         lambda: nn.PReLU((2, 2))(fathom.zeros(3, 3)), lambda: A.softmax([1.0], temperature=-1.0),
         lambda: A.online_softmax([1.0], block=0), lambda: F.gelu([1.0], "fast")],
    )  # fmt: skip
    def test_errors(self, make):
        with pytest.raises(FathomError):
            make()
