import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.errors import ArgumentError
from fathom.engine.random import current

DATA = fathom.data.load("digits")
X, Y = (DATA.x.reshape(-1, 64)[:512] / 16).astype(np.float32), DATA.y[:512]


class Noise(nn.Module):
    """A new random scale and shift of every unit at every step (Santurkar et al., 2018)."""

    def forward(self, x):
        if not self.training:
            return x
        stream, units = current().stream("noise"), x.shape[1]
        scale = fathom.tensor(stream.uniform((units,), 0.5, 1.5))
        return x * scale + fathom.tensor(stream.normal((units,), 0.0, 0.5))


def net(kind, depth=6, width=32):
    layers, inputs = [], 64
    for _ in range(depth):
        layers.append(nn.Linear(inputs, width))
        if kind != "plain":
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
        if kind == "noise after the norm":
            layers.append(Noise())
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def stepper(model, lr=0.3, losses=None, rows=128):
    sgd = fathom.optim.SGD(model.parameters(), lr=lr)

    def step():
        i = current().stream("batches").integers(0, len(X), (rows,))
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(model(fathom.tensor(X[i])), Y[i])
        loss.backward()
        sgd.step()
        if losses is not None:
            losses.append(loss.item())

    return step


def test_batch_norm_helps_with_and_without_less_drift():
    """The two explanations side by side: drift is put back by noise, training is not spoiled."""
    drift, loss, change = {}, {}, {}
    for kind in ("plain", "norm", "noise after the norm"):
        with fathom.seed(0):
            model, losses = net(kind), []
            found = doctor.covariate_drift(model, stepper(model, losses=losses), steps=40)
            flat = doctor.gradient_predictiveness(model, "auto", X, Y, lr=0.3)
        drift[kind], loss[kind] = found.drift, float(np.mean(losses[-10:]))
        change[kind] = flat.rows[2].relative_change
        assert 0.0 < flat.beta < np.inf
    assert drift["norm"] < 0.2 * drift["plain"]
    assert drift["noise after the norm"] > 1.5 * drift["plain"]
    assert loss["noise after the norm"] < 0.3 * loss["plain"]
    assert loss["norm"] < loss["noise after the norm"]


class TestDrift:
    def test_by_hand_on_a_net_whose_first_layer_moves(self):
        model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        model[0].weight.data[...], model[0].bias.data[...] = 1.0, 0.0
        x = np.array([[-1.0], [1.0]], np.float32)

        def step():
            model[0].bias.data += 0.5
            model[0].weight.data *= 2.0

        found = doctor.covariate_drift(model, step, x, steps=2)
        # means 0, 0.5, 1; deviations 1, 2, 4
        assert found["1"].mean_drift == pytest.approx((0.5 + 0.25) / 2)
        assert found["1"].std_drift == pytest.approx(1.0)
        assert found["1"].total_mean == 1.0 and found["1"].total_std == 3.0
        assert found["0"].mean_drift == 0.0 and found.drift == found["1"].mean_drift

    def test_watching_changes_nothing_of_the_training(self):
        ends = []
        for watched in (False, True):
            with fathom.seed(0):
                model = net("norm", 2)
                step = stepper(model)
                if watched:
                    doctor.covariate_drift(model, step, X[:50], steps=4)
                else:
                    for _ in range(4):
                        step()
            ends.append([t.value().tobytes() for t in (*model.parameters(), *model.buffers())])
        assert ends[0] == ends[1]

    def test_bad_arguments(self):
        model = net("plain", 1)
        with pytest.raises(ArgumentError, match="steps"):
            doctor.covariate_drift(model, lambda: None, steps=1)
        with pytest.raises(ArgumentError, match="no layer of this model"):
            doctor.covariate_drift(model, lambda: None, steps=2)


class TestPredictiveness:
    def test_a_quadratic_has_its_curvature(self):
        model = nn.Linear(2, 1, bias=False).double()
        model.weight.data[...] = [[1.0, 0.0]]
        x = np.array([[2.0, 0.0], [0.0, 1.0]])
        # loss = (4 w1^2 + w2^2) / 2: gradient (4, 0), curvature 4 along it
        found = doctor.gradient_predictiveness(model, "mse", x, np.zeros((2, 1)), rates=(0.25, 0.5))
        assert found.beta == pytest.approx(4.0) and found.gradient == pytest.approx(4.0)
        assert [row.loss for row in found.rows] == pytest.approx([0.0, 2.0])
        assert found.rows[1].cosine == pytest.approx(-1.0)
        np.testing.assert_array_equal(model.weight.value(), [[1.0, 0.0]])

    def test_random_layers_draw_alike_at_every_point(self):
        with fathom.seed(0):
            model = nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))
        found = doctor.gradient_predictiveness(model, "auto", X, Y, rates=(1e-4,))
        assert found.rows[0].relative_change < 1e-2

    def test_bad_rates(self):
        with pytest.raises(ArgumentError, match="rates"):
            doctor.gradient_predictiveness(net("plain", 1), "auto", X, Y, rates=(0.0,))
