"""A whole epoch in one call: the same as calling the step for every batch."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.nn import functional as F

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((50, 3)).astype(np.float32), RNG.integers(0, 2, 50)


def make(backend, *more, optimizer="Adam"):
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(3, 8), *more, nn.ReLU(), nn.Linear(8, 2))
    optimizer = getattr(fathom.optim, optimizer)(model.parameters(), lr=0.01)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": loss.detach(), "last": x[-1].sum()}

    return model, optimizer, fathom.compile(step, backend=backend)


def one_by_one(step, order, size):
    out = [
        step(fathom.tensor(X[o]), fathom.tensor(Y[o]))
        for o in np.split(order, range(size, 50, size))
    ]
    return [np.array([o[k].item() for o in out], np.float32) for k in ("loss", "last")]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("size", [10, 16, 50, 64])
@pytest.mark.parametrize("shuffled", [True, False])
def test_same_as_one_by_one(backend, size, shuffled):
    if backend == "native":
        pytest.importorskip("llvmlite")
    order = RNG.permutation(50) if shuffled else np.arange(50)
    a, first, step = make(backend)
    b, second, whole = make(backend)
    losses, last = one_by_one(step, order, size)
    found = whole.epoch(
        fathom.tensor(X), fathom.tensor(Y), batch_size=size, order=order if shuffled else None
    )
    assert found["loss"].numpy().tobytes() == losses.tobytes()
    assert found["last"].numpy().tobytes() == last.tobytes()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.value().tobytes() == q.value().tobytes()
        assert p.version == q.version or q.version > 0
    assert first.state_dict()["state"][0]["step"] == second.state_dict()["state"][0]["step"]


@pytest.mark.parametrize("layer", [lambda: nn.Dropout(0.5), lambda: nn.BatchNorm1d(8)])
def test_masks_and_buffers(layer):
    a, _, step = make("auto", layer())
    b, _, whole = make("auto", layer())
    with fathom.seed(1):
        one_by_one(step, np.arange(50), 10)
    with fathom.seed(1):
        whole.epoch(fathom.tensor(X), fathom.tensor(Y), batch_size=10)
    for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert np.asarray(p).tobytes() == np.asarray(q).tobytes()


@pytest.mark.parametrize("optimizer", ["SGD", "NAdam", "RMSprop"])
def test_numbers_that_change_with_the_step(optimizer):
    a, _, step = make("auto", optimizer=optimizer)
    b, _, whole = make("auto", optimizer=optimizer)
    one_by_one(step, np.arange(50), 10)
    whole.epoch(fathom.tensor(X), fathom.tensor(Y), batch_size=10)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_allclose(p.value(), q.value(), rtol=1e-6)


def test_gradients_are_those_of_the_last_batch():
    """With zero_grad first, gradients are left: by an epoch as by single calls."""
    found = []
    for whole in (False, True):
        with fathom.seed(0):
            model = nn.Linear(3, 2)
        optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)

        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        compiled = fathom.compile(step)
        x, y = fathom.tensor(X), fathom.tensor(Y)
        compiled(x[:10], y[:10])
        held = model.weight.grad
        before = held.value().copy()
        if whole:
            compiled.epoch(x, y, batch_size=10)
        else:
            for at in range(0, 50, 10):
                compiled(x[at : at + 10], y[at : at + 10])
        assert (held.value() == before).all()  # what somebody holds stays
        found.append([p.grad.value().tobytes() for p in model.parameters()])
    assert found[0] == found[1]


def test_the_next_call_reads_its_own_arguments():
    _, _, step = make("auto")
    step.epoch(fathom.tensor(X), fathom.tensor(Y), batch_size=10)
    assert step(fathom.tensor(X[:10]), fathom.tensor(Y[:10]))["last"].item() == pytest.approx(
        float(X[9].sum()), rel=1e-6
    )


def test_a_label_out_of_range_stops_where_it_stands():
    model, _, step = make("auto")
    wrong = Y.copy()
    wrong[25] = 7
    with pytest.raises(fathom.FathomError, match="label 7 at position 5"):
        step.epoch(fathom.tensor(X), fathom.tensor(wrong), batch_size=10)
    assert all(np.isfinite(p.value()).all() for p in model.parameters())


def test_errors():
    _, _, step = make("auto")
    x, y = fathom.tensor(X), fathom.tensor(Y)
    with pytest.raises(ArgumentError, match="batch_size"):
        step.epoch(x, y, batch_size=0)
    with pytest.raises(ShapeError, match="rows"):
        step.epoch(x, y[1:], batch_size=5)
    with pytest.raises(ArgumentError, match="row numbers"):
        step.epoch(x, y, batch_size=5, order=[50])
