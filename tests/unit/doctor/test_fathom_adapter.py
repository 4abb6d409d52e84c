"""What a `Case` says of a watched Fathom run, field by field, and the copies made of it."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.doctor.adapters.fathom_adapter import FathomAdapter
from fathom.doctor.callback import Doctor
from fathom.doctor.case import LossCall, Step
from fathom.doctor.finding import Edit
from fathom.doctor.treatment import ACTIONS
from fathom.engine.errors import ArgumentError, DivergedError
from fathom.engine.hearing import HEARERS
from fathom.nn import functional as F
from fathom.ops.formula import formula

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Ear:
    """A listener that samples the steps it is told to."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.calls: list[LossCall] = []
        self.samples: list[Step] = []
        self.steps: list[int] = []
        self.case: Any = None

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def loss_called(self, call: LossCall) -> None:
        self.calls.append(call)
        self.case.losses.append(call)

    def stepped(self, step: int, sample: Step | None) -> None:
        self.steps.append(step)
        if sample is not None:
            self.samples.append(sample)

    def took(self, seconds: float) -> None:
        assert seconds >= 0


def watched(
    model: nn.Module, optimizer: Any, loop: Callable[[], Any], every: int = 1
) -> tuple[FathomAdapter, Ear]:
    adapter, ear = FathomAdapter(model, optimizer), Ear(every)
    ear.case = adapter.case
    adapter.open(ear)
    try:
        loop()
    finally:
        adapter.close()
    assert not adapter.broken, adapter.case.notes
    return adapter, ear


def steps(
    model: nn.Module, optimizer: Any, count: int = 4, x: Any = X, y: Any = Y, loss: Any = None
) -> Callable[[], None]:
    def loop() -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (loss or F.cross_entropy)(model(fathom.tensor(x)), fathom.tensor(y)).backward()
            optimizer.step()

    return loop


def net(*layers: nn.Module) -> tuple[nn.Sequential, Any]:
    model = nn.Sequential(*layers)
    return model, fathom.optim.SGD(model.parameters(), lr=0.1)


def mlp() -> tuple[nn.Sequential, Any]:
    with fathom.seed(0):
        return net(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


# -- the parts ---------------------------------------------------------------------------------


def test_layers_parameters_and_optimizer() -> None:
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
    frozen = model[3].bias
    frozen.requires_grad_(False)
    stranger = nn.Parameter([1.0, 2.0])
    given = [p for p in model.parameters() if p is not model[0].bias]
    case = FathomAdapter(model, fathom.optim.Adam([*given, stranger], lr=0.01)).case
    assert [layer.kind for layer in case.layers.values()] == [
        "Linear", "BatchNorm1d", "Dropout", "Linear",
    ]  # fmt: skip
    assert case.layers["2"].options["p"] == 0.3 and case.layers["1"].options["momentum"] == 0.1
    assert [p.role for p in case.parameters.values()] == [
        "weight", "bias", "scale", "shift", "weight", "bias",
    ]  # fmt: skip
    assert not case.parameters["3.bias"].trainable and not case.parameters["0.bias"].in_optimizer
    assert case.parameters["0.weight"].in_optimizer
    assert case.optimizer is not None and case.optimizer.kind == "Adam"
    assert case.optimizer.lr == 0.01 and case.optimizer.strangers == [(2,)]
    initial = case.parameters["0.weight"].initial
    model[0].weight.data += 1
    assert np.allclose(case.parameters["0.weight"].value() - initial, 1, atol=1e-6)
    assert str(case.coverage) == "watched 4 of 4 modules"


class Functional(nn.Module):
    """Functions in place of modules, nested and shared layers."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
        self.first = nn.Linear(4, 8)
        self.again = self.block

    def forward(self, x: Any) -> Any:
        x = F.gelu(self.first(x))
        x = self.again(self.block(x)).tanh()
        return F.softmax(self.last(F.dropout(x, 0.5)), 1)


def test_the_graph_of_functions() -> None:
    model = Functional()
    optimizer = fathom.optim.SGD(model.parameters(), lr=0.1)
    adapter, ear = watched(model, optimizer, steps(model, optimizer))
    case, call = adapter.case, ear.calls[0]
    assert call.function == "cross_entropy" and call.path == ("softmax",) and call.layer == "last"
    assert [n for n in case.layers if case.layers[n].kind == "Linear"] == [
        "first", "block.0", "last",
    ]  # fmt: skip
    assert case.layers["first"].activation == "gelu"
    assert case.layers["block.1"].activation == "tanh"
    assert case.layers["last"].activation is None
    assert {"gelu", "tanh", "layer_norm", "dropout", "softmax", "linear"} <= case.operations
    assert case.reached == {n for n, _ in model.named_parameters()}
    assert ear.samples[0].layers["first"].std > 0


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "leaky_relu", "mish"])
def test_activations_behind_a_normalization(activation: str) -> None:
    function = getattr(F, activation)
    model, optimizer = net(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[1].register_forward_hook(lambda m, given, output: function(output))
    adapter, _ = watched(model, optimizer, steps(model, optimizer))
    assert adapter.case.layers["0"].activation == activation
    assert adapter.case.layers["1"].activation == activation
    assert adapter._structure.direct == {"1"}


def test_a_formula_of_the_users_is_an_activation() -> None:
    swoosh = formula(lambda x: x * x * 0.5, name="swoosh")
    model, optimizer = net(nn.Linear(4, 8), nn.Linear(8, 3))
    model[0].register_forward_hook(lambda m, given, output: swoosh(output))
    adapter, _ = watched(model, optimizer, steps(model, optimizer))
    assert adapter.case.layers["0"].activation == "swoosh"
    assert "activation" in adapter.case.operations


@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(bias: bool) -> None:
    x = RNG.normal(size=(5, 2, 6, 6)).astype(np.float32)
    model, optimizer = net(
        nn.Conv2d(2, 4, 3, bias=bias), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16, 3, bias=bias),
    )  # fmt: skip
    adapter, ear = watched(model, optimizer, steps(model, optimizer, 2, x, Y[:5]))
    case = adapter.case
    assert list(case.layers) == ["0", "1", "2", "4", "5"] and case.layers["0"].rows == 5 * 16
    assert case.layers["0"].activation == "relu" and "conv" in case.operations
    assert ear.calls[0].layer == "5" and math.isnan(ear.samples[0].layers["0"].dead)
    assert 0 <= ear.samples[0].layers["1"].dead <= 1


class Reader(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.cell = kind(4, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        states, _ = self.cell(self.words(x))
        return self.out(states[:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU], ids=lambda k: k.__name__)
def test_recurrent_networks(kind: type) -> None:
    model = Reader(kind)
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
    words = RNG.integers(0, 10, (8, 6))
    adapter, ear = watched(model, optimizer, steps(model, optimizer, 2, words, Y[:8]))
    case = adapter.case
    assert list(case.layers) == ["words", "cell", "out"] and "rnn" in case.operations
    assert case.reached == {n for n, _ in model.named_parameters()}
    assert set(ear.samples[0].layers) == {"cell", "out"} and ear.samples[0].layers["cell"].std > 0
    assert case.parameters["words.weight"].role == "embedding"
    assert case.parameters["cell.weight_hh_l0"].role == "weight"


def test_lazy_layers_are_described_when_they_are_made() -> None:
    model, _ = net(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    optimizer = fathom.optim.SGD(model.parameters(), lr=0.1)
    adapter, ear = watched(model, optimizer, steps(model, optimizer))
    assert adapter.case.parameters["0.weight"].shape == (8, 4)
    assert set(adapter.start) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not np.array_equal(adapter.start["0.weight"], model[0].weight.value())
    assert ear.samples[1].parameters["0.weight"].update > 0
    assert adapter.patient(0).train(2)[0] == pytest.approx(ear.calls[0].value, rel=1e-5)


# -- numbers -----------------------------------------------------------------------------------


def test_statistics_of_layers_are_numpys() -> None:
    model, optimizer = mlp()
    z = X @ model[0].weight.value().T + model[0].bias.value()
    _, ear = watched(model, optimizer, steps(model, optimizer, 1))
    found = ear.samples[0].layers["0"]
    assert found.mean == pytest.approx(z.mean(), abs=1e-6)
    assert found.std == pytest.approx(z.std(), rel=1e-5)
    assert found.largest == pytest.approx(abs(z).max(), rel=1e-6)
    assert found.zero == pytest.approx((z <= 0).mean(), abs=1e-6)
    assert found.dead == pytest.approx((z <= 0).all(axis=0).mean()) and found.examples == len(X)
    off = (abs(z.mean(0)) > 3 * z.std(0)).mean()
    spread = z.std(0).mean() / (abs(z.mean(0)).mean() + z.std(0).mean())
    assert found.off == off and found.spread == pytest.approx(spread, rel=1e-4)


def test_flat_share_of_a_saturated_sigmoid() -> None:
    model, optimizer = net(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3))
    model[0].weight.data *= 100
    z = X @ model[0].weight.value().T + model[0].bias.value()
    _, ear = watched(model, optimizer, steps(model, optimizer, 2))
    assert ear.samples[0].layers["0"].flat == pytest.approx((abs(z) > 5.99).mean(), abs=1e-6)


def test_dead_units_are_counted_over_all_samples() -> None:
    model, optimizer = mlp()
    model[0].bias.data[:3] = -100
    _, ear = watched(model, optimizer, steps(model, optimizer, 3))
    last = ear.samples[-1].layers["0"]
    assert last.dead == pytest.approx(3 / 8) and last.examples == 3 * len(X)


def test_norms_of_weights_gradients_and_updates() -> None:
    model, optimizer = mlp()
    before = model[0].weight.value().copy()
    _, ear = watched(model, optimizer, steps(model, optimizer, 1))
    found = ear.samples[0].parameters["0.weight"]
    gradient = model[0].weight.grad.value()
    assert found.weight == pytest.approx(np.linalg.norm(before), rel=1e-5)
    assert found.gradient == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert found.update == pytest.approx(0.1 * np.linalg.norm(gradient), rel=1e-3)


def test_curve_inputs_and_learning_rates() -> None:
    model, optimizer = mlp()
    losses = []

    def loop() -> None:
        for i in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(fathom.tensor(X)), Y)
            loss.backward()
            losses.append(loss.item())
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
            optimizer.step()

    adapter, ear = watched(model, optimizer, loop, every=2)
    assert adapter.losses() == losses and adapter.losses() == []
    assert [s.number for s in ear.samples] == [0, 2, 4] and ear.steps == [0, 1, 2, 3, 4]
    assert ear.samples[1].lr == pytest.approx(0.1 / 3) and adapter.case.scheduled
    assert np.array_equal(adapter.case.inputs[0], X)


# -- losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(label_smoothing=0.1),
     lambda o, t: F.cross_entropy(o, t, label_smoothing=0.1),
     lambda o, t: F.cross_entropy(o, t, None, -100, "mean", 0.1),
     lambda o, t: 0.5 * F.cross_entropy(input=o, target=t, label_smoothing=0.1)],
    ids=["module", "function", "in order", "inside"],
)  # fmt: skip
def test_calls_of_the_loss_are_seen_wherever_they_stand(loss: Any) -> None:
    model, optimizer = mlp()
    adapter, ear = watched(model, optimizer, steps(model, optimizer, 2, loss=loss))
    call = ear.calls[0]
    assert call.function == "cross_entropy" and call.options["label_smoothing"] == 0.1
    assert call.options["reduction"] == "mean" and call.shapes == ((64, 3), (64,))
    assert call.layer == "2" and call.path == () and call.training
    assert call.target is not None and np.array_equal(call.target, Y)
    assert adapter.losses()[0] == pytest.approx(call.value)
    assert len(adapter.batches) == 2


def test_a_loss_that_calls_another_is_one_call() -> None:
    model, optimizer = mlp()
    target = np.zeros((64, 3), np.float32)

    def loss(output: Any, _: Any) -> Any:
        return F.smooth_l1_loss(output, fathom.tensor(target), beta=0.0)  # it calls l1_loss

    _, ear = watched(model, optimizer, steps(model, optimizer, 1, loss=loss))
    assert [c.function for c in ear.calls] == ["smooth_l1_loss"] and ear.calls[0].count == 1


def test_a_loss_of_the_users_own_leaves_a_curve() -> None:
    model, optimizer = mlp()

    def loss(output: Any, _: Any) -> Any:
        return (output * output).mean()

    adapter, ear = watched(model, optimizer, steps(model, optimizer, 3, loss=loss))
    assert not ear.calls and len(adapter.losses()) == 3
    assert adapter.case.reached and not adapter.batches
    with pytest.raises(ArgumentError, match="no batch was kept"):
        adapter.patient()


def test_the_first_bad_module_is_found_by_a_replay() -> None:
    model, optimizer = net(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
    model[2].weight.data[0, 0] = np.inf
    with np.errstate(all="ignore"):
        adapter, ear = watched(model, optimizer, steps(model, optimizer, 1))
    assert adapter.case.bad_at == "2" and ear.samples[0].first_bad == "2"
    assert not math.isfinite(ear.samples[0].loss)


# -- how the loop goes about it ----------------------------------------------------------------


def test_usage_of_a_good_loop() -> None:
    model, optimizer = mlp()

    def loop() -> None:
        steps(model, optimizer, 3)()
        model.eval()
        with fathom.no_grad():
            model(fathom.tensor(X))
        model.train()

    usage = watched(model, optimizer, loop)[0].case.usage
    assert (usage.forwards, usage.backwards, usage.steps, usage.evaluations) == (3, 3, 3, 1)
    assert not (usage.stale_steps or usage.empty_steps or usage.eval_steps)
    assert not usage.noisy_evaluations and usage.accumulation == 1


def test_forgotten_and_misplaced_zero_grad() -> None:
    model, optimizer = mlp()

    def forgotten() -> None:
        for _ in range(4):
            F.cross_entropy(model(fathom.tensor(X)), Y).backward()
            optimizer.step()

    assert watched(model, optimizer, forgotten, 100)[0].case.usage.stale_steps == [1, 2, 3]
    model, optimizer = mlp()

    def misplaced() -> None:
        for _ in range(3):
            F.cross_entropy(model(fathom.tensor(X)), Y).backward()
            optimizer.zero_grad()
            optimizer.step()

    usage = watched(model, optimizer, misplaced)[0].case.usage
    assert usage.empty_steps == [0, 1, 2] and not usage.stale_steps


def test_modes() -> None:
    model, optimizer = net(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def loop() -> None:
        steps(model, optimizer, 2)()
        with fathom.no_grad():
            model(fathom.tensor(X))  # still in train mode
        model.eval()
        steps(model, optimizer, 2)()

    adapter, ear = watched(model, optimizer, loop)
    assert adapter.case.usage.noisy_evaluations == [2]
    assert adapter.case.usage.eval_steps == [2, 3]
    assert [c.training for c in ear.calls] == [True, True, False, False]


def test_accumulation_counts_and_its_loss_is_not_scaled() -> None:
    model, optimizer = mlp()
    losses = []

    def loop() -> None:
        for _ in range(3):
            optimizer.zero_grad()
            for part in range(4):
                rows = slice(16 * part, 16 * part + 16)
                loss = F.cross_entropy(model(fathom.tensor(X[rows])), Y[rows])
                (loss / 4).backward()
                losses.append(loss.item())
            optimizer.step()

    adapter, _ = watched(model, optimizer, loop)
    assert adapter.case.usage.accumulation == 4 and adapter.case.usage.backwards == 12
    assert not adapter.case.usage.stale_steps
    assert adapter.losses()[0] == pytest.approx(np.mean(losses[:4]), rel=1e-6)


def test_two_networks_with_an_optimizer_each() -> None:
    with fathom.seed(0):
        maker = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
        judge = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    one = fathom.optim.Adam(maker.parameters(), lr=0.01)
    two = fathom.optim.Adam(judge.parameters(), lr=0.01)
    noise = fathom.tensor(RNG.normal(size=(16, 2)).astype(np.float32))
    yes, no = np.ones((16, 1), np.float32), np.zeros((16, 1), np.float32)
    losses = []

    def loop() -> None:
        bce = F.binary_cross_entropy_with_logits
        for _ in range(6):
            two.zero_grad()
            (
                bce(judge(fathom.tensor(X[:16])), yes) + bce(judge(maker(noise).detach()), no)
            ).backward()
            two.step()
            one.zero_grad()
            loss = bce(judge(maker(noise)), yes)
            loss.backward()
            losses.append(loss.item())
            one.step()

    adapter, ear = watched(maker, one, loop, every=4)
    case = adapter.case
    assert case.usage.steps == 6 and case.usage.accumulation == 1
    assert adapter.losses() == losses
    assert case.reached == {n for n, _ in maker.named_parameters()}
    assert {c.count for c in ear.calls} == {1} and ear.calls[-1].layer == "2"


@pytest.mark.parametrize("wrap", [fathom.optim.SAM, fathom.optim.Lookahead],
                         ids=lambda w: w.__name__)  # fmt: skip
def test_wrapped_optimizers_step_once(wrap: Any) -> None:
    model, inner = mlp()
    optimizer = wrap(inner)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(fathom.tensor(X)), Y)
        loss.backward()
        return loss

    def loop() -> None:
        for _ in range(3):
            optimizer.step(closure)

    adapter, ear = watched(model, optimizer, loop)
    assert ear.steps == [0, 1, 2] and not adapter.case.usage.stale_steps
    assert ear.samples[0].parameters["0.weight"].update > 0
    assert adapter.patient(0).train(2)


def test_hooks_and_hearers_are_gone_after_an_error() -> None:
    model, optimizer = mlp()
    with pytest.raises(KeyError):
        watched(model, optimizer, lambda: {}["gone"])
    assert not HEARERS
    assert all(not (m._pre_hooks or m._hooks) for m in model.modules())


def test_an_error_of_the_adapters_own_is_a_note() -> None:
    model, optimizer = mlp()
    adapter, ear = FathomAdapter(model, optimizer), Ear()
    ear.case = adapter.case
    adapter.open(ear)
    adapter._sample = None  # type: ignore[assignment]
    steps(model, optimizer, 2)()
    adapter.close()
    assert adapter.broken and "watching ended" in adapter.case.notes[0]


def test_copies_of_a_watched_model_do_not_report() -> None:
    model, optimizer = mlp()

    def loop() -> None:
        steps(model, optimizer, 1)()
        twin = copy.deepcopy(model)
        with fathom.no_grad():
            twin(fathom.tensor(X))

    assert watched(model, optimizer, loop)[0].case.usage.evaluations == 0


# -- plans -------------------------------------------------------------------------------------


def test_a_compiled_step_is_seen_like_an_eager_one() -> None:
    def run(compiled: bool) -> tuple[FathomAdapter, Ear]:
        model, optimizer = mlp()

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        act = fathom.compile(step) if compiled else step
        return watched(model, optimizer, lambda: [act(X, Y) for _ in range(6)], every=3)

    (eager, one), (plan, two) = run(False), run(True)
    assert plan.losses() == pytest.approx(eager.losses(), rel=1e-5)
    assert plan.case.usage.unseen == 4  # of six steps two were sampled
    plan.case.usage.unseen = 0
    assert plan.case.usage == eager.case.usage and len(plan.batches) == len(eager.batches) == 6
    assert plan.case.layers == eager.case.layers and plan.case.operations == eager.case.operations
    for a, b in zip(one.samples, two.samples, strict=True):
        assert b.layers["0"].std == pytest.approx(a.layers["0"].std, rel=1e-4)
        for name, found in a.parameters.items():
            assert b.parameters[name].gradient == pytest.approx(found.gradient, rel=1e-3)
            assert b.parameters[name].update == pytest.approx(found.update, rel=1e-2)


def test_a_compiled_gradient_with_an_eager_step() -> None:
    model, optimizer = mlp()

    @fathom.compile
    def gradients(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def loop() -> None:
        for _ in range(4):
            gradients(X, Y)
            optimizer.step()

    adapter, ear = watched(model, optimizer, loop, every=2)
    assert ear.steps == [0, 1, 2, 3] and all(math.isfinite(x) for x in adapter.losses())
    assert ear.samples[1].layers and ear.samples[1].parameters["0.weight"].update > 0
    assert not adapter.case.usage.stale_steps


def test_a_compiled_step_without_a_loss_is_noted() -> None:
    model, optimizer = mlp()

    @fathom.compile
    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    adapter, _ = watched(model, optimizer, lambda: [step(X, Y) for _ in range(4)], every=2)
    assert [math.isnan(x) for x in adapter.losses()] == [False, True, False, True]
    assert any("returns no loss" in note for note in adapter.case.notes)


def test_other_compiled_functions_do_not_count() -> None:
    model, optimizer = mlp()
    forward = fathom.compile(lambda x: model(x).detach())

    def loop() -> None:
        steps(model, optimizer, 2)()
        forward(X)
        forward(X)
        steps(model, optimizer, 1)()

    adapter, ear = watched(model, optimizer, loop)
    assert ear.steps == [0, 1, 2] and adapter.case.usage.backwards == 3


# -- fit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compile", [False, True])
def test_the_callback(compile: bool) -> None:
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(1))
    doctor = Doctor(quiet=True)
    assert doctor.findings == ()
    model.fit(X, Y, loss="cross_entropy", epochs=5, batch_size=16, callbacks=[doctor],
              validation_data=(X, Y), verbose=False, compile=compile)  # fmt: skip
    assert doctor.findings[0].kind == "softmax_before_cross_entropy"
    assert doctor.watch is not None
    case = doctor.watch.case
    assert case.planned == case.usage.steps == len(case.curve) == 20 and case.ended
    assert [step for step, _ in case.validation] == [4, 8, 12, 16, 20]
    assert len(doctor.watch.adapter.batches) == 20 and not case.notes
    assert not HEARERS


def test_the_callback_stops_only_if_asked() -> None:
    def run(stop: bool) -> int:
        with fathom.seed(0):
            model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Softmax(1))
        doctor = Doctor(quiet=True, stop=stop)
        y = Y.astype(np.float32)[:, None]
        history = model.fit(X, y, loss="bce", epochs=3, callbacks=[doctor], verbose=False)
        assert any(f.severity == "error" for f in doctor.findings)
        return len(history["loss"])

    assert run(False) == 3 and run(True) == 1


@pytest.mark.parametrize("compile", [False, True])
def test_a_run_that_diverges_leaves_the_bad_step(compile: bool) -> None:
    model, _ = mlp()
    doctor = Doctor(quiet=True)
    optimizer = fathom.optim.SGD(model.parameters(), lr=1e18)
    with pytest.raises(DivergedError), np.errstate(all="ignore"):
        model.fit(X * 100, RNG.normal(size=(64, 3)).astype(np.float32), loss="mse", epochs=9,
                  optimizer=optimizer, callbacks=[doctor], verbose=False, batch_size=16,
                  compile=compile)  # fmt: skip
    assert doctor.watch is not None and not HEARERS
    case = doctor.watch.case
    if case.bad_at:  # else the update was refused before a loss could be bad
        assert not math.isfinite(case.curve[-1]) and case.steps[-1].first_bad == case.bad_at


# -- copies that are treated -------------------------------------------------------------------

VALUES = {
    "lr": 0.1, "optimizer": ("Adam", 1e-3), "momentum": 0.9, "clip": 1.0, "weight_decay": 0.0,
    "activation": "tanh", "insert_activation": "relu", "output_activation": "softmax",
    "loss": "cross_entropy", "reduction": "sum", "scale_targets": 2.0, "dropout": 0.1,
    "initialize": "kaiming", "batch": 128,
}  # fmt: skip
NOT_TRIED = ("steps", "stop")  # the treatment's own


@pytest.fixture(scope="module")
def run() -> FathomAdapter:
    with fathom.seed(0):
        model, optimizer = net(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5),
                               nn.Linear(8, 3), nn.Softmax(1))  # fmt: skip
        return watched(model, optimizer, steps(model, optimizer, 3))[0]


@pytest.mark.parametrize("action", [a for a in ACTIONS if a not in NOT_TRIED])
def test_every_edit_can_be_tried_and_leaves_the_run_alone(action: str, run: Any) -> None:
    before = {n: t.value().copy() for n, t in run.model.state_dict().items()}
    patient = run.patient(seed=1)
    patient.apply(Edit(action, "0" if action == "widen" else "", VALUES.get(action)))
    assert all(math.isfinite(x) for x in patient.train(3))
    assert patient.score() <= 1.0 and math.isfinite(patient.mean_loss())
    after = run.model.state_dict()
    assert all(np.array_equal(before[n], after[n].value()) for n in before)
    assert all(not m._hooks for m in run.model.modules())


def test_a_copy_begins_where_the_run_began(run: Any) -> None:
    assert np.array_equal(run.patient().model[0].weight.value(), run.start["0.weight"])
    now = run.patient(fresh=False).model[0].weight.value()
    assert np.array_equal(now, run.model[0].weight.value())
    assert not np.array_equal(now, run.start["0.weight"])


def test_a_copy_trains_alike_for_one_seed(run: Any) -> None:
    assert run.patient(3).train(4) == run.patient(3).train(4)
    assert run.patient(3).train(4) != run.patient(4).train(4)


def test_what_a_copy_can_measure(run: Any) -> None:
    patient = run.patient()
    assert patient.output().shape == (64, 3)
    assert np.ptp(patient.output(np.zeros_like), axis=0).max() == 0
    assert len(patient.losses_at([0.01, 0.1])) == 2
    patient.permute_targets()
    assert sorted(np.asarray(patient.batches[0][1])) == sorted(Y)
    patient.keep(1, 8)
    assert len(patient.batches) == 1 and patient.batches[0][0][0].shape == (8, 4)
    with pytest.raises(ArgumentError, match="nonsense"):
        patient.apply(Edit("nonsense"))


def test_what_fathom_refuses_cannot_be_tried(run: Any) -> None:
    patient = run.patient()
    patient.apply(Edit("loss", "", "binary_cross_entropy_with_logits"))
    with pytest.raises(ArgumentError, match="the copy fails"):
        patient.train(1)


def test_functions_in_forward_can_be_edited() -> None:
    model = Functional()
    optimizer = fathom.optim.SGD(model.parameters(), lr=0.1)
    adapter, _ = watched(model, optimizer, steps(model, optimizer, 2))
    patient = adapter.patient()
    assert patient.output().sum(1) == pytest.approx(np.ones(64), abs=1e-5)
    patient.apply(Edit("drop_output_activation"))
    assert np.ptp(patient.output().sum(1)) > 0.01
    before = patient.output()
    patient.apply(Edit("activation", "first", "tanh"))
    assert patient.rewrite.swapped and not np.allclose(before, patient.output())
    with pytest.raises(ArgumentError, match="no activation was seen"):
        adapter.patient().apply(Edit("activation", "nowhere", "relu"))


def test_a_copy_lets_gradients_through_what_cuts_them() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            with fathom.no_grad():
                hidden = F.relu(self.first(x))
            return self.last(hidden.detach())

    with fathom.seed(0):
        model = Cut()
    optimizer = fathom.optim.SGD(model.parameters(), lr=0.1)
    adapter, _ = watched(model, optimizer, steps(model, optimizer, 2))
    moved = []
    for edits in ((), (Edit("connect"),)):
        patient = adapter.patient()
        for edit in edits:
            patient.apply(edit)
        before = patient.model.first.weight.value().copy()
        patient.train(2)
        moved.append(not np.array_equal(before, patient.model.first.weight.value()))
    assert moved == [False, True]
    assert not fathom.tensor([1.0, 2.0], requires_grad=True).detach().requires_grad


def test_what_stands_between_model_and_loss_is_repeated() -> None:
    model, optimizer = mlp()

    def loss(output: Any, target: Any) -> Any:
        return F.mse_loss(F.sigmoid(output)[:, -1], target.astype(np.float32))

    adapter, _ = watched(model, optimizer, steps(model, optimizer, 2, loss=loss))
    assert adapter.between is None  # a part of the output: not told
    with pytest.raises(ArgumentError, match="between"):
        adapter.patient()
    model, optimizer = net(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    adapter, ear = watched(model, optimizer, steps(model, optimizer, 2, loss=loss))
    assert adapter.between is not None and adapter.between.function == "sigmoid"
    assert adapter.patient().train(1)[0] == pytest.approx(ear.calls[0].value, rel=1e-4)
    assert ear.calls[0].path == ("sigmoid",)
