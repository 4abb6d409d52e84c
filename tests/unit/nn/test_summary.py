import json

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.random import current


def model_784():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Dropout(0.5), nn.Linear(100, 10)
    )


def test_shapes_parameters_multiply_adds_and_bytes_by_hand():
    summary = model_784().summary((28, 28), batch_size=32)
    table = [(r.name, r.kind, r.output_shape, r.parameters, r.multiply_adds) for r in summary.rows]
    assert table == [
        ("0", "Flatten", (32, 784), 0, 0),
        ("1", "Linear", (32, 100), 784 * 100 + 100, 32 * 784 * 100),
        ("2", "ReLU", (32, 100), 0, 0),
        ("3", "Dropout", (32, 100), 0, 0),
        ("4", "Linear", (32, 10), 100 * 10 + 10, 32 * 100 * 10),
    ]
    assert [r.bytes for r in summary.rows] == [32 * n * 4 for n in (784, 100, 100, 100, 10)]
    assert summary.parameters == summary.trainable == 79_510
    assert summary.parameter_bytes == 4 * 79_510
    assert summary.multiply_adds == 32 * 79_400


def test_the_bias_is_no_multiply_add():
    without = nn.Linear(5, 3, bias=False).summary()
    assert without.multiply_adds == nn.Linear(5, 3).summary().multiply_adds == 15
    assert without.parameters == 15


def test_frozen_parameters_and_float64():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    model[0].requires_grad_(False)
    summary = model.summary()
    assert (summary.parameters, summary.trainable) == (23, 8)
    assert [row.trainable for row in summary.rows] == [0, 8]
    assert summary.parameter_bytes == 23 * 8
    assert "15 frozen" in str(summary)


def test_a_module_with_own_parameters_beside_its_layers_has_a_row():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 4)
            self.mix = nn.Parameter(np.ones((4, 5), np.float32))

        def forward(self, x):
            return self.inner(x) @ self.mix

    summary = Scaled().summary()
    assert [(r.name, r.parameters, r.multiply_adds) for r in summary.rows] == [
        ("inner", 16, 12),
        ("Scaled", 20, 20),
    ]
    assert summary.parameters == sum(r.parameters for r in summary.rows) == 36


def test_it_changes_neither_modes_nor_weights_nor_random_streams():
    model = model_784()
    model[3].eval()
    modes = [m.training for m in model.modules()]
    before = {n: t.value().copy() for n, t in model.state_dict().items()}
    with fathom.seed(0):
        position = current().state_dict()
        model.summary((28, 28))
        assert current().state_dict() == position
    assert [m.training for m in model.modules()] == modes
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._hooks or m._pre_hooks for m in model.modules())


def test_everything_is_put_back_after_an_error():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 1))
    with pytest.raises(ShapeError, match="in layer: 1"):
        model.summary()
    assert all(m.training for m in model.modules())
    assert not any(m._hooks or m._pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_shape": (0,)},
        {"input_shape": (3, -1)},
        {"input_shape": (2.5,)},
        {"batch_size": 0},
        {"batch_size": -4},
        {"batch_size": 1.5},
    ],
    ids=str,
)
def test_bad_sizes(arguments):
    with pytest.raises(ArgumentError, match="summary"):
        nn.Linear(3, 1).summary(**arguments)


def test_unknown_input_shape():
    with pytest.raises(ArgumentError, match=r"input_shape=\(features,\)"):
        nn.Sequential(nn.ReLU()).summary()
    assert nn.Sequential(nn.ReLU()).summary(7).rows[0].output_shape == (1, 7)


def test_text_html_and_json():
    summary = model_784().summary((28, 28))
    lines = str(summary).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "shape", "parameters", "multiply-adds",
                                "bytes"]  # fmt: skip
    assert "78,500" in lines[3]
    assert "79,510 parameters" in lines[-1]
    assert summary._repr_html_().count("<tr>") == 6
    assert json.loads(json.dumps(summary.to_dict()))["layers"][1]["output_shape"] == [1, 100]
