import json

import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.random import Random

X = Random(0).stream("x").normal((128, 20))
Y = (X @ Random(1).stream("w").normal((20, 4))).argmax(axis=1)


def net(activation, depth, gain, width=32, seed=0):
    """Hidden weights of standard deviation gain / sqrt(inputs), a head that is as it should be."""
    rng, layers, inputs = Random(seed).stream("w"), [], X.shape[1]
    for outputs in [*[width] * depth, 4]:
        layer = nn.Linear(inputs, outputs)
        size = gain if len(layers) < 2 * depth else 1.0
        layer.weight.data[...] = size * rng.normal((outputs, inputs)) / np.sqrt(inputs)
        layer.bias.data[...] = 0.0
        layers += [layer, nn.activation(activation)]
        inputs = outputs
    return nn.Sequential(*layers[:-1])


PLANTED = {
    "healthy relu": (("relu", 8, 2**0.5), "healthy"),
    "healthy tanh": (("tanh", 10, 1.0), "healthy"),
    "sigmoid vanishes": (("sigmoid", 10, 1.0), "vanishing"),
    "chaotic tanh explodes": (("tanh", 30, 4.0), "exploding"),
    "large relu explodes": (("relu", 10, 5.0), "exploding"),
    "small tanh collapses": (("tanh", 8, 0.1), "forward collapse"),
    "small relu collapses": (("relu", 8, 0.2), "forward collapse"),
    "zeros": (("relu", 2, 0.0), "forward collapse"),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_nets_are_told_apart(name, seed):
    arguments, verdict = PLANTED[name]
    assert doctor.gradient_flow(net(*arguments, seed=seed), "auto", X, Y).verdict == verdict


@pytest.mark.parametrize("name", ["small tanh collapses", "small relu collapses"])
def test_forward_collapse_is_what_the_ratio_of_gradients_misses(name):
    found = doctor.gradient_flow(net(*PLANTED[name][0]), "auto", X, Y)
    assert found.ratio_verdict == "healthy" and 0.1 < found.gradient_ratio < 10.0
    assert found.forward_ratio < 1e-5 and "shrinks" in found.why


def test_the_numbers_are_those_of_a_calculation_by_hand():
    model = net("tanh", 1, 1.0)
    found = doctor.gradient_flow(model, "cross_entropy", X, Y, lr=0.5)
    w1, w2 = model[0].weight.value(), model[2].weight.value()
    a = np.tanh(X @ w1.T)
    p = np.exp(a @ w2.T)
    delta = p / p.sum(axis=1, keepdims=True) - np.eye(4)[Y]
    row = found["2"]
    gradient = delta.T @ a / len(X)
    assert row.activation == pytest.approx(np.sqrt(np.mean(a**2)), rel=1e-5)
    assert row.delta == pytest.approx(np.sqrt(np.mean(delta**2)), rel=1e-5)
    assert row.gradient == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
    assert row.weight == pytest.approx(np.linalg.norm(w2), rel=1e-5)
    assert row.update == pytest.approx(0.5 * row.gradient / row.weight, rel=1e-5)
    assert row.leverage == pytest.approx(row.gradient * row.weight / found.loss, rel=1e-5)


def test_the_update_of_an_optimizer_is_its_own():
    model = net("tanh", 1, 1.0)
    adam = fathom.optim.Adam(model.parameters(), lr=0.01)
    before = [p.value().copy() for p in model.parameters()]
    row = doctor.gradient_flow(model, "auto", X, Y, optimizer=adam)["0"]
    # Adam's first step is lr for every weight
    assert row.update == pytest.approx(0.01 * np.sqrt(32 * 20) / row.weight, rel=1e-3)
    for p, b in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.value(), b)
        assert p.grad is None
    assert adam.state_dict()["state"] == {} or not adam.state_dict()["state"]


class Spoil(nn.Module):
    """Multiplies by a number; its gradient may be spoiled instead."""

    def __init__(self, forward):
        super().__init__()
        self.spoils_forward = forward

    def forward(self, x):
        if self.spoils_forward:
            return x * float("nan")
        return fathom.where(x > 1e9, x, x) + fathom.sqrt(x * 0.0)  # d sqrt at 0 is infinite


class TestNonFinite:
    def test_the_first_layer_forward(self):
        model = nn.Sequential(nn.Linear(20, 8), nn.Tanh(), Spoil(True), nn.Linear(8, 4))
        found = doctor.gradient_flow(model, "auto", X, Y)
        assert (found.verdict, found.non_finite, found.phase) == ("non-finite", "2", "forward")
        json.dumps(found.to_dict(), allow_nan=False)

    def test_the_first_layer_backward(self):
        model = nn.Sequential(nn.Linear(20, 8), nn.Tanh(), Spoil(False), nn.Linear(8, 4))
        found = doctor.gradient_flow(model, "auto", X, Y)
        assert np.isfinite(found.loss)
        # delta of the layer before the spoiled one is the first that is not finite
        assert (found.verdict, found.non_finite, found.phase) == ("non-finite", "1", "backward")

    def test_a_loss_alone(self):
        model = net("tanh", 1, 1.0)
        found = doctor.gradient_flow(model, lambda out, y: (out * float("inf")).sum(), X, Y)
        assert found.verdict == "non-finite"


def test_shared_layers_and_attention():
    with fathom.seed(0):
        shared = nn.Linear(20, 20)
        model = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(20, 4))
        found = doctor.gradient_flow(model, "auto", X, Y)
        assert [row.name for row in found.rows] == ["0", "0#2", "4"]
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        x = Random(0).stream("x").normal((4, 5, 8))
        found = doctor.gradient_flow(layer, "mse", x, np.zeros_like(x))
    names = [row.name for row in found.rows]
    assert names == ["self_attn.out_proj", "self_attn", "linear1", "linear2"]
    assert found.verdict == "healthy"


def test_a_norm_makes_small_weights_healthy():
    layers = []
    with fathom.seed(0):
        for _ in range(8):
            layers += [nn.Linear(20, 20), nn.BatchNorm1d(20), nn.Tanh()]
            layers[-3].weight.data[...] *= 0.03
    model = nn.Sequential(*layers, nn.Linear(20, 4))
    assert doctor.gradient_flow(model, "auto", X, Y).verdict == "healthy"
    for layer in layers[::3]:
        layer.weight.data[...] *= 0.01  # below the norm's eps it cannot help any more
    assert doctor.gradient_flow(model, "auto", X, Y).verdict == "forward collapse"
