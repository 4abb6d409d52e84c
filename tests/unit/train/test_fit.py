"""What `fit`, `evaluate` and `predict` do when all is well, and when training diverges."""

import io

import numpy as np
import pytest

import fathom
from fathom import nn, optim, random
from fathom.data.loader import DataLoader
from fathom.engine.errors import ArgumentError, DivergedError
from fathom.nn import functional as F
from fathom.train import EarlyStopping, LambdaCallback


def net(seed=0, out=3, dropout=0.0):
    with fathom.seed(seed):
        return nn.Sequential(
            nn.Linear(4, 8), nn.Tanh(), *([nn.Dropout(dropout)] if dropout else []),
            nn.Linear(8, out),
        )  # fmt: skip


def data(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    return x, np.argmax(x[:, :3] * 3, axis=1)


def weights(model):
    return {name: t.value().copy() for name, t in model.state_dict().items()}


def assert_same(a, b):
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("batch_size", [60, 1000, 16, 1], ids=["full", "over", "mini", "single"])
def test_every_batch_size_learns_with_the_same_code(batch_size):
    x, y = data()
    steps = []
    count = LambdaCallback(on_batch_end=lambda trainer, batch, loss: steps.append(batch))
    history = net().fit(
        x, y, epochs=60 if batch_size >= 60 else 12, batch_size=batch_size, lr=0.02, verbose=False,
        callbacks=[count],
    )  # fmt: skip
    assert len(steps) == len(history) * -(-60 // batch_size)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["accuracy"][-1] > 0.75


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_fit_equals_the_loop_written_by_hand_bitwise(name, dropout):
    x, y = data()
    fitted = net(dropout=dropout)
    fitted.fit(x, y, epochs=5, batch_size=16, optimizer=name, lr=0.05, seed=3, verbose=False)

    model = net(dropout=dropout)
    optimizer = optim.make(name, model.parameters(), lr=0.05)
    rng = random.Random(3)
    loader = DataLoader(x, y, batch_size=16, shuffle=True, rng=rng)
    with random.use(rng):
        for _ in range(5):
            model.train()
            for batch_x, batch_y in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(fathom.tensor(batch_x)), fathom.tensor(batch_y))
                loss.backward()
                optimizer.step()
    assert_same(weights(fitted), weights(model))


@pytest.mark.parametrize(
    "loss",
    ["auto", "cross_entropy", F.cross_entropy, nn.CrossEntropyLoss()],
    ids=["auto", "name", "function", "object"],
)
def test_losses_by_name_function_and_object_are_the_same(loss):
    x, y = data()
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.fit(x, y, epochs=2, loss=loss, optimizer=optimizer, verbose=False)
    reference = net()
    reference.fit(x, y, epochs=2, optimizer="sgd", lr=0.1, verbose=False)
    assert_same(weights(model), weights(reference))


def test_a_loss_of_ones_own_sees_tensors():
    x, y = data()
    seen = []

    def loss(output, target):
        seen.append((type(output).__name__, type(target).__name__))
        return F.cross_entropy(output, target) * 2

    net().fit(x, y, epochs=1, loss=loss, verbose=False)
    assert set(seen) == {("Tensor", "Tensor")}


def test_a_model_that_begins_without_weights_sees_tensors():
    model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    x = np.ones((6, 2, 2), np.float32)
    model.fit(x, [0, 1] * 3, epochs=1, verbose=False)
    assert model.predict(x).shape == (6, 2)
    assert nn.ReLU().predict(-x).max() == 0.0


@pytest.mark.parametrize("shape", [(60,), (60, 1)], ids=str)
@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_regression_with_a_column_of_outputs(shape, kind):
    x, _ = data()
    y = np.round(10 * x.sum(axis=1)).astype(kind).reshape(shape)
    history = net(out=1).fit(x, y, epochs=150, batch_size=60, loss="mse", lr=0.1, verbose=False)
    assert list(history.columns) == ["loss", "mae", "r2"]
    assert history["r2"][-1] > 0.5


@pytest.mark.parametrize(
    "loss", ["mse", F.mse_loss, nn.MSELoss()], ids=["name", "function", "object"]
)
def test_whole_number_amounts_are_not_labels(loss):
    x, _ = data()
    y = np.arange(60) * 100  # far more than there are outputs
    found = net(out=1).evaluate(x, y, loss=loss)
    assert found["loss"] == pytest.approx(np.mean(np.square(y.astype(float))), rel=0.01)


def test_float64_models_train_in_float64():
    x, y = data()
    model = net().double()
    history = model.fit(x, y, epochs=1, verbose=False)
    assert {t.dtype for t in model.state_dict().values()} == {np.dtype(np.float64)}
    assert history.epochs == 1


def test_labels_with_more_axes():
    model = nn.Sequential(nn.Linear(4, 6))
    x, _ = data()

    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            return self.body(x).reshape(-1, 3, 2)

    y = np.zeros((60, 2), int)
    history = Grid().fit(x, y, epochs=30, lr=0.05, verbose=False)
    assert history["accuracy"][-1] == 1.0


class TestValidation:
    def test_split_is_seeded_and_disjoint(self):
        seen = []

        class Spy(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(1, 2)

            def forward(self, x):
                seen.append((self.training, [int(v) for v in x.tolist() for v in v]))
                return self.layer(x)

        def rows(seed):
            seen.clear()
            x = np.arange(1, 41).reshape(40, 1)
            Spy().fit(
                x, [0, 1] * 20, epochs=1, batch_size=50, validation_split=0.25, seed=seed,
                verbose=False,
            )  # fmt: skip
            trained = next(values for training, values in seen if training)
            return sorted(trained), sorted(seen[-1][1])

        trained, held = rows(0)
        assert len(held) == 10
        assert sorted(trained + held) == list(range(1, 41))
        assert rows(0) == (trained, held)
        assert rows(1) != (trained, held)

    def test_columns_of_the_history(self):
        x, y = data()
        history = net().fit(x, y, epochs=2, validation_split=0.2, verbose=False)
        assert list(history.columns) == ["loss", "accuracy", "val_loss", "val_accuracy"]

    def test_given_data_is_measured_as_evaluate_does(self):
        x, y = data()
        model = net()
        history = model.fit(x[:40], y[:40], epochs=1, validation_data=(x[40:], y[40:]),
                            verbose=False)  # fmt: skip
        found = model.evaluate(x[40:], y[40:])
        assert history["val_loss"] == [found["loss"]]
        assert history["val_accuracy"] == [found["accuracy"]]

    def test_whole_number_validation_targets_of_a_regression(self):
        x, _ = data()
        y = x.sum(axis=1)
        history = net(out=1).fit(
            x, y, epochs=1, validation_data=(x, np.round(y).astype(int)), verbose=False
        )
        assert np.isfinite(history["val_loss"]).all()


class TestMeasuring:
    @pytest.mark.parametrize("training", [True, False])
    def test_mode_and_weights_stay(self, training):
        x, y = data()
        model = net(dropout=0.5).train(training)
        model[2].train(not training)
        before, modes = weights(model), [m.training for m in model.modules()]
        first = model.predict(x)
        model.evaluate(x, y)
        np.testing.assert_array_equal(model.predict(x), first)
        assert [m.training for m in model.modules()] == modes
        assert_same(weights(model), before)
        assert all(p.grad is None for p in model.parameters())

    def test_mode_is_put_back_after_an_error(self):
        model = net()
        with pytest.raises(ValueError):
            model.predict(np.ones((3, 9)))
        assert all(m.training for m in model.modules())

    def test_the_batch_size_does_not_matter(self):
        x, y = data()
        model = net()
        np.testing.assert_allclose(
            model.predict(x, batch_size=7), model.predict(x), rtol=1e-5, atol=1e-6
        )
        a, b = model.evaluate(x, y, batch_size=7), model.evaluate(x, y)
        assert a == pytest.approx(b, rel=1e-5)

    def test_predict_is_an_array_of_the_model_type(self):
        out = net().predict([[1, 2, 3, 4]])
        assert type(out) is np.ndarray
        assert (out.shape, out.dtype) == ((1, 3), np.float32)

    def test_chosen_metrics(self):
        x, y = data()

        def share_of_zero(outputs, targets):
            return float(np.mean(targets == 0))

        found = net().evaluate(x, y, metrics=["accuracy", share_of_zero])
        assert set(found) == {"loss", "accuracy", "share_of_zero"}
        assert found["share_of_zero"] == np.mean(y == 0)
        assert set(net().evaluate(x, y, metrics=None)) == {"loss"}
        assert set(net().evaluate(x, y, metrics="accuracy")) == {"loss", "accuracy"}


class TestEndings:
    def test_ctrl_c_ends_cleanly_with_the_best_weights(self):
        x, y = data()
        best = {}

        def interrupt(trainer, epoch, logs):
            if epoch == 1:
                best.update(trainer.copy_weights())
            if epoch == 3:
                raise KeyboardInterrupt

        keep = EarlyStopping(patience=None)
        worse = LambdaCallback(  # every epoch after the first is reported as worse
            on_epoch_end=lambda t, epoch, logs: logs.update(loss=float(epoch))
        )
        history = net().fit(
            x, y, epochs=10, verbose=False,
            callbacks=[worse, keep, LambdaCallback(on_epoch_end=interrupt)],
        )  # fmt: skip
        assert history.stop_reason == "interrupted"
        assert len(history) == 3

    def test_ctrl_c_gives_the_best_weights_back(self):
        x, y = data()
        model, best = net(), {}

        def watch(trainer, epoch, logs):
            logs["loss"] = float(epoch)
            if epoch == 1:
                best.update(trainer.copy_weights())

        def interrupt(trainer, epoch, logs):
            if epoch == 3:
                raise KeyboardInterrupt

        model.fit(
            x, y, epochs=9, verbose=False,
            callbacks=[
                LambdaCallback(on_epoch_end=watch), EarlyStopping(patience=None),
                LambdaCallback(on_epoch_end=interrupt),
            ],
        )  # fmt: skip
        assert_same(weights(model), best)

    def test_ctrl_c_in_the_middle_of_an_epoch(self):
        x, y = data()

        def interrupt(trainer, batch, loss):
            if trainer.epoch == 2:
                raise KeyboardInterrupt

        history = net().fit(
            x, y, epochs=5, verbose=False, callbacks=[LambdaCallback(on_batch_end=interrupt)]
        )
        assert len(history) == 1
        assert history.stop_reason == "interrupted"

    def test_another_error_in_a_callback_comes_out_but_the_endings_run(self):
        ended = []

        def fail(trainer, epoch):
            raise RuntimeError("mine")

        x, y = data()
        with pytest.raises(RuntimeError, match="mine"):
            net().fit(
                x, y, verbose=False,
                callbacks=[
                    LambdaCallback(on_epoch_begin=fail, on_train_end=lambda t: ended.append(1))
                ],
            )  # fmt: skip
        assert ended == [1]

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_divergence_names_the_step_and_keeps_finite_weights(self, optimizer):
        x, y = data()
        model = net(out=1)
        with pytest.raises(DivergedError, match=r"at step \d+ \(epoch \d+\)") as caught:
            model.fit(
                x, y * 1.0, epochs=200, optimizer=optimizer, lr=1e18, verbose=False, metrics=None
            )
        assert "learning rate" in str(caught.value)
        assert all(np.isfinite(value).all() for value in weights(model).values())

    def test_a_loss_that_turns_nan_at_a_known_step(self):
        x, y = data()
        calls = []

        def loss(output, target):
            calls.append(1)
            return F.cross_entropy(output, target) * (np.nan if len(calls) == 4 else 1.0)

        model = net()
        with pytest.raises(DivergedError, match=r"loss is nan at step 4 \(epoch 2\)"):
            model.fit(x, y, batch_size=30, loss=loss, verbose=False)
        assert all(np.isfinite(value).all() for value in weights(model).values())

    def test_divergence_gives_the_best_weights_back(self):
        x, y = data()
        model, best, calls = net(), {}, []

        def loss(output, target):
            calls.append(1)
            return F.cross_entropy(output, target) * (np.inf if len(calls) == 3 else 1.0)

        def note(trainer, epoch, logs):
            best.update(trainer.copy_weights())

        with pytest.raises(DivergedError):
            model.fit(
                x, y, batch_size=60, loss=loss, verbose=False,
                callbacks=[LambdaCallback(on_epoch_end=note), EarlyStopping()],
            )  # fmt: skip
        assert_same(weights(model), best)


class TestProgress:
    def test_one_line_an_epoch_when_piped(self, capsys):
        x, y = data()
        net().fit(x, y, epochs=3, validation_split=0.2)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith("epoch 1/3  loss ")
        assert "val_accuracy" in lines[2]
        assert "\x1b" not in "".join(lines)

    def test_nothing_when_not_wanted(self, capsys):
        x, y = data()
        net().fit(x, y, epochs=2, verbose=False)
        captured = capsys.readouterr()
        assert captured.out == captured.err == ""

    def test_a_bar_on_a_terminal(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        x, y = data()
        file = Terminal()
        net().fit(x, y, epochs=2, verbose=False, callbacks=[fathom.train.Progress(file)])
        text = file.getvalue()
        assert "epoch 2/2" in text
        assert text.endswith("\x1b[?25h")  # the cursor is back


def test_the_optimizer_must_move_this_model():
    x, y = data()
    with pytest.raises(ArgumentError, match="no parameter of this model"):
        net().fit(x, y, optimizer=optim.SGD(net().parameters()), verbose=False)


def test_an_optimizer_of_a_part_trains_that_part():
    x, y = data()
    model = net()
    before = weights(model)
    model.fit(x, y, epochs=1, optimizer=optim.SGD(model[2].parameters(), lr=0.1), verbose=False)
    after = weights(model)
    np.testing.assert_array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["2.weight"], after["2.weight"])


def test_whole_numbers_are_indices_where_there_is_an_embedding():
    with fathom.seed(0):
        model = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(16, 5))
    x = np.random.default_rng(0).integers(0, 5, (200, 2))
    history = model.fit(x, x[:, 1], epochs=30, lr=0.02, verbose=False)
    assert history["accuracy"][-1] == 1.0
