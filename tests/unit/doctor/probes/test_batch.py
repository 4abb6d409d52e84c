import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.errors import ArgumentError
from fathom.train import curvature

DATA = fathom.data.load("iris")
X = ((DATA.x - DATA.x.mean(axis=0)) / DATA.x.std(axis=0)).astype(np.float32)


@pytest.fixture
def model():
    with fathom.seed(0):
        return fathom.models.mlp(4, 3, (8,), "tanh")


def test_batch_times_noise_is_the_trace_of_the_covariance(model):
    found = doctor.batch_effects(model, X, DATA.y, sizes=(2, 8, 32), steps=20, repeats=1000)
    wanted = curvature.gradient_noise(model, X, DATA.y).trace * 149 / 150
    for row in found.rows:
        assert row.trace == row.batch * row.noise == pytest.approx(wanted, rel=0.1)


def test_equal_steps_are_compared_on_copies(model):
    before = [p.value().tobytes() for p in model.parameters()]
    first = doctor.batch_effects(model, X, DATA.y, sizes=(2, 64), test=(X[:30], DATA.y[:30]))
    again = doctor.batch_effects(model, X, DATA.y, sizes=(64,), test=(X[:30], DATA.y[:30]))
    assert first.rows[1].loss == again.rows[0].loss
    assert [p.value().tobytes() for p in model.parameters()] == before
    start = curvature.loss_function(model, X, DATA.y)().item()
    for row in first.rows:
        assert row.loss < 0.7 * start and np.isfinite(row.test_loss) and row.sharpness > 0.0


def test_sharpness_is_the_largest_eigenvalue():
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    x = X.astype(np.float64)
    closure = curvature.loss_function(model, x, DATA.y)
    wanted = np.linalg.eigvalsh(curvature.dense_hessian(closure, model.parameters()))[-1]
    assert curvature.sharpness(model, x, DATA.y) == pytest.approx(wanted, rel=1e-6)
    negated = lambda output, y: -nn.functional.cross_entropy(output, y)  # noqa: E731
    found = curvature.sharpness(model, x, DATA.y, negated)
    assert found == pytest.approx(-np.linalg.eigvalsh(
        curvature.dense_hessian(closure, model.parameters()))[0], rel=1e-4)  # fmt: skip


def test_bad_arguments(model):
    with pytest.raises(ArgumentError, match="steps and sizes"):
        doctor.batch_effects(model, X, DATA.y, sizes=())
