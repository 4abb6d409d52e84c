import csv
import math

import numpy as np
import pytest

import fathom
from fathom import nn, train
from fathom.engine.errors import ArgumentError
from fathom.train import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    TimeLimit,
)

X = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)


def fit(*callbacks, model=None, **options):
    with fathom.seed(0):
        model = model or nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    history = model.fit(X, Y, **{"epochs": 10, "verbose": False, "callbacks": callbacks, **options})
    return model, history


class Script(Callback):
    """Pretend that a measurement took these values, epoch by epoch; keep each epoch's weights."""

    def __init__(self, values, name="val_loss"):
        self.values, self.name, self.weights = values, name, []

    def on_epoch_end(self, trainer, epoch, logs):
        logs[self.name] = self.values[epoch - 1]
        self.weights.append(trainer.copy_weights())


def same(model, weights):
    return all(np.array_equal(t.value(), weights[n]) for n, t in model.state_dict().items())


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("values", "patience", "min_delta", "stopped", "best"),
        [
            ([5, 4, 3, 2, 1, 0], 1, 0.0, 6, 6),
            ([5, 4, 4, 4, 4, 4], 1, 0.0, 3, 2),
            ([5, 4, 6, 7, 3, 9], 2, 0.0, 4, 2),
            ([5, 4, 6, 3, 7, 8, 9], 2, 0.0, 6, 4),
            ([50, 49, 48, 47, 46, 45], 3, 2.0, 6, 4),
            ([50, 49, 48, 40, 39, 38], 2, 2.0, 3, 1),
            ([5, 4, 6, 6, 6, 6], None, 0.0, 6, 2),
            ([math.nan, 4, 5, 5, 3, 3], 3, 0.0, 6, 5),
            ([3, math.nan, math.nan, 1, 1, 1], 2, 0.0, 3, 1),
        ],
    )
    def test_when_it_stops_and_what_it_restores(self, values, patience, min_delta, stopped, best):
        script = Script(values)
        stop = EarlyStopping(patience=patience, min_delta=min_delta)
        model, history = fit(script, stop, epochs=len(values))
        assert (len(history), stop.best_epoch, stop.best) == (stopped, best, values[best - 1])
        assert same(model, script.weights[best - 1])
        assert bool(history.stop_reason) == (stopped < len(values))

    def test_without_restoring(self):
        script = Script([1, 2, 3, 4])
        model, history = fit(
            script, EarlyStopping(patience=2, restore_best_weights=False), epochs=4
        )
        assert len(history) == 3
        assert same(model, script.weights[-1])

    def test_accuracy_is_to_grow(self):
        script = Script([0.5, 0.9, 0.7, 0.6], "val_accuracy")
        _, history = fit(script, EarlyStopping("val_accuracy", patience=2), epochs=4)
        assert len(history) == 4
        assert same(fit(script, epochs=1)[0], script.weights[-1])

    def test_patience_of_fit_watches_validation(self):
        _, history = fit(patience=1, validation_data=(X, 1 - Y), epochs=50)
        assert len(history) < 50
        assert history.stop_reason == "no better val_loss for 1 epochs"

    def test_unknown_measurement(self):
        with pytest.raises(
            ArgumentError, match=r"no measurement 'val_loss'\n.*did you mean 'loss'"
        ):
            fit(EarlyStopping("val_loss"))

    @pytest.mark.parametrize(
        ("options", "values", "best"),
        [
            ({"mode": "min"}, [3, 1, 2, 0, 5], 4),
            ({"mode": "max"}, [3, 1, 4, 0, 2], 3),
            ({"monitor": "val_f1"}, [0.1, 0.5, 0.4, 0.4, 0.3], 2),
            ({"monitor": "val_rmse"}, [3, 1, 2, 2, 5], 2),
            ({"monitor": "val_f1", "mode": "min"}, [3, 1, 2, 0, 5], 4),
            ({"mode": "max", "min_delta": 1.0}, [3, 3.5, 4.2, 5, 5.1], 3),
            ({"baseline": 2.0}, [5, 4, 3, 1.5, 2.5], 4),
            ({"baseline": 2.0, "mode": "max"}, [1, 2, 3, 2.5, 4], 5),
            ({"baseline": 0.0}, [5, 4, 3, 2, 1], 0),
        ],
    )
    def test_mode_delta_and_baseline(self, options, values, best):
        stop = EarlyStopping(**{"monitor": "val_loss", "patience": None, **options})
        script = Script(values, stop.wanted)
        model, _ = fit(script, stop, epochs=5)
        assert stop.best_epoch == best
        assert same(model, script.weights[best - 1])

    def test_patience_counts_from_the_start_where_the_baseline_is_not_beaten(self):
        _, history = fit(
            Script([5] * 9), EarlyStopping("val_loss", patience=3, baseline=1.0), epochs=9
        )
        assert len(history) == 3 and "no better val_loss" in history.stop_reason

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_the_best_epoch_comes_back_bitwise(self, mode):
        """As a run that ends with that epoch: weights and running statistics."""

        def run(epochs, *callbacks):
            with fathom.seed(0):
                net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
            net, _ = fit(*callbacks, model=net, epochs=epochs, lr=0.3, validation_split=0.4)
            return net

        stop = EarlyStopping("val_accuracy" if mode == "max" else None, patience=4, mode=mode)
        net = run(30, stop)
        again = run(stop.best_epoch)
        for (name, a), (_, b) in zip(
            net.state_dict().items(), again.state_dict().items(), strict=True
        ):
            assert a.value().tobytes() == b.value().tobytes(), name

    def test_two_of_them_have_a_slot_each(self, tmp_path):
        """A run stopped half-way goes on with the states and best weights of both."""
        values = {"val_a": [5, 3, 4, 4, 4, 4, 4, 4], "val_b": [1, 2, 3, 1, 9, 8, 7, 7]}

        def run(epochs, **options):
            stops = [EarlyStopping("val_a", patience=None, mode="min"),
                     EarlyStopping("val_b", patience=3, mode="max")]  # fmt: skip
            scripts = [Script(values[name], name) for name in values]
            model, history = fit(*scripts, *stops, epochs=epochs, **options)
            return model, history, stops

        whole, history, stops = run(8)
        assert [s.best_epoch for s in stops] == [2, 5] and len(history) == 8
        run(6, checkpoint=tmp_path / "c")
        saved = train.checkpoint.load(tmp_path / "c")
        assert {"EarlyStopping", "EarlyStopping 2"} <= saved.state["state"]["callbacks"].keys()
        names = set(whole.state_dict())
        assert set(saved.best) == names | {f"EarlyStopping 2/{name}" for name in names}
        model, _, later = run(8, resume=tmp_path / "c")
        assert [s.best_epoch for s in later] == [2, 5]
        for a, b in zip(stops, later, strict=True):
            assert all(np.array_equal(a.weights[name], b.weights[name]) for name in names)
        assert same(model, stops[1].weights) and same(whole, stops[1].weights)  # it stopped the run

    def test_of_several_the_first_restores_unless_another_stopped_the_run(self):
        scripts = [Script([1, 2, 3, 4, 5], "val_a"), Script([5, 4, 3, 2, 1], "val_b")]
        stops = [EarlyStopping(name, patience=None, mode="min") for name in ("val_a", "val_b")]
        model, _ = fit(*scripts, *stops, epochs=5)
        assert same(model, scripts[0].weights[0])

    @pytest.mark.parametrize(
        ("options", "text"),
        [({"mode": "mni"}, "did you mean 'min'"), ({"min_delta": -1}, "min_delta must be >= 0")],
    )
    def test_bad_options(self, options, text):
        with pytest.raises(ArgumentError, match=text):
            EarlyStopping(**options)

    def test_bad_patience(self):
        with pytest.raises(ArgumentError, match="patience must be >= 1"):
            EarlyStopping(patience=0)

    def test_it_may_be_used_again(self):
        stop = EarlyStopping(patience=2)
        fit(Script([1, 2, 3, 4]), stop)
        assert stop.best == 1
        _, history = fit(stop, epochs=3)  # without validation: watches the loss
        assert stop.best == min(history["loss"])
        assert stop.monitor == "loss"


class TestOthers:
    def test_hooks_run_in_order(self):
        calls = []
        hooks = {
            name: lambda trainer, *details, name=name: calls.append(name)
            for name in vars(Callback)
            if name.startswith("on_")
        }
        fit(LambdaCallback(**hooks), epochs=1, batch_size=10)
        assert calls == [
            "on_train_begin", "on_epoch_begin", "on_batch_end", "on_batch_end", "on_epoch_end",
            "on_train_end",
        ]  # fmt: skip

    def test_an_unknown_hook(self):
        with pytest.raises(ArgumentError, match=r"'on_epoch_edn'\n.*did you mean 'on_epoch_end'"):
            LambdaCallback(on_epoch_edn=print)

    def test_stop_ends_after_the_epoch(self):
        steps = []

        def stop(trainer, batch, loss):
            steps.append(batch)
            trainer.stop("enough")

        _, history = fit(LambdaCallback(on_batch_end=stop), batch_size=5)
        assert steps == [1, 2, 3, 4]
        assert (len(history), history.stop_reason) == (1, "enough")

    def test_time_limit(self):
        _, history = fit(TimeLimit(1e-9))
        assert (len(history), history.stop_reason) == (1, "time limit of 1e-09 s")
        assert len(fit(max_time=1e-9)[1]) == 1
        assert len(fit(max_time=3600)[1]) == 10

    def test_csv_logger(self, tmp_path):
        path = tmp_path / "log.csv"
        rows = []

        def lines(trainer, epoch, logs):
            rows.append(len(path.read_text().splitlines()))

        _, history = fit(CSVLogger(path), LambdaCallback(on_epoch_end=lines), epochs=3)
        assert rows == [2, 3, 4]  # written as training goes on
        table = list(csv.DictReader(path.read_text().splitlines()))
        assert [int(row["epoch"]) for row in table] == [1, 2, 3]
        assert [float(row["loss"]) for row in table] == history["loss"]
        fit(CSVLogger(path), epochs=1)
        assert len(path.read_text().splitlines()) == 2  # a new run, a new log

    def test_csv_logger_of_a_resumed_run(self, tmp_path):
        fit(epochs=2, checkpoint=tmp_path / "run")
        fit(CSVLogger(tmp_path / "log.csv"), epochs=4, resume=tmp_path / "run")
        table = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
        assert [row["epoch"] for row in table] == ["3", "4"]

    def test_model_checkpoint_every_few_epochs(self, tmp_path):
        saved = []

        class Spy(ModelCheckpoint):
            def on_epoch_end(self, trainer, epoch, logs):
                super().on_epoch_end(trainer, epoch, logs)
                state = train.checkpoint.load(self.path).state["state"] if epoch > 1 else {}
                saved.append(state.get("epoch"))

        fit(Spy(tmp_path / "run", every=2, extra={"note": "mine", "epoch": 99}), epochs=5)
        assert saved == [None, 2, 2, 4, 4]
        assert train.checkpoint.load(tmp_path / "run").state["state"]["note"] == "mine"

    @pytest.mark.parametrize("every", [0, -1])
    def test_bad_every(self, every):
        with pytest.raises(ArgumentError, match="every must be >= 1"):
            ModelCheckpoint("run", every=every)

    def test_checkpoints_are_written_after_all_other_callbacks(self, tmp_path):
        fit(ModelCheckpoint(tmp_path / "run"), EarlyStopping(), epochs=2)
        state = train.checkpoint.load(tmp_path / "run").state["state"]
        assert state["callbacks"]["EarlyStopping"]["best_epoch"] > 0
        assert train.checkpoint.load(tmp_path / "run").best.keys() == {
            "0.weight", "0.bias", "2.weight", "2.bias",
        }  # fmt: skip
