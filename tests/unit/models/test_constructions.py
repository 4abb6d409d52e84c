from itertools import pairwise

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError
from fathom.models import (
    boolean_inputs,
    box_indicator,
    count_linear_pieces,
    hidden_units,
    linear_pieces,
    mlp,
    parity_network,
    relu_interpolant,
    sawtooth_square,
    step_interpolant,
    tent_map,
)

GRID = np.linspace(0, 1, 4097)


def values(net, x=GRID):
    return net(fathom.tensor(np.asarray(x, np.float64).reshape(len(x), -1))).value()[:, 0]


class TestOneHiddenLayer:
    @pytest.mark.parametrize("n", [1, 4, 16, 64])
    def test_the_polygon_of_a_square_errs_by_a_quarter_of_n_squared(self, n):
        """And lowered by half of that by 1 / (8 n^2), above as much as below: the best there is."""
        net = relu_interpolant(np.square, np.linspace(0, 1, n + 1))
        error = values(net) - GRID**2
        assert hidden_units(net) == n == count_linear_pieces(net)
        assert error.max() == pytest.approx(1 / (4 * n**2), rel=1e-9) and error.min() > -1e-12
        net[2].bias.data -= 1 / (8 * n**2)
        error = values(net) - GRID**2
        assert error.max() == pytest.approx(1 / (8 * n**2), rel=1e-9)
        assert error.min() == pytest.approx(-1 / (8 * n**2), rel=1e-9)

    def test_knots_are_met_and_the_rate_is_two(self):
        knots = np.array([-1.0, 0.3, 0.5, 2.0])
        net = relu_interpolant(np.sin, knots)
        np.testing.assert_allclose(values(net, knots), np.sin(knots), atol=1e-14)
        assert values(net, [-5.0])[0] == pytest.approx(np.sin(-1.0))
        errors = [
            abs(values(relu_interpolant(np.exp, np.linspace(0, 1, n + 1))) - np.exp(GRID)).max()
            for n in (8, 16, 32, 64)
        ]
        np.testing.assert_allclose(np.diff(np.log2(errors)), -2, atol=0.05)

    def test_a_staircase_is_a_sum_of_bumps(self):
        knots = np.linspace(0, 1, 33)
        net = step_interpolant(np.sin, knots)
        middles = (knots[:-1] + knots[1:]) / 2
        bumps = sum(
            np.sin(m) * values(box_indicator([a], [b]))
            for m, a, b in zip(middles, knots[:-1], knots[1:], strict=True)
        )
        np.testing.assert_allclose(values(net), bumps, atol=1e-12)
        inside = GRID < 1
        assert abs(values(net) - np.sin(GRID))[inside].max() <= 0.5 / 32  # h / 2 times the slope
        assert hidden_units(net) == 33

    @pytest.mark.parametrize("d", [1, 2, 3])
    def test_boxes(self, d):
        rng = np.random.default_rng(d)
        low, high = -rng.uniform(0.2, 1, d), rng.uniform(0.2, 1, d)
        x = rng.uniform(-1.2, 1.2, (4000, d))
        inside = ((x >= low) & (x < high)).all(1)
        net = box_indicator(low, high)
        np.testing.assert_array_equal(values(net, x), inside)
        assert 0.01 < inside.mean() < 0.9 and hidden_units(net) == 2 * d

    def test_errors(self):
        with pytest.raises(ArgumentError, match="two rising numbers"):
            relu_interpolant(np.sin, [0.0, 0.0])
        with pytest.raises(ArgumentError, match="low < high"):
            box_indicator([0], [0])


class TestDepth:
    @pytest.mark.parametrize("m", [1, 2, 5, 8])
    def test_yarotskys_square_errs_by_a_quarter_of_the_last_tooth(self, m):
        net = sawtooth_square(m)
        error = values(net) - GRID**2
        assert error.max() == pytest.approx(4.0 ** -(m + 1), rel=1e-9)
        assert error.min() > -1e-14
        assert hidden_units(net) == 3 * m
        assert count_linear_pieces(net) == 2**m
        shallow = relu_interpolant(np.square, np.linspace(0, 1, 2**m + 1))
        np.testing.assert_allclose(values(net), values(shallow), atol=1e-14)

    @pytest.mark.parametrize("k", [1, 3, 8])
    def test_telgarskys_tents_have_two_to_the_k_pieces(self, k):
        net = tent_map(k)
        pieces = linear_pieces(net)
        assert len(pieces) == 2**k and hidden_units(net) == 2 * k
        assert all(abs(p.slope) == 2**k and p.end - p.start == 2.0**-k for p in pieces)
        expected = 1 - abs(1 - np.mod(GRID * 2**k, 2))
        np.testing.assert_allclose(values(net), expected, atol=1e-12)

    def test_one_hidden_layer_has_at_most_a_piece_more_than_units(self):
        for seed in range(5):
            with fathom.seed(seed):
                net = mlp(1, 1, hidden=(12,)).double()
            assert 2 <= count_linear_pieces(net, (-20, 20)) <= 13

    def test_pieces_of_a_random_deep_net_are_those_of_its_values(self):
        with fathom.seed(3):
            net = mlp(1, 1, hidden=(8, 8)).double()
            for layer in net:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight)
                    nn.init.normal_(layer.bias)
        pieces = linear_pieces(net, (-2, 2))
        assert len(pieces) > 5
        assert pieces[0].start == -2 and pieces[-1].end == 2
        assert all(a.end == b.start and a.slope != b.slope for a, b in pairwise(pieces))
        for p in pieces:
            x = np.array([float(p.start), float((p.start + p.end) / 2), float(p.end)])
            np.testing.assert_allclose(
                values(net, x), float(p.slope) * x + float(p.shift), rtol=1e-9, atol=1e-9
            )

    def test_errors(self):
        with pytest.raises(ArgumentError, match="Tanh is not a layer of a ReLU net"):
            count_linear_pieces(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
        with pytest.raises(ArgumentError, match="2 outputs, not 1"):
            count_linear_pieces(nn.Linear(1, 2))
        with pytest.raises(ArgumentError, match="needs one input"):
            count_linear_pieces(nn.Linear(2, 1))
        with pytest.raises(ArgumentError, match="low < high"):
            count_linear_pieces(nn.Linear(1, 1), (1, 1))


class TestParity:
    @pytest.mark.parametrize("kind", ["sum", "tree"])
    @pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11])
    def test_all_inputs(self, n, kind):
        bits = boolean_inputs(n)
        np.testing.assert_array_equal(values(parity_network(n, kind), bits), bits.sum(1) % 2)

    def test_units_and_depth(self):
        for n in (2, 4, 8, 16):
            flat, tree = parity_network(n), parity_network(n, "tree")
            assert hidden_units(flat) == n  # not 2^n: sums and thresholds do it
            steps = sum(isinstance(layer, nn.Step) for layer in tree)
            assert steps == 2 * np.log2(n)
            assert hidden_units(tree) == 3 * (n - 1) - 1
        assert hidden_units(parity_network(16, "tree")) == 44

    def test_unknown(self):
        with pytest.raises(ArgumentError, match="unknown kind"):
            parity_network(3, "chain")
