"""The old learning machines against scikit-learn and scipy."""

import numpy as np
import pytest

import fathom
from fathom.models import (
    LinearSVM,
    Perceptron,
    augment,
    linear_program,
    linearly_separable,
    widest_margin,
)

optimize = pytest.importorskip("scipy.optimize")
linear_model = pytest.importorskip("sklearn.linear_model")
svm = pytest.importorskip("sklearn.svm")
datasets = pytest.importorskip("sklearn.datasets")


def blobs(seed, n=150, gap=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return x, np.where(x @ [1, 2, -1, 0] + gap * rng.standard_normal(n) > 0.3, 1, -1)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(2))
def test_svm_is_linear_svc(loss, C, seed):
    x, y = blobs(seed)
    ours = LinearSVM(C, loss).fit(x, y)
    theirs = svm.LinearSVC(C=C, loss=loss, tol=1e-8, max_iter=1_000_000).fit(x, y)
    assert ours.converged
    np.testing.assert_allclose(ours.weights, theirs.coef_[0], atol=1e-3)
    assert ours.bias == pytest.approx(theirs.intercept_[0], abs=1e-3)
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), atol=1e-3)
    assert (ours.predict(x) == theirs.predict(x)).all()


@pytest.mark.parametrize("seed", range(5))
def test_perceptron_is_scikit_learns(seed):
    """Without shuffling and from zeros; scikit-learn corrects at f = 0 for both labels."""
    x, y = blobs(seed, gap=0.0)
    start = np.where(y == 1)[0][0]  # where both see f = 0, both must correct
    x, y = np.roll(x, -start, axis=0), np.roll(y, -start)
    ours = Perceptron(max_epochs=7).fit(x, y)
    theirs = linear_model.Perceptron(max_iter=7, tol=None, shuffle=False).fit(x, y)
    np.testing.assert_allclose(ours.weights, theirs.coef_[0], rtol=1e-9)
    assert ours.bias == pytest.approx(theirs.intercept_[0])


def test_linear_programs_are_scipys():
    rng = np.random.default_rng(0)
    names = {0: "optimal", 2: "infeasible", 3: "unbounded"}
    seen = {name: 0 for name in names.values()}
    for _ in range(250):
        n, m, e = rng.integers(1, 7), rng.integers(1, 8), rng.integers(0, 3)
        a, b = rng.integers(-3, 4, (m, n)), rng.integers(-3, 6, m)
        a_eq, b_eq = rng.integers(-2, 3, (e, n)), rng.integers(-2, 3, e)
        c, free = rng.integers(-3, 4, n), bool(rng.integers(2))
        rows = (a, b, a_eq, b_eq) if e else (a, b, None, None)
        theirs = optimize.linprog(c, *rows, bounds=(None, None) if free else (0, None))
        ours = linear_program(c, *rows, free=free)
        assert ours.status == names[theirs.status]
        seen[ours.status] += 1
        if theirs.status == 0:
            assert ours.value == pytest.approx(theirs.fun, abs=1e-8)
            assert (a @ ours.x <= b + 1e-8).all() and (free or (ours.x >= -1e-9).all())
            prices = theirs.ineqlin.marginals @ b + (theirs.eqlin.marginals @ b_eq if e else 0)
            assert ours.multipliers @ np.concatenate([b, b_eq]) == pytest.approx(prices, abs=1e-8)
    assert min(seen.values()) > 30, seen


def test_larger_programs():
    rng = np.random.default_rng(1)
    for n, m in ((60, 40), (30, 120)):
        a, c = rng.random((m, n)), -rng.random(n)
        ours = linear_program(c, a, np.ones(m))
        assert ours.value == pytest.approx(optimize.linprog(c, a, np.ones(m)).fun, rel=1e-9)


def separable_by_scipy(x, y):
    rows = -augment(x) * np.where(y, 1, -1)[:, None]
    width = rows.shape[1]
    return (
        optimize.linprog(np.zeros(width), rows, -np.ones(len(x)), bounds=(None, None)).status == 0
    )


@pytest.mark.parametrize("seed", range(20))
def test_separability_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 20))
    x, y = rng.standard_normal((n, 3)), rng.integers(0, 2, n)
    y[:2] = 0, 1
    assert bool(linearly_separable(x, y)) == separable_by_scipy(x, y)


def test_eight_of_ten_digits_are_separable_from_the_rest():
    x, digits = datasets.load_digits(return_X_y=True)
    found = {}
    for digit in range(10):
        y = digits == digit
        result = linearly_separable(x, y.astype(int))
        found[digit] = bool(result)
        if result:
            assert ((x @ result.weights + result.bias > 0) == y).all()
            assert result.margin > 0
    assert [d for d, yes in found.items() if not yes] == [8, 9]
    assert separable_by_scipy(x, digits == 0) and not separable_by_scipy(x, digits == 8)


def test_widest_margin_is_that_of_a_hard_svm():
    x, y = blobs(0, 60, gap=0.0)
    w, margin = widest_margin(augment(x), y)
    theirs = svm.SVC(C=1e9, kernel="linear", tol=1e-9).fit(np.vstack([augment(x), -augment(x)]),
                                                           np.concatenate([y, -y]))  # fmt: skip
    assert abs(theirs.intercept_[0]) < 1e-6  # the mirrored points force a plane through 0
    assert margin == pytest.approx(1 / np.linalg.norm(theirs.coef_[0]), rel=1e-4)
    np.testing.assert_allclose(w, theirs.coef_[0] / np.linalg.norm(theirs.coef_[0]), atol=1e-3)


def test_bias_ablation():
    """Without a bias nothing is lost at centre 0, and more the farther the data are off."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = rng.standard_normal((200, 2)) + 1.5 * (2 * y[:, None] - 1) * [1, 0.5]
    gaps = []
    for shift in (0.0, 0.7, 5.0):
        scores = [
            LinearSVM(0.1, "hinge", 1e-2, 300, fit_intercept=bias)
            .fit(x + shift, y)
            .score(x + shift, y)
            for bias in (True, False)
        ]
        gaps.append(scores[0] - scores[1])
    assert abs(gaps[0]) < 0.02 < gaps[1] < gaps[2] and gaps[2] > 0.1


def test_the_numbers_above_do_not_depend_on_fathoms_seed():
    x, y = blobs(0)
    with fathom.seed(1):
        first = LinearSVM().fit(x, y).weights
    np.testing.assert_array_equal(first, LinearSVM().fit(x, y).weights)
