"""`fit` with compiled steps: the same training, faster, and eager where that is not safe."""

import copy
import io
import pickle

import numpy as np
import pytest

import fathom
import fathom.doctor
from fathom import nn
from fathom.compile import EagerWarning
from fathom.compile.function import native_wanted
from fathom.engine.errors import DivergedError
from fathom.nn import functional as F
from fathom.train import LambdaCallback, Progress
from fathom.train.compiled import forward_of

ROWS, BATCH = 16 * 8 + 3, 8  # 16 full batches, and a rest


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 5)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64)


def network(*more):
    with fathom.seed(0):
        return nn.Sequential(nn.Linear(5, 8), *more, nn.ReLU(), nn.Linear(8, 2))


def trained(data, model=None, **options):
    model = model or network()
    history = model.fit(
        *data, **{"epochs": 3, "batch_size": BATCH, "lr": 0.02, "verbose": False, **options}
    )
    return model, history


OPTIONS = {
    "plain": {},
    "clipped": {"clip_norm": 0.1},
    "clipped by value": {"clip_value": 0.01},
    "penalty": {"penalty": "l2:strength=0.01"},
    "weights": {"sample_weight": np.linspace(0.5, 1.5, ROWS)},
    "schedule": {"schedule": "cosine"},
    "average": {"ema": 0.9},
    "focal": {"loss": "focal"},
    "sgd": {"optimizer": "sgd:momentum=0.9"},
    "lion": {"optimizer": "lion", "lr": 1e-3},
    "mixed": {"augment": "noise:std=0.1"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_compiled_and_eager_training_agree(data, name):
    eager, first = trained(data, compile=False, **OPTIONS[name])
    fast, second = trained(data, compile="auto", **OPTIONS[name])
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-4)
    for p, q in zip(eager.parameters(), fast.parameters(), strict=True):
        np.testing.assert_allclose(p.value(), q.value(), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("layer", [lambda: nn.BatchNorm1d(8), lambda: nn.Dropout(0.3)])
def test_buffers_and_random_masks_go_along(data, layer):
    # not Adam: it blows rounding errors up where a gradient is zero, as before a BatchNorm
    eager, _ = trained(data, network(layer()), compile=False, optimizer="sgd")
    fast, _ = trained(data, network(layer()), optimizer="sgd")
    for (name, a), b in zip(eager.state_dict().items(), fast.state_dict().values(), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-3, atol=2e-5, err_msg=name)


def test_same_seed_same_bytes(data):
    a, b = (trained(data, network(nn.Dropout(0.3)))[0] for _ in range(2))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.value().tobytes() == q.value().tobytes()


def test_resumed_equals_unbroken(data, tmp_path):
    whole, _ = trained(data, network(nn.Dropout(0.3)), epochs=4)
    trained(data, network(nn.Dropout(0.3)), epochs=1, checkpoint=tmp_path / "run")
    rest, _ = trained(data, network(nn.Dropout(0.3)), epochs=4, resume=tmp_path / "run")
    for p, q in zip(whole.parameters(), rest.parameters(), strict=True):
        assert p.value().tobytes() == q.value().tobytes()


def engine_of(data, **options):
    found = []
    watch = LambdaCallback(on_train_end=lambda t: found.append((t.fast, t.eager_because)))
    trained(data, callbacks=[watch], **{"epochs": 1, **options})
    return found[0]


def test_what_is_compiled(data):
    fast, reason = engine_of(data)
    assert fast.engine in ("native", "numpy") and not reason
    assert len(fast.compiled.plans) == 1  # the rest of an epoch is not worth a plan


def test_few_batches_are_not_worth_it(data):
    assert engine_of(data, batch_size=64) == (None, "")
    fast, _ = engine_of(data, batch_size=64, compile=True)
    assert fast.engine != "eager"


class Counting(nn.Module):
    """A module of the user's that does more than compute."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(5, 2), []

    def forward(self, x):
        self.calls.append(len(x))
        return self.layer(x)


class Deciding(nn.Module):
    """A module that branches on a value: no plan can repeat it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, x):
        return self.layer(x) * (2.0 if float(x.mean()) > 0 else 1.0)


def test_code_of_the_users_own_runs_as_it_is(data):
    model = Counting()
    file = io.StringIO()
    trained(data, model, epochs=1, callbacks=[Progress(file)])
    assert len(model.calls) >= 17
    assert "steps are not compiled: Counting is not Fathom's" in file.getvalue()


def test_a_step_that_cannot_be_traced_runs_eagerly(data):
    with fathom.seed(0):
        model = Deciding()
    file = io.StringIO()
    _, history = trained(data, model, epochs=2, compile=True, callbacks=[Progress(file)])
    assert file.getvalue().count("steps are not compiled: ") == 1
    with fathom.seed(0):
        _, eager = trained(data, Deciding(), epochs=2, compile=False)
    assert history["loss"] == eager["loss"]


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"optimizer": "sam:base=sgd"}, "evaluates the loss itself"),
        ({"accumulate": 2}, "accumulated"),
        ({"loss": lambda o, t: F.cross_entropy(o, t)}, "not Fathom's"),
    ],
)
def test_reasons(data, options, reason):
    fast, said = engine_of(data, **options)
    assert fast is None and reason in said


@pytest.mark.parametrize("compile", [False, True])
def test_divergence_leaves_the_last_finite_weights(data, compile):
    model = network()
    with pytest.raises(DivergedError, match=r"at step \d+ \(epoch 1\)"):
        model.fit(data[0], data[0][:, :2] * 1e4, epochs=1, batch_size=BATCH, optimizer="sgd",
                  lr=1e12, compile=compile, verbose=False)  # fmt: skip
    assert all(np.isfinite(p.value()).all() for p in model.parameters())


def test_a_label_out_of_range_is_the_same_error(data):
    x, y = data
    for compile in (False, True):
        model = network()
        before = [p.value().copy() for p in model.parameters()]
        with pytest.raises(fathom.FathomError) as error:
            model.fit(x, y + 5, epochs=1, batch_size=BATCH, compile=compile, verbose=False,
                      metrics=[], loss="cross_entropy")  # fmt: skip
        assert "out of range" in str(error.value) or "classes" in str(error.value)
        for p, b in zip(model.parameters(), before, strict=True):
            assert (p.value() == b).all()


# -- evaluate, predict, the range test -----------------------------------------------------------


def same(a, b, rtol=1e-5):
    """Equal up to rounding; bit for bit where there is no native code."""
    if not native_wanted():
        assert a.tobytes() == b.tobytes()
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def plans(model):
    return len(forward_of(model).compiled.plans)


def test_predictions_by_plan_are_the_eager_ones(data):
    x, y = data
    model = network(nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[0].weight.data[...] *= 3
    eager = model.predict(x, batch_size=BATCH, compile=False)
    assert not plans(model)
    same(model.predict(x, batch_size=BATCH, compile=True), eager)
    assert plans(model) == 2 and model.training  # one for the smaller batch at the end
    model[0].weight.data[...] *= 2
    again = model.predict(x, batch_size=BATCH, compile=True)
    same(again, model.predict(x, batch_size=BATCH, compile=False))
    assert plans(model) == 2 and not np.allclose(again, eager)
    scores = [model.evaluate(x, y, batch_size=BATCH, compile=c) for c in (True, False)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_shape_that_comes_often_is_compiled(data):
    x, _ = data
    model = network()
    for _ in range(15):
        model.predict(x[:20])
    assert not plans(model)
    model.predict(x[:20])
    assert plans(model) == 1
    model.predict(x[:21])
    assert plans(model) == 1
    other = network()
    same(other.predict(x, batch_size=BATCH), other.predict(x, batch_size=BATCH, compile=False))
    assert plans(other) == 1  # 16 batches in one call; the rest as it is


def test_many_shapes_make_few_plans(data):
    model = network()
    for n in range(1, 20):
        model.predict(data[0][:n], compile=True)
    assert plans(model) == 7


def test_validation_runs_as_the_steps_do(data):
    x, y = data
    held = {"validation_data": (x[:13], y[:13])}
    eager, first = trained(data, compile=False, **held)
    fast, second = trained(data, **held)
    assert plans(eager) == 0 and plans(fast) == 1
    np.testing.assert_allclose(first["val_loss"], second["val_loss"], rtol=1e-4)


def test_predictions_of_the_users_own_modules_run_as_they_are(data, monkeypatch):
    monkeypatch.setattr(fathom.engine.tensor, "_warned", set())
    model = Counting()
    model.predict(data[0], batch_size=64)  # too few batches to say anything
    with pytest.warns(EagerWarning, match="Counting is not Fathom's: compile=True if"):
        model.predict(data[0], batch_size=BATCH)
    assert len(model.calls) == 3 + 17
    with fathom.seed(0):
        model = Deciding()
    with pytest.warns(EagerWarning, match="the forward pass is not compiled: .*values"):
        found = model.predict(data[0], batch_size=BATCH, compile=True)
    same(found, model.predict(data[0], batch_size=BATCH, compile=False))


def test_hooks_on_a_model_run_at_each_prediction(data, monkeypatch):
    monkeypatch.setattr(fathom.engine.tensor, "_warned", set())
    model, seen = network(), []
    model.predict(data[0], batch_size=BATCH, compile=True)
    with model[0].register_forward_hook(lambda m, given, out: seen.append(len(out))):
        with pytest.warns(EagerWarning, match="a module has hooks"):
            model.predict(data[0], batch_size=BATCH, compile=True)
    assert sum(seen) == ROWS


def test_predictions_can_be_recorded(data):
    model = network()
    wanted = model.predict(data[0][:BATCH], compile=True)
    with fathom.doctor.record(model) as seen:
        model.predict(data[0][:BATCH], compile=True)
    same(seen[""].output, wanted)
    assert len(forward_of(model).compiled.observed) == 1


def test_plans_stay_with_their_model(data):
    model = network()
    model.predict(data[0], compile=True)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert plans(twin) == 0
        twin[0].weight.data[...] = 0
        assert not np.array_equal(twin.predict(data[0], compile=True), model.predict(data[0]))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_range_test_by_plan_measures_the_same(data, optimizer):
    def found(compile):
        model = network(nn.BatchNorm1d(8))
        before = [t.value().copy() for t in (*model.parameters(), *model.buffers())]
        result = model.lr_find(*data, batch_size=BATCH, steps=40, start=1e-4, end=0.1,
                               optimizer=optimizer, compile=compile)  # fmt: skip
        for t, b in zip((*model.parameters(), *model.buffers()), before, strict=True):
            assert t.value().tobytes() == b.tobytes()
        return result

    fast, eager = found("auto"), found(False)
    assert len(fast.losses) == len(eager.losses) and fast.reason == eager.reason
    np.testing.assert_allclose(fast.losses[:20], eager.losses[:20], rtol=1e-4)


@pytest.mark.parametrize("compile", [False, True])
def test_a_range_test_that_diverges(data, compile):
    found = network().lr_find(*data, batch_size=BATCH, optimizer="sgd", end=1e30, start=1e-3,
                              diverge=1e300, compile=compile)  # fmt: skip
    assert "no longer finite" in found.reason


def test_the_range_test_says_why_it_is_not_compiled(data, monkeypatch):
    monkeypatch.setattr(fathom.engine.tensor, "_warned", set())
    with pytest.warns(EagerWarning, match="the range test is not compiled: Counting"):
        Counting().lr_find(*data, batch_size=BATCH, steps=5)
