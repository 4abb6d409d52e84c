import math

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, FathomError
from fathom.nn import init


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def chain(depth, width, activation, fill):
    with fathom.seed(0):
        layers = []
        for _ in range(depth):
            layers += [nn.Linear(width, width, bias=False), nn.activation(activation)]
            fill(layers[-2].weight)
        return nn.Sequential(*layers)


class TestFilling:
    @pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (4, 2, 3, 3)], ids=str)
    def test_orthogonal(self, shape):
        weight = init.orthogonal_(fathom.zeros(*shape, dtype=np.float64), 2.0).value()
        matrix = weight.reshape(shape[0], -1) / 2.0
        product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)

    def test_truncated_normal(self):
        with fathom.seed(0):
            values = init.trunc_normal_(fathom.zeros(500, 500), 0.5, 2.0, -1.0, 3.0).value()
        assert values.min() >= -1.0 and values.max() <= 3.0
        from scipy import stats

        wanted = stats.truncnorm((-1 - 0.5) / 2, (3 - 0.5) / 2, 0.5, 2.0)
        assert values.mean() == pytest.approx(wanted.mean(), abs=0.01)
        assert values.std() == pytest.approx(wanted.std(), rel=0.01)

    @pytest.mark.parametrize(
        ("fill", "variance"),
        [(init.lecun_normal_, 1 / 300), (init.lecun_uniform_, 1 / 300),
         (init.glorot_normal_, 2 / 500), (init.he_normal_, 2 / 300), (init.he_uniform_, 2 / 300),
         (lambda t: init.kaiming_normal_(t, mode="fan_out"), 2 / 200),
         (lambda t: init.kaiming_normal_(t, mode="fan_avg", nonlinearity="linear"), 1 / 250)],
    )  # fmt: skip
    def test_variances(self, fill, variance):
        with fathom.seed(0):
            weight = fill(fathom.zeros(200, 300)).value()
        assert weight.var() == pytest.approx(variance, rel=0.03)

    def test_dirac_passes_the_image_on(self):
        layer = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        init.dirac_(layer.weight)
        x = noise(2, 3, 5, 5)
        np.testing.assert_array_equal(layer(fathom.Tensor(x)).value(), x)

    def test_sparse(self):
        weight = init.sparse_(fathom.zeros(50, 20), 0.8).value()
        assert ((weight == 0).sum(0) == 40).all()

    def test_biases(self):
        assert init.bias_(fathom.ones(3)).tolist() == [0.0] * 3
        assert init.bias_(fathom.zeros(2), "positive", 0.1).value() == pytest.approx(0.1)
        shares = [0.7, 0.2, 0.1]
        bias = init.bias_(fathom.zeros(3), "prior", shares)
        np.testing.assert_allclose(fathom.softmax(bias, 0).value(), shares, rtol=1e-6)
        one = init.bias_(fathom.zeros(1), "prior", 0.05)
        assert fathom.sigmoid(one).item() == pytest.approx(0.05)
        assert init.bias_(fathom.zeros(8), "forget").tolist() == [0, 0, 1, 1, 0, 0, 0, 0]

    def test_a_seed_fixes_the_values(self):
        for fill in (init.orthogonal_, init.trunc_normal_, lambda t: init.sparse_(t, 0.5)):
            draws = []
            for seed in (1, 1, 2):
                with fathom.seed(seed):
                    draws.append(fill(fathom.zeros(5, 4)).tolist())
            assert draws[0] == draws[1] != draws[2]

    @pytest.mark.parametrize(
        "act",
        [lambda: init.calculate_gain("rleu"), lambda: init.bias_(fathom.zeros(2), "ones"),
         lambda: init.bias_(fathom.zeros(2), "prior", [0.5, 0.2, 0.3]),
         lambda: init.sparse_(fathom.zeros(2, 2), 1.5), lambda: init.eye_(fathom.zeros(3)),
         lambda: init.orthogonal_(fathom.zeros(3)), lambda: init.dirac_(fathom.zeros(2, 2)),
         lambda: init.trunc_normal_(fathom.zeros(2), a=1.0, b=0.0),
         lambda: init.kaiming_normal_(fathom.zeros(2, 2), mode="fan"),
         lambda: init.normal_(fathom.zeros(2), std=-1.0)],
    )  # fmt: skip
    def test_errors(self, act):
        with pytest.raises(FathomError):
            act()


class TestGain:
    @pytest.mark.parametrize("name", ["gelu", "silu", "mish", "elu", "softplus", "relu6"])
    def test_measured_gains_keep_the_second_moment(self, name):
        z = np.random.default_rng(0).standard_normal(400000)
        y = fathom.activations.FORMULAS[name](fathom.Tensor(z)).value()
        assert init.calculate_gain(name) == pytest.approx((y**2).mean() ** -0.5, rel=0.01)

    def test_gain_and_numbers_agree_for_relu(self):
        assert init.calculate_gain("relu6") == pytest.approx(math.sqrt(2), rel=1e-3)


class TestDepth:
    def test_he_keeps_the_second_moment_over_twenty_layers(self):
        model = chain(20, 512, "relu", init.kaiming_normal_)
        seen = []
        x = fathom.Tensor(noise(256, 512))
        for layer in model:
            x = layer(x)
            if isinstance(layer, nn.Linear):
                seen.append(float((x.value() ** 2).mean()) / 2)
        assert all(0.6 < v < 1.5 for v in seen)

    def test_small_normal_vanishes_and_zero_has_rank_nothing(self):
        out = chain(20, 64, "tanh", lambda w: init.normal_(w, 0, 0.01))(fathom.Tensor(noise(9, 64)))
        assert np.abs(out.value()).max() < 1e-10
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        for p in model.parameters():
            init.zeros_(p)
        model(fathom.Tensor(noise(5, 3))).sum().backward()
        assert (model[0].weight.grad.value() == 0).all()


class TestAuto:
    @pytest.mark.parametrize(
        ("layer", "rule"),
        [(nn.ReLU, "he normal, gain 1.414 for relu"), (nn.GELU, "he normal, gain 1.534 for gelu"),
         (nn.Tanh, "xavier normal, gain 1.667 for tanh"), (nn.SELU, "lecun normal, for selu"),
         (lambda: nn.LeakyReLU(0.3), "he normal, gain 1.355 for leaky_relu"),
         (nn.Sigmoid, "xavier normal, gain 1.000 for sigmoid"),
         (nn.SiLU, "he normal, gain 1.677 for silu"), (nn.Mish, "he normal, gain 1.487 for mish"),
         (nn.Softmax, "lecun normal, no activation follows")],
        ids=lambda v: str(v)[:12],
    )  # fmt: skip
    def test_choice(self, layer, rule):
        model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), layer(), nn.Linear(8, 2))
        chosen = init.auto_(model)
        assert chosen == {"0": rule, "3": "lecun normal, no activation follows"}
        assert not model[0].bias.value().any()

    @pytest.mark.parametrize("name", ["relu", "gelu", "silu", "selu", "mish", "leaky_relu", "elu"])
    def test_variance_through_ten_layers(self, name):
        model = chain(10, 256, name, lambda w: w)
        with fathom.seed(1):
            init.auto_(model)
        rows = init.report(model, noise(128, 256)).rows
        # the fixed point of SiLU repels: what starts above it grows, slowly
        assert 0.1 < rows[-2].variance / rows[0].variance < (15 if name == "silu" else 4)

    def test_uniform_and_convolutions(self):
        model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU())
        assert init.auto_(model, "uniform") == {"0": "he uniform, gain 1.414 for relu"}
        assert model[0].weight.value().var() == pytest.approx(2 / 27, rel=0.1)
        with pytest.raises(ArgumentError, match="'normal' or 'uniform'"):
            init.auto_(model, "gamma")


class TestLSUV:
    @pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sigmoid"])
    def test_every_layer_gets_unit_deviation(self, name):
        model = chain(8, 64, name, lambda w: w)
        x = noise(128, 64)
        reached = init.lsuv_(model, x)
        assert len(reached) == 8
        for row in init.report(model, x).rows[::2]:
            assert math.sqrt(row.variance) == pytest.approx(1.0, abs=0.06)

    def test_convolutions_and_modes(self):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                              nn.Linear(8 * 16, 4))  # fmt: skip
        reached = init.lsuv_(model, noise(32, 3, 6, 6), std=0.5, tolerance=0.01)
        assert all(v == pytest.approx(0.5, rel=0.011) for v in reached.values())
        assert all(m.training for m in model.modules())

    def test_errors(self):
        with pytest.raises(ArgumentError, match="must be > 0"):
            init.lsuv_(nn.Linear(2, 2), noise(3, 2), std=0.0)


class TestReport:
    def test_finds_vanishing_and_exploding(self):
        x = noise(64, 64)
        small = init.report(chain(8, 64, "tanh", lambda w: init.normal_(w, 0, 0.02)), x)
        large = init.report(chain(8, 64, "relu", lambda w: init.normal_(w, 0, 1.0)), x)
        right = init.report(chain(8, 64, "relu", init.kaiming_normal_), x)
        assert small.forward_gain < 1e-6 and small.backward_gain < 1e-6
        assert large.forward_gain > 1e6 and large.backward_gain > 1e6
        assert 0.02 < right.forward_gain < 5 and 0.02 < right.backward_gain < 10

    def test_text_and_what_is_left_alone(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        before = {n: v.tolist() for n, v in model.state_dict().items()}
        text = str(init.report(model, noise(16, 4)))
        assert {n: v.tolist() for n, v in model.state_dict().items()} == before
        assert all(p.grad is None for p in model.parameters())
        assert not any(m._hooks for m in model.modules())
        lines = text.splitlines()
        assert lines[0].split() == ["layer", "type", "mean", "variance", "zeros", "gradient",
                                    "variance"]  # fmt: skip
        assert len(lines) == 8 and "BatchNorm1d" in text

    def test_with_a_loss(self):
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        labels = np.zeros(16, int)
        rows = init.report(
            model, noise(16, 4), lambda y: nn.functional.cross_entropy(y, labels)
        ).rows
        assert rows[-1].gradient > 0


def test_by_name_on_any_model():
    with fathom.seed(0):
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        assert nn.init.apply_(model, "kaiming_normal", mode="fan_out") is model
    with fathom.seed(0):
        weight = nn.init.kaiming_normal_(fathom.nn.Parameter(np.zeros((4, 2, 3, 3), np.float32)))
    assert np.var(model[0].weight.value()) < np.var(weight.value())
    assert not model[0].bias.value().any() and not model[3].bias.value().any()
    norm = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    nn.init.apply_(norm, "zeros")
    assert (norm[1].weight.value() == 1).all() and not norm[0].weight.value().any()
    with pytest.raises(ArgumentError, match="lazy"):
        nn.init.apply_(nn.Sequential(nn.LazyLinear(3)), "auto")
