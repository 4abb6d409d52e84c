"""Compiled steps under watch: the observed variant, other hooks, and the plain plan after."""

import warnings

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile import EagerWarning, TraceError
from fathom.doctor import record
from fathom.nn import functional as F

RNG = np.random.default_rng(0)
X = fathom.tensor(RNG.standard_normal((16, 5)).astype(np.float32))
Y = fathom.tensor(RNG.integers(0, 2, 16))


class Twice(nn.Module):
    """A module that calls one of its own twice, and returns a tuple."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, x):
        x = F.tanh(self.inner(x))
        return self.inner(x), x


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.norm, self.drop = Twice(), nn.BatchNorm1d(5), nn.Dropout(0.3)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        a, b = self.body(x)
        return self.head(self.drop(F.relu(self.norm(a) + b)))


def stepper(eager=False, backend="numpy"):
    with fathom.seed(0):
        model = Whole()
    optimizer = fathom.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, step if eager else fathom.compile(step, backend=backend)


def arrays(seen):
    """(name, array) of all that was recorded, in its order."""
    found = []
    for name, call in seen.items():
        for part in (call.output, call.delta, call.inputs):
            parts = part if isinstance(part, tuple) else (part,)
            found.extend((name, p) for p in parts if p is not None)
    return found


def same(a, b, exact):
    if exact:
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def run(model, step, watched=(1, 3, 4)):
    """Losses, records of some steps, and the weights in the end, of six steps."""
    losses, records = [], []
    with fathom.seed(1):
        for i in range(6):
            if i in watched:
                with record(model, inputs=True) as seen:
                    losses.append(step(X, Y).item())
                records.append(arrays(seen))
            else:
                losses.append(step(X, Y).item())
    return losses, records, [p.value().copy() for p in model.parameters()]


def test_records_and_training_are_those_of_the_eager_step(backend):
    ours, eager = run(*stepper(backend=backend)), run(*stepper(eager=True))
    exact = backend == "numpy"
    same(ours[0], eager[0], exact)
    for mine, theirs in zip(ours[1], eager[1], strict=True):
        assert [name for name, _ in mine] == [name for name, _ in theirs]
        for (_, a), (_, b) in zip(mine, theirs, strict=True):
            same(a, b, exact)
    for a, b in zip(ours[2], eager[2], strict=True):
        same(a, b, exact)


def test_the_plain_plan_runs_at_the_other_steps(backend, monkeypatch):
    model, step = stepper(backend=backend)
    run(model, step)
    (variant,) = step.observed.values()
    calls = {"plain": 0, "observed": 0}

    def count(kind, compiled):
        (entries,) = compiled._entries.values()
        inner = entries[0].run

        def call(leaves):
            calls[kind] += 1
            return inner(leaves)

        monkeypatch.setattr(entries[0], "run", call)
        monkeypatch.setattr(entries[0], "quick", lambda key: None)
        monkeypatch.setattr(compiled, "_quick", None)

    count("plain", step)
    count("observed", variant)
    run(model, step, watched=(0, 5))
    assert calls == {"plain": 4, "observed": 2}
    assert len(step.plans) == len(variant.plans) == 1
    assert len(variant.plan.outputs) > len(step.plan.outputs) == 1


def test_a_variant_for_each_choice_and_calls_are_counted_on(backend):
    model, step = stepper(backend=backend)
    with record(model, "head") as seen:
        step(X, Y)
        step(X, Y)
        assert list(seen) == ["head", "head#2"]
        assert not np.array_equal(seen["head"].output, seen["head#2"].output)
        seen.clear()
        step(X, Y)
        assert list(seen) == ["head"] and seen["head"].delta.shape == (16, 2)
    with record(model, "body.inner") as seen:
        step(X, Y)
    assert list(seen) == ["body.inner", "body.inner#2"]
    assert len(step.observed) == 2 and not step.plans


def test_two_records_at_once(backend):
    model, step = stepper(backend=backend)
    with record(model, "head") as first, record(model, "norm") as second:
        step(X, Y)
    assert list(first) == ["head"] and list(second) == ["norm"]
    assert first["head"].output.shape == (16, 2) and second["norm"].delta.shape == (16, 5)


def test_a_record_of_another_model_changes_nothing(backend):
    _, step = stepper(backend=backend)
    other, _ = stepper(backend=backend)
    step(X, Y)
    with record(other) as seen:
        step(X, Y)
    assert not seen and not step.observed and len(step.plans) == 1


def test_replacing_runs_the_step_as_it_is():
    model, step = stepper()
    twin, eager = stepper(eager=True)
    for m, s in ((model, step), (twin, eager)):
        with fathom.seed(0), record(m, replace={"norm": lambda z: z * 0}) as seen:
            s(X, Y)
        assert not seen["norm"].output.any()
    assert not step.plans
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        same(p.value(), q.value(), True)


def test_an_epoch_is_recorded_batch_by_batch(backend):
    model, step = stepper(backend=backend)
    step.epoch(X, Y, batch_size=4)
    with record(model, "head") as seen:
        losses = step.epoch(X, Y, batch_size=4)
    assert losses.shape == (4,) and list(seen) == ["head", "head#2", "head#3", "head#4"]


def test_other_hooks_run_at_every_call(backend, monkeypatch):
    monkeypatch.setattr(fathom.engine.tensor, "_warned", set())
    model, step = stepper(backend=backend)
    step(X, Y)
    seen = []
    handle = model.head.register_forward_hook(lambda m, given, out: seen.append(out.shape))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            step(X, Y)
    assert seen == [(16, 2)] * 3
    assert [w.category for w in told] == [EagerWarning] and "hooks of its own" in str(told[0])
    handle.remove()
    step(X, Y)
    assert len(seen) == 3 and len(step.plans) == 1


def test_a_hook_on_a_parameter_is_part_of_the_plan(backend):
    model, step = stepper(backend=backend)
    step(X, Y)
    before = model.head.bias.value().copy()
    momentum = model.head.bias.grad.value().copy()
    with model.head.bias.register_hook(lambda g: g * 0):
        step(X, Y)
        assert len(step.plans) == 2 and "hooks" in step.traces[1]
        moved = before - model.head.bias.value()  # by what momentum is left
        np.testing.assert_allclose(moved, 0.1 * 0.9 * momentum, rtol=1e-3, atol=1e-7)
    step(X, Y)
    assert len(step.plans) == 2 and model.head.bias.grad.value().any()


def test_what_cannot_be_traced_is_recorded_eagerly():
    model = nn.Linear(5, 2)

    def step(x):
        out = model(x)
        return float(out.value().sum())

    with record(model) as seen:
        fathom.compile(step)(X)
    assert seen[""].output.shape == (16, 2)
    with pytest.raises(TraceError):
        fathom.compile(step)(X)
