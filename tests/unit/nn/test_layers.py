import math

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, CheckpointError, ShapeError
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.spec import layers


class TestConstructors:
    @pytest.mark.parametrize(
        ("name", "size"),
        [
            *((name, n) for name in ("in_features", "out_features") for n in (0, -3, 2.5, "4")),
            ("in_features", True),
            ("out_features", None),  # in_features=None waits for the first batch
        ],
    )
    def test_linear_sizes(self, name, size):
        sizes = {"in_features": 2, "out_features": 2, name: size}
        with pytest.raises(ArgumentError, match=f"Linear: {name} must be a whole number >= 1"):
            nn.Linear(**sizes)

    def test_numpy_sizes_are_taken(self):
        assert nn.Linear(np.int64(3), np.int32(2)).weight.shape == (2, 3)

    def test_sequential_of_classes_and_lists(self):
        with pytest.raises(ArgumentError, match=r"argument 1 .*\n.*try: nn\.ReLU\(\)"):
            nn.Sequential(nn.Linear(2, 2), nn.ReLU)
        with pytest.raises(ArgumentError, match=r"nn\.Sequential\(\*layers\)"):
            nn.Sequential([nn.Linear(2, 2)])

    def test_sequential_as_a_list(self):
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).append(nn.Linear(3, 1))
        assert len(model) == 3
        assert model[-1] is list(model)[2]
        assert isinstance(model[:2], nn.Sequential)
        assert model[:2][0] is model[0]

    @pytest.mark.parametrize("name", ["relu", "Tanh", "SIGMOID", "identity"])
    def test_activation_by_name(self, name):
        assert type(nn.activation(name)).__name__.lower() == name.lower()

    @pytest.mark.parametrize("name", ["rleu", 3, None])
    def test_unknown_activation(self, name):
        with pytest.raises(ArgumentError, match=r"unknown .*\n.*known: .*identity, .*relu"):
            nn.activation(name)

    def test_misspelt_activation_gets_a_suggestion(self):
        with pytest.raises(ArgumentError, match="did you mean 'relu'"):
            nn.activation("rleu")

    def test_mse_refuses_to_broadcast(self):
        with pytest.raises(ShapeError, match=r"reshape the target to \(3, 1\)"):
            F.mse_loss(fathom.ones(3, 1), fathom.ones(3))


class TestDropout:
    @pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
    def test_share_and_scale(self, p):
        x = fathom.ones(400, 500)
        with fathom.seed(0):
            out = nn.Dropout(p)(x).value()
        dropped = float((out == 0).mean())
        sigma = math.sqrt(p * (1 - p) / x.size)
        assert abs(dropped - p) < 5 * sigma
        np.testing.assert_allclose(out[out != 0], 1 / (1 - p), rtol=1e-6)

    def test_eval_is_the_identity(self):
        x = fathom.ones(3)
        assert nn.Dropout(0.5).eval()(x) is x
        assert nn.Dropout(0.0)(x) is x

    def test_p_one_drops_everything_and_its_gradient(self):
        x = fathom.ones(3)
        x.requires_grad_()
        out = nn.Dropout(1.0)(x)
        out.sum().backward()
        assert out.tolist() == x.grad.tolist() == [0.0, 0.0, 0.0]

    def test_the_gradient_has_the_same_mask(self):
        x = fathom.ones(100)
        x.requires_grad_()
        out = nn.Dropout(0.5)(x)
        out.sum().backward()
        assert x.grad.tolist() == out.tolist()

    def test_seeded(self):
        def masks(seed):
            with fathom.seed(seed):
                layer = nn.Dropout(0.5)
                return [layer(fathom.ones(50)).tolist() for _ in range(2)]

        first, second = masks(0)
        assert first != second
        assert masks(0) == [first, second]
        assert masks(1) != [first, second]

    @pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
    def test_p_outside(self, p):
        with pytest.raises(ArgumentError, match=r"probability in \[0, 1\]"):
            nn.Dropout(p)
        with pytest.raises(ArgumentError, match="probability"):
            F.dropout(fathom.ones(2), p)

    def test_float64_stays(self):
        assert nn.Dropout(0.5)(fathom.ones(3, dtype=np.float64)).dtype == np.float64


class TestInit:
    def test_linear_is_uniform_within_one_over_root_fan_in(self):
        with fathom.seed(0):
            layer = nn.Linear(256, 400)
        bound = 1 / 16
        for values in (layer.weight.value(), layer.bias.value()):
            assert np.abs(values).max() <= bound
            assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        weight = layer.weight.value()
        assert abs(weight.mean()) < 5 * bound / math.sqrt(3 * weight.size)
        assert weight.max() > 0.999 * bound

    @pytest.mark.parametrize(
        ("fill", "std"),
        [
            (init.xavier_uniform_, math.sqrt(2 / (300 + 200))),
            (init.kaiming_uniform_, math.sqrt(2 / 300)),
            (lambda t: init.normal_(t, 0.0, 0.3), 0.3),
            (lambda t: init.uniform_(t, -1.0, 1.0), 1 / math.sqrt(3)),
        ],
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_standard_deviations(self, fill, std, dtype):
        weight = fathom.zeros(200, 300, dtype=dtype)
        with fathom.seed(0):
            assert fill(weight) is weight
        assert weight.dtype == dtype
        assert weight.value().std() == pytest.approx(std, rel=0.02)
        assert abs(weight.value().mean()) < 5 * std / math.sqrt(weight.size)

    def test_variance_is_kept_through_ten_relu_layers(self):
        with fathom.seed(0):
            x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
            for _ in range(10):
                layer = nn.Linear(256, 256, bias=False)
                init.kaiming_uniform_(layer.weight)
                x = np.maximum(layer(x).value(), 0)
        assert 0.3 < np.mean(np.square(x)) < 3.0

    def test_constants(self):
        assert init.constant_(fathom.zeros(2), 3.0).tolist() == [3.0, 3.0]
        assert init.zeros_(fathom.ones(2)).tolist() == [0.0, 0.0]

    def test_fans_of_a_vector(self):
        with pytest.raises(ShapeError, match="at least 2 axes"):
            init.xavier_uniform_(fathom.zeros(3))
        assert init.fans(fathom.zeros(8, 3, 5, 5)) == (75, 200)

    def test_a_seed_fixes_every_weight(self):
        def weights(seed):
            with fathom.seed(seed):
                return fathom.models.mlp(3, 2).state_dict()["0.weight"].tolist()

        assert weights(3) == weights(3)
        assert weights(3) != weights(4)


MODELS = [
    nn.Linear(3, 2),
    nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False), nn.Tanh(), nn.Dropout(0.25)),
    nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), nn.Identity(), nn.ReLU()),
    nn.Sequential(),
    nn.CrossEntropyLoss(fathom.tensor([1.0, 2.0]), 3, "sum", 0.1),
    nn.MSELoss("none"),
]


class TestSpec:
    @pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
    def test_round_trip(self, model):
        spec = nn.to_spec(model)
        rebuilt = nn.from_spec(spec)
        assert repr(rebuilt) == repr(model)
        assert nn.to_spec(rebuilt) == spec
        rebuilt.load_state_dict(model.state_dict())

    def test_specs_are_json(self):
        import json

        for model in MODELS:
            spec = nn.to_spec(model)
            assert json.loads(json.dumps(spec)) == spec

    def test_every_layer_of_the_package_is_known(self):
        public = {
            name
            for name in nn.__all__
            if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
        }
        assert public - {"Module"} == set(layers())

    def test_foreign_classes_are_refused(self):
        class Own(nn.Module):
            pass

        class Linear(nn.Linear):  # the same name is not the same class
            pass

        for model in (Own(), Linear(2, 2), nn.Sequential(Own())):
            with pytest.raises(ArgumentError, match="not one of Fathom's layers"):
                nn.to_spec(model)

    def test_shared_layers_and_parameters_are_refused(self):
        layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
        other.weight = layer.weight
        for model in (nn.Sequential(layer, layer), nn.Sequential(layer, other)):
            with pytest.raises(ArgumentError, match="two places"):
                nn.to_spec(model)

    @pytest.mark.parametrize(
        "spec",
        [
            {"type": "Linaer"},
            {"type": "Linear"},
            {"type": "Linear", "in_features": 2, "out_features": 2, "hack": 1},
            {"type": ["Linear"]},
            {"type": 3},
            {"layers": []},
            {"type": "Sequential", "layers": 5},
            {"type": "Sequential", "layers": ["abc"]},
            {"type": "os.system"},
            "abc",
            [1],
            None,
        ],
        ids=str,
    )
    def test_what_is_no_spec(self, spec):
        with pytest.raises(CheckpointError):
            nn.from_spec(spec)

    def test_misspelt_layers_get_a_suggestion(self):
        with pytest.raises(CheckpointError, match="unknown layer 'Linaer'"):
            nn.from_spec({"type": "Linaer"})
