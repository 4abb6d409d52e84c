import json
from math import erfc, sqrt

import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.errors import ArgumentError
from fathom.engine.random import Random
from fathom.nn.activation import ACTIVATIONS, Elementwise

X = Random(0).stream("x").normal((500, 10))
WIDE = Random(0).stream("x").normal((500, 64))
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)

FORMULAS = sorted(set(fathom.activations.FORMULAS) & set(ACTIVATIONS) - {"threshold"})


def mlp(activation="relu", width=24, depth=2):
    with fathom.seed(0):
        return fathom.models.mlp(10, 2, (width,) * depth, activation)


class TestDeadUnits:
    def test_a_healthy_net_has_none_though_half_of_its_outputs_are_zero(self):
        with fathom.seed(0):
            found = doctor.dead_units(fathom.models.mlp(64, 2, (64, 64)), WIDE)
        assert found.dead == 0 and found.examples == 500
        for row in found.rows:
            assert row.dead_share == 0.0 and 0.45 < row.zero_share < 0.6

    def test_planted_ones_are_found_and_named(self):
        with fathom.seed(0):
            model = fathom.models.mlp(64, 2, (64, 64))
        model[0].bias.data[[3, 7]] = -1e3
        model[2].bias.data[5] = -1e3
        found = doctor.dead_units(model, WIDE)
        assert (found["1"].which, found["3"].which, found.dead) == ((3, 7), (5,), 3)
        assert found["1"].dead_share == 2 / 64

    def test_one_row_in_the_last_batch_brings_a_unit_to_life(self):
        model = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
        model[0].weight.data[...] = 1.0
        model[0].bias.data[...] = [-1.0, 0.0]
        x = np.full((20, 1), 0.5, np.float32)
        assert doctor.dead_units(model, x, batch_size=7)["1"].which == (0,)
        x[-1] = 2.0
        assert doctor.dead_units(model, x, batch_size=7).dead == 0
        loader = fathom.data.DataLoader(x, batch_size=6, shuffle=True, drop_last=True)
        assert doctor.dead_units(model, loader).dead == 0

    def test_units_of_images_are_channels_and_of_sequences_features(self):
        conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        conv[0].bias.data[2] = -1e3
        found = doctor.dead_units(conv, np.ones((2, 1, 5, 5), np.float32) * 0.1)
        assert found["1"].units == 4 and 2 in found["1"].which
        sequence = nn.Sequential(nn.Linear(3, 6), nn.ReLU())
        assert doctor.dead_units(sequence, np.ones((2, 5, 3), np.float32))["1"].units == 6
        conv1d = nn.Sequential(nn.Conv1d(3, 4, 2), nn.ReLU())
        assert doctor.dead_units(conv1d, np.ones((2, 3, 7), np.float32))["1"].units == 4

    def test_other_layers_and_tolerance(self):
        model = mlp("gelu")
        model[0].bias.data[0] = -5.0
        x = 0.1 * X
        assert doctor.dead_units(model, x).dead == 0
        assert doctor.dead_units(model, x, tolerance=1e-2)["1"].which == (0,)
        assert [r.name for r in doctor.dead_units(model, x, only="0").rows] == ["0"]

    def test_a_model_without_activation_layers_is_told_what_to_do(self):
        with pytest.raises(ArgumentError, match=r"nn\.ReLU"):
            doctor.dead_units(nn.Linear(10, 2), X)
        with pytest.raises(ArgumentError, match="tolerance"):
            doctor.dead_units(mlp(), X, tolerance=-1.0)


class TestSaturation:
    @pytest.mark.parametrize("name", ["tanh", "sigmoid", "softsign", "hard_tanh", "gelu"])
    def test_it_rises_with_the_scale_of_the_pre_activations(self, name):
        model = nn.Sequential(nn.Linear(10, 16), nn.activation(name))
        shares = []
        for gain in (0.1, 1.0, 3.0, 10.0, 30.0, 100.0):
            model[0].weight.data[...] = gain * Random(1).stream("w").normal((16, 10))
            model[0].bias.data[...] = 0.0
            row = doctor.saturation(model, X).rows[0]
            shares.append(row.flat_share)
            assert row.scale == pytest.approx(gain * np.sqrt(10), rel=0.3)
        assert shares == sorted(shares) and shares[0] < 0.1 and shares[-1] > 0.4

    def test_the_share_is_that_of_the_normal_distribution(self):
        model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh())
        model[0].weight.data[...] = 3.0
        z = Random(0).stream("z").normal((20000, 1))
        at = np.arccosh(10.0) / 3.0  # 1 / cosh^2 = 0.01
        found = doctor.saturation(model, z).rows[0].flat_share
        assert found == pytest.approx(erfc(at / sqrt(2)), abs=0.01)

    @pytest.mark.parametrize("name", FORMULAS)
    def test_slopes_are_those_of_the_formula(self, name):
        z = np.linspace(-4.0, 4.0, 41) + 0.013
        layer, formula = nn.activation(name), fathom.activations.FORMULAS[name]
        options = layer.config()
        fixed = [options.get(n, formula.defaults[n]) for n in formula.names[1:]]
        wanted = np.broadcast_to(np.asarray(formula.derivative().apply(z, *fixed)), z.shape)
        np.testing.assert_allclose(doctor.slope(layer, z), wanted, rtol=1e-6, atol=1e-12)

    def test_learned_slopes_and_ones_own_formulas(self):
        np.testing.assert_allclose(doctor.slope(nn.PReLU(init=0.2), [-1.0, 1.0]), [0.2, 1.0])

        class Bent(Elementwise):
            formula = staticmethod(fathom.ops.formula.formula(lambda x: x * x * x))

        np.testing.assert_allclose(doctor.slope(Bent(), [2.0, 3.0]), [12.0, 27.0])
        model = nn.Sequential(nn.Linear(10, 4), Bent())
        assert doctor.saturation(model, X).rows[0].kind == "Bent"

    def test_relu_counts_the_units_that_are_off(self):
        dead, flat = doctor.dead_units(mlp(), X), doctor.saturation(mlp(), X)
        for a, b in zip(dead.rows, flat.rows, strict=True):
            assert a.zero_share == b.flat_share and a.dead_share == b.stuck_share
            assert b.slope == pytest.approx(1.0 - b.flat_share)

    def test_what_is_no_elementwise_function_is_refused(self):
        model = nn.Sequential(nn.Linear(10, 4), nn.GLU())
        with pytest.raises(ArgumentError, match="GLU"):
            doctor.saturation(model, X, only="1")
        assert not any(m._hooks for m in model.modules())
        with pytest.raises(ArgumentError, match="threshold"):
            doctor.saturation(mlp(), X, 0.0)


class TestDuplicates:
    def train(self, start, steps=500):
        model = mlp("tanh", 8, 1)
        if start is not None:
            for p in model.parameters():
                nn.init.constant_(p, start)
        sgd = fathom.optim.SGD(model.parameters(), lr=0.1)
        x = fathom.tensor(X[:64])
        for _ in range(steps):
            sgd.zero_grad()
            nn.functional.cross_entropy(model(x), Y[:64]).backward()
            sgd.step()
        return doctor.duplicate_units(model)["0.weight"]

    @pytest.mark.parametrize("start", [0.0, 0.3])
    def test_rows_that_start_alike_stay_alike(self, start):
        row = self.train(start)
        assert row.difference == 0.0 and row.duplicates == row.units == 8 and row.groups == 1

    def test_random_rows_do_not_meet(self):
        row = self.train(None, steps=100)
        assert row.duplicates == 0 and row.difference > 0.1 and row.nearest > 0.01

    def test_pairs_biases_and_near_twins(self):
        model = mlp()
        w, b = model[0].weight.data, model[0].bias.data
        w[1], b[1] = w[0], b[0]
        w[5], b[5] = w[4], b[4]
        w[9] = w[8]  # but not the bias
        found = doctor.duplicate_units(model)
        assert (found["0.weight"].duplicates, found["0.weight"].groups) == (4, 2)
        assert found["0.weight"].nearest == 0.0 and found.duplicates == 4
        w[1, 0] += 1e-3
        assert doctor.duplicate_units(model)["0.weight"].duplicates == 2
        assert doctor.duplicate_units(model, 0.01)["0.weight"].duplicates == 4

    def test_convolutions_embeddings_and_lstms(self):
        model = nn.ModuleList([
            nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), nn.Embedding(5, 2), nn.LSTM(2, 2),
        ])  # fmt: skip
        model[1].weight.data[:, 2] = model[1].weight.data[:, 0]
        model[1].bias.data[2] = model[1].bias.data[0]
        rows = {r.name: (r.units, r.duplicates) for r in doctor.duplicate_units(model).rows}
        assert rows == {
            "0.weight": (3, 0), "1.weight": (3, 2), "3.weight_ih_l0": (8, 0),
            "3.weight_hh_l0": (8, 0),
        }  # fmt: skip
        with pytest.raises(ArgumentError, match="no layer"):
            doctor.duplicate_units(nn.ReLU())


def test_results_print_as_aligned_tables_and_turn_into_json():
    found = doctor.dead_units(mlp(), X)
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "kind", "units", "dead", "dead", "share", "zero", "share",
                                "which"]  # fmt: skip
    assert lines[2].index("ReLU") == lines[0].index("kind") and lines[-1] == "examples: 500"
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["rows"][0]["name"] == "1" and read["rows"][0]["which"] == []
    alone = doctor.duplicate_units(nn.Linear(3, 1))
    assert json.loads(json.dumps(alone.to_dict(), allow_nan=False))["rows"][0]["nearest"] == "inf"
    with pytest.raises(ArgumentError, match="did you mean '1'"):
        found["11"]
    with pytest.raises(AttributeError):
        found.examples = 3
