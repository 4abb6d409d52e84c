"""What textbooks say of single activations, in numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fathom
from fathom import activations as A
from fathom import nn, optim
from fathom.activations.ticks import PROPERTIES, disagreements, ticks
from fathom.engine.errors import ArgumentError


def at(f, x, *rest) -> np.ndarray:
    return np.asarray(f(np.asarray(x, np.float64), *rest))


def mean_under_normal(f) -> float:
    z = np.linspace(-9, 9, 180000)
    weight = np.exp(-z * z / 2)
    return float(weight @ at(f, z) / weight.sum())


# -- the ticks of a usual textbook table -----------------------------------------------------------

TEXTBOOK = {  # property: the activations that get the tick
    "nonlinear": "sigmoid tanh relu leaky_relu elu gelu silu",
    "differentiable": "sigmoid tanh gelu silu",
    "monotone": "sigmoid tanh relu leaky_relu elu",
    "zero_centred": "tanh elu gelu",
    "non_saturating": "relu leaky_relu elu gelu silu",
}
NAMES = TEXTBOOK["nonlinear"].split()
SAID = {n: {title: n in TEXTBOOK[title].split() for title in PROPERTIES} for n in NAMES}


def test_disagreeing_ticks_are_reported():
    found = {(d.activation, d.property): d for d in disagreements(SAID)}
    assert set(found) == {
        ("elu", "differentiable"), ("elu", "zero_centred"), ("gelu", "zero_centred"),
        ("relu", "non_saturating"), ("elu", "non_saturating"), ("gelu", "non_saturating"),
        ("silu", "non_saturating"),
    }  # fmt: skip
    assert found["elu", "differentiable"].measured is True
    assert "mean 0.282" in str(found["gelu", "zero_centred"])
    assert "left" in found["silu", "non_saturating"].evidence
    # the table has GELU centred and Swish not; GELU is the further of the two from 0
    assert mean_under_normal(A.gelu) == pytest.approx(1 / (2 * math.sqrt(math.pi)), abs=1e-9)
    assert mean_under_normal(A.gelu) > mean_under_normal(A.silu) > 0.2


def test_measured_ticks_have_no_disagreement():
    assert disagreements({name: ticks(name) for name in NAMES}) == []
    assert not ticks("identity")["nonlinear"]
    with pytest.raises(ArgumentError, match="unknown property 'centred'"):
        disagreements({"relu": {"centred": True}})


# -- values and slopes -----------------------------------------------------------------------------


def test_slopes_of_gelu():
    low, high = A.audit("gelu", timing=False).slopes
    assert (low, high) == (pytest.approx(-0.12890, abs=1e-4), pytest.approx(1.12890, abs=1e-4))
    assert low == pytest.approx(1 - high, abs=1e-9)  # f'(x) + f'(-x) = 1


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0, 100.0])
def test_swish_goes_to_relu_as_one_over_beta(beta):
    x = np.linspace(-20, 20, 400001) / beta
    gap = np.abs(at(A.swish, x, beta) - at(A.relu, x)).max()
    assert gap == pytest.approx(0.278465 / beta, rel=1e-5)


def test_swish_goes_to_half_of_x():
    x = np.linspace(-3, 3, 601)
    gaps = [np.abs(at(A.swish, x, beta) - x / 2).max() for beta in (1e-1, 1e-2, 1e-3)]
    np.testing.assert_allclose(gaps, [9 / 4 * b for b in (1e-1, 1e-2, 1e-3)], rtol=0.01)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.673, 2.0])
def test_elu_below_zero(alpha):
    x = np.linspace(-30, -1e-3, 500)
    slope = at(A.elu.derivative(), x, alpha)
    np.testing.assert_allclose(slope, at(A.elu, x, alpha) + alpha, rtol=1e-9, atol=1e-12)
    assert slope[0] < 1e-11  # not alpha: the gradient dies far left
    assert at(A.elu, -700.0, alpha) == pytest.approx(-alpha)


def test_mean_of_elu():
    below = 0.5 - math.exp(0.5) * 0.5 * math.erfc(math.sqrt(0.5))  # E[1 - e^z; z < 0]
    assert mean_under_normal(A.elu) == pytest.approx(0.1605, abs=5e-5)
    means = []
    for alpha in (0.5, 1.0, 1.5, 2.0):
        z = np.linspace(-9, 9, 180000)
        weight = np.exp(-z * z / 2)
        means.append(float(weight @ at(A.elu, z, alpha) / weight.sum()))
        exact = 1 / math.sqrt(2 * math.pi) - alpha * below
        assert means[-1] == pytest.approx(exact, abs=1e-8)
    assert means == sorted(means, reverse=True) and means[-1] < 0  # alpha 2 overshoots


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_celu_has_slope_one_at_zero_for_every_alpha(alpha):
    slope = A.celu.derivative()
    assert at(slope, 0.0, alpha) == 1.0
    sides = at(slope, np.array([-1e-9, 1e-9]), alpha)
    np.testing.assert_allclose(sides, 1.0, atol=1e-7)
    if alpha != 1.0:  # which ELU has for alpha 1 alone
        assert at(A.elu.derivative(), -1e-9, alpha) == pytest.approx(alpha, rel=1e-6)


def test_selu_through_fifty_layers():
    with fathom.seed(1):
        x = fathom.Tensor(fathom.random.current().stream("data").normal((400, 400)))
        with fathom.no_grad():
            for _ in range(50):
                linear = nn.Linear(400, 400, bias=False)
                nn.init.lecun_normal_(linear.weight)
                x = A.selu(linear(x))
    assert abs(float(x.value().mean())) < 0.05
    assert 0.85 < float(x.value().var()) < 1.15


def test_gelu_is_the_mean_of_a_random_gate():
    draws = 100_000
    stream = fathom.random.Random(0).stream("gate")
    for x in (-2.0, -0.75, 0.3, 1.0, 2.5):
        keep = 0.5 * math.erfc(-x * math.sqrt(0.5))  # the chance that a normal draw is below x
        passed = x * stream.bernoulli(keep, (draws,))
        error = passed.std() / math.sqrt(draws)
        assert abs(passed.mean() - float(at(A.gelu, x))) < 3 * error


# -- softmax as a maximum --------------------------------------------------------------------------


def maximum_entropy(scores: np.ndarray, temperature: float) -> np.ndarray:
    """argmax over the simplex of T H(p) + p.z: L-BFGS on p = v^2 / |v|^2, then Newton steps."""
    z = fathom.Tensor(scores)
    v = nn.Parameter(np.ones(len(scores)))

    def objective():
        p = v * v / (v * v).sum()
        return (p * (temperature * p.log() - z)).sum()

    optimizer = optim.LBFGS([v], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-16,
                            line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    optimizer.step(closure)
    polish = optim.Newton([v], damping=1e-9)
    for _ in range(3):
        polish.step(objective)
    found = v.value() ** 2
    return found / found.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_maximizes_entropy_plus_score(temperature):
    scores = np.array([0.3, -1.2, 2.0, 0.0, 1.1])
    expected = A.softmax(fathom.Tensor(scores), temperature=temperature).value()
    assert np.abs(maximum_entropy(scores, temperature) - expected).max() < 2.5e-9


def test_softmax_is_boltzmanns_distribution():
    energy, kt = np.array([0.0, 0.5, 1.5, 3.0]), 0.7
    p = A.softmax(fathom.Tensor(-energy), temperature=kt).value()
    np.testing.assert_allclose(p[1:] / p[:-1], np.exp(-np.diff(energy) / kt), rtol=1e-12)


def test_entropy_of_softmax_rises_with_temperature():
    x = fathom.Tensor(fathom.random.Random(0).stream("x").normal((50, 8), dtype=np.float64) * 2)
    entropies = []
    for t in np.geomspace(0.02, 500, 60):
        p = A.softmax(x, temperature=float(t)).value()
        entropies.append(-(p * np.log(np.maximum(p, 1e-300))).sum(1))
    assert (np.diff(np.array(entropies), axis=0) > -1e-12).all()
    np.testing.assert_allclose(entropies[-1], math.log(8), atol=1e-4)


def test_sparsemax_meets_the_conditions_of_the_projection():
    """p is the nearest point of the simplex: z - p is tau on the support, at most tau off it."""
    z = fathom.random.Random(1).stream("z").normal((300, 9), dtype=np.float64) * 1.5
    p = A.sparsemax(fathom.Tensor(z)).value()
    assert (p >= 0).all() and (p == 0).mean() > 0.3
    np.testing.assert_allclose(p.sum(1), 1.0, atol=1e-12)
    for row, share in zip(z, p, strict=True):
        multiplier = (row - share)[share > 0]
        assert np.ptp(multiplier) < 1e-12
        assert (row[share == 0] <= multiplier.mean() + 1e-12).all()


# -- what a dip is good for ------------------------------------------------------------------------

X = np.linspace(-4.0, 4.0, 81)
Y = (X > -1.05) & (X < 1.45)  # the ends are one class, the middle the other

MONOTONE = ["relu", "leaky_relu", "elu", "selu", "tanh", "sigmoid", "softplus", "softsign"]


def fitted(f, seed: int) -> float:
    """Accuracy of sigmoid(v f(w x + b) + c), the best of 6 starts with L-BFGS."""
    x, y = fathom.Tensor(X), fathom.Tensor(Y.astype(np.float64))
    stream, best = fathom.random.Random(seed).stream("init"), 0.0
    for _ in range(6):
        w = nn.Parameter(stream.normal((4,), dtype=np.float64))
        optimizer = optim.LBFGS([w], max_iter=120, line_search_fn="strong_wolfe")

        def logits(w=w):
            return w[2] * f(w[0] * x + w[1]) + w[3]

        def closure(w=w, optimizer=optimizer, logits=logits):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(logits(), y)
            loss = loss + 1e-6 * (w * w).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        best = max(best, float(((logits().value() > 0) == Y).mean()))
        if best == 1.0:
            break
    return best


def half_lines() -> float:
    """The best accuracy of any rule "x above a threshold", in either direction."""
    inside = [Y[k:].sum() + (~Y[:k]).sum() for k in range(len(X) + 1)]
    return float(max(max(inside), len(X) - min(inside)) / len(X))


def test_one_swish_unit_separates_two_intervals_from_the_middle():
    assert fitted(A.silu, 0) == 1.0


@pytest.mark.parametrize("name", MONOTONE)
def test_no_monotone_unit_does(name):
    f, best = A.FORMULAS[name], 0.0
    for w in (-4.0, -1.0, -0.3, 0.3, 1.0, 4.0):
        for b in np.linspace(-6, 6, 25):
            h = at(f, w * X + b)
            above = h[:, None] > np.concatenate([h, [h.min() - 1.0]])  # every threshold
            hits = (above == Y[:, None]).mean(axis=0)
            best = max(best, float(hits.max()), float(1.0 - hits.min()))
    assert best <= half_lines() + 1e-12 < 0.8
    assert best == pytest.approx(half_lines())  # and the grid reaches the bound
    if name in ("relu", "tanh"):
        assert fitted(f, 0) <= half_lines() + 1e-12
