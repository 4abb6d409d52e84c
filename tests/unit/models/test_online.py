import numpy as np
import pytest

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models import LinearSVM, Perceptron, online


def stream(n=2000, seed=0, flip=0.1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    y = np.sign(x @ [1.0, -2.0, 0.5] + 0.3)
    return x, np.where(rng.random(n) < flip, -y, y)


@pytest.fixture(scope="module")
def noisy():
    x, y = stream()
    hindsight = LinearSVM(0.1, "hinge", tol=1e-3, max_epochs=60).fit(x, y)
    return x, y, hindsight


def test_regret_a_sample_goes_to_zero_and_stays_below_the_bound(noisy):
    x, y, hindsight = noisy
    length = np.hypot(np.linalg.norm(hindsight.weights), hindsight.bias)
    run = online(x, y, radius=1.2 * length)
    curve = run.regret(hindsight.weights, hindsight.bias)
    assert curve.shape == (2000,) and curve[-1] > 0  # hindsight is better
    assert (curve <= run.bound()).all()
    a_sample = curve / np.arange(1, 2001)
    assert a_sample[-1] < 0.5 * a_sample[199] and a_sample[-1] < 0.1
    assert np.linalg.norm(run.weights) <= run.radius * (1 + 1e-12)


def test_the_curve_is_the_loss_before_learning_minus_that_of_fixed_weights(noisy):
    x, y, _ = noisy
    run = online(x[:50], y[:50])
    w, b = np.array([0.5, 0.1, -0.3]), 0.2
    fixed = np.maximum(0, 1 - y[:50] * (x[:50] @ w + b))
    np.testing.assert_allclose(run.regret(w, b), np.cumsum(run.losses) - np.cumsum(fixed))
    assert run.losses[0] == 1.0  # nothing is known yet
    again = online(x[:50], np.concatenate([y[:49], -y[49:50]]))
    np.testing.assert_array_equal(run.losses[:49], again.losses[:49])  # no look ahead


def test_the_perceptron_stops_erring_on_what_a_plane_separates():
    x, y = stream(3000, flip=0.0)
    far = abs(x @ [1.0, -2.0, 0.5] + 0.3) > 0.5
    x, y = x[far], y[far]
    run = online(x, y, "perceptron")
    first = Perceptron(max_epochs=1).fit(x, y)
    assert run.mistakes == first.mistakes
    np.testing.assert_allclose(run.weights, [first.bias, *first.weights])
    assert run.wrong[: len(y) // 4].sum() > 4 * run.wrong[-len(y) // 4 :].sum()


def test_errors():
    with pytest.raises(ArgumentError, match="unknown rule"):
        online([[1.0]], [1], "winnow")
    with pytest.raises(ArgumentError, match="radius must be > 0"):
        online([[1.0]], [1], radius=0)
    with pytest.raises(ShapeError, match="learned 1 weights; received 2"):
        online([[1.0], [0.0]], [1, 0]).regret([1.0, 2.0])
