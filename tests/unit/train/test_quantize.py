import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import FathomError
from fathom.train.quantize import Affine, lookup_table, quantize


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 6), (-3, 0), (2, 5), (-0.1, 9)])
def test_rounding_is_at_most_half_a_step(low, high):
    grid = Affine.fit(low, high)
    r = np.linspace(min(low, 0), max(high, 0), 1001)
    assert np.abs(grid.dequantize(grid.quantize(r)) - r).max() <= grid.scale * (0.5 + 0.5 + 1e-9)
    inside = np.linspace(min(low, 0) + grid.scale, max(high, 0) - grid.scale, 1001)
    assert np.abs(grid.dequantize(grid.quantize(inside)) - inside).max() <= grid.scale * 0.500001
    assert grid.dequantize(grid.quantize(0.0)) == 0.0


def test_relu_is_exact_on_one_grid_and_gelu_within_half_a_step():
    grid = Affine.fit(-4.0, 4.0)
    codes = np.arange(-128, 128)
    table, out = lookup_table(lambda r: np.maximum(r, 0), grid, grid)
    np.testing.assert_array_equal(out.dequantize(table), np.maximum(grid.dequantize(codes), 0))
    for layer in (nn.functional.sigmoid, nn.functional.tanh):
        table, out = lookup_table(lambda r, f=layer: f(fathom.tensor(r)).value(), grid)
        exact = layer(fathom.tensor(grid.dequantize(codes))).value()
        assert np.abs(out.dequantize(table) - exact).max() <= 0.51 * out.scale


def trained(activation):
    data = fathom.data.load("iris")
    with fathom.seed(0):
        net = nn.Sequential(nn.Linear(4, 16), activation, nn.Dropout(0.1), nn.Linear(16, 3))
    net.fit(data.x, data.y, epochs=60, lr=0.02, verbose=False)
    return net, data


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.Sigmoid()], ids=repr)
def test_a_trained_network_keeps_its_answers(activation):
    net, data = trained(activation)
    small = quantize(net, data.x)
    exact, found = net.predict(data.x), small.predict(data.x)
    assert (exact.argmax(axis=1) == found.argmax(axis=1)).mean() >= 0.98
    report = small.report(net, data.x)
    assert report[0].name == "0 Linear"
    for layer in report:
        assert layer.largest < 12 * layer.step and layer.codes > 10
        assert layer.steps < 4
    assert small.nbytes < 4 * 4 * 16 + 4 * 16 * 3 + 2000
    assert "Linear" in repr(small)


def test_the_error_of_a_linear_layer_is_bounded():
    with fathom.seed(0):
        net = nn.Sequential(nn.Linear(8, 4))
    x = np.random.default_rng(0).uniform(-1, 1, (100, 8)).astype(np.float32)
    small = quantize(net, x)
    w = np.abs(net[0].weight.value())
    bound = (
        w.sum(axis=1) * small.grid.scale / 2  # of the input
        + w.max(axis=1) / 254 * 8 * 1.01  # of the weights, |x| <= 1
        + small.layers[0].scales * small.grid.scale  # of the bias
        + small.layers[0].grid_out.scale  # of the output, and its range's ends
    )
    assert (np.abs(small.predict(x) - net.predict(x)).max(axis=0) <= bound).all()


def test_what_cannot_be_quantized():
    x = np.ones((3, 4), np.float32)
    with pytest.raises(FathomError, match="takes a Sequential"):
        quantize(nn.Linear(4, 2), x)

    class Softmax(nn.Module):
        def forward(self, x):
            return nn.functional.softmax(x, axis=-1)

    with pytest.raises(FathomError, match=r"layer 1 \(Softmax\)"):
        quantize(nn.Sequential(nn.Linear(4, 2), Softmax()), x)
    with pytest.raises(FathomError, match="clip"):
        quantize(nn.Sequential(nn.Linear(4, 2)), x, clip=0.6)
