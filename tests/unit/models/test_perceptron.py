import numpy as np
import pytest

import fathom
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models import (
    Adaline,
    KernelPerceptron,
    LinearSVM,
    Perceptron,
    PocketPerceptron,
    VotedPerceptron,
    augment,
    boolean_inputs,
    linearly_separable,
    perceptron_criterion,
)
from fathom.models.perceptron import kernel_function

CORNERS = boolean_inputs().astype(float)
AND, OR, XOR = [0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]


def separable(seed, n=60, width=3, gap=0.1, shift=0.3):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(width)
    w /= np.linalg.norm(w)
    b = rng.normal() * shift
    x = rng.standard_normal((n, width))
    f = x @ w + b
    keep = np.abs(f) > gap
    return x[keep], np.where(f[keep] > 0, 1, -1)


def overlapping(seed, n=200):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.standard_normal((n, 2)) + 1.5 * y[:, None], y


class TestPerceptron:
    @pytest.mark.parametrize("rate", [0.1, 1.0])
    @pytest.mark.parametrize("rule", ["label", "difference"])
    @pytest.mark.parametrize("levels", [(-1, 1), (0, 1)])
    def test_and_takes_six_epochs_and_ten_updates_or_four_and_four(self, rule, levels, rate):
        for y, wanted in ((AND, (6, 10)), (OR, (4, 4))):
            unit = Perceptron(rate, rule, levels).fit(CORNERS, y)
            assert (unit.epochs, unit.mistakes) == wanted
            assert unit.converged and unit.score(CORNERS, y) == 1.0

    def test_the_difference_form_is_the_label_form_at_twice_the_rate(self):
        x, y = separable(0)
        label = Perceptron(0.2).fit(x, y)
        difference = Perceptron(0.1, "difference").fit(x, y)
        same = Perceptron(0.2, "difference", (0, 1)).fit(x, y)
        for other in (difference, same):
            assert len(label.trajectory) == len(other.trajectory)
            np.testing.assert_allclose(label.trajectory, other.trajectory, rtol=1e-12)

    def test_it_is_stochastic_gradient_descent_on_the_criterion(self):
        """From any start but 0 (where the criterion is flat and the rule is not)."""
        x, y = separable(1)
        rows, w = augment(x), np.full(4, 0.01)
        theta = fathom.tensor(w, requires_grad=True)
        for row, label in zip(rows, y, strict=True):
            if (1 if row @ w > 0 else -1) != label:
                w = w + 0.5 * label * row
            score = (theta * fathom.tensor(row)).sum().reshape(1)
            perceptron_criterion(score, np.array([float(label)])).backward()
            theta = fathom.tensor(theta.value() - 0.5 * theta.grad.value(), requires_grad=True)
            np.testing.assert_allclose(theta.value(), w, rtol=1e-12)

    def test_mistakes_stay_below_the_bound_of_novikoff(self):
        checked, worst = 0, 0.0
        for seed in range(300):
            rng = np.random.default_rng(seed)
            x, y = separable(seed, 40, int(rng.integers(1, 5)), rng.uniform(0.05, 0.4))
            if len(set(y)) < 2:
                continue
            unit = Perceptron(max_epochs=20000).fit(x, y)
            bound = unit.bound(x, y)
            assert unit.converged and bound.holds, str(bound)
            assert linearly_separable(x, y)
            worst = max(worst, unit.mistakes / bound.value)
            checked += 1
        assert checked > 290
        assert 0.02 < worst <= 1

    def test_the_bound_printed_for_a_bias_is_broken_by_two_points(self):
        x, y = [[0.01], [-0.01]], [1, -1]
        unit = Perceptron().fit(x, y)
        plain, right = unit.bound(x, y, augmented=False), unit.bound(x, y)
        assert plain.value == pytest.approx(1.0) and unit.mistakes == 2 and not plain.holds
        assert right.holds and right.value == pytest.approx(10001, rel=1e-3)
        assert "augmented" in str(right)
        origin = Perceptron(fit_intercept=False).fit(x, y)
        assert origin.bound(x, y, augmented=False).holds and origin.bias == 0

    def test_xor_never_ends_and_the_weights_stay_bounded(self):
        unit = Perceptron(max_epochs=300).fit(CORNERS, XOR)
        assert not unit.converged and unit.epochs == 300 and min(unit.history) > 0
        assert np.abs(unit.trajectory).max() < 5
        early = {tuple(w) for w in np.array(unit.trajectory[20:100])}
        assert {tuple(w) for w in unit.trajectory[100:]} <= early  # they go round in a circle

    def test_labels_come_back_as_they_were(self):
        unit = Perceptron().fit(CORNERS, [3, 3, 3, 7])
        assert unit.predict([[1, 1], [0, 1]]).tolist() == [7, 3]

    def test_errors(self):
        with pytest.raises(ArgumentError, match="learning_rate must be > 0"):
            Perceptron(0)
        with pytest.raises(ArgumentError, match="unknown rule"):
            Perceptron(rule="delta")
        with pytest.raises(ArgumentError, match="levels"):
            Perceptron(levels=(0, 2))
        with pytest.raises(ArgumentError, match="labels of two classes"):
            Perceptron().fit([[0], [1], [2]], [0, 1, 2])
        with pytest.raises(ShapeError, match=r"samples \(n, d\)"):
            Perceptron().fit([0, 1], [0, 1])
        with pytest.raises(ShapeError, match="2 features"):
            Perceptron().fit(CORNERS, AND).predict([[1, 2, 3]])


class TestVariants:
    @pytest.mark.parametrize("seed", range(5))
    def test_the_pocket_errs_no_more_than_the_last_weights(self, seed):
        x, y = overlapping(seed)
        unit = PocketPerceptron(max_epochs=20).fit(x, y)
        assert unit.errors == (unit.predict(x) != y).sum() <= unit.last_errors
        assert unit.errors < 0.3 * len(y)

    def test_pocket_of_separable_data_is_the_perceptron(self):
        plain, pocket = Perceptron().fit(CORNERS, AND), PocketPerceptron().fit(CORNERS, AND)
        assert pocket.errors == 0 and pocket.epochs == plain.epochs
        assert pocket.weights.tolist() == plain.weights.tolist()

    def test_votes_beat_the_last_weights_on_noise(self):
        voted = averaged = last = 0.0
        for seed in range(10):
            x, y = overlapping(seed)
            test_x, test_y = overlapping(seed + 100)
            unit = VotedPerceptron(max_epochs=5).fit(x, y)
            voted += unit.score(test_x, test_y)
            unit.average = True
            averaged += unit.score(test_x, test_y)
            unit.weights, unit.bias = unit.last_weights, unit.last_bias
            last += unit.score(test_x, test_y)
        assert voted > last + 0.2 and averaged > last + 0.2

    def test_survivals_count_every_sample(self):
        x, y = separable(3)
        unit = VotedPerceptron().fit(x, y)
        assert unit.survivals.sum() == unit.epochs * len(y)
        assert len(unit.vectors) == unit.mistakes + 1
        assert unit.score(x, y) > 0.9

    def test_kernel_solves_xor_in_eight_epochs(self):
        unit = KernelPerceptron("poly", degree=2).fit(CORNERS, XOR)
        assert (unit.epochs, unit.converged) == (8, True)
        assert unit.alpha.tolist() == [7, 5, 5, 4] and unit.mistakes == 21
        assert unit.predict(CORNERS).tolist() == XOR
        assert KernelPerceptron("rbf").fit(CORNERS, XOR).score(CORNERS, XOR) == 1.0
        assert not KernelPerceptron("linear", max_epochs=50).fit(CORNERS, XOR).converged

    def test_own_kernels(self):
        unit = KernelPerceptron(lambda x, z: (x @ z.T + 1.0) ** 2).fit(CORNERS, XOR)
        assert unit.epochs == 8
        with pytest.raises(ArgumentError, match="unknown kernel"):
            kernel_function("sigmoid")

    def test_adaline_goes_to_least_squares(self):
        x, y = overlapping(0, 100)
        unit = Adaline(0.1, 3000, batch=True).fit(x, y)
        wanted = np.linalg.lstsq(augment(x), 2.0 * y - 1, rcond=None)[0]
        np.testing.assert_allclose([unit.bias, *unit.weights], wanted, atol=1e-6)
        assert (np.diff(unit.losses) <= 1e-15).all()
        online = Adaline(0.001, 200).fit(x, y)
        np.testing.assert_allclose([online.bias, *online.weights], wanted, atol=0.03)
        with (
            pytest.raises(ArgumentError, match="grew without bound"),
            pytest.warns(RuntimeWarning) if False else np.errstate(all="ignore"),
        ):
            Adaline(10.0, 2000).fit(x, y)

    def test_adaline_corrects_what_is_right_and_the_perceptron_does_not(self):
        x, y = [[1.0], [-1.0]], [1, -1]
        assert Perceptron().fit(x, y).mistakes == 1
        assert Adaline(0.1, 200).fit(x, y).weights[0] == pytest.approx(1.0, abs=1e-3)


class TestSVM:
    def test_hard_margin_is_the_widest(self):
        from fathom.models import widest_margin

        x, y = separable(5, gap=0.2)
        svm = LinearSVM(C=1e6, loss="hinge", tol=1e-8, max_epochs=50000).fit(x, y)
        w, margin = widest_margin(augment(x), y)
        own = np.array([svm.bias, *svm.weights])
        assert svm.converged
        np.testing.assert_allclose(own / np.linalg.norm(own), w, atol=1e-5)
        assert svm.margin == pytest.approx(margin, rel=1e-5)
        perceptron = Perceptron().fit(x, y)
        p = np.array([perceptron.bias, *perceptron.weights])
        assert (augment(x) @ p * y).min() / np.linalg.norm(p) <= margin

    def test_a_smaller_C_allows_more_violations_and_a_wider_margin(self):
        x, y = overlapping(0)
        margins = [LinearSVM(C, "hinge", tol=1e-4).fit(x, y).margin for C in (0.001, 0.1, 10)]
        assert margins == sorted(margins, reverse=True)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="C must be > 0"):
            LinearSVM(0)
        with pytest.raises(ArgumentError, match="unknown loss"):
            LinearSVM(loss="log")


def test_criterion():
    f, y = fathom.tensor([2.0, -3.0, 0.0]), fathom.tensor([1.0, 1.0, -1.0])
    assert perceptron_criterion(f, y, "none").tolist() == [0.0, 3.0, 0.0]
    assert perceptron_criterion(f, y).item() == 1.0
    with pytest.raises(ShapeError):
        perceptron_criterion(f, y[:2])
