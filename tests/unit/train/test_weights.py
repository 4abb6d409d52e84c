"""Weights of rows and classes, averages of weights, and the other options of `fit`."""

import numpy as np
import pytest

import fathom
from fathom import nn, optim, train
from fathom.engine.errors import ArgumentError, CheckpointError, DataError, FathomError
from fathom.optim import lr_scheduler
from fathom.train import callbacks
from fathom.train.weights import MovingAverage, class_weights

DATA = fathom.data.load("moons", n=96)
X, Y = DATA.x.astype(np.float64), DATA.y


def model(*middle, seed=0):
    with fathom.seed(seed):
        return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), *middle, nn.Linear(8, 2)).double()


def fitted(net=None, x=X, y=Y, **options):
    net = net or model()
    options = {"epochs": 3, "batch_size": 32, "lr": 0.02, "verbose": False} | options
    history = net.fit(x, y, **options)
    return net, history


def weights(net):
    return np.concatenate([p.value().reshape(-1) for p in net.parameters()])


def same(a, b):
    return np.array_equal(weights(a), weights(b))


class TestWeights:
    def test_balanced_as_scikit_learn(self):
        pytest.importorskip("sklearn")
        from sklearn.utils.class_weight import compute_class_weight

        y = np.array([0, 0, 0, 1, 2, 2])
        wanted = compute_class_weight("balanced", classes=np.unique(y), y=y)
        assert list(class_weights("balanced", y).values()) == pytest.approx(wanted.tolist())

    def test_a_row_of_weight_two_is_a_row_that_comes_twice(self):
        x, y, w = X[:20], Y[:20], np.ones(20)
        w[3] = 2.0
        a, history = fitted(x=x, y=y, sample_weight=w, batch_size=64, shuffle=False)
        b, twice = fitted(
            x=np.concatenate([x, x[3:4]]), y=np.append(y, y[3]), batch_size=64, shuffle=False
        )
        np.testing.assert_allclose(weights(a), weights(b), atol=1e-12)
        np.testing.assert_allclose(history["loss"], twice["loss"], atol=1e-12)

    def test_weights_of_one_change_nothing(self):
        a, _ = fitted(sample_weight=np.full(len(X), 3.0))
        b, _ = fitted()
        np.testing.assert_allclose(weights(a), weights(b), atol=1e-10)

    def test_class_weights_are_row_weights(self):
        a, _ = fitted(class_weight={1: 5.0})
        b, _ = fitted(class_weight=[1.0, 5.0])
        c, _ = fitted(sample_weight=np.where(Y == 1, 5.0, 1.0))
        assert same(a, b) and same(a, c)

    def test_they_move_with_the_rows_of_a_split(self):
        w = np.where(np.arange(len(X)) < 10, 0.0, 1.0)
        _, history = fitted(sample_weight=w, validation_split=0.25, metrics=())
        assert set(history.columns) == {"loss", "val_loss"}
        assert np.isfinite(history["loss"]).all()

    @pytest.mark.parametrize("loss", ["mse", nn.MSELoss(), lambda o, t: (o - t) ** 2])
    def test_losses_of_every_kind(self, loss):
        y = X[:, :1] * 2
        w = np.linspace(0, 1, len(X))
        with fathom.seed(0):
            net = nn.Linear(2, 1).double()
        start = net.predict(X)
        history = net.fit(
            X, y, loss=loss, sample_weight=w, epochs=1, batch_size=96, verbose=False, metrics=()
        )
        wanted = np.average(np.square(start - y)[:, 0], weights=w)
        assert history["loss"][0] == pytest.approx(wanted)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"sample_weight": np.ones(5)}, "sample_weight has shape"),
            ({"sample_weight": -np.ones(96)}, "negative"),
            ({"sample_weight": np.zeros(96)}, "weight 0"),
            ({"class_weight": "even"}, "balanced"),
            ({"class_weight": {0: -1.0}}, "finite and >= 0"),
            ({"sample_weight": np.ones(96), "loss": lambda o, t: o.sum()}, "a loss for each"),
            ({"ema": 1.0}, "ema is a decay"),
            ({"clip_norm": 0}, "clip_norm must be a number > 0"),
            ({"accumulate": 0}, "accumulate"),
            ({"schedule": "cosin"}, "did you mean 'cosine'"),
            ({"schedule": 3}, "a schedule is a name"),
            ({"augment": 3}, "augment must be a function"),
            ({"optimizer": "lbfgs", "accumulate": 2}, "cannot accumulate"),
            ({"optimizer": "levenberg_marquardt"}, "residuals"),
        ],
    )
    def test_bad_options(self, options, text):
        with pytest.raises(FathomError, match=text):
            fitted(**options)


OTHERS = {"newton", "levenberg_marquardt", "gauss_newton"}  # need more than a name


class TestLoop:
    def test_accumulated_batches_are_a_larger_batch(self):
        a, _ = fitted(batch_size=10, accumulate=3, shuffle=False)  # 96 rows: the last are uneven
        b, _ = fitted(batch_size=30, shuffle=False)
        np.testing.assert_allclose(weights(a), weights(b), atol=1e-10)

    def test_accumulation_by_weight(self):
        w = np.random.default_rng(0).random(96)
        a, _ = fitted(batch_size=10, accumulate=3, shuffle=False, sample_weight=w)
        b, _ = fitted(batch_size=30, shuffle=False, sample_weight=w)
        np.testing.assert_allclose(weights(a), weights(b), atol=1e-10)

    def test_clipping(self):
        norms = []

        def note(trainer, batch, loss):
            grads = [p.grad.value() for p in trainer.model.parameters()]
            norms.append(np.sqrt(sum(np.square(g).sum() for g in grads)))

        watch = callbacks.LambdaCallback(on_batch_end=note)
        fitted(clip_norm=0.01, callbacks=[watch])
        assert max(norms) <= 0.01
        norms.clear()
        fitted(clip_value=1e-4, callbacks=[watch])
        assert max(norms) <= 1e-4 * np.sqrt(42)

    def test_a_penalty_is_part_of_the_loss(self):
        a, history = fitted(penalty=lambda m: 0.1 * sum((p * p).sum() for p in m.parameters()))
        b, plain = fitted()
        assert np.square(weights(a)).sum() < np.square(weights(b)).sum()
        assert history["loss"][0] > plain["loss"][0]

    def test_augmentation_draws_from_its_stream(self):
        def noisy(x, y, rng):
            return x + 0.1 * rng.standard_normal(x.shape), y

        a, _ = fitted(augment=noisy)
        b, _ = fitted(augment=noisy)
        c, _ = fitted()
        assert same(a, b) and not same(a, c)

    def test_mixup_trains_and_its_accuracy_is_of_the_stronger_label(self):
        _, history = fitted(augment=train.augment.MixUp(classes=2), epochs=20)
        assert history["accuracy"][-1] > 0.7

    @pytest.mark.parametrize("name", sorted(set(optim.OPTIMIZERS) - OTHERS))
    def test_every_optimizer_by_name(self, name):
        options = {"lr": None, "batch_size": 96, "epochs": 4, "metrics": ()}
        _, history = fitted(optimizer=name, **options)
        assert history["loss"][-1] < history["loss"][0]

    def test_newton(self):
        net = model()
        newton = optim.Newton(net.parameters(), lr=0.5, saddle_free=True, damping=0.1)
        _, history = fitted(net, optimizer=newton, lr=None, batch_size=96, epochs=6)
        assert history["loss"][-1] < history["loss"][0]

    def test_fast_dev_run(self, tmp_path):
        _, history = fitted(
            epochs=50, fast_dev_run=True, validation_split=0.2, patience=1,
            checkpoint=tmp_path / "run",
        )  # fmt: skip
        assert history.epochs == 1 and not (tmp_path / "run").exists()
        steps = []
        watch = callbacks.LambdaCallback(on_batch_end=lambda t, b, v: steps.append(b))
        fitted(fast_dev_run=2, callbacks=[watch])
        assert steps == [1, 2]


class TestSchedule:
    def test_per_batch_and_per_epoch(self):
        _, history = fitted(schedule="cosine", epochs=4)  # 3 batches each
        wanted = [0.01 * (1 + np.cos(np.pi * t / 12)) for t in (3, 6, 9, 12)]
        assert history["lr"] == pytest.approx(wanted)
        _, history = fitted(schedule=lambda o: lr_scheduler.ExponentialLR(o, 0.5), epochs=3)
        assert history["lr"] == pytest.approx([0.02, 0.01, 0.005])

    def test_accumulation_counts_steps(self):
        _, history = fitted(schedule="polynomial", epochs=2, batch_size=10, accumulate=4)
        assert history["lr"] == pytest.approx([0.01, 0.0])

    @pytest.mark.parametrize("name", sorted(set(lr_scheduler.SCHEDULES) - {"lambda"}))
    def test_every_name(self, name):
        if name == "noam":
            with pytest.raises(ArgumentError, match="d_model"):
                fitted(schedule=name)
            return
        _, history = fitted(schedule=name, epochs=8)
        assert history.epochs == 8 and min(history["lr"]) >= 0

    def test_plateau_watches_validation(self):
        net = model()
        optimizer = optim.SGD(net.parameters(), lr=1e-9)
        schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5, eps=0)
        fitted(net, optimizer=optimizer, schedule=schedule, lr=None, epochs=6,
               validation_data=(X, Y))  # fmt: skip
        assert schedule.last_epoch == 6 and optimizer.param_groups[0]["lr"] < 1e-9

    def test_of_another_optimizer(self):
        other = optim.SGD([nn.Parameter([0.0])])
        with pytest.raises(ArgumentError, match="another optimizer"):
            fitted(schedule=lr_scheduler.StepLR(other, 2))


class TestAverage:
    def test_the_model_ends_with_the_average_that_validation_measured(self):
        net, history = fitted(ema=0.9, validation_data=(X, Y), metrics=())
        assert net.evaluate(X, Y, metrics=())["loss"] == pytest.approx(
            history["val_loss"][-1], rel=1e-12
        )
        plain, _ = fitted()
        assert not same(net, plain)

    def test_decay_zero_is_the_last_weights(self):
        a, _ = fitted(ema=0.0)
        b, _ = fitted()
        assert same(a, b)

    def test_by_hand(self):
        net = nn.Linear(1, 1, bias=False)
        average = MovingAverage(net, 0.9)
        first = net.weight.item()
        net.weight.value()[...] = 1.0
        average.update()
        decay = 2 / 11
        with average.in_place():
            assert net.weight.item() == pytest.approx(decay * first + (1 - decay))
        assert net.weight.item() == 1.0


RESUMED = {
    "schedule per batch": {
        "schedule": lambda o: lr_scheduler.WarmupCosineLR(o, 5, 40),
        "optimizer": "adamw",
    },
    "plateau": {"schedule": "plateau", "validation_split": 0.2},
    "one cycle": {"schedule": "onecycle", "optimizer": "sgd"},
    "ema": {"ema": 0.95, "validation_split": 0.2, "patience": 4},
    "accumulate": {"accumulate": 2, "batch_size": 20, "clip_norm": 0.5},
    "augment": {"augment": train.augment.Noise(0.1), "class_weight": "balanced"},
    "lbfgs": {"optimizer": "lbfgs", "lr": 0.1, "batch_size": 96},
    "sam": {"optimizer": "sam", "lr": 0.1},
    "all": {
        "schedule": "cosine", "ema": 0.9, "accumulate": 2, "optimizer": "nadam",
        "augment": train.augment.MixUp(classes=2), "clip_value": 0.1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_a_stopped_run_resumes_bitwise(name, tmp_path):
    options = {"epochs": 7, **RESUMED[name]}
    whole, history = fitted(model(nn.Dropout(0.1)), **options)
    stop = callbacks.LambdaCallback(on_epoch_end=lambda t, e, logs: e == 3 and t.stop("enough"))
    fitted(model(nn.Dropout(0.1)), callbacks=[stop], checkpoint=tmp_path / "run", **options)
    net, resumed = fitted(model(nn.Dropout(0.1), seed=5), resume=tmp_path / "run", **options)
    assert same(whole, net)
    assert history.to_dict() == resumed.to_dict()


def test_lookahead_resumes_bitwise(tmp_path):
    def run(net, **options):
        optimizer = optim.Lookahead(optim.SGD(net.parameters(), lr=0.1, momentum=0.9), k=4)
        return fitted(net, optimizer=optimizer, lr=None, **options)[0]

    whole = run(model(), epochs=5)
    run(model(), epochs=2, checkpoint=tmp_path / "run")
    assert same(whole, run(model(seed=3), epochs=5, resume=tmp_path / "run"))


def test_resuming_with_other_options(tmp_path):
    fitted(epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="trained with no schedule"):
        fitted(epochs=2, resume=tmp_path / "run", schedule="cosine")
    fitted(epochs=1, checkpoint=tmp_path / "ema", ema=0.9)
    with pytest.raises(CheckpointError, match="ema="):
        fitted(epochs=2, resume=tmp_path / "ema")


def test_zero_weights_within_a_batch():
    w = np.where(np.arange(96) < 32, 0.0, 1.0)
    _, history = fitted(sample_weight=w, shuffle=False, batch_size=32)
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(DataError):
        fitted(sample_weight=np.zeros(96))


class TestPenalty:
    def zeros(self, net):
        return int(sum((p.value() == 0).sum() for p in net.parameters()))

    def test_l2_is_weight_decay_with_sgd_and_not_with_adam(self):
        apart = []
        for kind in (optim.SGD, optim.Adam):
            a, b = (nn.Linear(2, 2, bias=False).double() for _ in range(2))
            b.load_state_dict(a.state_dict())
            fitted(a, optimizer=kind(a.parameters(), lr=0.1), lr=None,
                   penalty=train.penalty.ElasticNet(l2=0.3))  # fmt: skip
            decayed = optim.AdamW if kind is optim.Adam else kind
            fitted(b, optimizer=decayed(b.parameters(), lr=0.1, weight_decay=0.3), lr=None)
            apart.append(np.abs(weights(a) - weights(b)).max())
        assert apart[0] < 1e-12 and apart[1] > 1e-3

    def test_only_the_proximal_step_makes_zeros(self):
        optimizer = {"optimizer": "sgd", "lr": 0.1, "epochs": 30}
        a, _ = fitted(penalty=train.penalty.ElasticNet(l1=0.03), **optimizer)
        b, _ = fitted(callbacks=[train.penalty.ProximalL1(0.03)], **optimizer)
        assert self.zeros(a) == 0 and self.zeros(b) > 5
        assert b.evaluate(X, Y)["accuracy"] > 0.7

    def test_bad_strength(self):
        with pytest.raises(ArgumentError, match="l1"):
            train.penalty.ElasticNet(l1=-1)
        with pytest.raises(ArgumentError, match="strength"):
            train.penalty.ProximalL1(-1)


class TestByName:
    """What `fit` takes by name: as a text, as a mapping, and as the object they stand for."""

    @pytest.mark.parametrize(
        ("named", "made"),
        [
            ("adamw:weight_decay=0.25", lambda p: optim.AdamW(p, lr=0.02, weight_decay=0.25)),
            ({"name": "sgd", "momentum": 0.5}, lambda p: optim.SGD(p, lr=0.02, momentum=0.5)),
            ("sam:base=adam,rho=0.1", lambda p: optim.SAM(optim.Adam(p, lr=0.02), rho=0.1)),
            ("lookahead:k=2", lambda p: optim.Lookahead(optim.SGD(p, lr=0.02), k=2)),
        ],
        ids=["adamw", "sgd", "sam", "lookahead"],
    )
    def test_optimizers(self, named, made):
        net = model()
        fitted(net, optimizer=made(net.parameters()), lr=None)
        assert same(fitted(optimizer=named)[0], net)

    def test_schedules(self):
        net = model()
        moved = optim.Adam(net.parameters(), lr=0.02)
        fitted(net, optimizer=moved, lr=None, schedule=lr_scheduler.StepLR(moved, 1, 0.5))
        for named in ("step:step_size=1,gamma=0.5", {"name": "step", "step_size": 1, "gamma": 0.5}):
            assert same(fitted(schedule=named)[0], net)

    @pytest.mark.parametrize("named", ["noise:std=0.2", {"name": "noise", "std": 0.2},
                                       ["noise:std=0.2"], [train.augment.Noise(0.2)]])  # fmt: skip
    def test_augmentation(self, named):
        wanted, _ = fitted(augment=train.augment.Noise(0.2))
        assert same(fitted(augment=named)[0], wanted)

    def test_mixing_knows_the_classes(self):
        wanted, _ = fitted(augment=train.augment.MixUp(2, 0.5))
        assert same(fitted(augment="mixup:alpha=0.5")[0], wanted)

    @pytest.mark.parametrize(
        ("named", "options"),
        [
            ("l1:strength=0.01", {"penalty": train.penalty.ElasticNet(l1=0.01)}),
            ({"name": "l2", "strength": 0.01}, {"penalty": train.penalty.ElasticNet(l2=0.01)}),
            ("proximal_l1:strength=0.1", {"callbacks": [train.penalty.ProximalL1(0.1)]}),
        ],
        ids=["l1", "l2", "proximal"],
    )
    def test_penalties(self, named, options):
        assert same(fitted(penalty=named)[0], fitted(**options)[0])
        assert not same(fitted(penalty=named)[0], fitted()[0])

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"optimizer": "adam:betaz=1"}, "did you mean 'betas'"),
            ({"optimizer": "adam:lr=1"}, "lr is given twice"),
            ({"optimizer": {"nam": "adam"}}, "the key 'name'"),
            ({"schedule": "cosin"}, "did you mean 'cosine'"),
            ({"schedule": "step:steps=1"}, "schedule 'step'"),
            ({"augment": "mixpu"}, "did you mean 'mixup'"),
            ({"augment": "noise:sdt=1"}, "did you mean 'std'"),
            ({"augment": 3}, "a function or names"),
            ({"penalty": "l3"}, "unknown penalty 'l3'"),
            ({"penalty": "l1:strength=-1"}, "must be a number >= 0"),
            ({"penalty": "l1:strength=big"}, "must be a number >= 0"),
            ({"penalty": 3}, "a function or a name"),
            ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        ],
    )
    def test_mistakes(self, options, text):
        with pytest.raises(ArgumentError, match=text):
            fitted(**options)


def test_moved_copies():
    images = np.arange(8.0).reshape(2, 2, 2)
    x, y = train.augment.with_moved_copies(images, np.array([4, 5]), part=0.5)
    assert y.tolist() == [4, 5] * 5 and np.array_equal(x[:2], images)
    np.testing.assert_allclose(x[2], 0.5 * images[0] + 0.5 * np.array([[0, 0], [0, 2]]))  # right
    np.testing.assert_allclose(x[6], 0.5 * images[0] + 0.5 * np.array([[0, 0], [0, 1]]))  # down
