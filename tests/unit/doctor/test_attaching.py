"""Pairs of model and optimizer found by themselves, in scripts that know nothing of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.doctor.attaching import Attendant
from fathom.engine.hearing import HEARERS

IRIS = fathom.data.load("iris")
X, Y = fathom.tensor(IRIS.x - IRIS.x.mean(0)), fathom.tensor(IRIS.y)


def network(*last):
    with fathom.seed(0):
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), *last)


def train(model, optimizer, steps=12, zero=True):
    loss = nn.CrossEntropyLoss()
    for _ in range(steps):
        if zero:
            optimizer.zero_grad()
        loss(model(X), Y).backward()
        optimizer.step()


def kinds(seen):
    return [f.kind for f in seen.findings if f.severity != "advice"]


def test_a_loop_is_watched_from_its_first_step():
    with Attendant() as attendant:
        model = network(nn.Softmax(1))
        train(model, optim.Adam(model.parameters(), lr=0.01))
    ((name, seen),) = attendant.watches
    assert name == "Sequential" and kinds(seen)[0] == "softmax_before_cross_entropy"
    assert seen.case.usage.steps == 12 and seen.case.steps[0].number == 0
    assert seen.case.usage.forwards == 12


def test_training_is_the_same_and_everything_is_put_back():
    call, made = nn.Module.__call__, optim.Optimizer.__init__
    states = []
    for attended in (False, True):
        attendant = Attendant()
        if attended:
            attendant.__enter__()
        model = network()
        train(model, optim.SGD(model.parameters(), lr=0.1))
        attendant.__exit__(None, None, None)
        states.append([p.value().tobytes() for p in model.parameters()])
        assert not any(m._hooks or m._pre_hooks for m in model.modules())
    assert states[0] == states[1]
    assert nn.Module.__call__ is call and optim.Optimizer.__init__ is made and not HEARERS
    assert not any(type(f).__name__ == "_AfterImport" for f in sys.meta_path)


def test_two_pairs_one_after_the_other_and_the_same_model_again():
    with Attendant() as attendant:
        first, second = network(), network()
        one, other = (optim.SGD(m.parameters(), lr=0.1) for m in (first, second))
        train(first, one, 5)
        train(second, other, 6, zero=False)
        train(first, optim.Adam(first.parameters(), lr=0.01), 7)
    assert [seen.case.usage.steps for _, seen in attendant.watches] == [5, 6, 7]
    assert kinds(attendant.watches[1][1])[0] == "missing_zero_grad"
    assert attendant.watches[0][1].adapter.model is first


def test_fit_is_watched_by_its_callback():
    with Attendant() as attendant:
        model = network()
        model.fit(IRIS.x, IRIS.y, epochs=2, validation_split=0.2, verbose=False, seed=0)
    ((_, seen),) = attendant.watches
    assert len(seen.case.validation) == 2 and seen.case.usage.steps == 8


def test_a_compiled_step():
    with Attendant() as attendant:
        model = network()
        optimizer, loss = optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()

        @fathom.compile
        def step(x, y):
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            return value

        for _ in range(10):
            step(X, Y)
    ((_, seen),) = attendant.watches
    assert seen.adapter.model is model and seen.case.usage.steps >= 9


def test_parts_that_one_optimizer_trains_are_watched_together():
    with Attendant() as attendant:
        with fathom.seed(0):
            body, head = nn.Linear(4, 16), nn.Linear(16, 3)
        optimizer = optim.Adam([*body.parameters(), *head.parameters()], lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(head(nn.functional.relu(body(X))), Y)
            loss.backward()
            optimizer.step()
    ((_, seen),) = attendant.watches
    assert len(seen.case.parameters) == 4 and kinds(seen) == []


def test_an_optimizer_of_another_model_is_a_fault():
    with Attendant() as attendant:
        optimizer = optim.SGD(network().parameters(), lr=0.1)
        train(network(), optimizer)
    ((_, seen),) = attendant.watches
    assert kinds(seen)[0] == "stale_optimizer"


def test_the_limit_ends_the_script():
    with pytest.raises(SystemExit) as end, Attendant(limit=3) as attendant:
        model = network()
        train(model, optim.SGD(model.parameters(), lr=0.1), 50)
    assert end.value.code == 0 and attendant.watches[0][1].case.usage.steps == 3


def test_inference_and_unused_optimizers_are_no_pairs():
    with Attendant() as attendant:
        model = network()
        optim.SGD(model.parameters(), lr=0.1)
        with fathom.no_grad():
            model(X)
    assert attendant.watches == []


def test_torch_pairs_as_in_a_gan():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    call = torch.nn.Module.__call__
    with Attendant() as attendant:
        generator, critic = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
        one = torch.optim.Adam(generator.parameters(), 1e-3)
        other = torch.optim.Adam(critic.parameters(), 1e-3)
        loss, real = torch.nn.BCEWithLogitsLoss(), torch.randn(16, 2)
        for _ in range(6):
            fake = generator(torch.randn(16, 3))
            other.zero_grad()
            (loss(critic(real), torch.ones(16, 1))
             + loss(critic(fake.detach()), torch.zeros(16, 1))).backward()  # fmt: skip
            other.step()
            one.zero_grad()
            loss(critic(fake), torch.ones(16, 1)).backward()
            one.step()
    models = [seen.adapter.model for _, seen in attendant.watches]
    assert models == [generator, critic]
    assert [seen.case.usage.steps for _, seen in attendant.watches] == [6, 6]
    assert [kinds(seen) for _, seen in attendant.watches] == [[], []]
    assert torch.nn.Module.__call__ is call


def test_torch_two_optimizers_of_one_model_are_watched_as_one_run():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x = torch.tensor(np.asarray(X.value()))
    y = torch.tensor(np.asarray(Y.value()))
    with Attendant() as attendant:
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        some = [
            torch.optim.SGD(model[0].parameters(), 0.1),
            torch.optim.Adam(model[2].parameters()),
        ]
        for _ in range(8):
            for optimizer in some:
                optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in some:
                optimizer.step()
    ((_, seen),) = attendant.watches
    assert seen.adapter.model is model and "missing_from_optimizer" not in kinds(seen)


def test_torch_faults_of_two_optimizers_of_one_model():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x = torch.tensor(np.asarray(X.value()))
    y = torch.tensor(np.asarray(Y.value()))
    with Attendant() as attendant:
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        some = [torch.optim.SGD(model[i].parameters(), 0.1) for i in (0, 2)]
        for _ in range(8):
            torch.nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in some:
                optimizer.step()
    ((_, seen),) = attendant.watches
    assert kinds(seen)[0] == "missing_zero_grad" and seen.case.usage.steps == 8
