import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError
from fathom.train.history import History
from fathom.train.learning_curve import diagnose, overfit_batch, smooth

T = np.arange(60)


def noisy(curve, seed, size=0.02):
    return curve * (1 + size * np.random.default_rng(seed).standard_normal(len(curve)))


def planted(kind, seed):
    fall = 2.0 * np.exp(-T / 6) + 0.1
    if kind == "good":
        return noisy(fall, seed), noisy(fall + 0.03, seed + 99)
    if kind == "underfit":
        return noisy(1.7 + 0.3 * np.exp(-T / 4), seed), noisy(1.75 + 0.3 * np.exp(-T / 4), seed + 9)
    if kind == "overfit":
        return noisy(fall * 0.7, seed), noisy(fall + 0.3 + np.maximum(T - 15, 0) * 0.02, seed + 99)
    if kind == "improving":
        return noisy(2.0 - 0.025 * T, seed), noisy(2.1 - 0.025 * T, seed + 99)
    return noisy(1.0 + np.exp((T - 30) / 10), seed), noisy(1.1 + np.exp((T - 30) / 10), seed + 99)


@pytest.mark.parametrize("kind", ["good", "underfit", "overfit", "improving", "diverging"])
def test_planted_regimes_on_thirty_seeds(kind):
    found = [diagnose(*planted(kind, seed)).kind for seed in range(30)]
    assert found.count(kind) == 30, found


def test_when_to_stop():
    verdict = diagnose(*planted("overfit", 0))
    assert 12 <= verdict.stop_at <= 25
    assert "stop early" in verdict.advice and verdict.kind in str(verdict)


def test_of_a_history_and_without_validation():
    train, val = planted("good", 1)
    assert diagnose(History({"loss": list(train), "val_loss": list(val)})).kind == "good"
    assert diagnose({"loss": train}).kind == "good"
    assert diagnose(train, target=0.01).kind == "underfit"


def test_infinite_losses():
    train = [1.0, 0.9, np.inf, np.nan, 1.0]
    verdict = diagnose(train)
    assert verdict.kind == "diverging" and "epoch 3" in verdict.why


def test_real_runs():
    data = fathom.data.load("moons", n=60, noise=0.4)
    with fathom.seed(0):
        net = nn.Sequential(nn.Linear(2, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(),
                            nn.Linear(200, 2))  # fmt: skip
    history = net.fit(data.x[:30], data.y[:30], validation_data=(data.x[30:], data.y[30:]),
                      epochs=60, lr=0.01, verbose=False)  # fmt: skip
    assert diagnose(history).kind == "overfit"


def test_smoothing_drops_spikes_and_keeps_lines():
    line = np.linspace(1, 0, 50)
    line[20] = 50.0
    out = smooth(line, 5)
    assert out.max() < 1.1
    np.testing.assert_allclose(out[25:40], np.linspace(1, 0, 50)[25:40], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([1.0, 2.0],), "4 epochs"),
        (([1.0] * 5, [1.0] * 4), "validation 4"),
        (({"val_loss": [1.0]},), "no column 'loss'"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(ArgumentError, match=text):
        diagnose(*arguments)


def test_one_batch():
    data = fathom.data.load("iris")
    with fathom.seed(0):
        net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 3))
    before = [p.value().copy() for p in net.parameters()]
    found = net.overfit_batch(data.x, data.y)
    assert found.passed and "learned one batch" in str(found)
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.value(), old)
    assert net[2].p == 0.5
    with fathom.seed(0):
        dead = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    dead[0].bias.value()[...] = -1e3  # no unit can ever fire
    assert not overfit_batch(dead, data.x, data.y).passed
