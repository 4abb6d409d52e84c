import numpy as np
import pytest

from fathom.engine.errors import ArgumentError
from fathom.train import metrics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(3))
def test_classification_against_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    outputs, targets = rng.standard_normal((50, 4)), rng.integers(0, 4, 50)
    predicted = outputs.argmax(axis=1)
    assert metrics.accuracy(outputs, targets) == sklearn.accuracy_score(targets, predicted)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(targets, predicted, 4),
        sklearn.confusion_matrix(targets, predicted, labels=range(4)),
    )


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)], ids=str)
def test_regression_against_scikit_learn(shape):
    sklearn = pytest.importorskip("sklearn.metrics")
    targets = RNG.standard_normal(shape) * 3 + 1
    outputs = targets + RNG.standard_normal(shape)
    assert metrics.mean_absolute_error(outputs, targets) == pytest.approx(
        sklearn.mean_absolute_error(targets, outputs)
    )
    assert metrics.mean_squared_error(outputs, targets) == pytest.approx(
        sklearn.mean_squared_error(targets, outputs)
    )
    assert metrics.r2(outputs, targets) == pytest.approx(
        sklearn.r2_score(targets, outputs, multioutput="variance_weighted")
    )


def test_a_column_of_outputs_meets_flat_targets():
    targets = np.array([1.0, 2.0, 4.0])
    outputs = targets[:, None] + 1
    assert metrics.mean_absolute_error(outputs, targets) == 1.0
    assert metrics.mean_squared_error(outputs, targets) == 1.0


def test_confusion_matrix_keeps_absent_classes():
    found = metrics.confusion_matrix(np.array([0, 0]), np.array([0, 2]), 4)
    assert found.shape == (4, 4)
    assert found[0].tolist() == [1, 0, 1, 0]


def test_r2_of_the_mean_of_perfect_and_of_constant_targets():
    targets = np.array([1.0, 2.0, 3.0])
    assert metrics.r2(np.full(3, 2.0), targets) == 0.0
    assert metrics.r2(targets, targets) == 1.0
    assert np.isnan(metrics.r2(targets, np.ones(3)))


def test_find():
    def mine(outputs, targets):
        return 0.0

    assert metrics.find("r2") == {"r2": metrics.r2}
    assert metrics.find(mine) == {"mine": mine}
    assert list(metrics.find(["mae", mine])) == ["mae", "mine"]
    assert metrics.find(()) == {}
    with pytest.raises(ArgumentError, match=r"unknown metric 'acuracy'\n.*did you mean 'accuracy'"):
        metrics.find(["mae", "acuracy"])
