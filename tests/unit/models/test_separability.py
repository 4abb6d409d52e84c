import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models import (
    augment,
    boolean_inputs,
    fold,
    linear_program,
    linearly_separable,
    widest_margin,
    xor_network,
)


class TestLinearProgram:
    def test_statuses(self):
        assert linear_program([1], [[1]], [-1]).status == "infeasible"
        assert linear_program([-1], [[-1]], [0]).status == "unbounded"
        assert linear_program([1], [[-1]], [5], free=True).x.tolist() == [-5.0]

    def test_duality(self):
        """At the optimum the prices of the constraints add up to the value."""
        a, b, c = [[1.0, 2.0], [3.0, 1.0]], [4.0, 6.0], [-1.0, -1.0]
        found = linear_program(c, a, b)
        assert found.value == pytest.approx(-2.8)
        assert found.multipliers @ b == pytest.approx(found.value)
        assert (found.multipliers <= 1e-12).all()

    def test_beale_does_not_go_round(self):
        """The example on which Dantzig's rule cycles."""
        c = [-0.75, 150, -0.02, 6]
        a = [[0.25, -60, -0.04, 9], [0.5, -90, -0.02, 3], [0, 0, 1, 0]]
        assert linear_program(c, a, [0, 0, 1]).value == pytest.approx(-0.05)

    def test_shapes(self):
        with pytest.raises(ShapeError, match=r"A_ub must have shape \(1, 2\)"):
            linear_program([1, 1], [[1]], [1])


class TestSeparability:
    @pytest.mark.parametrize("seed", range(8))
    def test_a_plane_is_given_or_a_common_point(self, seed):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((30, 3)) * [1, 100, 0.01] + [0, 1e3, 0]
        y = (x @ [1, 0.01, 100] > 10).astype(int)
        if seed % 2:
            y[rng.integers(30)] ^= 1
        found = linearly_separable(x, y)
        if found:
            assert found.margin > 0
            assert ((x @ found.weights + found.bias > 0) == (y == 1)).all()
        else:
            own = found.overlap * np.where(y == 1, 1, -1)
            assert (found.overlap >= 0).all() and found.overlap.sum() == pytest.approx(1)
            np.testing.assert_allclose(own @ ((x - x.mean(0)) / x.std(0)), 0, atol=1e-7)
        assert bool(found) == (widest_margin(augment((x - x.mean(0)) / x.std(0)), y)[1] > 1e-9)

    def test_points_on_a_line(self):
        assert linearly_separable([[0.0], [1.0]], [0, 1])
        assert not linearly_separable([[0.0], [1.0], [2.0]], [0, 1, 0])
        assert not linearly_separable([[0.0], [0.0]], [0, 1])
        assert linearly_separable([[0.0], [5.0]], [1, 1])

    def test_three_inputs(self):
        """104 of the 256 functions of three bits are threshold functions."""
        inputs = boolean_inputs(3)
        count = 2  # the constants
        for code in range(1, 255):
            count += bool(linearly_separable(inputs, [code >> i & 1 for i in range(8)]))
        assert count == 104

    def test_widest_margin(self):
        w, margin = widest_margin([[2.0, 1.0], [2.0, -1.0], [-3.0, 5.0]], [1, 1, -1])
        points = np.array([[2.0, 1.0], [2.0, -1.0], [3.0, -5.0]])
        assert margin == pytest.approx((points @ w).min())
        angles = np.linspace(0, 2 * np.pi, 20000)
        best = (points @ np.stack([np.cos(angles), np.sin(angles)])).min(0).max()
        assert margin == pytest.approx(best, rel=1e-6)
        assert widest_margin([[1.0], [2.0]], [1, -1])[1] == 0.0

    def test_augment_makes_the_bias_a_weight(self):
        x, w, b = np.random.default_rng(0).standard_normal((5, 3)), np.arange(3.0), 0.7
        np.testing.assert_allclose(augment(x) @ [b, *w], x @ w + b, rtol=1e-12)
        assert augment(x[0]).shape == (4,)


class TestXor:
    @pytest.mark.parametrize("kind", ["or and", "or nand"])
    def test_truth_table_and_hidden_images(self, kind):
        net = xor_network(kind)
        x = fathom.tensor(boolean_inputs().astype(np.float32))
        assert net(x).value()[:, 0].tolist() == [0, 1, 1, 0]
        assert not linearly_separable(boolean_inputs(), [0, 1, 1, 0])
        hidden = net[:2](x).value()
        assert linearly_separable(hidden, [0, 1, 1, 0])

    def test_unknown(self):
        with pytest.raises(ArgumentError, match="unknown kind"):
            xor_network("parity")


class TestFold:
    @pytest.mark.parametrize("depth", [1, 2, 5, 20])
    @pytest.mark.parametrize("bias", [True, False])
    def test_a_chain_is_one_layer(self, depth, bias):
        with fathom.seed(depth):
            chain = [nn.Linear(4, 6, bias)]
            chain += [nn.Linear(6, 6, bias) for _ in range(depth - 1)]
            net = nn.Sequential(nn.Sequential(*chain), nn.Identity(), nn.Linear(6, 3)).double()
            x = fathom.randn(50, 4, dtype=np.float64)
        one = fold(net)
        assert one.weight.dtype == np.float64
        assert np.abs(one(x).value() - net(x).value()).max() < 1e-12

    def test_a_trained_linear_stack_is_least_squares(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((80, 3))
        y = x @ [[1.0], [-2.0], [0.5]] + 0.3 + 0.1 * rng.standard_normal((80, 1))
        with fathom.seed(0):
            net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1)).double()
            optimizer = fathom.optim.Adam(net.parameters(), lr=0.02)
            for step in range(600):
                optimizer.lr = 0.02 * 0.99**step
                loss = ((net(fathom.tensor(x)) - fathom.tensor(y)) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        one = fold(net)
        wanted = np.linalg.lstsq(augment(x), y, rcond=None)[0][:, 0]
        got = [one.bias.value()[0], *one.weight.value()[0]]
        np.testing.assert_allclose(got, wanted, atol=1e-3)

    def test_what_is_not_linear_is_named(self):
        with pytest.raises(ArgumentError, match="ReLU at '1' is not linear"):
            fold(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
        net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        with pytest.raises(ArgumentError, match=r"eval\(\)"):
            fold(net)
        assert isinstance(fold(net.eval()), nn.Linear)
        with pytest.raises(ArgumentError, match="no Linear"):
            fold(nn.Identity())
