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


def images():
    """The digits as 28x28 images, in an order of their own."""
    data = fathom.data.load("digits")
    x = np.kron(data.x.reshape(-1, 8, 8) / 16, np.ones((3, 3)))
    x = np.pad(x, ((0, 0), (2, 2), (2, 2)))[:, None].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], data.y[order]


def test_lenet_keeps_its_answers_and_reports_its_errors():
    x, y = images()
    with fathom.seed(0):
        net = fathom.models.lenet5(activation_name="relu", pooling="max")
    net.fit(x[:400], y[:400], epochs=3, lr=0.005, verbose=False)
    small = quantize(net, x[:200])
    exact, found = net.predict(x[400:700]).argmax(axis=1), small.predict(x[400:700]).argmax(axis=1)
    assert (exact == y[400:700]).mean() > 0.85
    assert abs((exact == y[400:700]).mean() - (found == y[400:700]).mean()) < 0.02
    assert (exact == found).mean() > 0.97
    assert small.nbytes < 0.27 * small.floats  # a quarter, scales and tables
    report = small.report(net, x[400:450])
    assert [layer.name for layer in report][:3] == ["0 Conv2d", "1 ReLU", "2 MaxPool2d"]
    assert all(layer.steps < 1.0 and layer.largest < 8 * layer.step for layer in report)
    assert report[2].largest <= report[1].largest  # the largest of codes is exact


CONVOLUTIONS = [
    (nn.Conv1d(3, 4, 3), (8,)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (7, 7)),
    (nn.Conv2d(2, 4, 3, padding="same", dilation=2, bias=False), (9, 9)),
    (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (6, 6)),
]


@pytest.mark.parametrize(("layer", "size"), CONVOLUTIONS, ids=lambda v: str(v)[:80])
def test_convolutions_are_whole_numbers_with_a_scale_a_channel(layer, size):
    rng = np.random.default_rng(0)
    with fathom.seed(0):
        layer.reset_parameters()
    layer.weight.value()[0] *= 50.0  # a channel with a range of its own
    x = rng.uniform(-1, 1, (5, layer.in_channels, *size)).astype(np.float32)
    net = nn.Sequential(layer)
    small = quantize(net, x)
    made, q = small.layers[0], small.grid.quantize(x)
    assert made.weight.dtype == np.int8 and made.bias.dtype == np.int32
    assert (np.abs(made.weight).reshape(len(made.weight), -1).max(axis=1) == 127).all()
    assert made.scales[0] > 20 * made.scales[1:].max()
    sums = made.sums(q.astype(np.float64) - small.grid.zero_point)
    assert (sums == np.rint(sums)).all() and np.abs(sums).max() < 2**31
    error = np.abs(small.predict(x) - net.predict(x))
    wide = (slice(None), slice(1, None))  # of the small channels: steps are those of the tensor
    assert error.max() < 3 * made.grid_out.scale
    assert error[wide].max() < 0.51 * made.grid_out.scale + 0.05


def test_mean_pooling_is_rounded_and_other_poolings_are_not():
    x = np.random.default_rng(0).uniform(-1, 2, (4, 2, 6, 6)).astype(np.float32)
    for layer, most in (
        (nn.AvgPool2d(2), 0.5), (nn.AvgPool2d(3, 1, padding=1), 0.5), (nn.MaxPool2d(2), 0.0),
        (nn.MaxPool2d(3, padding=1), 0.0), (nn.GlobalAvgPool(), 0.5),
    ):  # fmt: skip
        small = quantize(nn.Sequential(layer), x)
        on_grid = small.grid.dequantize(small.grid.quantize(x))
        exact = layer(fathom.tensor(on_grid)).value()
        rest = np.abs(small.predict(x) - exact).max()
        assert rest <= most * small.grid.scale * (1 + 1e-6) + 1e-12


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
