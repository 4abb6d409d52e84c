import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models import OrdinalLogits, head
from fathom.nn import functional as F
from tests.unit.nn.layer_harness import run_layer_test

RNG = np.random.default_rng(0)
BITS = RNG.integers(0, 2, (6, 3)).astype(float)

# task, outputs, options, targets, the same targets as what the predictions should be
CANONICAL = {
    "binary": (1, {}, BITS[:, 0], BITS[:, :1]),
    "multiclass": (4, {}, np.array([0, 3, 1, 1, 2, 0]), np.eye(4)[[0, 3, 1, 1, 2, 0]]),
    "multilabel": (3, {}, BITS, BITS),
    "regression": (2, {}, RNG.standard_normal((6, 2)), None),
    "counts": (1, {}, np.array([0, 1, 5, 2, 0, 9]), None),
    "bounded": (2, {}, RNG.uniform(0, 1, (6, 2)), None),
}


def drawn(n, batch=6):
    return fathom.tensor(RNG.standard_normal((batch, n)), requires_grad=True)


class TestGradients:
    @pytest.mark.parametrize("task", CANONICAL)
    def test_a_canonical_pair_has_the_gradient_prediction_minus_target(self, task):
        n, options, targets, wanted = CANONICAL[task]
        found = head(task, 5, n, **options)
        z = drawn(n)
        found.loss(z, targets).backward()
        y = np.asarray(targets if wanted is None else wanted, float).reshape(z.shape)
        assert found.canonical
        np.testing.assert_allclose(z.grad.value(), (found.predict(z) - y) / 6, rtol=1e-10)

    def test_grades_have_it_for_each_threshold(self):
        found, grades, z = head("ordinal", 5, 4), np.array([0, 3, 1, 2, 2, 0]), drawn(3)
        found.loss(z, grades).backward()
        above = grades[:, None] > np.arange(3)
        sure = 1 / (1 + np.exp(-z.value()))
        np.testing.assert_allclose(z.grad.value(), (sure - above) / 6, rtol=1e-10)

    def test_bounds_scale_value_and_target_alike(self):
        found, z, y = head("bounded", 5, low=-2.0, high=6.0), drawn(1), RNG.uniform(-2, 6, 6)
        found.loss(z, y).backward()
        difference = (found.predict(z)[:, 0] - y) / 8 / 6
        np.testing.assert_allclose(z.grad.value()[:, 0], difference, rtol=1e-10)
        assert ((found.predict(z) > -2) & (found.predict(z) < 6)).all()

    def test_pairs_that_are_not_canonical_do_not(self):
        """Sigmoid and squared error: a unit that is sure and wrong hardly learns."""
        z, y = fathom.tensor([[-8.0], [8.0]], requires_grad=True), np.array([[1.0], [0.0]], "f")
        p = F.sigmoid(z)
        F.mse_loss(p, fathom.tensor(y)).backward()
        s = p.value()
        np.testing.assert_allclose(z.grad.value(), (s - y) * s * (1 - s), rtol=1e-5)
        assert abs(z.grad.value()).max() < 0.001 < 0.9 < abs(s - y).min()
        for task in ("positive", "quantiles"):
            found = head(task, 5)
            w = drawn(1 if task == "positive" else 3)
            target = RNG.uniform(1, 2, 6)
            found.loss(w, target).backward()
            difference = (found.predict(w) - target[:, None]) / 6
            assert not found.canonical
            assert abs(w.grad.value() - difference).max() > 0.05

    def test_positive_values_are_weighed_by_their_size(self):
        found, z, y = head("positive", 5), drawn(1), RNG.uniform(1, 9, 6)
        found.loss(z, y).backward()
        np.testing.assert_allclose(z.grad.value()[:, 0], (1 - y / found.predict(z)[:, 0]) / 6)


class TestAnswers:
    def test_what_is_predicted_and_decided(self):
        z = np.array([[2.0], [-1.0]])
        assert head("binary", 1).decide(z).tolist() == [1, 0]
        assert head("binary", 1, threshold=0.2).decide(z).tolist() == [1, 1]
        assert head("binary", 1).predict(z)[0, 0] == pytest.approx(0.880797)
        assert head("multilabel", 1, 2).decide(z.T).tolist() == [[1, 0]]
        assert head("counts", 1).decide(np.log([[2.7]])).tolist() == [[2]]
        three = head("multiclass", 1, 3)
        scores = np.array([[0.0, 3.0, 1.0]])
        assert three.decide(scores).tolist() == [1]
        assert three.predict(scores).sum() == pytest.approx(1)
        bands = head("quantiles", 1, levels=(0.9, 0.5, 0.1))
        assert bands.predict(np.array([[1.0, 3.0, 2.0]])).tolist() == [[1.0, 2.0, 3.0]]
        assert bands.decide(np.array([[1.0, 3.0, 2.0]])).tolist() == [2.0]

    def test_grades(self):
        found = head("ordinal", 2, 4)
        with fathom.seed(0):
            z = found.layer(fathom.randn(20, 2) * 3)
        shares = found.predict(z)
        assert shares.shape == (20, 4) and (shares > 0).all()
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
        median = (shares.cumsum(1) < 0.5).sum(1)
        assert found.decide(z).tolist() == median.tolist()
        assert (np.diff(found.layer.thresholds.value()) > 0).all()
        run_layer_test(lambda: OrdinalLogits(3, 4), (5, 3), parameters=6, output_shape=(5, 3))
        run_layer_test(lambda: OrdinalLogits(3, 2), (5, 3), parameters=4, output_shape=(5, 1))

    def test_reductions(self):
        found = head("multilabel", 5, 3)
        z = drawn(3)
        each = found.loss(z, BITS, "none")
        assert each.shape == (6,)
        assert found.loss(z, BITS, "sum").item() == pytest.approx(each.value().sum())
        assert found.loss(z, BITS).item() == pytest.approx(each.value().mean())
        plain = F.binary_cross_entropy_with_logits(z, fathom.tensor(BITS))
        assert found.loss(z, BITS).item() == pytest.approx(3 * plain.item())


@pytest.mark.parametrize(
    ("task", "n", "make"),
    [
        ("binary", 1, lambda f: (f > 0).astype("f")),
        ("multiclass", 3, lambda f: np.digitize(f, [-0.5, 0.5])),
        ("ordinal", 3, lambda f: np.digitize(f, [-0.5, 0.5])),
        ("regression", 1, lambda f: f.astype("f")),
        ("counts", 1, lambda f: np.round(np.exp(f)).astype("f")),
        ("positive", 1, lambda f: np.exp(f).astype("f")),
        ("bounded", 1, lambda f: (1 / (1 + np.exp(-3 * f))).astype("f")),
        ("quantiles", 1, lambda f: f.astype("f")),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_every_task_is_learnt(task, n, make):
    """A linear model of the right kind: the loss nears that of the true weights."""
    x = np.random.default_rng(1).standard_normal((200, 3)).astype("f")
    y = make(x @ np.array([0.8, -0.5, 0.3]))
    with fathom.seed(0):
        found = head(task, 3, n)
    model = nn.Sequential(found.layer)
    history = model.fit(
        x, y, epochs=15, batch_size=20, lr=0.03, loss=found.loss, metrics=(), seed=0, verbose=False
    )
    assert history["loss"][-1] < 0.8 * history["loss"][0] or task == "positive"
    z = model(fathom.tensor(x))
    if task in ("binary", "multiclass", "ordinal"):
        assert (found.decide(z) == y).mean() > 0.9
    else:
        assert np.corrcoef(np.reshape(found.decide(z), -1), y)[0, 1] > 0.9


def test_errors():
    with pytest.raises(ArgumentError, match="unknown task 'multi-class'"):
        head("multi-class", 3)
    with pytest.raises(ArgumentError, match="n >= 2 classes"):
        head("multiclass", 3)
    with pytest.raises(ArgumentError, match="2 grades or more"):
        OrdinalLogits(3, 1)
    with pytest.raises(ArgumentError, match="about one value"):
        head("binary", 3, 2)
    with pytest.raises(ArgumentError, match="does not take these options"):
        head("regression", 3, low=0)
    with pytest.raises(ArgumentError, match=r"between 0\.0 and 1\.0"):
        head("bounded", 3).loss(fathom.zeros(2, 1), [0.5, 1.5])
    with pytest.raises(ShapeError, match=r"logits \(2, 3\) need targets"):
        head("multilabel", 3, 3).loss(fathom.zeros(2, 3), [0.0, 1.0])
