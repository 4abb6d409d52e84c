"""What a bias is for, and that it is a weight like any other."""

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.data import blobs
from fathom.models import augment, head


def logistic(x, y, bias, steps=300):
    """Logistic regression by gradient descent; the accuracy on the samples."""
    found = head("binary", x.shape[1])
    with fathom.seed(0):
        model = nn.Linear(x.shape[1], 1, bias=bias)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        found.loss(model(x), y).backward()
        optimizer.step()
    return float((found.decide(model(x)) == y).mean())


def test_without_a_bias_accuracy_falls_with_the_distance_from_the_origin():
    """Two overlapping clouds, shifted: at centre 0 nothing is lost, far off almost everything."""
    data = blobs(300, noise=1.0, centers=[[-1.0, -0.5], [1.0, 0.5]], seed=0)
    x, y = data.x - data.x.mean(0), data.y
    gaps = {}
    for shift in (0.0, 1.0, 2.0, 5.0):
        kept, lost = (logistic(fathom.tensor(x + np.float32(shift)), y, b) for b in (True, False))
        gaps[shift] = kept - lost
        assert kept > 0.8  # a bias takes any shift
    assert abs(gaps[0.0]) < 0.02
    assert gaps[0.0] < gaps[1.0] < gaps[2.0] < gaps[5.0]
    assert gaps[5.0] > 0.1


def test_a_bias_learns_as_the_weight_of_a_constant_input_does():
    """Same start, same data: the same weights after every step, and the same answers."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    with fathom.seed(0):
        plain, widened = nn.Linear(3, 1).double(), nn.Linear(4, 1, bias=False).double()
    widened.weight.data[0] = [*plain.bias.value(), *plain.weight.value()[0]]
    found = head("binary", 3)
    inputs = {plain: fathom.tensor(x), widened: fathom.tensor(augment(x))}
    optimizers = [optim.SGD(m.parameters(), lr=0.5, momentum=0.9) for m in inputs]
    for _ in range(20):
        for (model, a), optimizer in zip(inputs.items(), optimizers, strict=True):
            optimizer.zero_grad()
            found.loss(model(a), y).backward()
            optimizer.step()
        together = [*plain.bias.value(), *plain.weight.value()[0]]
        np.testing.assert_allclose(widened.weight.value()[0], together, rtol=1e-12, atol=1e-14)
    answers = [model(a).value() for model, a in inputs.items()]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [1, 5])
def test_n_inputs_make_n_plus_one_parameters_and_no_bias_no_output_at_zero(n):
    assert sum(p.size for p in nn.Linear(n, 1).parameters()) == n + 1
    assert nn.Linear(n, 1, bias=False)(fathom.zeros(1, n)).item() == 0
