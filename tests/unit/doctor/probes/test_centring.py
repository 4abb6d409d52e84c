import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.random import Random

Z = Random(0).stream("z").normal((10_000, 2), dtype=np.float64)
WIDE = Random(0).stream("z").normal((4000, 56))


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


class TestCondition:
    def test_sigmoid_12_5_and_tanh_1(self):
        """Two units of N(0, 1): 1 + 2 m^2 / v with m = 0.5 and v = 0.0434 is 12.53."""
        found = doctor.zero_centring(sigmoid(Z)).rows[0]
        assert found.condition == pytest.approx(12.53, rel=0.03)
        assert found.centred_condition == pytest.approx(1.0, abs=0.05)
        assert found.mean == pytest.approx(0.5, abs=0.01) and found.positive_share == 1.0
        tanh = doctor.zero_centring(np.tanh(Z)).rows[0]
        assert tanh.condition == pytest.approx(1.0, abs=0.05) and tanh.offset < 0.05

    def test_it_grows_with_the_width_for_sigmoid_only(self):
        found = {f: doctor.zero_centring(g(WIDE)).rows[0].condition
                 for f, g in (("sigmoid", sigmoid), ("tanh", np.tanh))}  # fmt: skip
        assert found["sigmoid"] > 100.0 * found["tanh"]

    def test_a_model_in_batches(self):
        with fathom.seed(0):
            model = fathom.models.mlp(8, 2, (6, 6), "sigmoid")
        x = Random(0).stream("x").normal((300, 8))
        found = doctor.zero_centring(model, x, batch_size=64)
        assert [row.name for row in found.rows] == ["0", "2", "4"]
        with doctor.record(model, inputs=True) as seen, fathom.no_grad():
            model.eval()(fathom.tensor(x))
        alone = doctor.zero_centring(seen["2"].input).rows[0]
        for field in ("mean", "offset", "condition", "centred_condition"):
            assert getattr(found["2"], field) == pytest.approx(getattr(alone, field), rel=1e-3)
        assert found["2"].offset > 0.9 > found["0"].offset

    def test_directions_without_curvature_do_not_count(self):
        a = np.concatenate([Z, np.zeros((len(Z), 1))], axis=1)
        assert doctor.zero_centring(a).rows[0].condition == pytest.approx(
            doctor.zero_centring(Z).rows[0].condition
        )
        assert doctor.condition(np.zeros((2, 2))) == 1.0

    def test_bad_activations(self):
        with pytest.raises(ShapeError, match=r"\(n, units\)"):
            doctor.zero_centring(np.ones(3))
        with pytest.raises(DataError, match="finite"):
            doctor.zero_centring(np.full((3, 2), np.nan))


class TestSigns:
    def test_one_row_of_positive_inputs_pushes_all_weights_one_way(self):
        for a in (sigmoid(WIDE), np.maximum(WIDE, 0.0)):
            assert doctor.sign_agreement(a, sizes=(1,)).by_batch()[1] == 1.0
        assert doctor.sign_agreement(WIDE, sizes=(1,)).by_batch()[1] == 0.0

    def test_large_batches_relieve_relu_but_not_sigmoid(self):
        relu = doctor.sign_agreement(np.maximum(WIDE, 0.0)).by_batch()
        assert list(relu.values()) == sorted(relu.values(), reverse=True)
        assert relu[256] < 0.01  # 0.4 % and less
        assert doctor.sign_agreement(sigmoid(WIDE), sizes=(256,)).by_batch()[256] > 0.25

    def test_of_a_model(self):
        x, y = Random(0).stream("x").normal((300, 8)), np.arange(300) % 3
        found = {}
        for name in ("relu", "tanh"):
            with fathom.seed(0):
                model = fathom.models.mlp(8, 3, (16, 16), name)
            found[name] = doctor.sign_agreement_of(model, "auto", x, y).by_batch("2")
        assert found["relu"][1] == 1.0 and found["relu"][256] < 0.3
        assert found["tanh"][1] < 0.01

    def test_bad_arguments(self):
        with pytest.raises(ShapeError, match="deltas"):
            doctor.sign_agreement(WIDE, WIDE[:5])
        with pytest.raises(ArgumentError, match="sizes"):
            doctor.sign_agreement(WIDE, sizes=(0,))
        with pytest.raises(ArgumentError, match="Linear"):
            doctor.sign_agreement_of(nn.Conv1d(1, 1, 1), "mse", np.ones((2, 1, 3)),
                                     np.ones((2, 1, 3)))  # fmt: skip


class TestPath:
    def test_46_steps_against_2(self):
        found = doctor.path_ratio(sigmoid(Z))
        assert (found.steps, found.centred_steps) == (46, 2) and found.ratio == 23.0
        tanh = doctor.path_ratio(np.tanh(Z))
        assert tanh.steps == tanh.centred_steps == 2

    def test_a_target_along_the_mean_needs_as_many_at_the_best_rate(self):
        # |1 - rate * eigenvalue| is the same at both ends of the spectrum
        found = doctor.path_ratio(sigmoid(Z), target=(1.0, 1.0))
        assert abs(found.steps - doctor.path_ratio(sigmoid(Z)).steps) <= 1

    def test_bad_arguments(self):
        with pytest.raises(ShapeError, match="target"):
            doctor.path_ratio(Z, target=(1.0, 2.0, 3.0))
        with pytest.raises(DataError, match="directions"):
            doctor.path_ratio(np.stack([Z[:, 0], Z[:, 0]], axis=1))
        with pytest.raises(ArgumentError, match="tolerance"):
            doctor.path_ratio(Z, tolerance=0.0)


class TestOrder:
    def test_relu_behind_the_norm_has_mean_0_399_before_it_0(self):
        x = Random(0).stream("x").normal((5000, 16))
        found = doctor.bn_order(x)
        assert found.before_mean == pytest.approx((2 * np.pi) ** -0.5, abs=0.003)
        assert found.before_std == pytest.approx((0.5 - 1 / (2 * np.pi)) ** 0.5, abs=0.005)
        assert abs(found.behind_mean) < 1e-6
        assert found.behind_std == pytest.approx(1.0, abs=1e-3)
        assert abs(doctor.bn_order(x, activation="tanh").before_mean) < 0.01

    @pytest.mark.parametrize("kind", ["linear", "conv"])
    def test_the_same_in_a_model(self, kind):
        with fathom.seed(0):
            if kind == "conv":
                parts = [nn.Conv2d(2, 8, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(8)]
                x = Random(0).stream("x").normal((64, 2, 10, 10))
                last = nn.Conv2d(8, 2, 1)
            else:
                parts, last = [nn.Linear(16, 64), nn.BatchNorm1d(64)], nn.Linear(64, 2)
                x = Random(0).stream("x").normal((2000, 16))
            before = nn.Sequential(*parts, nn.ReLU(), last)
            behind = nn.Sequential(parts[0], nn.ReLU(), parts[1], last)
        running = parts[1].running_mean.value().copy()
        assert doctor.next_layer_mean(before, x)["3"] == pytest.approx(0.399, abs=0.01)
        assert abs(doctor.next_layer_mean(behind, x)["3"]) < 1e-6
        np.testing.assert_array_equal(parts[1].running_mean.value(), running)
        assert behind.training
        in_eval = doctor.next_layer_mean(behind, x, training=False)["3"]
        assert abs(in_eval) > 0.1  # nothing learned yet: the running mean is 0
