import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import FathomError
from fathom.train.collapse import (
    collapse_of,
    neural_collapse,
    simplex_etf,
    unconstrained_features,
)


@pytest.mark.parametrize(("classes", "dimensions"), [(2, None), (3, 2), (4, 10), (10, 9)])
def test_the_simplex(classes, dimensions):
    etf = simplex_etf(classes, dimensions)
    wanted = np.full((classes, classes), -1 / (classes - 1))
    np.fill_diagonal(wanted, 1.0)
    np.testing.assert_allclose(etf @ etf.T, wanted, atol=1e-12)
    np.testing.assert_allclose(etf.sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("classes", [3, 5])
def test_all_four_vanish_on_a_constructed_frame(classes):
    etf = 7.0 * simplex_etf(classes, 8)
    labels = np.repeat(np.arange(classes), 6)
    middle = np.random.default_rng(0).standard_normal(8)
    found = neural_collapse(etf[labels] + middle, labels, 0.3 * etf, -0.3 * etf @ middle)
    assert max(found.nc1, found.nc2_norms, found.nc2_angles, found.nc3) < 1e-10
    assert found.nc4 == 0.0
    np.testing.assert_allclose(found.cosines, -1 / (classes - 1))


def test_each_measure_sees_its_own_fault():
    rng = np.random.default_rng(0)
    etf, labels = simplex_etf(4, 8), np.repeat(np.arange(4), 50)
    noisy = etf[labels] + 0.1 * rng.standard_normal((200, 8))
    assert neural_collapse(noisy, labels).nc1 > 0.01
    uneven = etf * np.array([[1.0], [1.0], [1.0], [3.0]])
    assert neural_collapse(uneven[labels], labels).nc2_norms > 0.1
    assert neural_collapse(rng.standard_normal((4, 8))[labels], labels).nc2_angles > 0.05
    assert neural_collapse(etf[labels], labels, etf[::-1]).nc3 > 1
    assert neural_collapse(etf[labels], labels, -etf).nc4 == 1.0
    assert np.isnan(neural_collapse(etf[labels], labels).nc3)


def test_noise_within_classes_by_hand():
    """Two classes at +-1 with variance s^2 each: trace(W pinv(B)) / 2 = s^2 / 2."""
    features = np.array([[1.5], [0.5], [-1.5], [-0.5]])
    assert neural_collapse(features, np.array([0, 0, 1, 1])).nc1 == pytest.approx(0.25 / 2)


def test_training_on_separable_data_collapses():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    x = (4 * np.eye(3)[labels] + 0.3 * rng.standard_normal((60, 3))).astype(np.float32)
    with fathom.seed(0):
        net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(),
                            nn.Linear(16, 3))  # fmt: skip
    before = collapse_of(net, x, labels)
    optimizer = fathom.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-3)
    net.fit(x, labels, epochs=300, batch_size=60, optimizer=optimizer, verbose=False)
    after = collapse_of(net, x, labels)
    assert after.nc1 < 0.4 * before.nc1 and after.nc2_angles < 0.5 * before.nc2_angles
    assert after.nc3 < 0.5 * before.nc3 and after.nc4 == 0.0
    assert "nc1" in repr(after)


@pytest.mark.parametrize("classes", [3, 4])
def test_free_features_end_in_the_frame(classes):
    found = unconstrained_features(classes)
    np.testing.assert_allclose(found.cosines, -1 / (classes - 1), atol=5e-4)
    assert found.nc1 < 1e-6 and found.nc3 < 1e-3 and found.nc4 == 0.0


def test_bad_arguments():
    with pytest.raises(FathomError, match="two classes"):
        neural_collapse(np.ones((3, 2)), np.zeros(3, int))
    with pytest.raises(FathomError, match="expected"):
        neural_collapse(np.ones((3, 2)), np.zeros(4, int))
    with pytest.raises(FathomError, match="does not belong"):
        neural_collapse(np.ones((4, 2)), np.array([0, 0, 1, 1]), np.ones((2, 3)))
    with pytest.raises(FathomError, match="dimensions"):
        simplex_etf(5, 3)
    with pytest.raises(FathomError, match="no Linear"):
        collapse_of(nn.Sequential(nn.ReLU()), np.ones((2, 2)), np.array([0, 1]))
