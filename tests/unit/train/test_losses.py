"""Losses by name: every one trains, and what does not agree is refused before the first step."""

import numpy as np
import pytest

import fathom
from fathom import nn, optim, train
from fathom.data.loader import DataLoader
from fathom.engine.errors import ArgumentError, FathomError
from fathom.engine.random import Random
from fathom.nn import functional as F
from fathom.train import losses
from fathom.train.losses import LOSSES

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3)).astype(np.float32)
TWO = (X[:, 0] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
AMOUNTS = X @ np.array([1.0, -2.0, 0.5])
BOXES = np.concatenate([X[:, :2] - 2.0, X[:, 1:] + 2.0], axis=1)


class Corners(nn.Module):
    """Boxes from four numbers, about as large as those of the targets."""

    def forward(self, x):
        return fathom.concatenate([x[:, :2] - 3.0, x[:, 2:] + 3.0], axis=1)


def network(outputs, *last):
    with fathom.seed(0):
        return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, outputs), *last)


def fit(net, y, loss, **options):
    return net.fit(X, y, loss=loss, **{"epochs": 15, "lr": 0.02, "verbose": False, **options})


CASES = [  # name, outputs, last layers, targets
    ("bce", 1, [nn.Sigmoid()], TWO),
    ("bce", 3, [nn.Sigmoid()], THREE),
    ("bce_with_logits", 1, [], TWO),
    ("bce_with_logits", 1, [], TWO.astype(float)),
    ("bce_with_logits", 3, [], np.eye(3)[THREE]),
    ("cross_entropy", 3, [], THREE),
    ("cross_entropy", 3, [], np.eye(3)[THREE]),
    ("diou", 4, [Corners()], BOXES),
    ("focal", 3, [], THREE),
    ("gaussian_nll", 2, [], AMOUNTS),
    ("giou", 4, [Corners()], BOXES),
    ("hinge", 1, [], TWO),
    ("hinge", 1, [], 2 * TWO - 1),
    ("hinge", 3, [], THREE),
    ("hinge_embedding", 1, [nn.Softplus()], 2 * TWO - 1),
    ("huber", 1, [], AMOUNTS),
    ("info_nce", 3, [], X),
    ("iou", 4, [Corners()], BOXES),
    ("kl_div", 3, [nn.LogSoftmax()], THREE),
    ("log_cosh", 1, [], AMOUNTS),
    ("mae", 1, [], AMOUNTS),
    ("mse", 1, [], THREE),
    ("multi_margin", 3, [], THREE),
    ("multilabel_margin", 3, [], np.stack([THREE, np.full(60, -1), np.full(60, -1)], 1)),
    ("multilabel_soft_margin", 3, [], THREE),
    ("nll", 3, [nn.LogSoftmax()], THREE),
    ("poisson_nll", 1, [], THREE),
    ("quantile", 1, [], AMOUNTS),
    ("sigmoid_focal", 1, [], TWO),
    ("smooth_l1", 1, [], AMOUNTS),
    ("soft_margin", 3, [], THREE),
    ("squared_hinge", 1, [], (2 * TWO - 1).astype(float)),
]
IDS = [f"{name}-{outputs}-{y.dtype}" for name, outputs, _, y in CASES]


@pytest.mark.parametrize(("name", "outputs", "last", "y"), CASES, ids=IDS)
def test_every_name_trains(name, outputs, last, y):
    net = network(outputs, *last)
    history = fit(net, y, name, validation_split=0.2, sample_weight=np.ones(60))
    assert history["loss"][-1] < history["loss"][0]
    if "accuracy" in history.columns:
        assert history["accuracy"][-1] > 0.55
    assert set(net.evaluate(X, y, loss=name)) >= {"loss"}


def test_every_name_is_tested():
    assert {name for name, *_ in CASES} == set(LOSSES)


SPELLINGS = [
    "huber:delta=0.5", {"name": "huber", "delta": 0.5}, "HuberLoss:delta=0.5",
    nn.HuberLoss(delta=0.5), lambda output, y: F.huber_loss(output, y, delta=0.5),
]  # fmt: skip


@pytest.mark.parametrize("loss", SPELLINGS, ids=["text", "mapping", "class", "object", "function"])
def test_spellings_of_one_loss_train_the_same(loss):
    net, plain = network(1), network(1)
    fit(net, AMOUNTS, loss)
    fit(plain, AMOUNTS, "huber")
    wanted = network(1)
    fit(wanted, AMOUNTS, {"name": "huber", "delta": 0.5})
    assert np.array_equal(net.predict(X), wanted.predict(X))
    assert not np.array_equal(net.predict(X), plain.predict(X))


@pytest.mark.parametrize(
    ("alias", "name"),
    [("l1", "mae"), ("L1Loss", "mae"), ("l2", "mse"), ("mse_loss", "mse"), ("pinball", "quantile"),
     ("CrossEntropyLoss", "cross_entropy"), ("binary_cross_entropy", "bce"), ("NLLLoss", "nll"),
     ("BCEWithLogitsLoss", "bce_with_logits"), ("Smooth-L1", "smooth_l1"), ("GIoULoss", "giou")],
)  # fmt: skip
def test_other_names(alias, name):
    assert losses.canonical(alias) == name


def test_labels_meet_losses_of_yes_and_no():
    """One class against the rest, and -1 or 1: as written by hand."""
    output = fathom.tensor(RNG.standard_normal((60, 3)))
    hot = fathom.tensor(np.eye(3)[THREE])
    y = fathom.tensor(THREE)
    for name, wanted in (
        ("bce_with_logits", F.binary_cross_entropy_with_logits(output, hot)),
        ("hinge", nn.HingeLoss()(output, 2 * hot - 1)),
        ("soft_margin", F.soft_margin_loss(output, 2 * hot - 1)),
    ):
        assert losses.find_loss(name, THREE)(output, y).item() == pytest.approx(wanted.item())
    column = output[:, :1]
    signs = fathom.tensor(2.0 * TWO - 1)
    wanted = nn.HingeLoss()(column.reshape(-1), signs).item()
    for y in (TWO, 2 * TWO - 1, 2.0 * TWO - 1):
        found = losses.find_loss("hinge", y)(column, fathom.tensor(y))
        assert found.item() == pytest.approx(wanted)


def test_mixed_labels_are_mixed_losses_where_that_is_meant():
    output = fathom.tensor(RNG.standard_normal((60, 3)))
    other = RNG.permutation(60)
    mixed = fathom.tensor(0.3 * np.eye(3)[THREE] + 0.7 * np.eye(3)[THREE[other]])
    for name in ("cross_entropy", "bce_with_logits"):
        loss = losses.find_loss(name, THREE)
        ends = [loss(output, fathom.tensor(y)).item() for y in (THREE, THREE[other])]
        assert loss(output, mixed).item() == pytest.approx(0.3 * ends[0] + 0.7 * ends[1])
        fit(network(3), THREE, name, augment="mixup", epochs=1)
    for name in ("focal", "hinge"):
        with pytest.raises(ArgumentError, match="Loss takes class numbers; mixed rows"):
            fit(network(3), THREE, name, augment="mixup")


def test_gaussian_columns_find_the_spread():
    rng = np.random.default_rng(1)
    x = np.ones((400, 1), np.float32)
    y = 3.0 + 0.5 * rng.standard_normal(400)
    with fathom.seed(0):
        net = nn.Linear(1, 2)
    net.fit(x, y, loss="gaussian_nll", epochs=150, lr=0.05, batch_size=400, verbose=False)
    mean, log_variance = net.predict(x[:1])[0]
    assert mean == pytest.approx(y.mean(), abs=0.02)
    assert np.exp(0.5 * log_variance) == pytest.approx(y.std(), rel=0.03)


def test_quantiles_in_columns():
    net = network(2)
    history = fit(net, AMOUNTS, {"name": "quantile", "q": [0.1, 0.9]}, epochs=60)
    low, high = net.predict(X).T
    assert (low <= high).mean() > 0.9 and list(history.columns) == ["loss"]
    assert 0.6 < ((low < AMOUNTS) & (high > AMOUNTS)).mean() <= 0.95


MISTAKES = [
    ("hubr", 1, AMOUNTS, "unknown loss 'hubr'\n.*did you mean 'huber'.*cross_entropy"),
    ("huber:dleta=2", 1, AMOUNTS, "no option 'dleta'\n.*did you mean 'delta'"),
    ("huber:delta=-1", 1, AMOUNTS, "HuberLoss: delta must be > 0"),
    ("mse:reduction=sum", 1, AMOUNTS, "leave reduction out"),
    ("triplet_margin", 1, AMOUNTS, r"'triplet_margin' compares \(anchor, positive, negative\)"),
    ({"delta": 2}, 1, AMOUNTS, "the key 'name'"),
    (nn.MSELoss, 1, AMOUNTS, "a loss is a name or a function"),
    ("cross_entropy", 1, AMOUNTS, "'cross_entropy' needs a class number.*float32"),
    ("focal", 3, AMOUNTS, "'focal' needs a class number"),
    ("bce_with_logits", 1, AMOUNTS, "needs targets from 0 to 1"),
    ("bce_with_logits", 1, THREE, "needs labels from 0 to 1.*from 0 to 2"),
    ("bce_with_logits", 2, THREE, "needs labels from 0 to 1"),
    ("hinge", 1, AMOUNTS, "needs targets -1 and 1"),
    ("poisson_nll", 1, AMOUNTS, "needs counts >= 0"),
    ("giou", 4, AMOUNTS, r"needs boxes \(n, 4\)"),
    ("multilabel_margin", 3, THREE, "needs lists of classes"),
    ("bce", 1, TWO, "needs probabilities.*\n.*bce_with_logits.*Sigmoid"),
    ("nll", 3, THREE, "needs log probabilities.*\n.*cross_entropy.*LogSoftmax"),
    ("kl_div", 3, THREE, "needs log probabilities"),
    ("gaussian_nll", 1, AMOUNTS, "two outputs for each target"),
]


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "text"), MISTAKES, ids=[str(m[0]) + str(m[1]) for m in MISTAKES]
)
def test_mistakes_are_found_before_the_first_step(loss, outputs, y, text):
    net = network(outputs)
    if loss in ("bce", "nll", "kl_div"):
        net[2].bias.value()[...] = 5.0
    before = net.predict(X)
    with pytest.raises(FathomError, match=text):
        fit(net, y, loss)
    assert np.array_equal(before, net.predict(X))


def test_the_trainer_takes_names_too():
    net, rng = network(3), Random(0)
    loader = DataLoader(X, THREE, 20, shuffle=True, rng=rng)
    trainer = train.Trainer(
        net, loader, "focal:gamma=1", optim.Adam(net.parameters()), ["accuracy", "f1"],
        None, (), 2, rng,
    )  # fmt: skip
    assert set(trainer.run().columns) == {"loss", "accuracy", "f1"}


class TestMetrics:
    @pytest.mark.parametrize("targets", [TWO, 2 * TWO - 1, TWO.astype(float)])
    def test_one_output_is_the_logit_of_yes(self, targets):
        scores = X[:, :1] + 0.3
        wanted = ((scores[:, 0] > 0) == (TWO == 1)).mean()
        for outputs in (scores, scores[:, 0]):
            assert train.metrics.accuracy(outputs, targets) == pytest.approx(wanted)

    def test_probabilities_are_halved(self):
        net = network(1, nn.Sigmoid())
        found = net.evaluate(X, TWO, loss="bce")["accuracy"]
        assert found == pytest.approx(((net.predict(X)[:, 0] > 0.5) == TWO).mean())

    def test_many_labels_count_one_by_one(self):
        outputs, y = RNG.standard_normal((60, 3)), np.eye(3)[THREE]
        assert train.metrics.accuracy(outputs, y) == pytest.approx(((outputs > 0) == y).mean())

    @pytest.mark.parametrize("name", ["f1", "precision", "recall", "balanced_accuracy", "kappa",
                                      "matthews"])  # fmt: skip
    def test_names_of_classes(self, name):
        history = fit(network(3), THREE, "auto", metrics=[name], epochs=30)
        assert history[name][-1] > history[name][0]
