"""`Recorder`: records of some steps of `fit`, compiled or not."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.doctor import Recorder, record

BATCH = 8
RNG = np.random.default_rng(0)
X = RNG.standard_normal((16 * BATCH + 3, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trained(compile, every=5, epochs=2, **options):
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))
    found, trainers = [], []

    def look(trainer, seen):
        trainers.append(trainer)
        grad = model[0].weight.grad.value().copy()
        found.append((trainer.steps, {n: (c.output, c.delta) for n, c in seen.items()}, grad))

    model.fit(
        X, Y, epochs=epochs, batch_size=BATCH, compile=compile, optimizer="sgd:momentum=0.9",
        validation_split=0.0, verbose=False, callbacks=[Recorder(look, every)], **options
    )  # fmt: skip
    return model, found, trainers[0]


def test_records_are_those_of_eager_training():
    eager, theirs, _ = trained(False)
    fast, ours, trainer = trained("auto")
    assert [step for step, *_ in ours] == [1, 6, 11, 16, 21, 26, 31] == [s for s, *_ in theirs]
    assert trainer.fast.engine != "eager"
    for (_, mine, grad), (_, other, wanted) in zip(ours, theirs, strict=True):
        assert list(mine) == list(other) == ["0", "1", "2", "3", ""]
        np.testing.assert_allclose(grad, wanted, rtol=1e-4, atol=1e-6)
        for name in mine:
            for a, b in zip(mine[name], other[name], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for p, q in zip(eager.parameters(), fast.parameters(), strict=True):
        np.testing.assert_allclose(p.value(), q.value(), rtol=1e-4, atol=1e-6)


def test_one_plain_plan_and_one_variant():
    _, _, trainer = trained("auto")
    step = trainer.fast.compiled
    assert len(step.plans) == 1
    assert [len(v.plans) for v in step.observed.values()] == [1]


def test_validation_is_not_recorded():
    _, found, _ = trained("auto", every=1, validation_data=(X[:9], Y[:9]))
    assert len(found) == 34
    assert {len(calls[""][0]) for _, calls, _ in found} == {BATCH, 3}
    assert all(list(calls) == ["0", "1", "2", "3", ""] for _, calls, _ in found)


def test_a_whole_run_inside_a_record():
    def run(compile):
        with fathom.seed(0):
            model = nn.Sequential(nn.Linear(5, 2))
        with record(model) as seen:
            model.fit(X, Y, epochs=1, batch_size=BATCH, compile=compile, verbose=False)
        return seen

    ours, theirs = run("auto"), run(False)
    assert list(ours) == list(theirs) and len(ours) > 30
    for name in ours:
        np.testing.assert_allclose(ours[name].output, theirs[name].output, rtol=1e-4, atol=1e-6)


def test_a_mistake_and_an_error_in_look_leave_no_hooks():
    with pytest.raises(fathom.FathomError, match="every"):
        Recorder(print, every=0)
    with fathom.seed(0):
        model = nn.Linear(5, 2)

    def fails(trainer, seen):
        raise KeyError("look")

    with pytest.raises(KeyError):
        model.fit(X, Y, epochs=1, verbose=False, callbacks=[Recorder(fails)])
    assert not model._hooks
